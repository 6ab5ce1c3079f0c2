"""Find the retina's disc in a photograph, on a ground of any colour.

H, W pixels of the photograph; h, w pixels of a small copy whose longer side is 256.
"""

from dataclasses import dataclass

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # top, bottom, left, right
_SIDE = 256  # pixels of the small copy
_CORNER = 8  # of its pixels that a corner has
_DARK = 12  # level that a black ground stays below
_NOISE = 12  # levels by which a ground of one colour varies
_ALIKE = 16  # levels between the colours of two corners of one ground
_LEAST_GROUND = 0.02  # share of the picture
_JUMP = 3  # edge of a ground over its noise; measured 5 and more, 2 at most within retinas
_CONVEX = 0.85  # share of its convex hull that a disc, or two that touch, fills
_LEAST_DISC = 0.1  # share of the picture


@dataclass(frozen=True)
class FoundRetina:
    """The retina in a photograph."""

    picture: np.ndarray  # (H, W, 3) uint8, as it was but for a bright ground, which is now black
    box: Box
    num_discs: int  # 2 where two eyes lie side by side; the box holds the larger one

    @property
    def crop(self) -> np.ndarray:
        """The picture in the box."""
        top, bottom, left, right = self.box
        return self.picture[top:bottom, left:right]


def find_retina(image: np.ndarray) -> FoundRetina:
    """Find the disc in a photograph (H, W, 3) uint8 whose ground may have any one colour.

    A ground that is not black (white margins, grey, a picture made brighter by a constant) is
    painted black, so that all photographs look alike from here on. On a black ground, and where a
    retina without ground fills the picture, nothing is painted and the box is `retina_box`'s.
    """
    small = _shrunk(image)
    picture = _with_black_ground(image, small)
    mask = _bright_mask(small if picture is image else _shrunk(picture))
    return FoundRetina(picture, _largest_box(mask, picture), _count_discs(mask))


def retina_box(image: np.ndarray) -> Box:
    """Find the box of the retina's disc, brighter than what is around it.

    image (H, W, 3) uint8. The disc is the largest bright component; where that covers less than a
    tenth of the picture nothing is cut off.
    """
    return _largest_box(_bright_mask(_shrunk(image)), image)


def retina_mask(image: np.ndarray) -> np.ndarray:
    """Mark the retina's disc in a picture (H, W, 3) uint8 on a black ground, as (H, W) bool.

    It is the convex hull of the largest bright component, so that what is dark within it, such as
    a haemorrhage, is part of it. A picture in which none is found is marked as a whole.
    """
    height, width = image.shape[:2]
    mask = _bright_mask(_shrunk(image))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea, default=None)
    if largest is None or cv2.contourArea(largest) < _LEAST_DISC * mask.size:
        return np.ones((height, width), dtype=bool)
    filled = np.zeros_like(mask)
    cv2.fillConvexPoly(filled, cv2.convexHull(largest), 1)
    return cv2.resize(filled, (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _shrunk(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = _scale(image)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _scale(image: np.ndarray) -> float:
    return max(1.0, max(image.shape[:2]) / _SIDE)


def strongest(picture: np.ndarray) -> np.ndarray:
    """Return the largest channel of each pixel: (H, W, 3) to (H, W).

    NumPy's own maximum over so short an axis takes twenty times as long.
    """
    red, green, blue = (picture[..., channel] for channel in range(3))
    return np.maximum(np.maximum(red, green), blue)


def _threshold(levels: np.ndarray) -> float:
    """Return the level from which on something stands out from a ground at 0."""
    return float(np.clip(0.15 * np.percentile(levels, 99), 12, 30))


def _bright_mask(small: np.ndarray) -> np.ndarray:
    """Mark what is bright in the small copy (h, w, 3), as (h, w) uint8 of 0 and 1."""
    levels = strongest(small)
    mask = (levels > _threshold(levels)).astype(np.uint8)
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3)))


def _largest_box(mask: np.ndarray, image: np.ndarray) -> Box:
    height, width = image.shape[:2]
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return 0, height, 0, width
    left, top, box_width, box_height, area = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
    if area < _LEAST_DISC * mask.size:
        return 0, height, 0, width
    scale = _scale(image)
    return (
        int(top * scale),
        min(height, int(np.ceil((top + box_height) * scale))),
        int(left * scale),
        min(width, int(np.ceil((left + box_width) * scale))),
    )


def _count_discs(mask: np.ndarray) -> int:
    """Count the discs in the mask of a picture: 2 if two of like size are apart, or touch."""
    _, _, width, height = cv2.boundingRect(mask)
    if max(height, width) < 1.4 * max(1, min(height, width)):
        return 1
    radius = round(0.2 * min(height, width))
    core = cv2.erode(mask, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    for marked in (mask, core):
        _, _, stats, _ = cv2.connectedComponentsWithStats(marked)
        areas = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
        smallest = _LEAST_DISC * mask.size if marked is mask else 0
        if len(areas) > 1 and areas[1] > max(0.5 * areas[0], smallest):
            return 2
    return 1


def _with_black_ground(image: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Paint a ground of one bright colour black; returns the picture itself where there is none.

    The ground is what has the colour of two or more flat corners and is connected with one of
    them. It is believed only if it is flat throughout and leaves something convex.
    """
    colour = _bright_corner_colour(small)
    if colour is None:
        return image
    distance = strongest(np.abs(small.astype(np.int16) - colour))  # (h, w)
    limit = _threshold(distance)
    ground = _connected_with_corners(distance <= limit)
    if not _is_a_ground(distance, ground) or not _leaves_a_disc(ground):
        return image
    return _paint(image, colour, limit, ground)


def _corners(small: np.ndarray) -> list[np.ndarray]:
    """Cut the four corners out of (h, w, ...)."""
    rows, columns = (max(1, min(_CORNER, side // 8)) for side in small.shape[:2])
    return [
        small[vertical, horizontal]
        for vertical in (slice(rows), slice(-rows, None))
        for horizontal in (slice(columns), slice(-columns, None))
    ]


def _bright_corner_colour(small: np.ndarray) -> np.ndarray | None:
    """Return the colour (3,) that most of the flat corners share, if two do and it is not dark."""
    corners = _corners(small)
    if sum(float(np.median(strongest(corner))) > _DARK for corner in corners) < 2:
        return None
    colours = []
    for corner in corners:
        pixels = corner.reshape(-1, 3).astype(np.int16)
        colour = np.median(pixels, axis=0)
        spread = np.percentile(np.abs(pixels - colour).max(axis=1), 90)
        if spread <= _NOISE and colour.max() > _DARK:
            colours.append(colour)
    groups = [[b for b in colours if np.abs(a - b).max() <= _ALIKE] for a in colours]
    largest = max(groups, key=len, default=[])
    return np.mean(largest, axis=0).round().astype(np.int16) if len(largest) > 1 else None


def _connected_with_corners(near: np.ndarray) -> np.ndarray:
    """Keep the components of a mask (h, w) that fill most of a corner."""
    _, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
    corners = [np.bincount(corner.ravel()) for corner in _corners(labels)]
    kept = {int(counts.argmax()) for counts in corners} - {0}
    return np.isin(labels, list(kept))


def _is_a_ground(distance: np.ndarray, ground: np.ndarray) -> bool:
    """Tell whether a mask (h, w) is a ground: of one colour up to an edge where that jumps.

    distance (h, w): of each pixel from the ground's colour. Smooth parts of a retina that fills the
    picture have no such edge.
    """
    if ground.mean() < _LEAST_GROUND:
        return False
    marked = ground.astype(np.uint8)
    inner = cv2.erode(marked, np.ones((5, 5), np.uint8)) > 0
    near, far = (cv2.dilate(marked, np.ones((side, side), np.uint8)) > 0 for side in (5, 9))
    beyond = far & ~near  # 3 or 4 pixels outside
    if not inner.any() or not beyond.any():
        return False
    noise = float(np.percentile(distance[inner], 90))
    return noise <= _NOISE and float(np.median(distance[beyond])) > _JUMP * (noise + 4)


def _leaves_a_disc(ground: np.ndarray) -> bool:
    """Tell whether what a ground leaves is large and convex, as a disc is, cut off or not."""
    rest = cv2.morphologyEx((~ground).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
    contours, _ = cv2.findContours(rest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return False
    largest = max(contours, key=cv2.contourArea)
    area = cv2.contourArea(largest)
    hull = cv2.contourArea(cv2.convexHull(largest))
    return area >= _LEAST_DISC * ground.size and area >= _CONVEX * hull


def _paint(image: np.ndarray, colour: np.ndarray, limit: float, ground: np.ndarray) -> np.ndarray:
    """Paint the ground, known in the small copy, black at full size, with the seam around it."""
    height, width = image.shape[:2]
    kernel = np.ones((3, 3), np.uint8)
    inside, around = (
        cv2.resize(
            change(ground.astype(np.uint8), kernel),
            (width, height),
            interpolation=cv2.INTER_NEAREST,
        )
        for change in (cv2.erode, cv2.dilate)
    )
    low, high = (np.clip(colour + step, 0, 255).astype(np.float64) for step in (-limit, limit))
    near = cv2.bitwise_and(cv2.inRange(image, low, high), 255 * around)
    near = cv2.bitwise_or(near, 255 * inside)
    seam = 2 * round(_scale(image) / 2) + 1  # resampling and JPEG mix the colours there
    painted = image.copy()
    painted[cv2.dilate(near, np.ones((seam, seam), np.uint8)) > 0] = 0
    return painted
