"""Decode a picture file to upright RGB, whatever its format.

H, W pixels of the photograph.
"""

import io

import numpy as np
from PIL import Image, ImageOps

from common.data.folders import PICTURE_FORMATS

# a photograph has 1 to 60 megapixels; what claims more is a mistake or a decompression bomb
MAX_PIXELS = 178_000_000
FORMATS = tuple(sorted({*PICTURE_FORMATS.values()} - {"DICOM"}))  # that Pillow reads


class ImageError(ValueError):
    """A file that holds no usable picture; the message names the file and the reason."""


def check_size(width: int, height: int) -> None:
    """Raise ValueError for more pixels than a photograph has, also once it is made square."""
    if width * height > MAX_PIXELS or max(width, height) ** 2 > 2 * MAX_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels, limit {MAX_PIXELS} and {int((2 * MAX_PIXELS) ** 0.5)} "
            "a side"
        )


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode a picture file to (H, W, 3) uint8 RGB, turned as its EXIF data says.

    Grey, palette, 16-bit and transparent pictures are converted. Raises ImageError for bytes that
    are no such picture, are cut short, or claim more pixels than `check_size` allows.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            check_size(file.width, file.height)
            if file.mode == "F":
                raise ValueError("floating-point pixels, whose range is not known")
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip to white
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise a dozen kinds of exception on hostile bytes
        reason = "empty file" if not data else f"{type(error).__name__}: {error}"
        raise ImageError(f"{name}: expected a picture ({reason})") from error
