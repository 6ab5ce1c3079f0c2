"""Classification metrics, each for one sample or for many resamples at once, and their intervals.

N images, K classes, R resamples, G patients. A resample is a row of weights (R, N): how often it
holds each image. Every function that takes `weights` returns a float without them and (R,) with
them. What is undefined (a recall of a class without images) is NaN, never zero.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from common.metrics.auc import auc_interval, roc_auc
from common.metrics.calibration_error import (
    brier_score,
    calibrated_level,
    expected_calibration_error,
    negative_log_likelihood,
    squared_calibration_error,
    squared_distances,
    surprises,
)
from common.metrics.intervals import (
    BootstrapConfig,
    Interval,
    Metrics,
    number_patients,
    percentile_interval,
    posterior_weights,
    sums_by_patient,
    typical_size,
)
from common.metrics.shares import (
    Share,
    accuracy,
    average_interval,
    check_numbers,
    confusion_matrix,
    f1_of_jaccard,
    f1_scores,
    in_cells,
    precisions,
    ratio,
    recalls,
    share_intervals,
)
from common.prediction.voting import ClassPredictions

REFERABLE = ("referable_sensitivity", "referable_specificity", "referable_auc")
PER_CLASS = ("recall", "precision", "f1", "auc")
_AVERAGES = {  # over classes, of which metric of theirs
    "balanced_accuracy": "recall",
    "macro_auc": "auc",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "macro_f1": "f1",
}
Values = dict[str, np.ndarray]


def quadratic_weighted_kappa(matrix: np.ndarray) -> np.ndarray:
    """Compare squared grade distances with those of chance (Cohen 1968)."""
    grades = np.arange(matrix.shape[-1])
    distance = (grades[:, None] - grades[None, :]) ** 2
    expected = matrix.sum(-1)[..., :, None] * matrix.sum(-2)[..., None, :]
    total = matrix.sum((-2, -1))
    observed = (distance * matrix).sum((-2, -1)) * total
    return 1 - ratio(observed, (distance * expected).sum((-2, -1)))


def macro_average(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Average (..., K) over the classes that have images; NaN if one of those is undefined."""
    return ratio(np.where(present, values, 0).sum(-1), present.sum(-1))


@dataclass(frozen=True)
class BinaryMetrics:
    """How good a binary classifier is at threshold 0.5."""

    accuracy: float
    balanced_accuracy: float
    auc: float
    sensitivity: float  # recall of class 1
    specificity: float  # recall of class 0


def binary_metrics(probabilities: np.ndarray, targets: np.ndarray) -> BinaryMetrics:
    """Measure a binary classifier: probabilities (N,) of class 1, targets (N,) 0 or 1."""
    matrix = confusion_matrix(targets, (probabilities > 0.5).astype(int), 2)
    specificity, sensitivity = recalls(matrix)
    return BinaryMetrics(
        accuracy=float(accuracy(matrix)),
        balanced_accuracy=float((specificity + sensitivity) / 2),
        auc=float(roc_auc(probabilities, targets == 1)),
        sensitivity=float(sensitivity),
        specificity=float(specificity),
    )


def classification_metrics(
    targets: np.ndarray,
    probabilities: np.ndarray,
    predictions: np.ndarray,
    weights: np.ndarray | None = None,
    referable_from: int | None = None,
    names: Collection[str] | None = None,
) -> Values:
    """Measure predictions (N,) against targets (N,), both in 0..K-1; probabilities (N, K).

    Averages over classes are over those with images. The referable metrics call the classes from
    `referable_from` on positive: sensitivity and specificity of the predicted class, AUC of the
    summed probability; NaN without it. names: of the metrics that are asked for, all by default.
    """
    num_classes = probabilities.shape[1]
    check_numbers("probabilities", probabilities)
    matrix = confusion_matrix(targets, predictions, num_classes, weights)
    present = matrix.sum(-1) > 0
    recall, precision, f1 = recalls(matrix), precisions(matrix), f1_scores(matrix)
    nothing = np.full(matrix.shape[:-2], math.nan)

    def asked(*words: str) -> bool:
        return names is None or any(word in name for name in names for word in words)

    aucs = np.full(present.shape, math.nan)
    if asked("macro_auc", "auc_"):
        one_by_one = [
            roc_auc(probabilities[:, k], targets == k, weights) for k in range(num_classes)
        ]
        aucs = np.stack(one_by_one, axis=-1)
    values = {
        "accuracy": accuracy(matrix),
        "balanced_accuracy": macro_average(recall, present),
        "kappa": quadratic_weighted_kappa(matrix),
        "macro_auc": macro_average(aucs, present),
        "macro_precision": macro_average(precision, present),
        "macro_recall": macro_average(recall, present),
        "macro_f1": macro_average(f1, present),
        **dict.fromkeys((*REFERABLE, "ece", "brier", "nll"), nothing),
    }
    if referable_from is not None:
        values |= _referable(matrix, referable_from)
        if asked("referable_auc"):
            score = probabilities[:, referable_from:].sum(1)
            values["referable_auc"] = roc_auc(score, targets >= referable_from, weights)
    if asked("ece"):
        confidence = probabilities[np.arange(len(targets)), predictions]
        values["ece"] = expected_calibration_error(confidence, targets == predictions, weights)
    if asked("brier"):
        values["brier"] = brier_score(probabilities, targets, weights)
    if asked("nll"):
        values["nll"] = negative_log_likelihood(probabilities, targets, weights)
    for name, value in zip(PER_CLASS, (recall, precision, f1, aucs)):
        values |= {f"{name}_{k}": value[..., k] for k in range(num_classes)}
    return {name: value for name, value in values.items() if names is None or name in names}


def _referable(matrix: np.ndarray, cut: int) -> Values:
    referred, healthy = matrix[..., cut:, :], matrix[..., :cut, :]
    return {
        "referable_sensitivity": ratio(referred[..., cut:].sum((-2, -1)), referred.sum((-2, -1))),
        "referable_specificity": ratio(healthy[..., :cut].sum((-2, -1)), healthy.sum((-2, -1))),
    }


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
    `auc_interval`, kappa, Brier score and likelihood by `_resampled`. None of these vanishes, is
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
    found |= _averages(shares, np.unique(targets), bootstrap, values, found)
    found |= _resampled(targets, predictions, bootstrap, values)
    confidence, correct = probabilities[np.arange(len(targets)), predicted], targets == predicted
    if names is None or "ece_null" in names:
        found["ece_null"] = calibrated_level(confidence, bootstrap)
    if names is None or "squared_ece" in names:
        values["squared_ece"] = squared_calibration_error(confidence, correct)
    return {
        name: found.get(name, Interval(values.get(name, math.nan), math.nan, math.nan))
        for name in names or (*values, "ece_null")
    }


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


def _averages(
    shares: dict[str, Share],
    present: np.ndarray,
    bootstrap: BootstrapConfig,
    values: dict[str, float],
    found: Metrics,
) -> Metrics:
    """Bound the averages over the classes with images, `present`.

    AUCs are taken to err together entirely, so that the bounds of their average are the averages
    of their bounds.
    """
    averages: Metrics = {}
    for name, part in _AVERAGES.items():
        if math.isnan(values.get(name, math.nan)):
            continue
        parts = [f"{part}_{k}" for k in present]
        if part == "auc":
            ends = np.mean([list(vars(found[each]).values()) for each in parts], axis=0)
            averages[name] = Interval(values[name], *map(float, ends[1:]))
        else:
            mine = [shares[each] for each in parts]
            averages[name] = average_interval(mine, bootstrap.groups, bootstrap, part == "f1")
    return averages


def _resampled(
    targets: np.ndarray,
    predictions: ClassPredictions,
    bootstrap: BootstrapConfig,
    values: dict[str, float],
) -> Metrics:
    """Bound kappa, Brier score and likelihood by the Bayesian bootstrap (Rubin 1981).

    Each resample holds one more patient with as many images as that of an average image. For the
    better bound these are right and sure of it. For the worse one they have a kappa of 0, the
    worst Brier score, and the least likelihood among the images, or that of equal probabilities of
    all classes if it is less. So kappa 1 has the exact bounds of an accuracy of 1.
    """
    names = [name for name in ("kappa", "brier", "nll") if name in values]
    if not names or not len(targets):
        return {}
    count = predictions.probabilities.shape[1]
    members = number_patients(len(targets), bootstrap.groups)
    losses = [
        squared_distances(predictions.probabilities, targets),
        surprises(predictions.probabilities, targets),
    ]
    cells = in_cells(targets, predictions.predicted, count)
    rows = sums_by_patient(np.column_stack([cells, *losses, np.ones(len(targets))]), members)
    size, worst = typical_size(rows[:, -1]), np.array([2, max(math.log(count), losses[1].max())])
    worse, better = [], []  # of kappa, Brier score, likelihood
    for weights, more in posterior_weights(len(rows), bootstrap):
        sums = weights @ rows  # (B, K * K + 3)
        total = sums[:, -1:]
        kappa = quadratic_weighted_kappa(sums[:, :-3].reshape(-1, count, count))[:, None]
        loss = sums[:, -3:-1] / total
        share = total / (total + more * size)  # of those that are there
        worse.append(
            np.hstack([np.minimum(kappa, kappa * share), loss * share + worst * (1 - share)])
        )
        better.append(np.hstack([kappa * share + (1 - share), loss * share]))
    found: Metrics = {}
    bounds = zip(("kappa", "brier", "nll"), np.concatenate(worse).T, np.concatenate(better).T)
    for name, bad, good in bounds:
        if name in names:
            ends = (bad, good) if name == "kappa" else (good, bad)
            low, high = percentile_interval(ends[0])[0], percentile_interval(ends[1])[1]
            found[name] = Interval(values[name], min(values[name], low), max(values[name], high))
    return found
