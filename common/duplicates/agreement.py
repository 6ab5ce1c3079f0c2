"""Decide from the signatures of two pictures whether they show one picture or one eye.

m matches. Descriptions that agree much better than any second one are matches (Lowe 2004),
compared as RootSIFT (Arandjelovic and Zisserman 2012). RANSAC finds the affine transform under
which most of them lie on each other; then one picture is laid on the other, and their grey levels
are correlated. Points that agree by chance are few, and pictures laid on each other by them do
not correlate.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from common.duplicates.local_features import SIDE
from common.duplicates.signatures import NOTHING, VIEW_SIDE, Signature

# inliers of the 85,078 pairs of 413 photographs: 33 to 135 for 7 eyes photographed twice, at most
# 7 for all others
LEAST_INLIERS = 12
_LEAST_CELLS = 7  # a line of writing, the same in many pictures, lies in 4 to 6
_LEAST_CORRELATION = 0.65  # 0.71 and more for one eye; 0.6 and less for two with one writing
# from which two pictures are one photograph: 0.86 and more for its edited copies, at most 0.79 for
# another exposure of the eye, whose light, focus and angle differ
_SAME_PICTURE = 0.82
_RATIO = 0.85  # of the distances to the best and the second best description
_TOLERANCE = 6.0  # pixels between points that are one
_SCALES = (0.5, 2.0)  # by which a picture may be larger than the other, in any direction
_STRETCH = 1.5  # by which it may be longer in one direction than in the other
_CELL = SIDE / 6  # pixels: points are spread out where they lie in many cells of this size
_LEAST_OVERLAP = 0.15  # of a view's pixels


@dataclass(frozen=True)
class Agreement:
    """How well two pictures lie on each other."""

    inliers: int = 0  # matches at different places that one transform explains
    cells: int = 0  # of the first picture in which they lie
    correlation: float = 0.0  # of the grey levels of the pictures laid on each other
    mirrored: bool = False  # one of the pictures

    @property
    def same_eye(self) -> bool:
        """Tell whether they show one eye."""
        return (
            self.inliers >= LEAST_INLIERS
            and self.cells >= _LEAST_CELLS
            and self.correlation >= _LEAST_CORRELATION
        )

    @property
    def same_picture(self) -> bool:
        """Tell whether they show one photograph of it."""
        return self.same_eye and self.correlation >= _SAME_PICTURE


def agree(first: Signature, second: Signature) -> Agreement:
    """Compare two pictures, as they are and mirrored; the better of the two."""
    theirs = root_sift(second.descriptors)
    turned = mirrored(first)
    found = [agreement(one, second, root_sift(one.descriptors), theirs) for one in (first, turned)]
    if found[1].inliers > found[0].inliers:
        return replace(found[1], mirrored=True)
    return found[0]


def mirrored(signature: Signature) -> Signature:
    """Mirror what `agreement` compares of a picture left to right."""
    features = signature.features.mirrored()
    return replace(
        signature,
        view=signature.view[:, ::-1],
        points=features.points,
        descriptors=features.descriptors,
    )


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Turn SIFT's descriptors (n, 128) uint8 into unit vectors (n, 128) float32."""
    values = descriptors.astype(np.float32)
    values /= np.maximum(values.sum(axis=1, keepdims=True), 1)
    return np.sqrt(values, out=values)


def agreement(first: Signature, second: Signature, a: np.ndarray, b: np.ndarray) -> Agreement:
    """Lay one picture on another as they are; a, b are the unit vectors of their descriptors."""
    mine, theirs = _matches(a, b)
    if len(mine) < LEAST_INLIERS:
        return Agreement()
    sources, targets = first.points[mine], second.points[theirs]
    transform, inside = cv2.estimateAffine2D(
        sources, targets, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE, maxIters=500
    )
    if transform is None or not _plausible(transform):
        return Agreement()
    kept = inside.ravel() > 0
    distinct = min(_places(sources[kept], 4), _places(targets[kept], 4))
    if distinct < LEAST_INLIERS:
        return Agreement(distinct)
    cells = min(_places(sources[kept], _CELL), _places(targets[kept], _CELL))
    return Agreement(distinct, cells, _correlation(first.view, second.view, transform))


def _matches(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match unit vectors (n, 128) with (k, 128) as places (m,) and (m,)."""
    if min(len(a), len(b)) < LEAST_INLIERS:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    likeness = a @ b.T
    rows = np.arange(len(a))
    best = likeness.argmax(axis=1)
    top = likeness[rows, best]
    likeness[rows, best] = -1
    good = 1 - top < _RATIO**2 * (1 - likeness.max(axis=1))
    return rows[good], best[good]


def _plausible(transform: np.ndarray) -> bool:
    """Tell whether a transform (2, 3) neither stretches nor scales beyond belief."""
    long, short = np.linalg.svd(transform[:, :2], compute_uv=False)
    return bool(_SCALES[0] < short and long < _SCALES[1] and long < _STRETCH * short)


def _places(points: np.ndarray, size: float) -> int:
    """Count the squares of a size in which points (m, 2) lie."""
    return len(np.unique(np.floor(points / size), axis=0))


def _correlation(first: np.ndarray, second: np.ndarray, transform: np.ndarray) -> float:
    """Correlate two views (96, 96), the first laid on the second; 0 where they hardly overlap."""
    scale, centre = VIEW_SIDE / SIDE, (VIEW_SIDE - 1) / 2
    shift = transform[:, 2] * scale + centre - transform[:, :2] @ np.full(2, centre)
    laid = np.hstack([transform[:, :2], shift[:, None]])
    size = (VIEW_SIDE, VIEW_SIDE)
    known = (first != NOTHING).astype(np.uint8)
    grey = np.where(known, first, 0).astype(np.float32)
    moved = cv2.warpAffine(grey, laid, size)
    both = (cv2.warpAffine(known, laid, size, flags=cv2.INTER_NEAREST) > 0) & (second != NOTHING)
    if both.mean() < _LEAST_OVERLAP:
        return 0.0
    values = np.stack([moved[both], second[both].astype(np.float32)])
    values -= values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1)
    return float(values[0] @ values[1] / max(norms[0] * norms[1], 1e-9))
