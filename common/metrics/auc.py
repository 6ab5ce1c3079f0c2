"""The area under the ROC curve, and bounds of it that hold near 1.

N images, R resamples.
"""

import math

import numpy as np

from common.metrics.intervals import (
    UNKNOWN,
    Interval,
    Z,
    number_patients,
    sums_by_patient,
    typical_size,
)
from common.metrics.shares import check_labels, check_numbers, ratio
from common.system.errors import InputError


def roc_auc(
    scores: np.ndarray, positives: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the area under the ROC curve, ties counted half (Hanley & McNeil 1982).

    scores (N,) finite; positives (N,) bool. NaN unless there are both positives and others.
    """
    scores, positives = check_numbers("scores", scores), _as_bool(positives)
    if scores.ndim != 1 or scores.shape != positives.shape:
        raise InputError(
            f"expected a score for each of {positives.size} images, found {scores.shape}"
        )
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)  # of each run of ties
    if not len(order):
        return np.array(math.nan)
    block = np.ones(len(scores)) if weights is None else check_numbers("weights", weights, 0)
    block = block[..., order].astype(np.float64)
    positive = np.add.reduceat(block * positives[order], starts, axis=-1)
    negative = np.add.reduceat(block * ~positives[order], starts, axis=-1)
    below = np.cumsum(negative, axis=-1) - negative / 2
    return ratio((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1))


def auc_interval(auc: float, positives: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Bound an AUC by Newcombe's method 5 (2006, Statistics in Medicine 25, 559-573).

    positives (N,) bool; groups (N,): the patient of each image. A bound is the area A whose own
    standard error, as far as the exponential model tells it (Hanley & McNeil 1982), puts the
    estimate at its 97.5 percentile: no estimate of the error that vanishes at 1. Where patients
    have several images, Kish's effective numbers of positives and of others stand for the numbers.
    Unknown without positives or without others.
    """
    positives = _as_bool(positives)
    if math.isnan(auc) or positives.all() or not positives.any():
        return UNKNOWN
    check_numbers("areas", np.array([auc]), 0, 1)
    members = number_patients(len(positives), groups)
    sides = np.stack([positives, ~positives], 1)  # (N, 2)
    first, second = sides.sum(0) / typical_size(sums_by_patient(sides, members))
    low, high = _lower_bound(auc, first, second), 1 - _lower_bound(1 - auc, first, second)
    return Interval(float(auc), min(low, float(auc)), max(high, float(auc)))


def _as_bool(positives: np.ndarray) -> np.ndarray:
    """Return positives (N,) as bool; raises InputError for numbers other than 0 and 1."""
    positives = np.asarray(positives)
    if positives.dtype == bool:
        return positives
    return check_labels("positives", positives, 2).astype(bool)


def _lower_bound(auc: float, positives: float, negatives: float) -> float:
    """Solve auc - A = z SE(A) for A below the AUC."""
    from scipy.optimize import brentq

    mean = (positives + negatives) / 2

    def excess(area: float) -> float:
        spread = 1 + (mean - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        variance = area * (1 - area) * spread / (positives * negatives)
        return auc - area - Z * math.sqrt(variance)

    highest = min(auc, 1 - 1e-12)  # at 1 the equation always holds
    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, highest)) if excess(highest) < 0 else highest
