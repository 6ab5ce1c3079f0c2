"""Draw matrices with their values, and which models err alike. K classes, L models."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from common.figures.style import (
    DIVERGING,
    INK,
    LINE,
    QUIET,
    SEQUENTIAL,
    new_figure,
    quiet_grid,
    short_names,
    wrapped,
)

_CELL, _LINE_OF_CELLS = 0.34, 0.27  # inches, width and height of a cell with a number
_WIDEST = 6.2  # inches of panels beside each other
_UNDEFINED = "#f4f4f4"  # the colour of cells without a value
_LEANING = 16  # characters of a column's name; a longer one stands upright
_MOST_NUMBERS = 16  # rows of a confusion matrix that have room for numbers


@dataclass(frozen=True)
class Matrices:
    """Matrices whose values mean the same, and so have one scale and one colour bar."""

    meaning: str  # what the colour bar is called
    values: Mapping[str, np.ndarray]  # by title
    around_zero: bool = False  # the scale's middle is zero
    symmetric: bool = False  # only what is below the diagonal is drawn


def plot_confusion(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix (K, K), rows are true grades, with counts and row percentages."""
    totals = matrix.sum(axis=1)
    share = np.divide(
        matrix, totals[:, None], out=np.full(matrix.shape, np.nan), where=totals[:, None] > 0
    )
    count, names = len(matrix), short_names(class_names, 20)
    numbered = count <= _MOST_NUMBERS
    side = max(1.6, 0.62 * count) if numbered else 6.0
    figure = new_figure(2.4 + side, 1.6 + side, title)
    axes = figure.subplots()
    colors = colormaps[SEQUENTIAL].with_extremes(bad=_UNDEFINED)
    image = axes.imshow(share, cmap=colors, vmin=0, vmax=1, aspect="auto")
    if numbered:
        for (row, column), value in np.ndenumerate(share):
            text = f"{int(matrix[row, column])}\n{100 * value:.0f} %"
            color = QUIET if np.isnan(value) else _ink_on(SEQUENTIAL, value)
            axes.text(
                column, row, "–" if np.isnan(value) else text, ha="center", va="center", color=color
            )
    rows = [f"{name}\n{int(total)} images" for name, total in zip(names, totals)]
    _name_cells(axes, rows if numbered else names, names, side / count)
    axes.set(xlabel="predicted", ylabel="true")
    bar = figure.colorbar(image, ax=axes, fraction=0.05, aspect=25)
    bar.set_label("share of the true grade")
    bar.outline.set_visible(False)
    return figure


def plot_heatmaps(
    groups: Sequence[Matrices], rows: Sequence[str], columns: Sequence[str], title: str
) -> Figure:
    """Draw labelled matrices with their values, each group with one scale; "n/a" where NaN."""
    row_names, column_names = short_names(rows), short_names(columns, 20)
    if any(group.symmetric for group in groups):
        row_names, column_names = row_names[1:], column_names[:-1]
    width = max(_CELL * len(column_names), 1.65)
    height = max(_LINE_OF_CELLS * len(row_names), 0.9)
    fitting = max(1, min(3, int(_WIDEST / width)))
    downs = [-(-len(group.values) // fitting) for group in groups]
    across = max(-(-len(group.values) // down) for group, down in zip(groups, downs))
    longest = max(map(len, column_names))
    below = 0.75 if _fits(longest, width / len(column_names)) else 0.55 + 0.06 * longest
    beside = 0.07 * max(map(len, row_names)) + 0.9
    figure = new_figure(
        max(4.5, across * (width + 0.2) + beside), 0.5 + sum(downs) * (height + below), title
    )
    panels = figure.subplots(sum(downs), across, squeeze=False)
    for group, last in zip(groups, np.cumsum(downs)):
        down = -(-len(group.values) // fitting)
        _draw_group(group, panels[last - down : last], row_names, column_names, (width, height))
    return figure


def _draw_group(
    group: Matrices,
    panels: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    size: tuple[float, float],
) -> None:
    """Draw matrices of one scale into panels, with one colour bar for all.

    size: width and height of a panel, in inches.
    """
    width, height = size
    cut = {
        name: _below_diagonal(matrix) if group.symmetric else matrix
        for name, matrix in group.values.items()
    }
    scale = _scale(list(cut.values()), group.around_zero)
    name_of_colors = DIVERGING if group.around_zero else SEQUENTIAL
    image = None
    for axes in panels.flat[len(cut) :]:
        axes.set_axis_off()
    for place, (axes, (name, matrix)) in enumerate(zip(panels.flat, cut.items())):
        missing = "white" if group.symmetric else _UNDEFINED
        colors = colormaps[name_of_colors].with_extremes(bad=missing)
        image = axes.imshow(matrix, cmap=colors, norm=scale, aspect="auto")
        _write_values(axes, matrix, name_of_colors, scale)
        _name_cells(axes, rows, columns, width / len(columns))
        axes.set_title(wrapped(name, int(width / 0.088)))
        axes.tick_params(labelleft=place % panels.shape[1] == 0)
        axes.tick_params(labelbottom=place + panels.shape[1] >= len(cut))
    if image is not None:
        bar = panels.flat[0].figure.colorbar(image, ax=panels, fraction=0.04, aspect=20)
        bar.set_label(wrapped(group.meaning, int(height * len(panels) / 0.075)))
        bar.outline.set_visible(False)


def _below_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Drop the first row and the last column, and mask what lies above the diagonal."""
    return np.ma.masked_array(matrix, np.triu(np.ones(matrix.shape, dtype=bool)))[1:, :-1]


def _scale(matrices: Sequence[np.ndarray], around_zero: bool) -> Normalize:
    """Find the one scale of several matrices, between round numbers."""
    values = np.concatenate([np.ma.compressed(np.ma.masked_invalid(each)) for each in matrices])
    if not len(values):
        return Normalize(0, 1)
    if around_zero:
        most = max(0.1, np.ceil(10 * np.abs(values).max()) / 10)
        return Normalize(-most, most)
    low, high = np.floor(10 * values.min()) / 10, np.ceil(10 * values.max()) / 10
    return Normalize(low, max(high, low + 0.1))


def _ink_on(colors: str, place: float) -> str:
    """Choose the colour of a number on a colour map's colour at 0..1."""
    red, green, blue = (
        ((c + 0.055) / 1.055) ** 2.4 if c > 0.04 else c / 12.92
        for c in colormaps[colors](place)[:3]
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "white" if luminance < 0.21 else INK  # whichever has the higher contrast


def _write_values(axes: Axes, matrix: np.ndarray, colors: str, scale: Normalize) -> None:
    """Write the values of a heat map into its cells."""
    hidden = np.ma.getmaskarray(matrix)
    for (row, column), value in np.ndenumerate(np.ma.getdata(matrix)):
        if hidden[row, column]:
            continue
        known = np.isfinite(value)
        color = _ink_on(colors, float(scale(value))) if known else QUIET
        text = f"{value:.2f}" if known else "n/a"
        axes.text(column, row, text, color=color, ha="center", va="center", fontsize=8)


def _name_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str], cell: float) -> None:
    """Name rows and columns; the columns' names lean where a cell has no room for them."""
    longest = max(map(len, columns))
    leaning: dict[str, Any] = {
        "rotation": 40,
        "ha": "right",
        "va": "center",
        "rotation_mode": "anchor",
    }
    if longest > _LEANING:
        leaning = {"rotation": 90}
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns, **({} if _fits(longest, cell) else leaning))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _fits(characters: int, cell: float) -> bool:
    """Tell whether a name has room below a cell, whose width is in inches."""
    return characters * 0.075 < cell


def plot_dendrogram(distances: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Draw which models err alike: average linkage of (L, L) distances."""
    from scipy.cluster.hierarchy import dendrogram, linkage
    from scipy.spatial.distance import squareform

    figure = new_figure(5.0, 1.1 + 1.6 * LINE * len(names), title)
    axes = figure.subplots()
    links = linkage(squareform(np.nan_to_num(distances), checks=False), "average")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an axis without width, where all err alike
        dendrogram(
            links,
            labels=short_names(names),
            orientation="right",
            ax=axes,
            color_threshold=0,
            above_threshold_color=INK,
            leaf_font_size=8,
        )
    axes.set_xlim(0, max(1.05 * float(links[:, 2].max()), 0.01))
    axes.set(xlabel="share of images that only one of the two gets right")
    quiet_grid(axes, "x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure
