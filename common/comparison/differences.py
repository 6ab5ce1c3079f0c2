"""How models differ on the same images: differences with intervals, tests, Holm's correction.

N images, U units (patients, or images).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from common.comparison.sums import METRICS, Paired, pair_up, size_of_units
from common.comparison.swaps import sign_flip_p, swap_p_values
from common.metrics.calibration_error import check_graded
from common.metrics.intervals import (
    BootstrapConfig,
    Interval,
    Z,
    number_patients,
    sums_by_patient,
)
from common.metrics.shares import check_labels
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions

SIGNIFICANT = 0.05
FEWEST = 20  # images of a class, below which figures of it hang on single images
Question = tuple[str, str, str]  # a metric, a model, and the other that it is compared with


@dataclass(frozen=True)
class Difference(Interval):
    """One model's metric minus another's with its 95 % interval, and the two-sided p of none."""

    p: float
    p_holm: float = math.nan  # corrected for all tests that were made together

    @property
    def differs(self) -> bool:
        """Tell whether the two are told apart."""
        return self.p_holm < SIGNIFICANT


@dataclass(frozen=True)
class Compared:
    """How two models differ in one metric."""

    metric: str
    model: str
    other: str
    difference: Difference

    @property
    def differs(self) -> bool:
        """Tell whether the two are told apart."""
        return self.difference.differs

    def to_row(self) -> dict[str, Any]:
        """Return the row of a table and of comparison.json."""
        row = {"metric": self.metric, "model": self.model, "other": self.other}
        return {**row, **vars(self.difference), "critical": self.differs}


@dataclass(frozen=True)
class McNemar:
    """How many images only the one and only the other model gets right, and the two-sided p."""

    only_first: int
    only_second: int
    p: float  # McNemar's exact, by patient where patients are grouped


@dataclass(frozen=True)
class Comparison:
    """How one model differs from the one that all are compared with."""

    differences: dict[str, Difference]  # by metric
    mcnemar: McNemar

    def to_json(self) -> dict[str, Difference | McNemar]:
        """Return what metrics_<split>.json holds of it."""
        return {**self.differences, "mcnemar": self.mcnemar}


def compare_metrics(
    targets: np.ndarray,
    models: Mapping[str, ClassPredictions],
    asked: Sequence[Question],
    bootstrap: BootstrapConfig,
    family: int = 0,
) -> list[Compared]:
    """Test pairs of models on metrics, Holm-corrected over all that is asked together.

    targets (N,); family: how many tests to correct for, where those asked were picked from more.
    Accuracy by McNemar's exact test, by patient where patients are grouped; others by exchanging
    the models' predictions at random, of whole patients. Raises InputError for labels and
    probabilities that are none.
    """
    for model in models.values():
        targets = check_graded(model.probabilities, targets)
        check_labels("predictions", model.predicted, model.probabilities.shape[1])
    units = number_patients(len(targets), bootstrap.groups)
    paired = [pair_up(m, targets, models[a], models[b], units) for m, a, b in asked]
    family = max(family, len(asked))
    exact = np.array([metric == "accuracy" for metric, _, _ in asked], bool)
    p_values = np.full(len(asked), math.nan)
    for place in np.flatnonzero(exact):
        p_values[place] = sign_flip_p(_more_right(paired[place], units))
    by_swaps = np.flatnonzero(~exact)
    draws = max(10 * bootstrap.resamples, 40 * family)  # so that a small p survives the correction
    chosen = [paired[place] for place in by_swaps]
    p_values[by_swaps] = swap_p_values(chosen, units, draws, bootstrap.seed)
    found = [difference(one, units, float(p)) for one, p in zip(paired, p_values)]
    corrected = correct(found, family)
    return [Compared(*question, each) for question, each in zip(asked, corrected)]


def every_pair(names: Sequence[str], metrics: Sequence[str] = METRICS) -> list[Question]:
    """List all pairs of models in all metrics."""
    return [(metric, *pair) for metric in metrics for pair in combinations(names, 2)]


def compare_to_best(
    targets: np.ndarray,
    models: Mapping[str, ClassPredictions],
    best: str,
    bootstrap: BootstrapConfig,
    best_of_these: bool = False,
) -> dict[str, Comparison]:
    """Compare every other model with the one named `best`, corrected over models and metrics.

    best_of_these: it was chosen for what it does on these images, so that it leads by luck, too;
    the correction is then for all pairs of models, among which the largest differences were picked.
    """
    others = [name for name in models if name != best]
    asked = [(metric, name, best) for metric in METRICS for name in others]
    family = len(every_pair(list(models))) if best_of_these else 0
    found = compare_metrics(targets, models, asked, bootstrap, family)
    reference, result = models[best].predicted == targets, {}
    for name in others:
        differences = {row.metric: row.difference for row in found if row.model == name}
        correct_ones = models[name].predicted == targets
        alone = (correct_ones & ~reference).sum(), (~correct_ones & reference).sum()
        p = differences["accuracy"].p
        result[name] = Comparison(differences, McNemar(int(alone[0]), int(alone[1]), p))
    return result


def compare_shares(
    correct_ones: np.ndarray, weights: np.ndarray, scale: int, bootstrap: BootstrapConfig
) -> list[Difference]:
    """Compare weighted sums of accuracies, such as one model's with the mean of several.

    correct_ones (N, L) bool of each model; weights (D, L) whole numbers, of each difference times
    `scale`. Exact, by patient where patients are grouped; Holm-corrected over all D.
    """
    count = len(correct_ones)
    units = number_patients(count, bootstrap.groups)
    size = size_of_units(units, np.ones(count, dtype=bool)) / count
    found = []
    for row in weights:
        gains = correct_ones @ row  # (N,) whole numbers
        without = (gains - gains.mean()) / (scale * max(count - 1, 1))
        one_unit = np.array([size])
        p = sign_flip_p(np.rint(sums_by_patient(gains[:, None], units)[:, 0]).astype(int))
        found.append(with_interval(float(gains.mean() / scale), without, one_unit, units, p))
    return correct(found)


def _more_right(accuracy: Paired, units: np.ndarray) -> np.ndarray:
    """Count (U,) how many more of each unit's images the first model gets right."""
    more = sums_by_patient((accuracy.first - accuracy.other)[:, :1], units)[:, 0]
    return np.rint(more).astype(int)


def difference(paired: Paired, units: np.ndarray, p: float) -> Difference:
    """Say how two models differ in a metric, with its interval."""
    value = paired.difference
    found = with_interval(value, paired.without, paired.one_unit, units, p)
    low, high = max(found.low, -paired.limit), min(found.high, paired.limit)
    return found if math.isnan(value) else replace(found, low=low, high=high)


def with_interval(
    value: float, without: np.ndarray, one_unit: np.ndarray, units: np.ndarray, p: float
) -> Difference:
    """Give a difference its 95 % interval from how far it falls (N,) without each image.

    The variance over units (jackknife: Efron & Stein 1981), and that of z^2 more units of which
    half are right by the one model alone and half by the other, as in the score interval (Tango
    1998; Agresti & Min 2005): so equal predictions have the width that their number allows. It
    holds 0 where p says so, and else ends there at most. A single unit gives none (NaN).
    """
    count = int(units.max(initial=-1)) + 1
    if math.isnan(value) or count < 2:
        return Difference(value, math.nan, math.nan, p)
    from scipy.special import stdtrit  # the t distribution's

    sums = sums_by_patient(without[:, None], units)[:, 0]
    variance = (sums**2).sum() * count / (count - 1) + Z**2 * (one_unit**2).sum()
    half = float(stdtrit(count - 1, 0.975) * math.sqrt(variance))
    low, high = value - half, value + half
    if p >= SIGNIFICANT:
        low, high = min(low, 0.0), max(high, 0.0)
    elif low <= 0 <= high:
        low, high = (0.0, high) if value > 0 else (low, 0.0)
    return Difference(value, low, high, p)


def correct(found: Sequence[Difference], family: int = 0) -> list[Difference]:
    """Correct the p values of differences that were tested together; undefined ones are no test."""
    corrected = holm(np.array([one.p for one in found], float), family)
    return [replace(one, p_holm=float(p)) for one, p in zip(found, corrected)]


def holm(p_values: np.ndarray, family: int = 0) -> np.ndarray:
    """Correct p values (n,) for their number, or for a larger family (Holm 1979); NaN stays."""
    p_values = np.asarray(p_values, float)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    count = max(family - (len(p_values) - len(known)), len(known))
    scaled = p_values[order] * (count - np.arange(len(order)))
    corrected = np.full(len(p_values), math.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return corrected


def few_images_note(images_per_class: Sequence[int], classes: Classes) -> str:
    """Say which classes have too few images to compare models on; "" where all have enough."""
    few = [
        f"{title} ({count})"
        for title, count in zip(classes.titles, images_per_class)
        if 0 < count < FEWEST
    ]
    if not few:
        return ""
    return (
        f"fewer than {FEWEST} images of {', '.join(few)}: what is said of them, and balanced "
        "accuracy and macro AUC, which weigh them like the others, hangs on single images; only "
        "large differences can be told apart there"
    )


def correction_note(found: Sequence[Difference], family: int = 0) -> str:
    """Say what p values and intervals of differences that were tested together mean.

    family: for how many tests they were corrected, where these were picked from more.
    """
    tests = sum(not math.isnan(one.p) for one in found)
    which = f"all {tests} tests above"
    if family > tests:
        which = f"{family} tests, those of all pairs of models, from which these were picked"
    return (
        f"p (Holm) is corrected for {which}, so that equal models are told apart in at most "
        f"{100 * SIGNIFICANT:.0f} of 100 such tables; each 95 % interval is that of its difference "
        "alone"
    )


def verdict(found: Difference) -> str:
    """Say in words whether two are told apart."""
    if math.isnan(found.p):
        return "not defined"
    return "differs" if found.differs else "not told apart"
