"""How all figures look and are written: the other modules of this room draw with what stands here.

Sizes are in inches and points, for a page of a paper (7 inches wide; no text below 8 points) and
legible on a slide. Colours are those of Okabe & Ito (2008, "Color Universal Design"), which
colour-blind readers tell apart; markers and strokes differ as well, for a print in grey.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from common.system.files import atomic_write
from common.system.log import printable

PAGE = 7.0  # inches
INK, QUIET, FAINT = "#222222", "#666666", "#e4e4e4"  # text, what is said aside, grid lines
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
Stroke = str | tuple[float, tuple[float, ...]]
STROKES: tuple[Stroke, ...] = (
    "-",
    "--",
    "-.",
    (0, (1, 1.2)),
    (0, (6, 1.5)),
    (0, (4, 1, 1, 1, 1, 1)),
    (0, (2, 1)),
)
SEQUENTIAL, DIVERGING = "Blues", "PuOr"  # of matrices; the second where zero is the middle
LINE = 0.165  # inches, from one line of text to the next
_CHARACTER = 0.086  # inches, of a title's characters on average
_RESOLUTION = 200  # dots per inch of a PNG
_WIDEST_NAME = 26  # characters
_OTHER_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans Arabic")

matplotlib.rcParams.update(
    {
        "font.family": ["DejaVu Sans", *(set(_OTHER_SCRIPTS) & set(font_manager.get_font_names()))],
        "font.size": 8.5,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "figure.titlesize": 10,
        "figure.titleweight": "bold",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.4,
        "lines.markersize": 5,
        "legend.frameon": False,
        "figure.facecolor": "white",  # on a dark page, too
        "text.parse_math": False,  # a name may hold a dollar sign
        "svg.fonttype": "path",  # the same on every machine, and no text that a page could run
        "svg.hashsalt": "figures",  # the same bytes for the same figure
        "pdf.fonttype": 42,  # no Type 3 fonts, which journals refuse
    }
)


def new_figure(width: float, height: float, title: str) -> Figure:
    """Make an empty figure, in inches, with a title that is wrapped to its width."""
    text = wrapped(title, int(width / _CHARACTER))
    more = 1.2 * LINE * text.count("\n")  # a long title takes no room from what is drawn
    figure = Figure(figsize=(width, height + more), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(text, x=0.01, ha="left")
    return figure


def save_figure(figure: Figure, path: Path, vector: str = "svg") -> None:
    """Write a figure as PNG and, beside it, as "svg" or "pdf", each whole or not at all.

    vector: "none" for the PNG alone. The same figure gives the same bytes. A vector file that an
    earlier figure of this name left is removed.
    """
    for kind in ("svg", "pdf"):
        if kind != vector:
            path.with_suffix(f".{kind}").unlink(missing_ok=True)
    # a figure grows where something would be cut off
    box = Bbox.union([Bbox.from_bounds(0, 0, *figure.get_size_inches()), outline(figure)])
    for kind in ("png", vector) if vector != "none" else ("png",):
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        with atomic_write(path.with_suffix(f".{kind}")) as file:
            figure.savefig(file, format=kind, dpi=_RESOLUTION, bbox_inches=box, metadata=undated)


def remove_figure(path: Path) -> None:
    """Remove a figure that an earlier evaluation left."""
    for kind in ("png", "svg", "pdf"):
        path.with_suffix(f".{kind}").unlink(missing_ok=True)


def outline(figure: Figure) -> Bbox:
    """Return the box, in inches, around all that a figure draws."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)  # all is in its place now, and need not be put there again
    return figure.get_tightbbox()


@dataclass(frozen=True)
class Look:
    """How one of several curves or dots is drawn, unlike the others in grey as well."""

    color: str
    marker: str
    stroke: Stroke


def looks(count: int) -> list[Look]:
    """Return different looks; they repeat after seven."""
    return [Look(*each) for each in islice(cycle(zip(COLORS, MARKERS, STROKES)), count)]


def drawable(text: str) -> str:
    """Write as escapes what no font here has, which would be drawn as boxes, and odd characters."""
    return "".join(
        c if c.isascii() or _has_glyph(c) else c.encode("unicode_escape").decode()
        for c in printable(text)
    )


@cache
def _has_glyph(character: str) -> bool:
    """Tell whether one of the fonts that figures are drawn with has a character."""
    families = matplotlib.rcParams["font.family"]
    fonts = (font_manager.get_font(font_manager.findfont(family)) for family in families)
    return any(font.get_char_index(ord(character)) for font in fonts)


def wrapped(text: str, width: int) -> str:
    """Break a text, but no [interval], into lines of about `width` characters.

    Odd characters become escapes.
    """
    plain = drawable(" ".join(text.split()))
    whole = re.sub(r"\[[^\[\]]*\]", lambda interval: interval[0].replace(" ", "\0"), plain)
    return textwrap.fill(whole, max(width, 12)).replace("\0", " ")


def short_names(names: Sequence[str], width: int = _WIDEST_NAME) -> list[str]:
    """Leave out the middle of long names of models or classes and keep them different."""
    short: list[str] = []
    for name in names:
        text = drawable(name)
        if len(text) > width:
            text = f"{text[: width // 2 - 1]}…{text[-(width - width // 2) :]}"
        again = sum(text == other.split(" #")[0] for other in short)
        short.append(f"{text} #{again + 1}" if again else text)
    return short


def quiet_grid(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draw light lines along "x", "y" or "both"."""
    axes.grid(visible=True, axis=axis)
    axes.tick_params(length=2.5)


def near(
    values: Iterable[float], lowest: float = -np.inf, highest: float = np.inf
) -> tuple[float, float]:
    """Return the ends of an axis near the known ones of some values, a little beyond them.

    Nothing beyond `lowest` and `highest` but a dot's width, which a value there needs.
    """
    known = np.array([value for value in values if np.isfinite(value)])
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.01)
    dot = 0.06 * half
    return max(middle - 1.15 * half, lowest - dot), min(middle + 1.15 * half, highest + dot)


@dataclass(frozen=True)
class EndLabel:
    """A name that belongs to a point, such as the last one of a curve."""

    x: float
    y: float
    text: str
    color: str = INK


def label_at_right(axes: Axes, labels: Sequence[EndLabel], height: float) -> None:
    """Write names to the right of a panel, each led to its point, none over another.

    height: of the panel, in inches. Set the limits of both axes before.
    """
    labels = sorted((label for label in labels if np.isfinite(label.y)), key=lambda each: each.y)
    low, high = axes.get_ylim()
    gap = LINE / height * (high - low)
    places = spread(np.array([label.y for label in labels]), gap, low, high)
    beside = axes.get_yaxis_transform()  # x as a share of the panel's width
    for label, place in zip(labels, places):
        (start, _) = (axes.transScale + axes.transLimits).transform((label.x, label.y))
        axes.plot(
            [start + 0.015, 1.04],
            [label.y, place],
            transform=beside,
            color="#999999",
            linewidth=0.4,
            clip_on=False,
            zorder=1,
        )
        style: dict[str, Any] = {"va": "center", "fontsize": 8, "color": label.color}
        axes.text(1.05, place, label.text, transform=beside, **style)


def spread(places: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Move ascending places (n,) as little as possible so that each two are `gap` apart.

    They stay within low to high where there is room for that.
    """
    from scipy.optimize import isotonic_regression

    steps = gap * np.arange(len(places))
    if not len(places):
        return places
    moved = isotonic_regression(places - steps).x
    return np.clip(moved, low, max(low, high - steps[-1])) + steps
