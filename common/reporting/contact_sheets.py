"""Contact sheets: small pictures in rows, with captions, as PNG files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from common.data.folders import Split
from common.pixels.decoding import ImageError, decode_image, shrunk
from common.screening.label_errors import LabelErrors
from common.system.files import atomic_write
from common.system.log import printable

_SIDE = 150  # pixels of a picture
_MOST_LABELS = 42  # of a sheet of likely label errors
_LABEL_SIDE = 240  # pixels, so that a grader sees which pictures to open
_GAP = 8  # pixels between pictures
_CAPTION = 42  # pixels below a picture
_LETTER = 6  # pixels of a letter of a caption
_LINES = 3  # of a caption
_ACROSS = 7
_DOWN = 12


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture's file and what is written below it."""

    path: Path
    caption: str


@dataclass(frozen=True)
class SheetRow:
    """Pictures beside each other under one title."""

    title: str
    pictures: Sequence[CaptionedPicture]


def contact_sheet(rows: Sequence[SheetRow], path: Path, side: int = _SIDE) -> None:
    """Draw rows of pictures of `side` pixels, at most 7 across and 12 rows, into a PNG.

    A picture that cannot be read is an empty frame with its caption.
    """
    rows = rows[:_DOWN]
    across = max(1, *(min(_ACROSS, len(row.pictures)) for row in rows))
    width, height = across * (side + _GAP) + _GAP, side + _CAPTION + 24
    sheet = Image.new("RGB", (max(width, 480), height * len(rows) + 8), "white")
    for number, row in enumerate(rows):
        _draw_row(sheet, number * height + 6, row, side)
    with atomic_write(path) as file:
        sheet.save(file, "PNG", compress_level=3)  # half the time, a tenth more bytes


def label_error_sheet(found: LabelErrors, split: Split, path: Path) -> None:
    """Draw the likeliest label errors, each with its label and what the grader suggests.

    Where there are none, an earlier sheet is removed.
    """
    if not found.found:
        path.unlink(missing_ok=True)
        return
    files, names = {image.id: image for image in split.images}, found.class_names
    pictures = [
        CaptionedPicture(
            files[each.image].path,
            f"{rank}. {Path(each.image).name}\n"
            f"label {names[each.label]} ({each.label_probability:.2f})\n"
            f"model {names[each.suggested]} ({each.suggested_probability:.2f})",
        )
        for rank, each in enumerate(found.found[:_MOST_LABELS], 1)
    ]
    title = f"{split.name}: images whose label the model contradicts, to be looked at again"
    rows = [
        SheetRow(title if not start else "", pictures[start : start + _ACROSS])
        for start in range(0, len(pictures), _ACROSS)
    ]
    contact_sheet(rows, path, _LABEL_SIDE)


def _draw_row(sheet: Image.Image, top: int, row: SheetRow, side: int) -> None:
    """Draw a row at `top` pixels from the upper edge of a sheet."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    left_out = len(row.pictures) - _ACROSS
    more = f" ({left_out} more)" if left_out > 0 else ""
    draw.text((_GAP, top), _ascii(row.title + more), "black", font)
    for place, picture in enumerate(row.pictures[:_ACROSS]):
        left = _GAP + place * (side + _GAP)
        sheet.paste(_small(picture.path, side), (left, top + 18))
        lines = caption_lines(picture.caption, side // _LETTER)
        draw.text((left, top + 20 + side), "\n".join(lines), "#444444", font)


def caption_lines(caption: str, letters: int) -> list[str]:
    """Break a caption into three lines of so many letters.

    Where they do not suffice, the middle of its lines is left out, so that each still shows.
    """
    own = list(map(_ascii, caption.split("\n")))[:_LINES]
    if sum(max(1, math.ceil(len(line) / letters)) for line in own) > _LINES:
        room = letters * (_LINES // len(own))
        own = [_without_middle(line, room) for line in own]
    return [line[start : start + letters] for line in own for start in range(0, len(line), letters)]


def _without_middle(line: str, most: int) -> str:
    if len(line) <= most:
        return line
    front = (most - 3) // 2
    return f"{line[:front]}...{line[len(line) - (most - 3 - front) :]}"


def _small(path: Path, side: int) -> Image.Image:
    """Read a picture and pad it to a small square."""
    try:
        picture = Image.fromarray(decode_image(path.read_bytes(), path.name))
    except (OSError, ImageError):
        return Image.new("RGB", (side, side), "#dddddd")
    return ImageOps.pad(shrunk(picture, side), (side, side), color="#202020")


def _ascii(text: str) -> str:
    """Write what the font may lack as escapes."""
    return printable(text).encode("ascii", "backslashreplace").decode()
