"""What an interval is, how images or patients are weighed for one, and how intervals combine.

N images, G patients (where nothing is known of patients, every image is one), R resamples.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from common.listing.walking import count_of
from common.system.errors import InputError
from common.system.random_streams import random_generator

LEVEL = 0.95
Z = 1.959963984540054  # the 97.5 percentile of the normal distribution
_BLOCK = 2**17  # values of a block of resamples: what is computed of it stays in the cache
_KEPT = 20_000_000  # weights at most that are drawn once for all models, votes and metrics (160 MB)


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
    groups: np.ndarray | None = None  # (N,) patients, negative for an image of nobody known, None:
    # every image by itself
    evidence: str = ""  # what tells that these images belong together, or that nothing does

    def __post_init__(self) -> None:
        if not 1 <= self.resamples <= 100_000 or not 0 <= self.seed < 2**63:
            raise InputError(
                "expected --resamples 1 to 100,000 and --seed 0 or more, found "
                f"{self.resamples} and {self.seed}"
            )

    def units(self, num_images: int) -> str:
        """Say what is resampled, such as "80 images" or "40 patients".

        An image of unknown patient counts by itself, and is not called a patient.
        """
        if self.groups is None:
            return count_of(num_images, "image")
        said = count_of(count_patients(self.groups) or 0, "patient")
        alone = int((self.groups < 0).sum())
        return f"{said} and {count_of(alone, 'image')} of unknown patient" if alone else said

    def resampled(self, num_images: int) -> str:
        """Say what is resampled, and what tells which images belong together."""
        return self.units(num_images) + (f" ({self.evidence})" if self.evidence else "")


def count_patients(groups: np.ndarray | None) -> int | None:
    """Count the known patients of images (N,); None where nothing tells which images share one."""
    return None if groups is None else len(np.unique(groups[groups >= 0]))


def posterior_weights(
    num_patients: int, bootstrap: BootstrapConfig, more: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw weights of the Bayesian bootstrap (Rubin 1981) in blocks of resamples.

    Yields exponential weights (B, G), and (B, M) of M more patients, of whom only the worst or the
    best is known (see `share_intervals`). A patient keeps its weights whatever is predicted, so
    that what is monotone in the predictions in every resample has monotone percentiles. The
    weights are read-only.
    """
    what = num_patients, bootstrap.resamples, bootstrap.seed
    blocks: Iterable[np.ndarray] = _draw_weights(*what)
    if num_patients * bootstrap.resamples <= _KEPT:
        blocks = _kept_weights(*what)
    others = random_generator("more patients", bootstrap.seed)
    for weights in blocks:
        yield weights, others.exponential(size=(len(weights), more))


def more_weights(bootstrap: BootstrapConfig, more: int) -> np.ndarray:
    """Draw the weights (R, M) of the M more patients of `posterior_weights` alone."""
    generator = random_generator("more patients", bootstrap.seed)
    return generator.exponential(size=(bootstrap.resamples, more))


def block_sizes(resamples: int, width: int) -> Iterator[int]:
    """Divide resamples of `width` values each into blocks, on which no draw depends."""
    most = max(1, _BLOCK // max(1, width))
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def _draw_weights(num_patients: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    generator = random_generator("patients", seed)
    for size in block_sizes(resamples, num_patients):
        weights = generator.exponential(size=(size, num_patients))
        weights.flags.writeable = False
        yield weights


@functools.lru_cache(maxsize=2)  # of the images that are judged, and of those that are chosen on
def _kept_weights(num_patients: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(_draw_weights(num_patients, resamples, seed))


def number_patients(num_images: int, groups: np.ndarray | None) -> np.ndarray:
    """Number the patient of each image, (N,) in 0..G-1; without groups each image has its own."""
    if groups is None:
        return np.arange(num_images)
    if len(groups) != num_images:
        raise InputError(f"expected a patient for each of {num_images} images, found {len(groups)}")
    return np.unique(groups, return_inverse=True)[1].reshape(-1)


def sums_by_patient(rows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Add the rows (N, C) of each patient's images up, (G, C)."""
    count = int(members.max(initial=-1)) + 1
    sums = np.zeros((count, rows.shape[1]))
    for place, column in enumerate(rows.T):  # many times faster than numpy.add.at
        sums[:, place] = np.bincount(members, weights=column, minlength=count)
    return sums


def typical_size(counts: np.ndarray) -> np.ndarray:
    """Return how many images the patient of an average image has; counts (G, ...) of images.

    The number of images divided by this is Kish's effective number (1965) of patients.
    """
    total = counts.sum(0)
    return (counts**2).sum(0) / np.maximum(total, 1)


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the draws that are defined."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return math.nan, math.nan
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
