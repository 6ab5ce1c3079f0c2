"""Figures; the only module that imports matplotlib.

K classes.
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from common.runtime import atomic_write


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, and free the figure."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
    plt.close(figure)


def plot_confusion(matrix: np.ndarray, class_names: list[str], title: str, path: Path) -> None:
    """Draw a confusion matrix (K, K), rows are true grades, with counts and row percentages."""
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    figure, axes = plt.subplots(figsize=(1.6 + len(matrix), 1.2 + 0.9 * len(matrix)))
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if share[row, column] > 0.55 else "black"
        text = f"{int(count)}\n{100 * share[row, column]:.0f} %"
        axes.text(column, row, text, ha="center", va="center", color=color)
    axes.set_xticks(range(len(matrix)), class_names, rotation=30, ha="right")
    axes.set_yticks(range(len(matrix)), class_names)
    axes.set(xlabel="predicted grade", ylabel="true grade", title=title)
    figure.colorbar(image, ax=axes, label="share of the true grade")
    save_figure(figure, path)


def plot_roc(curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str, path: Path) -> None:
    """Draw ROC curves by label: false and true positive rates."""
    figure, axes = plt.subplots(figsize=(6, 5.5))
    for label, (false_positives, true_positives) in curves.items():
        axes.plot(false_positives, true_positives, label=label)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=title)
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    save_figure(figure, path)


def plot_training(records: dict[str, list[dict[str, Any]]], title: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs, one panel pair per classifier.

    records: pair name -> rows of its history.
    """
    columns = min(5, len(records))
    rows = -(-len(records) // columns)
    figure, axes = plt.subplots(
        2 * rows, columns, figsize=(3.2 * columns, 4.6 * rows), squeeze=False, layout="constrained"
    )
    for panel in axes.flat:
        panel.set_visible(False)
    for place, (name, history) in enumerate(records.items()):
        row, column = divmod(place, columns)
        for panel, quantity in ((axes[2 * row, column], "loss"),
                                (axes[2 * row + 1, column], "accuracy")):  # fmt: skip
            panel.set_visible(True)
            for part in ("train", "val"):
                points = [(r["epoch"], r[f"{part}_{quantity}"]) for r in history
                          if f"{part}_{quantity}" in r]  # fmt: skip
                if points:
                    panel.plot(*zip(*points), label=part, marker="." if len(points) < 9 else "")
            panel.set(title=f"{name} {quantity}", xlabel="epoch")
            panel.legend(fontsize=8)
    figure.suptitle(title)
    save_figure(figure, path)
