"""Classification metrics, each for one sample or for many resamples at once, and their intervals.

N images, K classes, R resamples, G patients. A resample is a row of weights (R, N): how often it
holds each image. Every function that takes `weights` returns a float without them and (R,) with
them. What is undefined (a recall of a class without images) is NaN, never zero.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from common.metrics.auc import roc_auc
from common.metrics.calibration_error import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from common.metrics.shares import (
    accuracy,
    check_numbers,
    confusion_matrix,
    f1_scores,
    precisions,
    ratio,
    recalls,
)

REFERABLE = ("referable_sensitivity", "referable_specificity", "referable_auc")
PER_CLASS = ("recall", "precision", "f1", "auc")
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
