"""Tell pictures that cannot be graded: black, overexposed, blurred, noisy, other colours, no disc.

Plain statistics of the square that a model sees are compared with those of its training pictures.
They are taken after the preprocessing, since what that mends is no reason to refuse a picture.

N pictures, S pixels of the square side, Q statistics.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

FEWEST = 20  # training pictures from which limits are taken
_SIDE = 320  # pixels of the square in which is measured; a smaller one is taken as it is
_INNER = 0.6  # of the half side: within any disc
_OUTER = 1.08  # of the half side: beyond a disc that touches the square's sides
_VISIBLE = 20  # level from which a pixel is no ground
_CLIPPED = 250  # level from which a pixel says nothing
_WIDTHS = (
    0.7,
    1.4,
    2.8,
)  # pixels: standard deviations of the smoothings that divide fine from coarse
_QUANTILE = 0.005  # of the training pictures that may lie beyond a limit before its margin
_MARGIN = 0.5  # of the distance from median to quantile, where the quantile is known well
_WELL_KNOWN = 200  # pictures from which on it is; of fewer the margin is wider
_LEAST = 1e-6
_NO_DISC = "no disc of a retina on a dark ground"
_COLOURS = "other colours than a retina has in the training pictures"


@dataclass(frozen=True)
class Statistic:
    """A figure of a picture, and what it means beyond all training pictures; "": nothing."""

    name: str
    too_low: str = ""
    too_high: str = ""
    slack: float = 0.0  # least margin of its limits


STATISTICS = (
    Statistic("brightness", "black or much too dark", "overexposed"),
    Statistic("clipped share", "", "overexposed", slack=0.03),
    Statistic("sharpness", "blurred", "noisy"),
    Statistic("fine contrast", "blurred"),
    Statistic("disc", _NO_DISC, slack=0.1),
    Statistic("ground", "", _NO_DISC, slack=0.03),
    Statistic("red share", _COLOURS, slack=0.02),
    Statistic("blue share", "", _COLOURS, slack=0.02),
)


@dataclass(frozen=True)
class Limits:
    """Between which values the statistics of pictures that can be graded lie."""

    low: np.ndarray  # (Q,) -inf where a low value means nothing
    high: np.ndarray  # (Q,) inf where a high one means nothing
    pictures: int  # of the training, that they are taken from


def measure_square(square: np.ndarray) -> np.ndarray:
    """Measure the statistics (Q,) of a preprocessed picture (S, S, 3) uint8."""
    side = min(_SIDE, len(square))
    if side < len(square):
        square = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
    rings = _rings(side)
    middle = np.ascontiguousarray(square[rings.box, rings.box])  # what is beyond is not measured
    green = cv2.extractChannel(middle, 1)
    grey = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)[rings.inner]
    smooth = [cv2.GaussianBlur(green.astype(np.float32), (0, 0), width) for width in _WIDTHS]
    fine, coarse = (smooth[0] - smooth[1])[rings.inner], (smooth[1] - smooth[2])[rings.inner]
    means = np.array(cv2.mean(middle, rings.inner.astype(np.uint8))[:3])
    red, _, blue = means / (means.sum() + 1)
    return np.array(
        [
            np.median(grey),
            np.mean(green[rings.inner] >= _CLIPPED),
            # a haze lowers both alike, a blur takes the finer structures first
            np.sqrt(np.mean(fine**2) / (np.mean(coarse**2) + _LEAST)),
            # and leaves no edge of a vessel in the end
            np.percentile(np.abs(fine), 99) / (means[1] + 1),
            _visible(middle)[rings.inner].mean(),
            _visible(square)[rings.outer].mean(),
            red,
            blue,
        ]
    )


@dataclass(frozen=True)
class _Rings:
    """Where in a square what is measured lies."""

    box: slice  # of rows and of columns, around what lies within any disc
    inner: np.ndarray  # bool, within any disc, in the box
    outer: np.ndarray  # bool, beyond any disc: in the square's corners


@functools.cache
def _rings(side: int) -> _Rings:
    places = np.arange(side) - (side - 1) / 2
    radius = np.hypot(places[:, None], places) / (side / 2)
    margin = round(4 * _WIDTHS[-1])  # that the widest smoothing needs
    first = max(0, int(side * (1 - _INNER) / 2) - margin)
    box = slice(first, side - first)
    return _Rings(box, radius[box, box] < _INNER, radius > _OUTER)


def _visible(picture: np.ndarray) -> np.ndarray:
    red, green, blue = cv2.split(picture)
    return cv2.max(cv2.max(red, green), blue) > _VISIBLE


def fit_limits(values: np.ndarray) -> Limits | str:
    """Find the limits of the statistics (N, Q) of training pictures; says why of too few.

    An upper limit lies half as far again from the median as all but 0.5 % of the training pictures,
    or farther where these are few; a lower one so in logarithms, since no statistic is below 0.
    """
    if len(values) < FEWEST:
        return f"{len(values)} training pictures, {FEWEST} are needed for limits"
    slack = np.array([each.slack for each in STATISTICS])
    low, middle, high = np.quantile(values, (_QUANTILE, 0.5, 1 - _QUANTILE), axis=0)
    margin = _MARGIN * max(1.0, _WELL_KNOWN / len(values)) ** 0.5
    high += np.maximum(margin * (high - middle), slack)
    ratio = (low + _LEAST) / (middle + _LEAST)
    low = np.minimum(low * ratio**margin, low - slack)
    has_low = [bool(each.too_low) for each in STATISTICS]
    has_high = [bool(each.too_high) for each in STATISTICS]
    return Limits(np.where(has_low, low, -np.inf), np.where(has_high, high, np.inf), len(values))


def why_ungradable(values: np.ndarray, limits: Limits) -> str:
    """Say why a picture with these statistics (Q,) cannot be graded; "" where it can.

    Each meaning is given with the first figure that has it.
    """
    reasons: dict[str, list[str]] = {}
    for each, value, low, high in zip(STATISTICS, values, limits.low, limits.high, strict=True):
        if value < low:
            figure = f"{each.name} {value:.3g}, at least {low:.3g}"
            reasons.setdefault(each.too_low, []).append(figure)
        elif value > high:
            figure = f"{each.name} {value:.3g}, at most {high:.3g}"
            reasons.setdefault(each.too_high, []).append(figure)
    return ", ".join(f"{meaning} ({figures[0]})" for meaning, figures in reasons.items())
