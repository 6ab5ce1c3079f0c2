"""How far probabilities are from what is seen: calibration error, Brier score, likelihood.

N images, K classes, R resamples. A resample is a row of weights (R, N).
"""

import functools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from common.metrics.intervals import (
    BootstrapConfig,
    Interval,
    block_sizes,
    number_patients,
    sums_by_patient,
)
from common.metrics.shares import check_labels, check_numbers, ratio, weighted_sums
from common.system.errors import InputError
from common.system.random_streams import random_generator

_BINS = 15
_ROUNDING = 1e-5  # of probabilities in single precision
_KEPT = 10_000_000  # numbers at most that are drawn once for all models and votes (80 MB)


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Average |accuracy - confidence| over 15 equal bins (Guo et al. 2017, eq. 3).

    confidences (N,) in 0..1 of the predicted class; correct (N,) bool. Even a perfectly calibrated
    grader has some of it by chance, the more the fewer images: see `calibrated_level`.
    """
    gaps = _in_bins(confidences) * (np.asarray(correct, float) - confidences)[:, None]  # (N, bins)
    total = float(len(correct)) if weights is None else weights.sum(-1)
    return ratio(np.abs(weighted_sums(gaps, weights)).sum(-1), total)


def calibrated_level(confidences: np.ndarray, bootstrap: BootstrapConfig) -> Interval:
    """Return the calibration error of a perfectly calibrated grader with these confidences (N,).

    The mean, and the range of 95 of 100 such graders: each image is right as often as its
    confidence says, independently of the others (after Bröcker & Smith 2007). Where the bootstrap
    groups patients, the images of a patient are right together as far as their confidences let
    them: the widest range that patients can give.
    """
    if not len(confidences):
        return Interval(math.nan, math.nan, math.nan)
    order = np.argsort(confidences, kind="stable")
    confidences = confidences[order]
    members = number_patients(len(confidences), bootstrap.groups)
    if bootstrap.groups is not None:  # else the level does not depend on the order of images
        members = members[order]
    patients = int(members.max()) + 1
    starts = np.flatnonzero(np.diff(_bin_of(confidences), prepend=-1))  # of each bin, in this order
    expected = np.add.reduceat(confidences, starts)
    what = patients, len(confidences), bootstrap.resamples, bootstrap.seed
    blocks: Iterable[np.ndarray] = _draw(*what)
    if patients * bootstrap.resamples <= _KEPT:
        blocks = _kept(*what)
    errors = []
    for drawn in blocks:
        right = (drawn if bootstrap.groups is None else drawn[:, members]) < confidences
        found = np.add.reduceat(right, starts, axis=1, dtype=np.float64)
        errors.append(np.abs(found - expected).sum(1) / len(confidences))
    levels = np.concatenate(errors)
    low, high = np.percentile(levels, [2.5, 97.5])
    return Interval(float(levels.mean()), float(low), float(high))


def _draw(patients: int, images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw a number in 0..1 for each patient in each resample, in blocks (B, patients)."""
    generator = random_generator("calibrated", seed)
    for size in block_sizes(resamples, images):
        drawn = generator.random((size, patients))
        drawn.flags.writeable = False
        yield drawn


@functools.lru_cache(maxsize=1)
def _kept(patients: int, images: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(_draw(patients, images, resamples, seed))


def squared_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, groups: np.ndarray | None = None
) -> float:
    """Average (accuracy - confidence)^2 over 15 equal bins, less what chance adds to it.

    The debiased estimate of Kumar, Liang & Ma (2019, section 5; Bröcker 2012): its mean over sets
    of a perfectly calibrated grader is 0, single values are below as often as above. What chance
    adds is the variance of a bin's gap, over patients where `groups` (N,) tells them. Bins of one
    patient say nothing of chance and are left out; NaN if there is no other.
    """
    members = number_patients(len(confidences), groups)
    bins = _in_bins(confidences)  # (N, bins)
    patients = (sums_by_patient(bins, members) > 0).sum(0)
    bins, patients = bins[:, patients > 1], patients[patients > 1]
    counts = bins.sum(0)
    errors = (np.asarray(correct, float) - confidences)[:, None] * bins
    gaps = ratio(errors.sum(0), counts)
    by_patient = sums_by_patient(errors - gaps * bins, members)  # (G, bins)
    chance = (by_patient**2).sum(0) / counts**2 * patients / (patients - 1)
    return float(ratio((counts * (gaps**2 - chance)).sum(), counts.sum()))


def brier_score(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean squared distance of (N, K) to the true class, 0 to 2 (Brier 1950)."""
    return _mean(squared_distances(probabilities, targets), weights)


def negative_log_likelihood(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean of -ln p of the true class, in nats; p is kept above 1e-12."""
    return _mean(surprises(probabilities, targets), weights)


def squared_distances(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the squared distance of each image's probabilities (N, K) to its class, (N,)."""
    targets = check_graded(probabilities, targets)
    return ((probabilities - np.eye(probabilities.shape[1])[targets]) ** 2).sum(1)


def surprises(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return -ln p of each image's true class, (N,) in nats; p is kept above 1e-12."""
    targets = check_graded(probabilities, targets)
    return -np.log(np.maximum(probabilities[np.arange(len(targets)), targets], 1e-12))


def check_graded(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return targets (N,) as integers; raises InputError unless (N, K) are probabilities of them.

    Each must be between 0 and 1, to rounding, and each target one of the K classes.
    """
    check_numbers("probabilities", probabilities, -_ROUNDING, 1 + _ROUNDING)
    if probabilities.ndim != 2 or len(probabilities) != len(targets):
        raise InputError(
            f"expected probabilities of {len(targets)} images, found shape {probabilities.shape}"
        )
    return check_labels("labels", targets, probabilities.shape[1])


def _in_bins(confidences: np.ndarray) -> np.ndarray:
    """Say in which bin each confidence (N,) is, (N, bins) of 0 and 1."""
    return np.eye(_BINS)[_bin_of(confidences)]


def _bin_of(confidences: np.ndarray) -> np.ndarray:
    """Number the bin of each confidence, (N,)."""
    check_numbers("confidences", confidences, -_ROUNDING, 1 + _ROUNDING)
    return np.clip(np.ceil(confidences * _BINS).astype(int) - 1, 0, _BINS - 1)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    total = np.array(len(values)) if weights is None else weights.sum(-1)
    return ratio(weighted_sums(values[:, None], weights)[..., 0], total)
