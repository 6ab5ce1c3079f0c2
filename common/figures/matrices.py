"""Draw matrices, and which models err alike. L models."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from common.figures.style import save_figure

_ACROSS = 3  # heat maps beside each other


def plot_heatmaps(
    matrices: Mapping[str, np.ndarray], rows: list[str], columns: list[str], title: str, path: Path
) -> None:
    """Draw labelled matrices, three to a row, with their values; NaN stays empty."""
    across = min(_ACROSS, len(matrices))
    down = -(-len(matrices) // across)
    size = (across * (2.2 + 0.75 * len(columns)), down * (1.8 + 0.5 * len(rows)))
    figure, panels = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat[len(matrices) :]:
        axes.set_visible(False)
    for axes, (name, matrix) in zip(panels.flat, matrices.items()):
        image = axes.imshow(matrix, cmap="viridis", aspect="auto")
        _write_values(axes, matrix)
        axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(name)
        figure.colorbar(image, ax=axes)
    figure.suptitle(title)
    save_figure(figure, path)


def _write_values(axes: Axes, matrix: np.ndarray) -> None:
    """Write the values of a heat map into its cells, white on dark."""
    if not np.isfinite(matrix).any():
        return
    middle = (np.nanmin(matrix) + np.nanmax(matrix)) / 2
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            color = "white" if value < middle else "black"
            axes.text(column, row, f"{value:.2f}", color=color, **style)


def plot_dendrogram(distances: np.ndarray, names: list[str], title: str, path: Path) -> None:
    """Draw which models err alike: average linkage of (L, L) distances."""
    figure, axes = plt.subplots(figsize=(6.5, 1.5 + 0.45 * len(names)))
    links = linkage(squareform(distances, checks=False), "average")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an axis without width, where all err alike
        dendrogram(links, labels=names, orientation="right", ax=axes, color_threshold=0)
    axes.set(xlabel="share of images that one of two alone gets right", title=title)
    save_figure(figure, path)
