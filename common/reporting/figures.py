"""Figures; the only module that imports matplotlib.

K classes.
"""

import warnings
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import roc_curve

from common.evaluation.intervals import Interval
from common.evaluation.metrics import REFERABLE_GRADE, confusion_matrix, roc_auc
from common.prediction.voting import ClassPredictions
from common.result_dir import ResultDir
from common.system.files import atomic_write

matplotlib.use("Agg")


matplotlib.rcParams["text.parse_math"] = False  # a name may hold a dollar sign


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


def plot_reliability(
    curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str, path: Path
) -> None:
    """Draw accuracy against confidence of the predicted grade; (N,) confidences, (N,) correct."""
    figure, axes = plt.subplots(figsize=(6, 5.5))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    for label, (confidence, correct) in curves.items():
        bins = np.minimum((confidence * 10).astype(int), 9)
        used = [b for b in range(10) if (bins == b).any()]
        sizes = [40 + 400 * (bins == b).mean() for b in used]
        points = [(confidence[bins == b].mean(), correct[bins == b].mean()) for b in used]
        line = axes.plot(*zip(*points), label=label)[0]
        axes.scatter(*zip(*points), s=sizes, color=line.get_color(), alpha=0.6)
    axes.set(
        xlabel="confidence of the predicted grade",
        ylabel="accuracy",
        title=title,
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(loc="upper left", fontsize=9)
    save_figure(figure, path)


def plot_bars(values: dict[str, list[Interval]], groups: list[str], title: str, path: Path) -> None:
    """Draw grouped bars with error bars: series name -> an interval for each group."""
    figure, axes = plt.subplots(figsize=(2.5 + 1.1 * len(groups) * max(1, len(values) / 4), 4.5))
    width = 0.8 / len(values)
    for number, (name, entries) in enumerate(values.items()):
        places = np.arange(len(groups)) + (number - (len(values) - 1) / 2) * width
        heights = np.array([entry.value for entry in entries])
        errors = np.array(
            [(entry.value - entry.low, entry.high - entry.value) for entry in entries]
        ).T
        bars = axes.bar(places, heights, width, label=name)
        known = np.isfinite(errors).all(0)  # no interval, no error bar
        if known.any():
            axes.errorbar(
                places[known],
                heights[known],
                np.clip(errors[:, known], 0, None),
                fmt="none",
                ecolor="black",
                elinewidth=1,
                capsize=2,
            )
        for place in places[np.isnan(heights)]:
            axes.text(
                place,
                0,
                "n/a",
                rotation=90,
                fontsize=7,
                ha="center",
                va="bottom",
                color=bars.patches[0].get_facecolor(),
            )
    axes.set_xticks(range(len(groups)), groups, rotation=20, ha="right")
    axes.set(title=title)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def plot_cost(
    gflops: dict[str, float], accuracies: dict[str, Interval], title: str, path: Path
) -> None:
    """Draw accuracy with its interval against GFLOPs, both by model."""
    figure, axes = plt.subplots(figsize=(6.5, 4.5))
    for name, accuracy in accuracies.items():
        below, above = accuracy.value - accuracy.low, accuracy.high - accuracy.value
        errors = np.clip(np.nan_to_num([[below], [above]]), 0, None)
        axes.errorbar(gflops[name], accuracy.value, yerr=errors, marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(plain)
    axes.tick_params(axis="x", which="both", labelrotation=40)
    axes.margins(x=0.25)
    axes.set(xlabel="GFLOPs per image, all classifiers", ylabel="accuracy", title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # names beside the points would overlap
    save_figure(figure, path)


def plot_heatmaps(
    matrices: dict[str, np.ndarray], rows: list[str], columns: list[str], title: str, path: Path
) -> None:
    """Draw labelled matrices, three to a row, with their values; NaN stays empty."""
    across = min(3, len(matrices))
    down = -(-len(matrices) // across)
    size = (across * (2.2 + 0.75 * len(columns)), down * (1.8 + 0.5 * len(rows)))
    figure, panels = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat[len(matrices) :]:
        axes.set_visible(False)
    for axes, (name, matrix) in zip(panels.flat, matrices.items()):
        image = axes.imshow(matrix, cmap="viridis", aspect="auto")
        middle = (np.nanmin(matrix) + np.nanmax(matrix)) / 2 if np.isfinite(matrix).any() else 0
        for (row, column), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                axes.text(
                    column,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if value < middle else "black",
                )
        axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(name)
        figure.colorbar(image, ax=axes)
    figure.suptitle(title)
    save_figure(figure, path)


def plot_dendrogram(distances: np.ndarray, names: list[str], title: str, path: Path) -> None:
    """Draw which models err alike: average linkage of (L, L) distances."""
    figure, axes = plt.subplots(figsize=(6.5, 1.5 + 0.45 * len(names)))
    links = linkage(squareform(distances, checks=False), "average")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an axis without width, where all err alike
        dendrogram(links, labels=names, orientation="right", ax=axes, color_threshold=0)
    axes.set(xlabel="share of images that one of two alone gets right", title=title)
    save_figure(figure, path)


def plot_predictions(
    directory: ResultDir,
    split: str,
    targets: np.ndarray,
    predictions: ClassPredictions,
    class_names: list[str],
    title: str,
) -> None:
    """Draw confusion matrix, ROC curves and reliability into a result directory; targets (N,)."""
    scores, predicted = predictions.probabilities, predictions.predicted
    matrix = confusion_matrix(targets, predicted, len(class_names))
    positives = {
        f"grade {name}": (scores[:, k], targets == k) for k, name in enumerate(class_names)
    }
    positives["referable"] = scores[:, REFERABLE_GRADE:].sum(1), targets >= REFERABLE_GRADE
    curves = {
        f"{name}, AUC {float(roc_auc(score, true)):.3f}": roc_curve(true, score)[:2]
        for name, (score, true) in positives.items()
        if 0 < true.sum() < len(true)
    }
    confidence = scores[np.arange(len(targets)), predicted]
    reliability = {"predicted grade": (confidence, predicted == targets)}
    plot_confusion(matrix, class_names, title, directory.figure(f"confusion_{split}"))
    plot_roc(curves, title, directory.figure(f"roc_{split}"))
    plot_reliability(reliability, title, directory.figure(f"reliability_{split}"))


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
        for panel, quantity in (
            (axes[2 * row, column], "loss"),
            (axes[2 * row + 1, column], "accuracy"),
        ):
            panel.set_visible(True)
            for part in ("train", "val"):
                points = [
                    (r["epoch"], r[f"{part}_{quantity}"])
                    for r in history
                    if f"{part}_{quantity}" in r
                ]
                if points:
                    panel.plot(*zip(*points), label=part, marker="." if len(points) < 9 else "")
            panel.set(title=f"{name} {quantity}", xlabel="epoch")
            panel.legend(fontsize=8)
    figure.suptitle(title)
    save_figure(figure, path)
