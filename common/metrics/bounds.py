"""All metrics of class predictions with their intervals, each by a method that holds at the edges.

N images, K classes, R resamples, G patients.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from common.metrics.auc import auc_interval
from common.metrics.calibration_error import (
    calibrated_level,
    squared_calibration_error,
    squared_distances,
    surprises,
)
from common.metrics.classification import (
    REFERABLE,
    classification_metrics,
    quadratic_weighted_kappa,
)
from common.metrics.intervals import (
    UNKNOWN,
    BootstrapConfig,
    Interval,
    Metrics,
    more_weights,
    number_patients,
    percentile_interval,
    posterior_weights,
    sums_by_patient,
    typical_size,
)
from common.metrics.shares import (
    Share,
    average_of_draws,
    f1_of_jaccard,
    in_cells,
    share_intervals,
)
from common.prediction.voting import ClassPredictions

_AVERAGES = {  # over classes, of which metric of theirs
    "balanced_accuracy": "recall",
    "macro_auc": "auc",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "macro_f1": "f1",
}
_RESAMPLED = ("kappa", "brier", "nll")


def metrics_with_intervals(
    targets: np.ndarray,
    predictions: ClassPredictions,
    bootstrap: BootstrapConfig,
    referable_from: int | None = None,
    names: Collection[str] | None = None,
) -> Metrics:
    """Measure predictions against targets (N,) with 95 % intervals; names: those asked for.

    Shares are bounded by `share_intervals` (F1 = 2 J / (1 + J) through the share J of hits among
    hits, misses and false alarms) and averages of them by `average_interval`, AUCs by
    `auc_interval`, kappa, Brier score and likelihood by `_bound_sums`. None of these vanishes, is
    unknown or changes its method where everything is right. The calibration error has no interval,
    since it is never below what chance alone gives; "ece_null" is that level (see
    `calibrated_level`), and "squared_ece" an estimate without it.
    """
    probabilities, predicted = predictions.probabilities, predictions.predicted
    num_classes = probabilities.shape[1]
    with_parts = names
    if names is not None:
        parts = [_AVERAGES[name] for name in names if name in _AVERAGES]
        with_parts = {*names, *(f"{part}_{k}" for part in parts for k in range(num_classes))}
    measured = classification_metrics(
        targets, probabilities, predicted, None, referable_from, with_parts
    )
    values = {name: float(value) for name, value in measured.items()}
    shares = _shares(targets, predicted, num_classes, referable_from)
    shares = {name: share for name, share in shares.items() if name in values}
    found = share_intervals(shares, bootstrap.groups, bootstrap)
    for name in found:
        if name.startswith("f1"):
            found[name] = Interval(*f1_of_jaccard(np.array([*vars(found[name]).values()])).tolist())
    for name, positives in _sides(targets, num_classes, referable_from).items():
        if name in values:
            found[name] = auc_interval(values[name], positives, bootstrap.groups)
    asked = {
        name for name in (*_AVERAGES, *_RESAMPLED) if not math.isnan(values.get(name, math.nan))
    }
    if asked:
        resampled = _resample(targets, predictions, bootstrap)
        found |= _averages(resampled, np.unique(targets), values, found)
        found |= _bound_sums(resampled, asked, values)
    confidence, correct = probabilities[np.arange(len(targets)), predicted], targets == predicted
    if names is None or "ece_null" in names:
        found["ece_null"] = calibrated_level(confidence, bootstrap)
    if names is None or "squared_ece" in names:
        values["squared_ece"] = squared_calibration_error(confidence, correct, bootstrap.groups)
    alone = {name: Interval(value, math.nan, math.nan) for name, value in values.items()}
    found = alone | found
    return {
        name: _rounding_as_zero(found.get(name, UNKNOWN)) for name in names or (*values, "ece_null")
    }


def _rounding_as_zero(entry: Interval) -> Interval:
    """Write 0 for what is 0 but for rounding, such as a kappa of -2.2e-16."""
    value, low, high = (0.0 if abs(x) < 1e-14 else x for x in vars(entry).values())
    return Interval(value, low, high)


def _shares(
    targets: np.ndarray, predicted: np.ndarray, num_classes: int, cut: int | None
) -> dict[str, Share]:
    """Say which images each share is of; F1 stands for its J."""
    everything = np.ones(len(targets), dtype=bool)
    shares = {"accuracy": Share(targets == predicted, everything, everything)}
    for k in range(num_classes):
        mine, called = targets == k, predicted == k
        shares[f"recall_{k}"] = Share(mine & called, mine, mine)
        shares[f"precision_{k}"] = Share(mine & called, called, mine)
        shares[f"f1_{k}"] = Share(mine & called, mine | called, mine)
    if cut is not None:
        sick, referred = targets >= cut, predicted >= cut
        shares[REFERABLE[0]] = Share(sick & referred, sick, sick)
        shares[REFERABLE[1]] = Share(~sick & ~referred, ~sick, ~sick)
    return shares


def _sides(targets: np.ndarray, num_classes: int, cut: int | None) -> dict[str, np.ndarray]:
    """Say which images are the positives of each AUC, (N,) bool."""
    sides = {f"auc_{k}": targets == k for k in range(num_classes)}
    return sides if cut is None else sides | {REFERABLE[2]: targets >= cut}


@dataclass(frozen=True)
class _Resamples:
    """What all that is resampled is computed of: sums over patients, once as they are and weighed.

    A row has a column for each cell of the confusion matrix, the squared distances, the surprises
    and the number of images: K * K + 3.
    """

    patients: np.ndarray  # (G, K * K + 3) of each patient
    drawn: np.ndarray  # (R, K * K + 3) of each resample, patients weighed by the Bayesian bootstrap
    num_classes: int
    largest_surprise: float
    bootstrap: BootstrapConfig

    def cells(self, sums: np.ndarray) -> np.ndarray:
        """Take the confusion matrices (..., K, K) out of rows of sums (..., K * K + 3)."""
        return sums[..., :-3].reshape(*sums.shape[:-1], self.num_classes, self.num_classes)

    def more(self, patients: int) -> np.ndarray:
        """Weigh some more patients of each resample, (R, patients)."""
        return more_weights(self.bootstrap, patients)


def _resample(
    targets: np.ndarray, predictions: ClassPredictions, bootstrap: BootstrapConfig
) -> _Resamples:
    count = predictions.probabilities.shape[1]
    surprise = surprises(predictions.probabilities, targets)
    columns = [
        in_cells(targets, predictions.predicted, count),
        squared_distances(predictions.probabilities, targets),
        surprise,
        np.ones(len(targets)),
    ]
    members = number_patients(len(targets), bootstrap.groups)
    rows = sums_by_patient(np.column_stack(columns), members)
    drawn = np.concatenate([own @ rows for own, _ in posterior_weights(len(rows), bootstrap)])
    return _Resamples(rows, drawn, count, float(surprise.max()), bootstrap)


def _averages(
    resampled: _Resamples, present: np.ndarray, values: dict[str, float], found: Metrics
) -> Metrics:
    """Bound the averages over the classes with images, `present` (S,), as `average_interval` does.

    AUCs are taken to err together entirely, so that the bounds of their average are the averages
    of their bounds.
    """
    sizes = typical_size(resampled.cells(resampled.patients).sum(-1)[:, present])
    extra = resampled.more(len(present)) * sizes  # (R, S): of one more patient of each class
    averages: Metrics = {}
    for name, part in _AVERAGES.items():
        if math.isnan(values.get(name, math.nan)):
            continue
        if part == "auc":
            parts = [list(vars(found[f"{part}_{k}"]).values()) for k in present]
            averages[name] = Interval(values[name], *map(float, np.mean(parts, axis=0)[1:]))
        else:
            hits, trials = _counts(resampled.cells(resampled.drawn), part, present)
            own_hits, own_trials = _counts(
                resampled.cells(resampled.patients.sum(0)), part, present
            )
            total = trials + extra
            averages[name] = average_of_draws(
                own_hits / own_trials, hits / total, (hits + extra) / total, part == "f1"
            )
    return averages


def _counts(cells: np.ndarray, part: str, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count hits and trials of some classes' shares (..., S) in confusion matrices (..., K, K)."""
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    labelled, called = cells.sum(-1), cells.sum(-2)
    of = {"recall": labelled, "precision": called, "f1": labelled + called - hits}[part]
    return hits[..., present], of[..., present]


def _bound_sums(resampled: _Resamples, asked: Collection[str], values: dict[str, float]) -> Metrics:
    """Bound kappa, Brier score and likelihood by the Bayesian bootstrap (Rubin 1981).

    Each resample holds one more patient with as many images as that of an average image. For the
    better bound these are right and sure of it. For the worse one they have a kappa of 0, the
    worst Brier score, and the least likelihood among the images, or that of equal probabilities of
    all classes if it is less. So kappa 1 has the exact bounds of an accuracy of 1.
    """
    sums, size = resampled.drawn, typical_size(resampled.patients[:, -1])
    worst = np.array([2, max(math.log(resampled.num_classes), resampled.largest_surprise)])
    total = sums[:, -1:]
    share = total / (total + resampled.more(1) * size)  # of those that are there
    kappa = quadratic_weighted_kappa(resampled.cells(sums))[:, None]
    loss = sums[:, -3:-1] / total
    worse = np.hstack([np.minimum(kappa, kappa * share), loss * share + worst * (1 - share)])
    better = np.hstack([kappa * share + (1 - share), loss * share])
    found: Metrics = {}
    for name, bad, good in zip(_RESAMPLED, worse.T, better.T):
        if name in asked:
            ends = (bad, good) if name == "kappa" else (good, bad)
            low, high = percentile_interval(ends[0])[0], percentile_interval(ends[1])[1]
            found[name] = Interval(values[name], min(values[name], low), max(values[name], high))
    return found
