"""From a file to the square uint8 picture that every model sees.

H, W pixels of the photograph; S pixels of the square. Training, validation, evaluation and
prediction take their pixels from `load_pixels`, with the Preprocessing that the checkpoint holds.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from common.pixels.decoding import PIXEL_VERSION, Note, Picture, UnreadableError, decode_picture
from common.pixels.retina import FoundRetina, find_retina, retina_box

TWO_DISCS = Note("two_discs", "two discs, as of both eyes side by side; the larger is used")
# what comes after the photograph is cut out and equalised, set to one value for all models
_OF_ONE_MODEL: dict[str, Any] = {
    "img_size": 1,
    "interpolation": "bicubic",
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
}
_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """All that decides a model's pixels, stored in its checkpoint."""

    img_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    crop_retina: bool = True
    enable_clahe: bool = True
    clahe_clip_limit: float = 2.0
    clahe_tile_grid_size: int = 8
    version: int = PIXEL_VERSION  # of decoding and of finding the retina; see `from_dict`

    def __post_init__(self) -> None:
        if self.interpolation not in _RESAMPLING:
            raise ValueError(
                f"expected interpolation {' or '.join(_RESAMPLING)}, found {self.interpolation!r}"
            )
        if self.version not in range(1, PIXEL_VERSION + 1):
            raise ValueError(
                f"pixels of version {self.version!r}; this release knows 1 to {PIXEL_VERSION}"
            )
        # lists come back from JSON and from checkpoints, which may be a stranger's
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        sizes = (self.img_size, self.clahe_tile_grid_size)
        numbers = (*self.mean, *self.std, self.clahe_clip_limit)
        if not all(isinstance(n, int) for n in sizes) or not (
            1 <= self.img_size <= 4096 and 1 <= self.clahe_tile_grid_size <= 64
        ):
            raise ValueError(f"expected an img_size of 1 to 4096 and 1 to 64 tiles, found {sizes}")
        if len(numbers) != 7 or not all(abs(n) < 1e6 for n in numbers) or 0 in self.std:
            raise ValueError(f"expected three means and deviations, found {numbers}")

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Preprocessing":
        """Read what a checkpoint holds; one without a version was trained on the first pixels."""
        return cls(**{"version": 1, **content})

    def cache_key(self) -> str:
        """Hash what decides the uint8 pixels; mean and std come later and are left out."""
        deciding = {k: v for k, v in asdict(self).items() if k not in ("mean", "std")}
        if not self.enable_clahe:
            deciding["clahe_clip_limit"] = deciding["clahe_tile_grid_size"] = None
        text = json.dumps(deciding, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def apply_clahe(image: np.ndarray, clip_limit: float, tile_grid_size: int) -> np.ndarray:
    """Equalise the L channel of LAB adaptively (CLAHE, Zuiderveld 1994); (H, W, 3) uint8 RGB."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tile_grid_size, tile_grid_size))
    lab[..., 0] = clahe.apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def pad_to_square(image: np.ndarray) -> np.ndarray:
    """Centre (H, W, 3) on a black square, so that resizing keeps the disc round."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = _margins(height, width)
    return cv2.copyMakeBorder(
        image, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT
    )


def _margins(height: int, width: int) -> tuple[int, int]:
    """Return how many pixels a square has above a picture centred on it, and to its left."""
    side = max(height, width)
    return (side - height) // 2, (side - width) // 2


def preprocess(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Crop to the retina, equalise, pad and resize (H, W, 3) uint8 RGB to (S, S, 3) uint8."""
    return _finish(_crop(image, preprocessing).pixels, preprocessing)


def _crop(image: np.ndarray, preprocessing: Preprocessing) -> Picture:
    """Cut out the retina, if it is to be, with a note of what is odd about it."""
    if not preprocessing.crop_retina:
        return Picture(image)
    found = _find(image, preprocessing)
    notes = (TWO_DISCS,) if found.num_discs > 1 else ()
    return Picture(found.crop, notes)


def _find(image: np.ndarray, preprocessing: Preprocessing) -> FoundRetina:
    """Find the retina as the pixels' version does; the first one knows of no second disc."""
    if preprocessing.version == 1:
        return FoundRetina(image, retina_box(image), 1)
    return find_retina(image)


def _finish(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Equalise, pad and resize what was cut out."""
    return _resized(_equalised(image, preprocessing), preprocessing)


def _equalised(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Equalise what was cut out, and pad it to a square if it was cut out."""
    if preprocessing.enable_clahe:
        image = apply_clahe(
            image, preprocessing.clahe_clip_limit, preprocessing.clahe_tile_grid_size
        )
    return pad_to_square(image) if preprocessing.crop_retina else image


def _resized(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    size = (preprocessing.img_size, preprocessing.img_size)
    return np.asarray(Image.fromarray(image).resize(size, _RESAMPLING[preprocessing.interpolation]))


def load_pixels(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """Read a file and preprocess it to (S, S, 3) uint8 RGB; ImageError if that cannot be done."""
    return load_picture(path, preprocessing).pixels


def load_picture(path: Path, preprocessing: Preprocessing) -> Picture:
    """Read and preprocess as `load_pixels`, with notes on what is odd about the file.

    Raises ImageError for what the file holds, UnreadableError where it cannot be opened.
    """
    return load_squares(path, [preprocessing])[0]


def load_squares(path: Path, several: Sequence[Preprocessing]) -> list[Picture]:
    """Read a file once and preprocess it for each of several models, as `load_picture` does.

    What their preprocessing has in common is done once.
    """
    data = _read(path)
    versions = dict.fromkeys(each.version for each in several)
    decoded = {version: decode_picture(data, str(path), version) for version in versions}
    equalised: dict[Preprocessing, Picture] = {}
    squares = []
    for each in several:
        found, key = decoded[each.version], replace(each, **_OF_ONE_MODEL)
        if key not in equalised:
            cropped = _crop(found.pixels, each)
            equalised[key] = replace(cropped, pixels=_equalised(cropped.pixels, each))
        whole = equalised[key]
        squares.append(Picture(_resized(whole.pixels, each), found.notes + whole.notes))
    return squares


def _decode_file(path: Path, preprocessing: Preprocessing) -> Picture:
    return decode_picture(_read(path), str(path), preprocessing.version)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class Window:
    """The part of a photograph that the square shows, in shares of its width and height.

    It reaches beyond the photograph, below 0 or above 1, where the square is padded. Boxes are
    (..., 4): left, top, right, bottom.
    """

    left: float
    top: float
    width: float
    height: float

    def to_square(self, boxes: np.ndarray) -> np.ndarray:
        """Turn boxes in shares of the photograph into those of the square, which may cut them."""
        return (np.asarray(boxes, float) - self._origin) / self._sides

    def to_photograph(self, boxes: np.ndarray) -> np.ndarray:
        """Turn boxes in shares of the square into those of the photograph."""
        return np.asarray(boxes, float) * self._sides + self._origin

    @property
    def _origin(self) -> np.ndarray:
        return np.array([self.left, self.top] * 2)

    @property
    def _sides(self) -> np.ndarray:
        return np.array([self.width, self.height] * 2)


def window_of(image: np.ndarray, preprocessing: Preprocessing) -> Window:
    """Tell which part of an upright photograph (H, W, 3) `preprocess` shows."""
    height, width = image.shape[:2]
    if not preprocessing.crop_retina:
        return Window(0.0, 0.0, 1.0, 1.0)
    top, bottom, left, right = _find(image, preprocessing).box
    above, beside = _margins(bottom - top, right - left)
    side = max(bottom - top, right - left)
    return Window((left - beside) / width, (top - above) / height, side / width, side / height)


def load_window(path: Path, preprocessing: Preprocessing) -> Window:
    """Tell which part of a file's photograph `load_pixels` shows; ImageError as there."""
    return window_of(_decode_file(path, preprocessing).pixels, preprocessing)
