"""Shares of images, such as accuracy and recall: how they are counted, checked and bounded.

N images, K classes, R resamples, G patients, S shares.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.metrics.intervals import (
    LEVEL,
    UNKNOWN,
    BootstrapConfig,
    Interval,
    Metrics,
    number_patients,
    posterior_weights,
    sums_by_patient,
    typical_size,
)
from common.system.errors import InputError

_TAIL = (1 - LEVEL) / 2
_COUNTED = ("hits", "trials")


@dataclass(frozen=True)
class Share:
    """Which images a share is of, and which of them are hits; all (N,) bool."""

    hits: np.ndarray
    trials: np.ndarray  # all hits and others
    labelled: np.ndarray  # those that it is about by their labels alone


def ratio(numerator: np.ndarray, denominator: np.ndarray | float) -> np.ndarray:
    """Divide; NaN where the denominator is not positive."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    nothing = np.full(np.broadcast(numerator, denominator).shape, math.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)


def check_labels(what: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return labels (N,) as integers; raises InputError unless all are in 0..K-1."""
    labels = np.asarray(labels)
    wrong = ~((labels >= 0) & (labels < num_classes) & (labels == np.floor(labels)))
    if labels.ndim != 1 or wrong.any():
        found = f"{labels[wrong][0]} at place {np.flatnonzero(wrong)[0]}" if wrong.any() else ""
        raise InputError(
            f"expected {what} of 0 to {num_classes - 1}, one for each image, found "
            f"{found or f'the shape {labels.shape}'}"
        )
    return labels.astype(np.int64)


def check_numbers(
    what: str, numbers: np.ndarray, low: float = -math.inf, high: float = math.inf
) -> np.ndarray:
    """Return numbers as they are; raises InputError unless all are finite and in low..high."""
    numbers = np.asarray(numbers)
    wrong = ~(np.isfinite(numbers) & (numbers >= low) & (numbers <= high))
    if wrong.any():
        between = f" between {low:g} and {high:g}" if math.isfinite(high) else ""
        place = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"expected {what} that are finite numbers{between}, found {numbers[wrong][0]} "
            f"({int(wrong.sum())} of {wrong.size} are not, the first at {place})"
        )
    return numbers


def weighted_sums(rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Add rows (N, C) up: (C,), or (R, C) with weights."""
    if weights is None:
        return rows.sum(0)
    return check_numbers("weights", weights, 0).astype(np.float64) @ rows


def confusion_matrix(
    targets: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Count true class by predicted class; (K, K), or (R, K, K) with weights."""
    counts = weighted_sums(in_cells(targets, predictions, num_classes), weights)
    return counts.reshape(*counts.shape[:-1], num_classes, num_classes)


def in_cells(targets: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Say in which cell of the confusion matrix each image is, (N, K * K) of 0 and 1."""
    targets = check_labels("labels", targets, num_classes)
    predictions = check_labels("predictions", predictions, num_classes)
    if len(targets) != len(predictions):
        raise InputError(
            f"expected a prediction for each of {len(targets)} images, found {len(predictions)}"
        )
    return np.eye(num_classes**2)[targets * num_classes + predictions]


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


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def clopper_pearson(successes: float, trials: float) -> Interval:
    """Bound a share of independent images exactly (Clopper & Pearson 1934); 0 of 0 is unknown.

    Counts need not be whole: they may be effective numbers.
    """
    if not 0 <= successes <= trials:
        raise InputError(f"expected 0 to {trials} successes of {trials}, found {successes}")
    if trials == 0:
        return UNKNOWN
    from scipy.special import betaincinv

    failures = trials - successes
    low = betaincinv(successes, failures + 1, _TAIL) if successes > 0 else 0.0
    high = betaincinv(successes + 1, failures, 1 - _TAIL) if failures > 0 else 1.0
    return Interval(float(successes / trials), float(low), float(high))


def share_interval(
    hits: np.ndarray, groups: np.ndarray | None, bootstrap: BootstrapConfig
) -> Interval:
    """Bound the share of hits (N,) bool by `share_intervals`; groups (N,): each image's patient."""
    everything = np.ones(len(hits), dtype=bool)
    share = Share(check_labels("hits", hits, 2).astype(bool), everything, everything)
    return share_intervals({"": share}, groups, bootstrap)[""]


def share_intervals(
    shares: Mapping[str, Share], groups: np.ndarray | None, bootstrap: BootstrapConfig
) -> Metrics:
    """Bound shares of images by Clopper and Pearson's method, or its form for patients.

    The exact bounds of s of n are percentiles of Beta(s, n - s + 1) and Beta(s + 1, n - s): what
    the Bayesian bootstrap (Rubin 1981) gives for n images and one more that is a miss, or a hit.
    Where patients have several images, patients are weighed in their stead, and the one more
    patient has as many images as that of an average image: the same bounds for images of which
    each has its own patient, wider ones else. The bootstrap's groups are not looked at.
    """
    if not shares:
        return {}
    count = len(next(iter(shares.values())).hits)
    members = number_patients(count, groups)
    if not count or int(members.max()) + 1 == count:
        return {
            name: clopper_pearson(float(share.hits.sum()), float(share.trials.sum()))
            for name, share in shares.items()
        }
    lows, highs = _posterior_draws(list(shares.values()), members, bootstrap, 1)
    values = ratio(*(np.stack([vars(s)[key].sum() for s in shares.values()]) for key in _COUNTED))
    low = np.minimum(np.quantile(lows, _TAIL, axis=0), values)
    high = np.maximum(np.quantile(highs, 1 - _TAIL, axis=0), values)
    found_all = np.where(np.isnan(values), math.nan, np.stack([values, low, high]))
    return {name: Interval(*map(float, column)) for name, column in zip(shares, found_all.T)}


def average_interval(
    shares: Sequence[Share], groups: np.ndarray | None, bootstrap: BootstrapConfig, f1: bool = False
) -> Interval:
    """Bound the average of shares of some image each, with one more patient for each of them.

    In every resample all shares see the same weights, and so err together as far as they are of
    the same patients. f1: the average of 2 J / (1 + J) instead.
    """
    members = number_patients(len(shares[0].hits), groups)
    values = np.array([share.hits.sum() / share.trials.sum() for share in shares])
    return average_of_draws(
        values, *_posterior_draws(shares, members, bootstrap, len(shares)), f1=f1
    )


def average_of_draws(
    values: np.ndarray, lows: np.ndarray, highs: np.ndarray, f1: bool = False
) -> Interval:
    """Bound the average of shares (S,) by draws (R, S) of them; f1: of 2 J / (1 + J) instead."""
    if f1:
        values, lows, highs = (f1_of_jaccard(draws) for draws in (values, lows, highs))
    value = float(values.mean())
    low, high = np.quantile(lows.mean(1), _TAIL), np.quantile(highs.mean(1), 1 - _TAIL)
    return Interval(value, min(value, float(low)), max(value, float(high)))


def mean_interval(
    values: np.ndarray,
    groups: np.ndarray | None,
    bootstrap: BootstrapConfig,
    least: float,
    most: float,
) -> Interval:
    """Bound the mean of values (N,) that lie between `least` and `most`; unknown without values.

    As shares of patients are bounded: with one more patient whose values are all least, or most.
    """
    if not len(values):
        return UNKNOWN
    rows = np.stack([np.asarray(values, float), np.ones(len(values))], 1)
    sums = sums_by_patient(rows, number_patients(len(values), groups))
    size = float(typical_size(sums[:, 1]))
    lows, highs = [], []
    for weights, more in posterior_weights(len(sums), bootstrap):
        extra = more[:, 0] * size
        found, total = weights @ sums[:, 0], weights @ sums[:, 1] + extra
        lows.append((found + extra * least) / total)
        highs.append((found + extra * most) / total)
    value = float(rows[:, 0].mean())
    low, high = (
        np.quantile(np.concatenate(lows), _TAIL),
        np.quantile(np.concatenate(highs), 1 - _TAIL),
    )
    return Interval(value, min(value, float(low)), max(value, float(high)))


def f1_of_jaccard(share: np.ndarray) -> np.ndarray:
    """Turn the share J of hits among hits, misses and false alarms into F1 = 2 J / (1 + J)."""
    return 2 * share / (1 + share)


def _posterior_draws(
    shares: Sequence[Share], members: np.ndarray, bootstrap: BootstrapConfig, more: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw shares (R, S) for their low and their high bounds, with one or S more patients."""
    hits, trials, labelled = (
        sums_by_patient(np.stack([vars(share)[key] for share in shares], 1), members)
        for key in (*_COUNTED, "labelled")
    )  # (G, S)
    whole = np.bincount(members)
    sizes = np.where(labelled.any(0), typical_size(labelled), typical_size(whole))  # (S,)
    lows, highs = [], []
    for weights, extra in posterior_weights(len(hits), bootstrap, more):
        found, added = weights @ hits, extra * sizes
        total = weights @ trials + added
        lows.append(found / total)
        highs.append((found + added) / total)
    return np.concatenate(lows), np.concatenate(highs)
