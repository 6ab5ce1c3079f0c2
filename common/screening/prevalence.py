"""Results restated at the grade mix of a screened population.

N images, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.fitting.grader import Grader
from common.metrics.classification import Values, quadratic_weighted_kappa
from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import (
    UNKNOWN,
    BootstrapConfig,
    Interval,
    Metrics,
    number_patients,
    percentile_interval,
    posterior_weights,
    sums_by_patient,
    typical_size,
)
from common.metrics.shares import check_numbers, in_cells, ratio
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions
from common.screening.operating_point import Decision

_BOUNDS = {  # which one more patient (see `_one_more`) gives the low and the high bound
    "accuracy": ("mistaken", "right"),
    "kappa": ("by chance", "right"),
    "ppv": ("mistaken", "right"),
    "npv": ("mistaken", "right"),
    "referrals_per_1000": ("passed", "referred"),
}
_OF_DECISIONS = ("ppv", "npv", "referrals_per_1000")
_ONE_SIDED = {  # why a metric is undefined though there are images of every grade
    "kappa": "the population is all of one grade, and graded so",
    "ppv": "nobody of the population would be referred",
    "npv": "everybody of the population would be referred",
}


@dataclass(frozen=True)
class Restated:
    """Models' results at the grade mix of a population."""

    grade_mix: np.ndarray  # (K,), sums to 1
    grade_mix_source: str  # where it comes from
    prevalence: dict[str, Metrics]  # by model
    prevalence_undefined: dict[str, str] = field(
        default_factory=dict
    )  # metric: why it has no value


def restate_models(
    targets: np.ndarray,
    models: dict[str, ClassPredictions],
    grade_mix: GradeMix,
    bootstrap: BootstrapConfig,
    classes: Classes,
) -> Restated:
    """Restate models' results at a population's grade mix."""
    cut = classes.referable_from
    restated = {
        name: restated_with_intervals(targets, model.predicted, grade_mix.shares, bootstrap, cut)
        for name, model in models.items()
    }
    unknown = {
        metric: [name for name, found in restated.items() if math.isnan(found[metric].value)]
        for metric in _BOUNDS
    }
    absent = np.flatnonzero(
        (grade_mix.shares > 0) & (np.bincount(targets, minlength=len(classes)) == 0)
    )
    if len(absent):
        titles = ", ".join(classes.titles[k] for k in absent)
        reasons = dict.fromkeys(_BOUNDS, f"the population has {titles}, of which there is no image")
    else:
        reasons = {name: why for name, why in _ONE_SIDED.items() if unknown[name]}
        if cut is None:
            reasons |= dict.fromkeys(_OF_DECISIONS, f"what is referable is {classes.referable}")
    return Restated(grade_mix.shares, grade_mix.source, restated, reasons)


@dataclass(frozen=True)
class DecisionsAtGradeMix:
    """What decisions to refer would do in a population: PPV, NPV and referrals per 1,000."""

    source: str  # of the grade mix
    by_rule: dict[str, Metrics]

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {"grade_mix_source": self.source, "decisions": self.by_rule}


def restate_decisions(
    grader: Grader, decisions: Sequence[Decision], grade_mix: GradeMix | None
) -> DecisionsAtGradeMix | str:
    """Restate decisions to refer at a population's grade mix; returns why that is not known."""
    if grade_mix is None:
        return "not asked for; --prevalence gives the grade mix of a population"
    if not decisions:
        return "there is no decision to refer"
    judged, by_rule = grader.judged_on, {}
    for decision in decisions:
        called = np.where(decision.refers(judged.classes), decision.cut, 0)  # referable or not
        found = restated_with_intervals(
            judged.targets, called, grade_mix.shares, grader.bootstrap, decision.cut
        )
        by_rule[decision.rule] = {name: found[name] for name in _OF_DECISIONS}
    return DecisionsAtGradeMix(grade_mix.source, by_rule)


def restate_at_prevalence(matrix: np.ndarray, prevalence: np.ndarray, cut: int | None) -> Values:
    """Restate confusion matrices (..., K, K) at the grade mix (K,) of a screened population.

    ppv, npv and referrals are of referable DR, the classes from `cut` on; referrals per 1,000
    screened. NaN where a grade of the population has no image, and these where no cut is known.
    """
    shares = np.where(prevalence > 0, ratio(matrix, matrix.sum(-1, keepdims=True)).mT, 0).mT
    mixed = shares * prevalence[:, None]  # (..., K, K), sums to 1
    off_diagonal = 1 - np.eye(len(prevalence))
    wrong = (mixed * off_diagonal).sum((-2, -1))
    right = np.diagonal(mixed, axis1=-2, axis2=-1).sum(-1)
    overall = {"accuracy": _share(right, wrong), "kappa": quadratic_weighted_kappa(mixed)}
    if cut is None:
        nothing = np.full(mixed.shape[:-2], math.nan)
        return overall | dict.fromkeys(_OF_DECISIONS, nothing)
    sick, healthy = mixed[..., cut:, :], mixed[..., :cut, :]
    found, missed = sick[..., cut:].sum((-2, -1)), sick[..., :cut].sum((-2, -1))
    false_alarms, passed = healthy[..., cut:].sum((-2, -1)), healthy[..., :cut].sum((-2, -1))
    return overall | {
        "ppv": _share(found, false_alarms),
        "npv": _share(passed, missed),
        "referrals_per_1000": 1000 * (found + false_alarms),
    }


def _share(hits: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the share of hits among both, which is never above 1 by rounding."""
    return ratio(hits, hits + others)


def restated_with_intervals(
    targets: np.ndarray,
    predictions: np.ndarray,
    prevalence: np.ndarray,
    bootstrap: BootstrapConfig,
    referable_from: int | None,
) -> Metrics:
    """Restate predictions (N,) at a prevalence (K,), each value with its 95 % interval.

    Patients are weighed by the Bayesian bootstrap (Rubin 1981), and each grade holds one more
    patient, who is a mistake for the worse bound and right for the better one: of independent
    images, the share of each grade that is referred is drawn from the two Beta posteriors whose
    percentiles are its exact bounds. So a grade that was always graded right still leaves doubt.
    """
    count = len(check_numbers("shares of the population", prevalence, 0, 1))
    members = number_patients(len(targets), bootstrap.groups)
    cells = sums_by_patient(in_cells(targets, predictions, count), members)  # (G, K * K)
    matrices = cells.reshape(-1, count, count)
    found = restate_at_prevalence(matrices.sum(0), prevalence, referable_from)
    sizes = np.maximum(typical_size(matrices.sum(2)), 1)  # (K,)
    places = _one_more(count, referable_from)
    draws: dict[str, list[Values]] = {name: [] for name in places}
    for weights, more in posterior_weights(len(cells), bootstrap, count):
        drawn = (weights @ cells).reshape(-1, count, count)
        for name, place in places.items():
            added = drawn + (more * sizes)[:, :, None] * place
            draws[name].append(restate_at_prevalence(added, prevalence, referable_from))
    result = {}
    for name, value in found.items():
        few, many = (np.concatenate([v[name] for v in draws[end]]) for end in _BOUNDS[name])
        low, high = percentile_interval(few)[0], percentile_interval(many)[1]
        found_here = Interval(float(value), min(low, float(value)), max(high, float(value)))
        result[name] = UNKNOWN if math.isnan(value) else found_here
    return result


def _one_more(count: int, cut: int | None) -> dict[str, np.ndarray]:
    """Say what one more patient of each grade may be graded as, by name; (K, K), rows sum to 1."""
    grades = np.arange(count)
    sick = grades >= (1 if cut is None else cut)
    healthy_grade, sick_grade = 0, count - 1
    called = {
        "mistaken": np.where(sick, healthy_grade, sick_grade),
        "right": grades,
        "passed": np.where(sick, healthy_grade, grades),
        "referred": np.where(sick, grades, sick_grade),
    }
    places = {name: np.eye(count)[grade] for name, grade in called.items()}
    return places | {"by chance": np.full((count, count), 1 / count)}
