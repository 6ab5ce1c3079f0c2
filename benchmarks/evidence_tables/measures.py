"""How well maps of evidence meet lesions whose places are known.

N images, S pixels of the square's side, h x w positions of a map, R resamples. What is measured of
an image is measured within its retina alone. A figure is the mean of one measure over the images,
or the ratio of two such means, so that an image with one tiny lesion does not decide.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.evidence_maps.lesions import Regions
from benchmarks.shared.over_seeds import (
    Figure,
    difference_of,
    figure_of,
    image_weights,
    mean_of_drawn_seeds,
)
from common.metrics.intervals import BootstrapConfig, Interval
from common.metrics.shares import ratio

UPSAMPLINGS = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST_EXACT}
# each figure: what is averaged, and what its average is divided by, if anything
FIGURES = {
    "gain": ("in_lesions", "lesions"),
    "pointing": ("peak_in_lesion", ""),
    "chance": ("lesions", ""),  # of the pointing
    "disc": ("in_disc", "disc"),
    "disc_pointing": ("peak_in_disc", ""),
    "disc_chance": ("disc", ""),
    "deletion": ("lost_beyond_random", ""),
    "deletion_by_others": ("lost_beyond_others", ""),
    "likeness": ("likeness", ""),
}
Measures = dict[str, float]  # of an image, by name; NaN where it is undefined


def upsample(values: np.ndarray, size: int, how: str) -> np.ndarray:
    """Bring a map (h, w) to (S, S): each position is the middle of its part of the square."""
    plain = np.ascontiguousarray(values, dtype=np.float32)
    return cv2.resize(plain, (size, size), interpolation=UPSAMPLINGS[how])


def measure_map(values: np.ndarray, regions: Regions) -> Measures:
    """Measure where in an image a map (S, S) is positive, and where it is highest.

    in_lesions, in_disc: the share of the positive evidence in the retina that lies there, NaN if
    nothing is positive; lesions, disc: their shares of the retina. peak_in_lesion: 1 if the highest
    position is in one (the pointing game, Zhang et al. 2018, "Top-down neural attention by
    excitation backprop"), the share of them where several are equally high. What is of the disc is
    NaN where none is marked.
    """
    retina, has_disc = regions.retina, regions.disc.any()
    inside, lesions, disc = values[retina], regions.lesions[retina], regions.disc[retina]
    positive = np.maximum(inside, 0).astype(np.float64)
    total, peak = positive.sum(), inside == inside.max()
    nothing = math.nan
    return {
        "in_lesions": float(positive[lesions].sum() / total) if total else nothing,
        "lesions": float(lesions.mean()),
        "peak_in_lesion": float(lesions[peak].mean()),
        "in_disc": float(positive[disc].sum() / total) if total and has_disc else nothing,
        "disc": float(disc.mean()) if has_disc else nothing,
        "peak_in_disc": float(disc[peak].mean()) if has_disc else nothing,
    }


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return the rank correlation (Spearman 1904) of two maps (h, w); NaN if one is flat."""
    from scipy.stats import rankdata

    first, second = (rankdata(each) for each in (one, other))
    if not first.std() or not second.std():
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


@dataclass(frozen=True)
class Measured:
    """What was measured of a model's maps, for each seed of each image; NaN where it was not."""

    ids: np.ndarray  # (N,)
    groups: np.ndarray  # (N,) int: images of one group, such as those of an eye, belong together
    by_seed: list[dict[str, np.ndarray]]  # of each seed, (N,) by the measure's name

    def values(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return each figure of each seed, (S,), or (R, S) with weights (R, N)."""
        return {
            name: np.stack([_mean_ratio(one, *parts, weights) for one in self.by_seed], axis=-1)
            for name, parts in FIGURES.items()
        }

    def take(self, ids: np.ndarray) -> "Measured":
        """Keep some of the images."""
        rows = np.isin(self.ids, ids)
        by_seed = [{name: values[rows] for name, values in one.items()} for one in self.by_seed]
        return Measured(self.ids[rows], self.groups[rows], by_seed)


def measured_of(by_seed: Sequence[Mapping[str, Measures]], groups: Mapping[str, int]) -> Measured:
    """Put the measures of images, by id, of several seeds into columns."""
    ids = sorted({id_ for one in by_seed for id_ in one})
    columns = []
    for one in by_seed:
        names = dict.fromkeys(name for measures in one.values() for name in measures)
        columns.append(
            {
                name: np.array([one.get(id_, {}).get(name, math.nan) for id_ in ids])
                for name in names
            }
        )
    return Measured(np.array(ids), np.array([groups[id_] for id_ in ids]), columns)


def _mean_ratio(
    measures: Mapping[str, np.ndarray], above: str, below: str, weights: np.ndarray | None
) -> np.ndarray:
    """Divide the mean of one measure by that of another, over the images that have both."""
    size = len(next(iter(measures.values())))
    nothing = np.full(size, math.nan)
    numerator = measures.get(above, nothing)
    denominator = measures.get(below, nothing) if below else np.ones(size)
    known = ~np.isnan(numerator) & ~np.isnan(denominator)
    sums = [np.where(known, each, 0.0) for each in (numerator, denominator)]
    if weights is None:
        return ratio(sums[0].sum(), sums[1].sum())
    return ratio(weights @ sums[0], weights @ sums[1])


def summarise(measured: Measured, bootstrap: BootstrapConfig) -> dict[str, Figure]:
    """Measure all figures over the seeds, with intervals over images and seeds."""
    draws = _draws(measured, bootstrap, "")
    values = measured.values()
    return {name: figure_of(values[name].tolist(), draws[name]) for name in FIGURES}


def compare(one: Measured, other: Measured, bootstrap: BootstrapConfig) -> dict[str, Interval]:
    """Say how the figures of two differ on the images that both have; none: no difference."""
    shared = np.intersect1d(one.ids, other.ids)
    if not len(shared):
        return {}
    first, second = one.take(shared), other.take(shared)
    # the same maps looked at otherwise have the same seeds
    who = ("", "") if len(first.by_seed) == len(second.by_seed) else ("one", "two")
    draws = [_draws(each, bootstrap, name) for each, name in zip((first, second), who)]
    values = [each.values() for each in (first, second)]
    return {
        name: difference_of(
            (float(values[0][name].mean()), float(values[1][name].mean())),
            (draws[0][name], draws[1][name]),
        )
        for name in FIGURES
    }


def _draws(measured: Measured, bootstrap: BootstrapConfig, who: str) -> dict[str, np.ndarray]:
    weights = image_weights(measured.groups, bootstrap)
    return {
        name: mean_of_drawn_seeds(values, bootstrap, who)
        for name, values in measured.values(weights).items()
    }
