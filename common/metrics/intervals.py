"""Confidence intervals by resampling images or patients.

N images, K classes, R resamples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from common.metrics.classification import REFERABLE, classification_metrics
from common.prediction.voting import ClassPredictions
from common.system.errors import InputError

_BLOCK = 100  # resamples at a time, to bound the memory


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval; NaN where something is not known."""

    value: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)
Metrics = dict[str, Interval]  # by name


@dataclass(frozen=True)
class BootstrapConfig:
    """How the bootstrap resamples: how often, from which seed, and which images belong together."""

    resamples: int = 1000
    seed: int = 0
    groups: np.ndarray | None = None  # (N,), None: every image by itself
    evidence: str = ""  # what tells that these images belong together, or that nothing does

    def __post_init__(self) -> None:
        if not 1 <= self.resamples <= 100_000 or not 0 <= self.seed < 2**63:
            raise InputError(
                "expected --resamples 1 to 100,000 and --seed 0 or more, found "
                f"{self.resamples} and {self.seed}"
            )

    def units(self, num_images: int) -> str:
        """Say what is resampled, such as "80 images" or "40 patients"."""
        if self.groups is None:
            return f"{num_images} images"
        return f"{len(np.unique(self.groups))} patients"

    def resampled(self, num_images: int) -> str:
        """Say what is resampled, and what tells which images belong together."""
        return self.units(num_images) + (f" ({self.evidence})" if self.evidence else "")


def bootstrap_weights(num_images: int, bootstrap: BootstrapConfig) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples (Efron 1979) in blocks of (up to 100, N) counts.

    Images of one group, such as a patient's, are drawn together.
    """
    generator = np.random.default_rng(bootstrap.seed)
    groups = np.arange(num_images) if bootstrap.groups is None else bootstrap.groups
    _, members = np.unique(groups, return_inverse=True)
    count = int(members.max()) + 1
    for start in range(0, bootstrap.resamples, _BLOCK):
        size = min(_BLOCK, bootstrap.resamples - start)
        draws = generator.multinomial(count, np.full(count, 1 / count), size=size)
        yield draws[:, members].astype(np.float32)


def metrics_with_intervals(
    targets: np.ndarray,
    predictions: ClassPredictions,
    bootstrap: BootstrapConfig,
    referable_from: int | None = None,
) -> Metrics:
    """Measure predictions against targets (N,) with 95 % percentile-bootstrap intervals.

    Where all resamples agree (a share of exactly 0 or 1) the bootstrap says nothing, and the
    Wilson interval (Wilson 1927) of as many independent images, or groups, is given instead. So it
    is for an AUC of 0 or 1, with as many as the smaller side has, since one of them on the wrong
    side would cost at most its share. Other metrics then have no interval (NaN).
    """
    arrays = (targets, predictions.probabilities, predictions.predicted)
    values = classification_metrics(*arrays, None, referable_from)
    blocks = [
        classification_metrics(*arrays, weights, referable_from)
        for weights in bootstrap_weights(len(targets), bootstrap)
    ]
    num_classes = predictions.probabilities.shape[1]
    groups = bootstrap.groups
    trials = independent_units(targets, predictions.predicted, num_classes, groups, referable_from)
    result = {}
    for name, value in values.items():
        draws = np.concatenate([block[name] for block in blocks])
        low, high = percentile_interval(draws)
        if name in trials and trials[name] and value in (0.0, 1.0):
            successes = trials[name] if value == 1.0 else 0
            wilson = binomtest(successes, trials[name]).proportion_ci(method="wilson")
            low, high = wilson.low, wilson.high
        elif low == high:
            low = high = math.nan
        result[name] = Interval(float(value), float(low), float(high))
    return result


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the draws that are defined."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return math.nan, math.nan
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def independent_units(
    targets: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    groups: np.ndarray | None,
    referable_from: int | None = None,
) -> dict[str, int]:
    """Count the independent units behind each share."""
    groups = np.arange(len(targets)) if groups is None else groups

    def units(mask: np.ndarray) -> int:
        return len(np.unique(groups[mask]))

    shares = {"accuracy": units(np.ones(len(targets), dtype=bool))}
    if referable_from is not None:
        sides = units(targets >= referable_from), units(targets < referable_from)
        shares |= dict(zip(REFERABLE, (*sides, min(sides))))
    for k in range(num_classes):
        shares[f"recall_{k}"] = units(targets == k)
        shares[f"precision_{k}"] = units(predictions == k)
        shares[f"auc_{k}"] = min(shares[f"recall_{k}"], units(targets != k))
    shares["macro_auc"] = min(shares[f"auc_{k}"] for k in np.unique(targets))
    return shares
