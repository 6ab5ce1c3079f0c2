"""Results restated at the grade mix of a screened population.

N images, K classes.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.metrics.classification import (
    Values,
    accuracy,
    confusion_matrix,
    quadratic_weighted_kappa,
    ratio,
)
from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import (
    BootstrapConfig,
    Interval,
    Metrics,
    bootstrap_weights,
    independent_units,
    percentile_interval,
)
from common.prediction.voting import ClassPredictions


@dataclass(frozen=True)
class Restated:
    """Models' results at the grade mix of a population."""

    grade_mix: np.ndarray  # (K,), sums to 1
    grade_mix_source: str  # where it comes from
    prevalence: dict[str, Metrics]  # by model


def restate_models(
    targets: np.ndarray,
    models: dict[str, ClassPredictions],
    grade_mix: GradeMix,
    bootstrap: BootstrapConfig,
    referable_from: int | None,
) -> Restated:
    """Restate models' results at a population's grade mix."""
    restated = {
        name: restated_with_intervals(
            targets, model.predicted, grade_mix.shares, bootstrap, referable_from
        )
        for name, model in models.items()
    }
    return Restated(grade_mix.shares, grade_mix.source, restated)


def restate_at_prevalence(matrix: np.ndarray, prevalence: np.ndarray, cut: int | None) -> Values:
    """Restate confusion matrices (..., K, K) at the grade mix (K,) of a screened population.

    ppv, npv and referrals are of referable DR, the classes from `cut` on; referrals per 1,000
    screened. NaN where a grade of the population has no image, and these where no cut is known.
    """
    shares = np.where(prevalence > 0, ratio(matrix, matrix.sum(-1, keepdims=True)).mT, 0).mT
    mixed = shares * prevalence[:, None]  # (..., K, K), sums to 1
    overall = {"accuracy": accuracy(mixed), "kappa": quadratic_weighted_kappa(mixed)}
    if cut is None:
        nothing = np.full(mixed.shape[:-2], math.nan)
        return overall | dict.fromkeys(("ppv", "npv", "referrals_per_1000"), nothing)
    referred, passed = mixed[..., cut:].sum((-2, -1)), mixed[..., :cut].sum((-2, -1))
    return overall | {
        "ppv": ratio(mixed[..., cut:, cut:].sum((-2, -1)), referred),
        "npv": ratio(mixed[..., :cut, :cut].sum((-2, -1)), passed),
        "referrals_per_1000": 1000 * referred,
    }


def restated_with_intervals(
    targets: np.ndarray,
    predictions: np.ndarray,
    prevalence: np.ndarray,
    bootstrap: BootstrapConfig,
    referable_from: int | None,
) -> Metrics:
    """Restate predictions (N,) at a prevalence (K,), each value with its bootstrap interval.

    Where all images of a grade were called alike, resampling them says nothing of how often others
    would be called otherwise: that share is then drawn from its Jeffreys posterior (Beta(1/2, n +
    1/2), Brown, Cai & DasGupta 2001), spread over the other grades.
    """
    count = len(prevalence)
    matrix = confusion_matrix(targets, predictions, count)
    found = restate_at_prevalence(matrix, prevalence, referable_from)
    trials = independent_units(targets, predictions, count, bootstrap.groups)
    units = [trials[f"recall_{k}"] for k in range(count)]
    generator = np.random.default_rng(bootstrap.seed)
    blocks = []
    for weights in bootstrap_weights(len(targets), bootstrap):
        drawn = np.array(confusion_matrix(targets, predictions, count, weights), dtype=float)
        for k in np.flatnonzero((matrix > 0).sum(1) == 1):
            other = generator.beta(0.5, units[k] + 0.5, len(drawn))
            drawn[:, k] = other[:, None] / (count - 1)
            drawn[:, k, matrix[k].argmax()] = 1 - other
        blocks.append(restate_at_prevalence(drawn, prevalence, referable_from))
    result = {}
    for name, value in found.items():
        low, high = percentile_interval(np.concatenate([block[name] for block in blocks]))
        low, high = min(low, float(value)), max(high, float(value))
        if low == high:  # all resamples agree: the bootstrap says nothing
            low = high = math.nan
        result[name] = Interval(float(value), low, high)
    return result
