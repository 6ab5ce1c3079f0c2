"""Samples of more than 8 bits, and the range that they are shown in.

H, W pixels of the photograph, C channels.
"""

import io
import re
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

# the greatest values of the depths that cameras and programs write: 8, 10, 12, 14 and 16 bits
RANGES = (255, 1023, 4095, 16383, 65535)
_WIDE_RANGES = (2**31 - 1, 2**32 - 1)
_MAX_PAGES = 256  # of a TIFF file that are looked at
_MASK = 4  # a bit of TIFF's NewSubfileType: the page is a mask of another one
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC = 254, 256, 257, 258, 262
_GREATEST = 281
ORIENTATION = 274  # of EXIF data
_TIFF_MAGIC = (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b")


@dataclass(frozen=True)
class TiffPage:
    """What a page of a TIFF file says of itself."""

    number: int
    width: int
    height: int
    bits: int  # of the deepest channel
    greatest: int  # value that it says to hold; 0 where it says nothing
    white_is_zero: bool
    is_mask: bool

    @property
    def pixels(self) -> int:
        """Count the pixels."""
        return self.width * self.height


def is_tiff(data: bytes) -> bool:
    """Tell whether bytes begin as a TIFF file does."""
    return data[:4] in _TIFF_MAGIC


def tiff_pages(data: bytes) -> list[TiffPage]:
    """List the pages of a TIFF file from their tags, at most 256, decoding none."""
    header = data[:16] if data[2:4] in (b"\x2b\0", b"\0\x2b") else data[:8]
    file, tags = io.BytesIO(data), ImageFileDirectory_v2(header)
    pages: list[TiffPage] = []
    seen: set[int] = set()
    while (place := tags.next) and place not in seen and len(pages) < _MAX_PAGES:
        seen.add(place)
        file.seek(place)
        tags.load(file)
        bits = _numbers(tags.get(_BITS, 1))
        declared = max(_numbers(tags.get(_GREATEST, 0)), default=0)
        depth = max(bits, default=1)
        pages.append(
            TiffPage(
                number=len(pages),
                width=_number(tags.get(_WIDTH, 0)),
                height=_number(tags.get(_HEIGHT, 0)),
                bits=depth,
                greatest=2**depth - 1 if 8 < depth < 16 else declared,
                white_is_zero=tags.get(_PHOTOMETRIC) == 0,
                is_mask=bool(_number(tags.get(_SUBFILE, 0)) & _MASK),
            )
        )
    return pages


def _numbers(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(int(v) for v in values if isinstance(v, int | float) and 0 <= v < 2**32)


def _number(value: object) -> int:
    return next(iter(_numbers(value)), 0)


def declared_greatest(data: bytes, kind: str) -> int:
    """Return the greatest value that a file with more than 8 bits a sample says to hold.

    kind: its format's name in Pillow, for TIFF see `TiffPage`. 0: the samples have 8 bits, or are
    for Pillow to scale; 65535 of a format that has no other depth says nothing of the camera's.
    """
    if kind == "PNG" and data[24:25] == b"\x10":
        place = data.find(b"sBIT", 33, 4096)  # significant bits, one byte for each channel
        bits = data[place + 4] if 0 <= place < len(data) - 4 else 1
        return 2**bits - 1 if 8 < bits <= 16 else 1
    if kind == "PPM" and (found := re.match(rb"P[2356](?:\s+(?:#[^\n]*\n\s*)*\d+){3}", data[:512])):
        greatest = int(found.group().split()[-1])
        return 1 if greatest == 65535 else greatest if greatest > 255 else 0
    place = data.find(b"\xff\x51", 0, 4096) if kind == "JPEG2000" else -1
    if 0 <= place < len(data) - 40:  # SIZ: the depth of the first component, minus 1
        bits = (data[place + 40] & 0x7F) + 1
        return 1 if bits == 16 else 2**bits - 1 if bits > 8 else 0
    return 0


def read_deep(data: bytes, page: int = 0) -> np.ndarray:
    """Decode all bits of a picture as (H, W) grey or (H, W, 3 or 4) RGB or RGBA."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the exception says it
    read, found = cv2.imdecodemulti(
        np.frombuffer(data + b"\n", np.uint8),  # by which numbers written as text end
        cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION,
        range=(page, page + 1),
    )
    if not read or not found:
        raise ValueError("its samples cannot be decoded")
    values = found[0]
    if values.ndim == 3 and values.shape[2] in (3, 4):
        return np.ascontiguousarray(values[..., [2, 1, 0, 3][: values.shape[2]]])
    return values if values.ndim == 2 else values[..., 0]


def to_bytes(values: np.ndarray, declared: float = 0) -> np.ndarray:
    """Scale samples of any depth to uint8, in the range that they were made in.

    values (H, W) or (H, W, C); declared: the greatest value that the file says to hold, 0 or 1 if
    it says nothing. The range is the least of 255, 1023, 4095, 16383 and 65535 that holds them, 1
    for floating-point values of at most 1; so a dark photograph stays dark. Raises ValueError where
    no such range can be known.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("pixels that are not numbers, or infinite")
    least, greatest = float(values.min()), float(values.max())
    limit = _range_of(max(greatest, declared), values.dtype.kind == "f")
    if least < -limit / 255:
        raise ValueError(f"pixels from {least:g} to {greatest:g}, whose range is not known")
    if values.dtype.kind != "f" or values.dtype.itemsize != 4:
        exact = values.dtype.itemsize <= 2 and values.dtype.kind == "u"
        values = values.astype(np.uint16 if exact else np.float32)
    return cv2.convertScaleAbs(np.maximum(values, 0), alpha=255 / limit)


def _range_of(greatest: float, floating: bool) -> float:
    if floating and greatest <= 2:  # resampling overshoots a little
        return 1.0
    for limit in RANGES:
        if greatest <= limit:
            return limit
    for limit in _WIDE_RANGES:
        if limit / 2 < greatest <= limit:
            return limit
    raise ValueError(f"pixels up to {greatest:g}, whose range is not known")


def on_black(values: np.ndarray, declared: float = 0) -> np.ndarray:
    """Lay RGBA (H, W, 4) on black; what is transparent all over is taken as it is.

    declared: as of `to_bytes`.
    """
    colour, alpha = (to_bytes(part, declared) for part in (values[..., :3], values[..., 3]))
    if not alpha.any():
        return colour
    picture = Image.fromarray(colour)
    black = Image.new("RGB", picture.size)
    return np.asarray(Image.composite(picture, black, Image.fromarray(alpha)))
