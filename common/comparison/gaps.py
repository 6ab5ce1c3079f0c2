"""Whether a figure differs between subgroups by more than chance makes equal ones differ.

N images, G patients, V subgroups, C cells that images are counted in, R permutations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.system.random_streams import random_generator

_BLOCK_SIZE = 2**21  # images in all permutations of a block, to bound the memory
_ENOUGH = 20  # as large gaps by chance, after which their share is known well enough


@dataclass(frozen=True)
class Counted:
    """A figure of counts, and the subgroups that are compared in it."""

    cells: np.ndarray  # (N,) int, what each image counts as
    num_cells: int
    figure: Callable[[np.ndarray], np.ndarray]  # counts (..., C) -> values (...)
    compared: np.ndarray  # (V,) bool

    def by_subgroup(self, subgroups: np.ndarray) -> np.ndarray:
        """Return the figure of each subgroup, (R, V), of the images that are in it, (R, N)."""
        draws, count = len(subgroups), len(self.compared)
        places = subgroups + count * np.arange(draws)[:, None]
        places = places * self.num_cells + self.cells
        counts = np.bincount(places.ravel(), minlength=draws * count * self.num_cells)
        return self.figure(counts.reshape(draws, count, self.num_cells))

    def gap(self, subgroups: np.ndarray) -> np.ndarray:
        """Return by how much the figure differs between the subgroups that differ most, (R,)."""
        values = self.by_subgroup(subgroups)[:, self.compared]
        defined = ~np.isnan(values)
        highest = np.where(defined, values, -np.inf).max(1)
        lowest = np.where(defined, values, np.inf).min(1)
        return np.where(defined.sum(1) > 1, highest - lowest, 0.0)


def gap_p_values(
    subgroups: np.ndarray, figures: Sequence[Counted], members: np.ndarray, most: int, seed: int
) -> np.ndarray:
    """Return the p of each figure's gap, were it all one which image is in which subgroup.

    subgroups (N,) int in 0..V-1; members (N,) int in 0..G-1, the patient of each image. In each
    permutation a patient's images get the subgroups of another patient's, over and over or as many
    as are needed: images of one patient stay alike. Permutations end at `most`, or once every
    figure's gap was reached 20 times (Besag & Clifford 1991): a large p needs few.
    """
    observed = np.array([each.gap(subgroups[None])[0] for each in figures])
    reached, drawn = np.zeros(len(figures)), np.zeros(len(figures))
    shuffled = _Shuffled(subgroups, members, seed)
    size = max(1, min(250, _BLOCK_SIZE // len(subgroups)))
    while drawn.max(initial=0) < most:
        going_on = np.flatnonzero(reached < _ENOUGH)
        if not len(going_on):
            break
        block = shuffled.draw(size)
        for place in going_on.tolist():
            chance = figures[place].gap(block)
            reached[place] += (chance >= observed[place] - 1e-9).sum()
            drawn[place] += size
    return (reached + 1) / (drawn + 1)


class _Shuffled:
    """Gives the subgroups of patients to other patients."""

    def __init__(self, subgroups: np.ndarray, members: np.ndarray, seed: int) -> None:
        order = np.argsort(members, kind="stable")
        self._members, self._sorted = members, subgroups[order]
        self._sizes = np.bincount(members)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._ranks = np.empty(len(members), dtype=int)  # of an image among its patient's
        self._ranks[order] = np.arange(len(members)) - self._starts[members[order]]
        self._generator = random_generator("subgroups", seed)

    def draw(self, count: int) -> np.ndarray:
        """Draw (count, N) subgroups."""
        patients = np.tile(np.arange(len(self._sizes)), (count, 1))
        donors = self._generator.permuted(patients, axis=1)[:, self._members]  # (R, N)
        return self._sorted[self._starts[donors] + self._ranks % self._sizes[donors]]
