"""Find the points of a retina that can be recognised however it is turned, cropped or lit.

n points of a picture. A retina is brought to one size, its illumination is taken out, and SIFT
(Lowe 2004) describes at most 400 points of what is left: crossings of vessels, and lesions. What
lies near the disc's edge is left out, since it (and the camera's notch in it) is alike in all
photographs. A mirrored picture needs no second look: mirroring only permutes a description.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from common.pixels.retina import strongest

SIDE = 384  # pixels of the longer side of a retina's box; the unit of all points
MAX_POINTS = 400
_RIM = 0.93  # share of the disc's radius within which points are looked for
_EDGE = 11  # pixels kept away from what is dark
_LIT = 0.12  # share of a retina's brightness above which a pixel is part of it
_FLAT = 2.0  # grey levels: added to the local spread, so that noise is not raised to structure
_NEAR, _FAR = 12, 24  # pixels: the scale of illumination, and that of contrast
# the 4 x 4 cells x 8 directions of a description in a mirror: rows and directions run backwards
_MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][..., -np.arange(8) % 8].ravel()


@dataclass(frozen=True)
class LocalFeatures:
    """Points of a retina and what is around each."""

    points: np.ndarray  # (n, 2) float32, x and y from the box's centre, the box being SIDE long
    descriptors: np.ndarray  # (n, 128) uint8, of SIFT

    def mirrored(self) -> "LocalFeatures":
        """Return the features of the picture mirrored left to right."""
        flipped = self.points * np.array([-1, 1], dtype=np.float32)
        return LocalFeatures(flipped, self.descriptors[:, _MIRRORED])


@dataclass(frozen=True)
class Structure:
    """A retina of one size without its illumination."""

    grey: np.ndarray  # (rows, columns) uint8, 128 where there is nothing; the longer side is SIDE
    searched: np.ndarray  # (rows, columns) uint8, 1 where points are looked for


def structure_of(retina: np.ndarray) -> Structure:
    """Take the illumination out of a retina (h, w, 3) uint8, cut out as its disc's box.

    Green, where vessels are dark, less its surroundings, in shares of the local spread.
    """
    height, width = retina.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(retina, size, interpolation=method)
    inside = _lit(small)
    share = cv2.GaussianBlur(inside, (0, 0), _NEAR) + 1e-3
    green = small[..., 1].astype(np.float32) * inside
    band = green - cv2.GaussianBlur(green, (0, 0), _NEAR) / share * inside
    power = cv2.GaussianBlur(band**2, (0, 0), _FAR)
    spread = np.sqrt(power / (cv2.GaussianBlur(inside, (0, 0), _FAR) + 1e-3))
    grey = np.clip(np.round(128 + 40 * band / (spread + _FLAT)), 0, 255).astype(np.uint8)
    return Structure(grey, _away_from_edges(inside))


def local_features(structure: Structure) -> LocalFeatures:
    """Describe the points that stand out most."""
    sift = cv2.SIFT.create(MAX_POINTS, 3, 0.01, 10, 1.6, cv2.CV_8U)
    found, descriptors = sift.detectAndCompute(structure.grey, structure.searched)
    if descriptors is None or not len(found):
        return LocalFeatures(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    points = np.array([point.pt for point in found], dtype=np.float32)[:MAX_POINTS]
    rows, columns = structure.grey.shape
    centre = np.array([(columns - 1) / 2, (rows - 1) / 2], dtype=np.float32)
    return LocalFeatures(points - centre, descriptors[:MAX_POINTS].astype(np.uint8))


def _lit(small: np.ndarray) -> np.ndarray:
    """Mark the lit pixels of a small retina (rows, columns, 3) as (rows, columns) float32."""
    bright = strongest(small)
    lit = (bright > _LIT * np.percentile(bright, 95)).astype(np.uint8)
    return cv2.morphologyEx(lit, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)).astype(np.float32)


def _away_from_edges(inside: np.ndarray) -> np.ndarray:
    """Mark what lies within the disc (rows, columns), away from its rim and from what is dark."""
    rows, columns = inside.shape
    x = np.arange(columns) - (columns - 1) / 2
    y = np.arange(rows) - (rows - 1) / 2
    near = np.hypot(y[:, None], x[None]) < _RIM * max(rows, columns) / 2
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _EDGE + 1, 2 * _EDGE + 1))
    away = cv2.erode(inside.astype(np.uint8), kernel)  # the picture's own edges are not dark
    return away * near.astype(np.uint8)
