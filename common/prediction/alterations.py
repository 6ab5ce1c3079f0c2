"""What may befall a photograph between eye and grader: ways to alter it, each of one strength.

H, W pixels of the photograph. Every change is a function of the picture alone: the same today and
tomorrow. Lengths are shares of the disc's longer side, so that a change means the same at 768 and
at 4,288 pixels; what a camera paints black around the disc stays as it is.
"""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from common.pixels.retina import Box, find_retina
from common.system.errors import InputError

_GROUND = 12  # level that a black ground stays below
_BLUR = 0.005  # standard deviation, in shares of the disc's side
_GRAIN = 1 / 512  # size of the noise's grains, in shares of the disc's side
_NOISE = 6.0  # standard deviation of the noise, in grey levels
_QUALITY = 30  # of JPEG
_DEGREES = 10.0
_CAST = (1.15, 1.0, 0.8)  # factors of red, green and blue
_CONTRAST = 0.7


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph and where its disc is."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    disc: Box

    @property
    def side(self) -> int:
        """Return the longer side of the disc in pixels."""
        top, bottom, left, right = self.disc
        return max(bottom - top, right - left)

    @cached_property
    def ground(self) -> np.ndarray:
        """Mark what is black around the disc, as (H, W) uint8 of 0 and 255."""
        return cv2.inRange(self.pixels, (0, 0, 0), (_GROUND, _GROUND, _GROUND))

    def on_ground(self, changed: np.ndarray) -> np.ndarray:
        """Keep the ground, and only that, as it is; changed (H, W, 3) is overwritten."""
        return cv2.copyTo(self.pixels, self.ground, changed)


@dataclass(frozen=True)
class Alteration:
    """A way to alter a photograph."""

    name: str  # as --robustness takes it
    title: str  # what it does, with its strength
    apply: Callable[[Photograph], np.ndarray]  # to (H, W, 3) uint8


def photograph(pixels: np.ndarray) -> Photograph:
    """Find the disc in a decoded photograph (H, W, 3)."""
    return Photograph(pixels, find_retina(pixels).box)


def _saved_as_jpeg(photo: Photograph) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(photo.pixels).save(file, "JPEG", quality=_QUALITY)
    with Image.open(file, formats=("JPEG",)) as saved:
        return np.asarray(saved.convert("RGB"))


def _blurred(photo: Photograph) -> np.ndarray:
    deviation = _BLUR * photo.side
    shrunk = max(1, int(deviation / 4))  # of so wide a blur nothing is lost by it, but most time
    height, width = photo.pixels.shape[:2]
    size = (-(-width // shrunk), -(-height // shrunk))
    small = cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), deviation / shrunk)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _at_half_resolution(photo: Photograph) -> np.ndarray:
    height, width = photo.pixels.shape[:2]
    half = (max(1, width // 2), max(1, height // 2))
    small = cv2.resize(photo.pixels, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _by_level(photo: Photograph, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change grey levels by a curve from and to 0..1."""
    levels = np.clip(curve(np.arange(256) / 255) * 255, 0, 255).round().astype(np.uint8)
    return photo.on_ground(cv2.LUT(photo.pixels, levels))


def _with_gamma(gamma: float) -> Callable[[Photograph], np.ndarray]:
    return lambda photo: _by_level(photo, lambda level: level**gamma)


def _exposed(factor: float) -> Callable[[Photograph], np.ndarray]:
    return lambda photo: _by_level(photo, lambda level: level * factor)


def _of_low_contrast(photo: Photograph) -> np.ndarray:
    """Draw each channel towards its mean within the disc, as a cloudy lens does."""
    mean = np.array(cv2.mean(photo.pixels, cv2.bitwise_not(photo.ground))[:3])
    levels = mean + _CONTRAST * (np.arange(256)[:, None] - mean)  # (256, 3)
    table = np.clip(levels, 0, 255).round().astype(np.uint8)[None]
    return photo.on_ground(cv2.LUT(photo.pixels, table))


def _turned(photo: Photograph) -> np.ndarray:
    """Turn about the disc's centre; the size of the picture and the ground's colour are kept."""
    height, width = photo.pixels.shape[:2]
    top, bottom, left, right = photo.disc
    matrix = cv2.getRotationMatrix2D(((left + right) / 2, (top + bottom) / 2), _DEGREES, 1)
    corners = photo.pixels[[0, 0, -1, -1], [0, -1, 0, -1]]  # (4, 3)
    ground = np.median(corners, axis=0).tolist()
    return cv2.warpAffine(
        photo.pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=ground
    )


def _noisy(photo: Photograph) -> np.ndarray:
    """Add noise of a fixed grain within the disc; its seed is the picture itself."""
    height, width = photo.pixels.shape[:2]
    grain = max(1.0, _GRAIN * photo.side)
    generator = np.random.default_rng(zlib.crc32(photo.pixels.tobytes()))
    shape = (round(height / grain) or 1, round(width / grain) or 1, 3)
    grains = generator.normal(0, _NOISE, shape).round().astype(np.int16)
    noise = cv2.resize(grains, (width, height), interpolation=cv2.INTER_NEAREST)
    return photo.on_ground(cv2.add(photo.pixels, noise, dtype=cv2.CV_8U))


def _tinted(photo: Photograph) -> np.ndarray:
    table = np.arange(256)[:, None] * np.array(_CAST)  # (256, 3)
    levels = np.clip(table, 0, 255).round().astype(np.uint8)[None]
    return photo.on_ground(cv2.LUT(photo.pixels, levels))


ALTERATIONS = (
    Alteration("jpeg", f"saved as JPEG of quality {_QUALITY}", _saved_as_jpeg),
    Alteration("blur", f"Gaussian blur of {100 * _BLUR:g} % of the disc", _blurred),
    Alteration("half_resolution", "half the resolution", _at_half_resolution),
    Alteration("darker", "darker: gamma 1.5", _with_gamma(1.5)),
    Alteration("brighter", "brighter: gamma 0.67", _with_gamma(1 / 1.5)),
    Alteration("underexposed", "underexposed: 0.75 of the light", _exposed(0.75)),
    Alteration("overexposed", "overexposed: 1.25 of the light", _exposed(1.25)),
    Alteration("low_contrast", f"{_CONTRAST:g} of the contrast", _of_low_contrast),
    Alteration("rotation", f"turned by {_DEGREES:g} degrees", _turned),
    Alteration("noise", f"noise of {_NOISE:g} grey levels, 512 grains across", _noisy),
    Alteration("colour_cast", "redder: red x 1.15, blue x 0.8", _tinted),
)


def chosen_alterations(names: Sequence[str]) -> tuple[Alteration, ...]:
    """Return the alterations of these names in their usual order, all where none is named."""
    known = [each.name for each in ALTERATIONS]
    odd = [name for name in names if name not in known]
    if odd:
        raise InputError(f"--robustness: expected some of {', '.join(known)}, found {odd[0]!r}")
    return tuple(each for each in ALTERATIONS if not names or each.name in names)
