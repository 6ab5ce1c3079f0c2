"""Inspect the files of a dataset: their faults, fingerprints and statistics.

H, W pixels of a photograph.
"""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from common.duplicates.signatures import Signature, signature_of
from common.inspection.image_statistics import (
    PictureHeader,
    Retina,
    Statistics,
    cut_out_retina,
    measure,
    read_header,
)
from common.listing.picture_files import IMAGE_SUFFIXES
from common.pixels.decoding import ImageError, Picture, decode_picture, why_unusable
from common.pixels.dicom import NoPydicomError
from common.pixels.retina import strongest

# fault -> what it means; those before "grayscale" make a file useless
FAULTS = {
    "empty": "no bytes",
    "not_image": "no picture; training passes over it or stops at it",
    "unreadable": "cannot be read or decoded",
    "truncated": "the file ends before the picture does",
    "grayscale": "no colour",
    "cut_short": "a JPEG file without its last bytes, used as it is",
    "several_pages": "several pages or frames of one size, the first of which is used",
    "two_discs": "two discs, as of both eyes side by side; training uses the larger",
    "deep": "more than 8 bits per channel",
    "alpha": "has a transparency channel",
    "tiny": "the shorter side is below 128 pixels",
    "exif_rotated": "turned by its EXIF data only",
    "black": "nearly black",
    "blurred": "no fine detail in the retina",
}
UNUSABLE = ("empty", "not_image", "unreadable", "truncated")
_TINY = 128  # pixels
_BLACK = 24  # grey levels that 99 % of a picture stay below
_BLURRED = 0.12  # the `detail` of a retina


@dataclass(frozen=True)
class FileRecord:
    """What is known of one file; what needs a picture is None or "" where there is none."""

    faults: tuple[str, ...] = ()  # of FAULTS
    detail: str = ""  # why it is useless, or what is odd about it
    sha256: str = ""
    pixels: str = ""  # digest of the upright RGB pixels
    statistics: Statistics | None = None
    signature: Signature | None = None  # by which it is recognised in other files

    @property
    def usable(self) -> bool:
        """Tell whether training can read it."""
        return not any(fault in UNUSABLE for fault in self.faults)


def inspect_file(path: Path) -> FileRecord:
    """Read and inspect one file; never raises for what is in it."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return FileRecord(("unreadable",), "no regular file, or a link that leads nowhere")
        if path.name.startswith(".") or not path.name.lower().endswith(IMAGE_SUFFIXES):
            return FileRecord(("not_image",), "its name is not that of a picture")
        data = path.read_bytes()
    except OSError as error:
        return FileRecord(("unreadable",), str(error.strerror))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about metadata
            picture = decode_picture(data, path.name)
            header = read_header(data)
    except NoPydicomError as error:
        return FileRecord(("unreadable",), str(error), sha256=hashlib.sha256(data).hexdigest())
    except ImageError as error:
        fault, detail = _why_useless(data, error.__cause__)
        return FileRecord((fault,), detail, sha256=hashlib.sha256(data).hexdigest())
    return _describe(data, picture, header)


def _why_useless(data: bytes, cause: BaseException | None) -> tuple[str, str]:
    """Name the fault of bytes that cannot be decoded, and its detail."""
    text = f"{type(cause).__name__}: {cause}"
    if not data:
        return "empty", ""
    if isinstance(cause, UnidentifiedImageError):
        return "not_image", why_unusable(data, cause)
    return ("truncated" if "truncated" in text.lower() else "unreadable"), text


def _describe(data: bytes, picture: Picture, header: PictureHeader) -> FileRecord:
    """Describe a file that holds a picture."""
    image = picture.pixels
    height, width = image.shape[:2]
    retina = cut_out_retina(image)
    return FileRecord(
        faults=_faults(min(height, width), picture, header, retina),
        detail="; ".join(note.text for note in picture.notes),
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(),
        statistics=measure(width, height, len(data), header, retina),
        signature=signature_of(retina.crop),
    )


def _faults(
    shorter_side: int, picture: Picture, header: PictureHeader, retina: Retina
) -> tuple[str, ...]:
    noted = {note.kind for note in picture.notes}
    black = np.percentile(strongest(retina.square), 99) < _BLACK
    found = {
        "grayscale": header.grey or not (retina.square != retina.square[..., :1]).any(),
        "cut_short": "cut_short" in noted,
        "several_pages": "several_pages" in noted,
        "two_discs": retina.num_discs > 1,
        "deep": header.deep,
        "alpha": header.alpha,
        "tiny": shorter_side < _TINY,
        "exif_rotated": header.turned,
        "black": black,
        "blurred": retina.detail < _BLURRED and not black,
    }
    return tuple(fault for fault, present in found.items() if present)
