"""Contact sheets: small pictures in rows, with captions, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from common.data.preprocessing import ImageError, decode_image
from common.system.files import atomic_write

_SIDE = 150  # pixels of a picture


_CAPTION = 42


_ACROSS = 7


_DOWN = 12


def printable(text: str) -> str:
    """Write names that no terminal should be given (control characters, odd bytes) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def contact_sheet(rows: Sequence[tuple[str, Sequence[tuple[Path, str]]]], path: Path) -> None:
    """Draw rows of (title, pictures with captions), at most 7 across and 12 rows, into a PNG.

    A picture that cannot be read is an empty frame with its caption.
    """
    rows = rows[:_DOWN]
    across = max(1, *(min(_ACROSS, len(pictures)) for _, pictures in rows))
    width, height = across * (_SIDE + 8) + 8, _SIDE + _CAPTION + 24
    sheet = Image.new("RGB", (max(width, 480), height * len(rows) + 8), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, (title, pictures) in enumerate(rows):
        top = number * height + 6
        left_out = len(pictures) - _ACROSS
        more = f" ({left_out} more)" if left_out > 0 else ""
        draw.text((8, top), _ascii(title + more), "black", font)
        for place, (file, caption) in enumerate(pictures[:_ACROSS]):
            left = 8 + place * (_SIDE + 8)
            sheet.paste(_small(file), (left, top + 18))
            caption = _ascii(caption)
            lines = [caption[start : start + 25] for start in range(0, len(caption), 25)][:3]
            draw.text((left, top + 20 + _SIDE), "\n".join(lines), "#444444", font)
    with atomic_write(path) as file:
        sheet.save(file, "PNG")


def _small(path: Path) -> Image.Image:
    try:
        picture = Image.fromarray(decode_image(path.read_bytes(), path.name))
    except (OSError, ImageError):
        return Image.new("RGB", (_SIDE, _SIDE), "#dddddd")
    return ImageOps.pad(picture, (_SIDE, _SIDE), color="#202020")


def _ascii(text: str) -> str:
    return printable(text).encode("ascii", "backslashreplace").decode()
