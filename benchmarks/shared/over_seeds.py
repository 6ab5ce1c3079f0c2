"""A figure over several seeds, with the interval that other images and other seeds would give.

N images, R resamples, S seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.metrics.intervals import (
    BootstrapConfig,
    Interval,
    number_patients,
    percentile_interval,
    posterior_weights,
)
from common.system.random_streams import random_generator


@dataclass(frozen=True)
class Figure:
    """A metric over several seeds."""

    value: float  # mean over the seeds
    low: float  # 95 % interval of the mean: other images, other seeds
    high: float
    spread: float | None  # standard deviation over the seeds; None: of one there is none
    by_seed: list[float]


def image_weights(groups: np.ndarray, bootstrap: BootstrapConfig) -> np.ndarray:
    """Draw weights of images, whole groups (N,) at a time, as (R, N).

    They depend on nothing but the groups, so that all that is compared has the same.
    """
    members = number_patients(len(groups), groups)
    count = int(members.max()) + 1
    blocks = [own for own, _ in posterior_weights(count, bootstrap)]
    return np.concatenate(blocks)[:, members]


def mean_of_drawn_seeds(values: np.ndarray, bootstrap: BootstrapConfig, who: str) -> np.ndarray:
    """Draw as many seeds as there are in each resample, and average: (R, S) to (R,).

    who: whose they are; the seeds of two methods are drawn apart.
    """
    resamples, count = values.shape
    generator = random_generator("seeds", bootstrap.seed, who)
    drawn = generator.integers(0, count, (resamples, count))
    return values[np.arange(resamples)[:, None], drawn].mean(1)


def figure_of(by_seed: Sequence[float], draws: np.ndarray) -> Figure:
    """Make a figure of its value for each seed and of its mean in each resample, (R,)."""
    spread = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
    low, high = percentile_interval(draws)
    return Figure(float(np.mean(by_seed)), low, high, spread, list(by_seed))


def difference_of(values: tuple[float, float], draws: tuple[np.ndarray, np.ndarray]) -> Interval:
    """Say how the first of two values differs from the second, by their draws (R,)."""
    low, high = percentile_interval(draws[0] - draws[1])
    return Interval(float(values[0] - values[1]), low, high)
