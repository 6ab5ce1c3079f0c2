"""Classification metrics, each for one sample or for many bootstrap resamples at once.

N images, K classes, R resamples. A resample is a row of weights (R, N): how often it holds each
image. Every function that takes `weights` returns a float without them and (R,) with them. What is
undefined (a recall of a class without images) is NaN, never zero.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.prediction.classes import Classes

REFERABLE = ("referable_sensitivity", "referable_specificity", "referable_auc")
_BINS = 15
Values = dict[str, np.ndarray]


def confusion_matrix(
    targets: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Count true class by predicted class; (K, K), or (R, K, K) with weights."""
    cells = targets.astype(np.int64) * num_classes + predictions
    counts = _sums(np.eye(num_classes**2)[cells], weights)
    return counts.reshape(*counts.shape[:-1], num_classes, num_classes)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the share on the diagonal of confusion matrices (..., K, K)."""
    return ratio(_diagonal(matrix).sum(-1), matrix.sum((-2, -1)))


def recalls(matrix: np.ndarray) -> np.ndarray:
    """Return each class's recall (..., K)."""
    return ratio(_diagonal(matrix), matrix.sum(-1))


def precisions(matrix: np.ndarray) -> np.ndarray:
    """Return each class's precision (..., K)."""
    return ratio(_diagonal(matrix), matrix.sum(-2))


def f1_scores(matrix: np.ndarray) -> np.ndarray:
    """Return each class's F1 (..., K), zero for a class that is there but never found."""
    return ratio(2 * _diagonal(matrix), matrix.sum(-1) + matrix.sum(-2))


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


def roc_auc(
    scores: np.ndarray, positives: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the area under the ROC curve, ties counted half (Hanley & McNeil 1982).

    scores (N,) float; positives (N,) bool.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)  # of each run of ties
    if not len(order):
        return np.array(math.nan)
    block = np.ones(len(scores)) if weights is None else weights
    block = block[..., order].astype(np.float64)
    positive = np.add.reduceat(block * positives[order], starts, axis=-1)
    negative = np.add.reduceat(block * ~positives[order], starts, axis=-1)
    below = np.cumsum(negative, axis=-1) - negative / 2
    return ratio((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1))


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Average |accuracy - confidence| over 15 equal bins (Guo et al. 2017, eq. 3).

    confidences (N,) in 0..1 of the predicted class; correct (N,) bool.
    """
    bins = np.clip(np.ceil(confidences * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.eye(_BINS)[bins] * (correct - confidences)[:, None]  # (N, bins)
    total = float(len(correct)) if weights is None else weights.sum(-1)
    return ratio(np.abs(_sums(gaps, weights)).sum(-1), total)


def brier_score(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean squared distance of (N, K) to the true class, 0 to 2 (Brier 1950)."""
    distance = ((probabilities - np.eye(probabilities.shape[1])[targets]) ** 2).sum(1)
    return _mean(distance, weights)


def negative_log_likelihood(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean of -ln p of the true class, in nats; p is kept above 1e-12."""
    chosen = probabilities[np.arange(len(targets)), targets]
    return _mean(-np.log(np.maximum(chosen, 1e-12)), weights)


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
) -> Values:
    """Measure predictions (N,) against targets (N,), both in 0..K-1; probabilities (N, K).

    Averages over classes are over those with images. The referable metrics call the classes from
    `referable_from` on positive: sensitivity and specificity of the predicted class, AUC of the
    summed probability; NaN without it.
    """
    num_classes = probabilities.shape[1]
    matrix = confusion_matrix(targets, predictions, num_classes, weights)
    present = matrix.sum(-1) > 0
    recall, precision, f1 = recalls(matrix), precisions(matrix), f1_scores(matrix)
    aucs = np.stack(
        [roc_auc(probabilities[:, k], targets == k, weights) for k in range(num_classes)], axis=-1
    )
    confidence = probabilities[np.arange(len(targets)), predictions]
    values = {
        "accuracy": accuracy(matrix),
        "balanced_accuracy": macro_average(recall, present),
        "kappa": quadratic_weighted_kappa(matrix),
        "macro_auc": macro_average(aucs, present),
        "macro_precision": macro_average(precision, present),
        "macro_recall": macro_average(recall, present),
        "macro_f1": macro_average(f1, present),
        **_referable(targets, probabilities, matrix, weights, referable_from),
        "ece": expected_calibration_error(confidence, targets == predictions, weights),
        "brier": brier_score(probabilities, targets, weights),
        "nll": negative_log_likelihood(probabilities, targets, weights),
    }
    per_class = (("recall", recall), ("precision", precision), ("f1", f1), ("auc", aucs))
    for name, value in per_class:
        values |= {f"{name}_{k}": value[..., k] for k in range(num_classes)}
    return values


def _referable(
    targets: np.ndarray,
    probabilities: np.ndarray,
    matrix: np.ndarray,
    weights: np.ndarray | None,
    cut: int | None,
) -> Values:
    if cut is None:
        nothing = np.full(matrix.shape[:-2], math.nan)
        return dict.fromkeys(REFERABLE, nothing)
    referred, healthy = matrix[..., cut:, :], matrix[..., :cut, :]
    score = probabilities[:, cut:].sum(1)
    sensitivity = ratio(referred[..., cut:].sum((-2, -1)), referred.sum((-2, -1)))
    specificity = ratio(healthy[..., :cut].sum((-2, -1)), healthy.sum((-2, -1)))
    auc = roc_auc(score, targets >= cut, weights)
    return dict(zip(REFERABLE, (sensitivity, specificity, auc)))


def undefined_reasons(
    values: dict[str, float], matrix: np.ndarray, classes: Classes
) -> dict[str, str]:
    """Say for each metric that is NaN why; matrix (K, K) is the confusion matrix."""
    counts = matrix.sum(1)
    absent = {str(k): classes.titles[k] for k in np.flatnonzero(counts == 0)}
    silent = [classes.titles[k] for k in np.flatnonzero((matrix.sum(0) == 0) & (counts > 0))]
    reasons = {}
    for name in (name for name, value in values.items() if math.isnan(value)):
        place = name.rsplit("_", 1)[-1]
        if name in REFERABLE and classes.referable_from is None:
            reasons[name] = f"what is referable is {classes.referable}"
        elif name in REFERABLE:
            reasons[name] = (
                f"it needs images that are referable, {classes.referable}, and others that are not"
            )
        elif place in absent:
            reasons[name] = f"there is no image of {absent[place]}"
        elif "precision" in name:
            verb = "was" if len(silent) == 1 else "were"
            reasons[name] = f"{', '.join(silent)} {verb} never predicted"
        elif len(absent) == len(counts) - 1:
            reasons[name] = f"the images are all of one {classes.word}"
        else:
            reasons[name] = "it is not defined on these images"
    return reasons


def _sums(rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return rows.sum(0) if weights is None else weights.astype(np.float64) @ rows


def _mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    total = np.array(len(values)) if weights is None else weights.sum(-1)
    return ratio(_sums(values[:, None], weights)[..., 0], total)


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def ratio(numerator: np.ndarray, denominator: np.ndarray | float) -> np.ndarray:
    """Divide; NaN where the denominator is not positive."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    nothing = np.full(np.broadcast(numerator, denominator).shape, math.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
