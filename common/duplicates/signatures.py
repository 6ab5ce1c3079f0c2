"""Reduce a picture to what is kept of it to recognise it elsewhere, some 65 KB.

n points. A signature depends on the picture alone, so that it can be stored and compared with those
of any other set.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from common.duplicates.local_features import (
    LocalFeatures,
    Structure,
    local_features,
    structure_of,
)
from common.duplicates.near_duplicates import sketch_and_hashes

VERSION = 1  # of what a signature holds; goes up with every change, so that stored ones expire
VIEW_SIDE = 96  # pixels
NOTHING = -128  # in a view: no retina, or too near its edge
_VIEW_BLUR = 3.0  # pixels of the structure: edits and compression change what is finer


@dataclass(frozen=True)
class Signature:
    """What is kept of one picture; without structure in the picture every array is empty."""

    sketch: np.ndarray  # (64, 64) int8, of the box stretched to a square
    hashes: np.ndarray  # (8, 32) uint8, one for each orientation of the sketch
    view: np.ndarray  # (96, 96) int8: the structure in the points' frame, or NOTHING
    points: np.ndarray  # (n, 2) float32, x and y in pixels from the box's centre
    descriptors: np.ndarray  # (n, 128) uint8

    @property
    def features(self) -> LocalFeatures:
        """Return the points and what is around them."""
        return LocalFeatures(self.points, self.descriptors)

    @property
    def has_structure(self) -> bool:
        """Tell whether there is anything to compare."""
        return len(self.sketch) > 0


def signature_of(retina: np.ndarray) -> Signature:
    """Reduce a retina (h, w, 3) uint8 RGB, cut out as the box of its disc."""
    height, width = retina.shape[:2]
    method = cv2.INTER_AREA if min(height, width) > 256 else cv2.INTER_LINEAR
    square = cv2.resize(retina, (256, 256), interpolation=method)
    sketch, hashes = sketch_and_hashes(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float32))
    if sketch is None or hashes is None:
        return EMPTY
    structure = structure_of(retina)
    found = local_features(structure)
    return Signature(sketch, hashes, _view(structure), found.points, found.descriptors)


EMPTY = Signature(
    np.empty((0, 0), np.int8),
    np.empty((0, 0), np.uint8),
    np.empty((0, 0), np.int8),
    np.empty((0, 2), np.float32),
    np.empty((0, 128), np.uint8),
)


def _view(structure: Structure) -> np.ndarray:
    """Shrink a structure to (96, 96) int8, its centre in the centre."""
    rows, columns = structure.grey.shape
    scale = VIEW_SIDE / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    smooth = cv2.GaussianBlur(structure.grey.astype(np.float32) - 128, (0, 0), _VIEW_BLUR)
    small = cv2.resize(smooth, size, interpolation=cv2.INTER_AREA)
    searched = cv2.resize(structure.searched, size, interpolation=cv2.INTER_NEAREST) > 0
    view = np.full((VIEW_SIDE, VIEW_SIDE), NOTHING, dtype=np.int8)
    top, left = (VIEW_SIDE - size[1]) // 2, (VIEW_SIDE - size[0]) // 2
    values = np.where(searched, np.clip(np.round(2 * small), -127, 127), NOTHING)
    view[top : top + size[1], left : left + size[0]] = values
    return view
