"""Draw evidence over the square picture that the network saw.

One scale, in logits, for all pictures of a run: what is pale in one is pale in all. Colours are the
vermilion and blue of Okabe & Ito (2008), which colour-blind readers tell apart, over a grey
picture, since a retina is red itself. S pixels of the square side, h x w positions.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.system.log import printable

WORDS = "evidence used by the network, not a lesion"
FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # RGB of what speaks for a decision, and against it
_OPAQUE = 0.85  # of the strongest evidence
_QUANTILE = 0.99  # of all values, which the scale reaches
_LEAST_SCALE = 1.0  # logits; a network that says nothing must not glow
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_LEAST_SIDE = 384  # pixels of a drawing
_EDGE, _BAR, _LETTER, _LINE = 6, 12, 12, 16  # pixels
_WIDTH = 6.6  # pixels of a letter, on average


def choose_scale(maps: Iterable[np.ndarray]) -> float:
    """Choose the logits of full colour for all maps (..., h, w) of a run: a round number.

    Nearly all values lie within it. Never below 1, so that noise stays pale.
    """
    sizes = np.concatenate([np.abs(values).ravel() for values in maps])
    wanted = max(_LEAST_SCALE, float(np.quantile(sizes, _QUANTILE)))
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(step * power for step in _STEPS if step * power >= wanted * (1 - 1e-6))


def in_logits(value: float) -> str:
    """Write a value with its unit."""
    return f"{value:g} logit{'' if abs(value) == 1 else 's'}"


def tint(values: np.ndarray, scale: float) -> np.ndarray:
    """Colour values (..., ) as transparent pixels (..., 4) uint8: the more evidence, the opaquer.

    `scale` logits and more are as strong as it gets.
    """
    shares = values / scale
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(shares[..., None] > 0, FOR, AGAINST)
    pixels[..., 3] = (255 * _OPAQUE * np.abs(shares).clip(max=1)).round()
    return pixels


def tinted_map(values: np.ndarray, scale: float, side: int) -> Image.Image:
    """Colour a map (h, w) as a transparent picture of `side` pixels, smooth between positions."""
    plain = Image.fromarray(values.astype(np.float32))
    smooth = np.asarray(plain.resize((side, side), Image.Resampling.BILINEAR))
    return Image.fromarray(tint(smooth, scale))


def lay_over(square: np.ndarray, values: np.ndarray, scale: float, side: int) -> Image.Image:
    """Lay a map (h, w) over a picture (S, S, 3), made grey and of `side` pixels."""
    grey = Image.fromarray(square).convert("L").resize((side, side)).convert("RGBA")
    return Image.alpha_composite(grey, tinted_map(values, scale, side)).convert("RGB")


def draw_overlay(
    square: np.ndarray, values: np.ndarray, scale: float, lines: Sequence[str]
) -> Image.Image:
    """Draw a map (h, w) over a picture (S, S, 3), with its scale and lines of text below it."""
    side = max(len(square), _LEAST_SIDE)
    picture = lay_over(square, values, scale, side)
    letters = int((side - 2 * _EDGE) / _WIDTH)
    words = [part for line in (*lines, WORDS) for part in textwrap.wrap(_ascii(line), letters)]
    below = _EDGE + _BAR + _LINE + _EDGE + len(words) * _LINE + _EDGE
    canvas = Image.new("RGB", (side, side + below), "white")
    canvas.paste(picture, (0, 0))
    _draw_scale(canvas, side, scale)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_LETTER)
    top = side + _EDGE + _BAR + _LINE + _EDGE
    for number, line in enumerate(words):
        draw.text((_EDGE, top + number * _LINE), line, "#222222", font)
    return canvas


def _draw_scale(canvas: Image.Image, side: int, scale: float) -> None:
    """Draw below the picture what the colours mean, from -scale to +scale logits."""
    width, top = side - 2 * _EDGE, side + _EDGE
    ramp = np.tile(np.linspace(-scale, scale, width), (_BAR, 1))
    ground = Image.new("RGBA", (width, _BAR), "#808080")
    bar = Image.alpha_composite(ground, Image.fromarray(tint(ramp, scale)))
    canvas.paste(bar.convert("RGB"), (_EDGE, top))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_LETTER)
    ends = (
        (_EDGE, "la", f"-{in_logits(scale)}, against"),
        (side / 2, "ma", "0"),
        (side - _EDGE, "ra", f"for, +{in_logits(scale)}"),
    )
    for left, anchor, text in ends:
        draw.text((left, top + _BAR + 1), text, "#222222", font, anchor)


def _ascii(text: str) -> str:
    """Write what the font may lack as escapes."""
    return printable(text).encode("ascii", "backslashreplace").decode()
