"""From evidence for pairs of grades to evidence for a decision: referable, or the predicted grade.

A decision sets some classes against others. The pairs (a, b) with one class on each side speak to
it, positive for the classes decided on, and its score is the weighted mean of their logits:

    score = sum over these pairs of w_ab * s_ab * logit_ab,   w_ab = q_a * q_b,

s_ab = +1 where b, the higher class, is one of those decided on, else -1; q is each class's
probability within its own side, so that the weights sum to 1. A pair counts as much as the picture
is likely to be of its classes: what a pair says of a picture of a third class means nothing. These
weights are the slope of the log-odds of the decision where pair logits are differences of class
scores (Bradley & Terry 1952). The map is the same mean of the pairs' maps: again, its mean over the
positions plus the constant is the score. Of an ensemble, scores and maps are the mean of those of
its models, with the ensemble's weights.

Where a finer map lies on lesions is told better by weighing it by the exact one (docs/evidence.md):
`weigh_finer`. What comes out does not add up to anything.

N images, P pairs, K classes, M models, h x w positions, H x W of a finer map.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from common.pairs import class_pairs

if TYPE_CHECKING:
    from common.evidence.exact import Evidence

EXACT, FINER, COMBINED = "exact", "finer", "combined"
KINDS = (EXACT, FINER, COMBINED)  # of maps: exact, of an earlier stage, that weighed by the exact
_LEAST = 1e-9  # of a probability, so that a side that is ruled out altogether has weights, too


@dataclass(frozen=True)
class Summed:
    """Evidence for a decision."""

    maps: np.ndarray  # (N, h, w) float32, positive for the classes decided on
    constants: np.ndarray  # (N,); NaN of maps that do not add up to the score
    scores: np.ndarray  # (N,) the mean over the positions plus the constant, in logits

    def __len__(self) -> int:
        return len(self.scores)


def pair_shares(
    decided: Collection[int],
    against: Collection[int],
    num_classes: int,
    probabilities: np.ndarray | None = None,
) -> np.ndarray:
    """Say with which sign and weight each pair speaks for some classes against others, (P,).

    probabilities (K,) of the classes on a picture; None: all pairs count alike. 0 for pairs that
    lie on one side, or hold a third class; the others' sizes sum to 1.
    """
    known = np.ones(num_classes) if probabilities is None else np.asarray(probabilities)
    signed = np.zeros(num_classes)  # q, positive for the classes decided on
    for sign, side in ((1, list(decided)), (-1, list(against))):
        if not side or set(decided) & set(against):
            raise ValueError(f"expected two sides of {num_classes} classes: {decided}, {against}")
        own = known[side] + _LEAST
        signed[side] = sign * own / own.sum()
    products = [(signed[a], signed[b]) for a, b in class_pairs(num_classes)]
    return np.array(
        [np.sign(q_b) * abs(q_a * q_b) if q_a * q_b < 0 else 0 for q_a, q_b in products]
    )


def sum_pairs(evidence: "Evidence", shares: np.ndarray) -> Summed:
    """Sum the pairs of all images with shares (P,), or of each image with its own (N, P)."""
    shares = np.broadcast_to(shares, evidence.logits.shape).astype(np.float32)
    return Summed(
        np.einsum("np,nphw->nhw", shares, evidence.maps),
        (shares * evidence.constants).sum(1),
        (shares * evidence.logits).sum(1),
    )


def combine(exact: Summed, finer: Summed) -> Summed:
    """Weigh finer maps by the exact ones for the same decision; they add up to nothing then."""
    constants = np.full(len(exact), np.nan)
    return Summed(weigh_finer(exact.maps, finer.maps), constants, exact.scores)


def weigh_finer(exact: np.ndarray, finer: np.ndarray) -> np.ndarray:
    """Weigh finer maps (N, H, W) by exact ones (N, h, w), to (N, H, W) float32.

    The weight of a place is the exact evidence there, linear between positions, over the largest in
    that picture: from 0 to 1, and 0 where the two speak for different sides. So no value is larger
    than that of the finer map, and its unit stays that of a logit.
    """
    size = finer.shape[:0:-1]
    weights = np.zeros(finer.shape, np.float32)
    for sign in (1, -1):
        own = [cv2.resize(np.maximum(sign * one, 0), size) for one in exact]
        weights += np.where(sign * finer > 0, own, 0)
    largest = np.abs(exact).max((1, 2), keepdims=True)
    return (finer * weights / np.where(largest > 0, largest, 1)).astype(np.float32)


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
