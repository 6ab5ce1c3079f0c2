"""One self-contained HTML page: tables, embedded pictures, escaped text."""

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from common.data.preprocessing import ImageError, decode_image

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
pre { overflow-x: auto; background: #f6f6f4; padding: .8rem; font-size: 11px; line-height: 1.35 }
img { max-width: 100% } figure { display: inline-block; margin: .4rem; vertical-align: top }
figcaption { font-size: 13px; max-width: 180px; overflow-wrap: anywhere }
.note { background: #fff6dd; padding: .6rem 1rem; border-left: 4px solid #d8a200 }
@media print { h2 { break-after: avoid } figure { break-inside: avoid } }
"""


def page(title: str, parts: list[str]) -> str:
    """Put a page together from the parts that the functions below make."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """Make a section's heading."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, note: bool = False) -> str:
    """Make a paragraph, in a box if it is a note."""
    return f"<p{' class=note' if note else ''}>{escape(text)}</p>"


def preformatted(text: str) -> str:
    """Show a text table as it is."""
    return f"<pre>{escape(text)}</pre>"


def picture(path: Path, text: str) -> str:
    """Embed a PNG file, described by `text`."""
    return _embedded(path.read_bytes(), "png", text)


def thumbnail(path: Path, caption: str, size: int = 180) -> str:
    """Embed a small copy of a photograph with a caption; without it if it cannot be read."""
    try:
        image = Image.fromarray(decode_image(path.read_bytes(), str(path)))
    except (OSError, ImageError):
        return f"<figure><figcaption>{escape(caption)} (cannot be read)</figcaption></figure>"
    buffer = io.BytesIO()
    ImageOps.pad(image, (size, size)).save(buffer, "JPEG", quality=85)
    shown = _embedded(buffer.getvalue(), "jpeg", caption)
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _embedded(data: bytes, kind: str, text: str) -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{escape(text, quote=True)}" src="data:image/{kind};base64,{encoded}">'
