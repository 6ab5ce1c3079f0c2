"""From evidence for pairs of grades to evidence for a decision: referable, or the predicted grade.

A decision sets some classes against others. The pairs of one of each speak to it, and its score is
the mean of their logits, each turned so that positive speaks for the classes decided on:

    score = 1/m * sum over the m pairs (a, b) with one class on each side of s_ab * logit_ab,

s_ab = +1 where b, the higher class, is one of those decided on, else -1. The map is the same mean
of the pairs' maps, so that again its mean over the positions plus the constant is the score. Of an
ensemble, scores and maps are the mean of its models' with the ensemble's weights.

N images, P pairs, K classes, M models, h x w positions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from common.evidence.exact import Evidence
from common.pairs import class_pairs


@dataclass(frozen=True)
class Summed:
    """Evidence for a decision."""

    maps: np.ndarray  # (N, h, w) float32, positive for the classes decided on
    constants: np.ndarray  # (N,)
    scores: np.ndarray  # (N,) the mean over the positions plus the constant, in logits

    def __len__(self) -> int:
        return len(self.scores)


def pair_shares(decided: Collection[int], against: Collection[int], num_classes: int) -> np.ndarray:
    """Say with which sign and weight each pair speaks for some classes against others, (P,).

    0 for pairs that lie on one side, or hold a third class; the others' sizes sum to 1.
    """
    signs = [
        (b in decided and a in against) - (a in decided and b in against)
        for a, b in class_pairs(num_classes)
    ]
    if not any(signs):
        raise ValueError(f"no pair of {num_classes} classes sets {decided} against {against}")
    return np.array(signs, float) / np.count_nonzero(signs)


def sum_pairs(evidence: Evidence, shares: np.ndarray) -> Summed:
    """Sum the pairs of all images with shares (P,), or of each image with its own (N, P)."""
    shares = np.broadcast_to(shares, evidence.logits.shape).astype(np.float32)
    return Summed(
        np.einsum("np,nphw->nhw", shares, evidence.maps),
        (shares * evidence.constants).sum(1),
        (shares * evidence.logits).sum(1),
    )


def weigh_models(models: Sequence[Summed], weights: Sequence[float] | np.ndarray) -> Summed:
    """Average what M models say for the same decision, on the grid of the one that has most."""
    shares = np.asarray(weights, float) / np.sum(weights)
    size = max((model.maps.shape[1:] for model in models), key=lambda sides: sides[0] * sides[1])
    maps = [resample(model.maps, size) for model in models]
    return Summed(
        np.tensordot(shares, maps, 1).astype(np.float32),
        np.tensordot(shares, [model.constants for model in models], 1),
        np.tensordot(shares, [model.scores for model in models], 1),
    )


def resample(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Lay maps (..., h, w) out on another grid by the areas that overlap; means stay the same."""
    for axis, side in zip((-2, -1), size):
        moved = np.moveaxis(maps, axis, -1) @ _overlaps(maps.shape[axis], side)
        maps = np.moveaxis(moved, -1, axis)
    return maps


def _overlaps(old: int, new: int) -> np.ndarray:
    """Return which share of each new position (columns) each old one (rows) covers, (old, new)."""
    starts, ends = np.arange(old)[:, None] / old, np.arange(1, old + 1)[:, None] / old
    left, right = np.arange(new) / new, np.arange(1, new + 1) / new
    overlap = np.minimum(ends, right) - np.maximum(starts, left)
    return (overlap.clip(min=0) * new).astype(np.float32)
