"""Pictures inside a page: figures as they are, photographs as small copies."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from common.pixels.decoding import ImageError, decode_image

_SIDE = 480  # pixels of a photograph's longer side
_QUALITY = 82  # of its JPEG; about 25 KB each


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    title: str
    caption: str
    source: str  # a data URI, "" for a picture that cannot be read
    width: int = 0  # pixels
    height: int = 0


def embed_figure(path: Path, title: str, caption: str) -> Picture:
    """Embed a PNG as it is."""
    data = path.read_bytes()
    width, height = Image.open(io.BytesIO(data)).size
    return Picture(title, caption, _data_uri(data, "png"), width, height)


def thumbnail(path: Path, title: str, caption: str) -> Picture:
    """Embed a small copy of a photograph; without it if it cannot be read."""
    try:
        photograph = Image.fromarray(decode_image(path.read_bytes(), str(path)))
    except (OSError, ImageError):
        return Picture(title, caption, "")
    if max(photograph.size) > _SIDE:
        photograph = ImageOps.contain(photograph, (_SIDE, _SIDE))
    buffer = io.BytesIO()
    photograph.convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    return Picture(title, caption, _data_uri(buffer.getvalue(), "jpeg"), *photograph.size)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
