"""Draw figures; the only module that imports matplotlib.

N images, K classes, L models.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import roc_curve

from common.metrics.classification import confusion_matrix, roc_auc
from common.metrics.intervals import Interval
from common.models.checkpoint import EpochRow
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions
from common.result_dir import ResultDir
from common.system.files import atomic_write

matplotlib.use("Agg")


matplotlib.rcParams["text.parse_math"] = False  # a name may hold a dollar sign
_BINS = 10  # of confidence
_ACROSS = 3  # heat maps beside each other
_COLUMNS = 5  # classifiers beside each other


class RocCurve(NamedTuple):
    """The points of a ROC curve, each array (points,)."""

    false_positives: np.ndarray  # rates
    true_positives: np.ndarray


class Reliability(NamedTuple):
    """How confident predictions were, and whether they were right."""

    confidence: np.ndarray  # (N,) 0..1
    correct: np.ndarray  # (N,) bool


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


def plot_roc(curves: Mapping[str, RocCurve], title: str, path: Path) -> None:
    """Draw ROC curves by label."""
    figure, axes = plt.subplots(figsize=(6, 5.5))
    for label, curve in curves.items():
        axes.plot(curve.false_positives, curve.true_positives, label=label)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=title)
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    save_figure(figure, path)


def plot_reliability(curves: Mapping[str, Reliability], title: str, path: Path) -> None:
    """Draw accuracy against confidence of the predicted grade, in bins of confidence, by label."""
    figure, axes = plt.subplots(figsize=(6, 5.5))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    for label, curve in curves.items():
        bins = np.minimum((curve.confidence * _BINS).astype(int), _BINS - 1)
        used = [bins == number for number in range(_BINS) if (bins == number).any()]
        confidences = [curve.confidence[inside].mean() for inside in used]
        accuracies = [curve.correct[inside].mean() for inside in used]
        areas = [40 + 400 * inside.mean() for inside in used]
        line = axes.plot(confidences, accuracies, label=label)[0]
        axes.scatter(confidences, accuracies, s=areas, color=line.get_color(), alpha=0.6)
    axes.set(
        xlabel="confidence of the predicted grade",
        ylabel="accuracy",
        title=title,
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(loc="upper left", fontsize=9)
    save_figure(figure, path)


def plot_bars(
    series: Mapping[str, Sequence[Interval]], groups: list[str], title: str, path: Path
) -> None:
    """Draw grouped bars with error bars: series name -> an interval for each group."""
    figure, axes = plt.subplots(figsize=(2.5 + 1.1 * len(groups) * max(1, len(series) / 4), 4.5))
    width = 0.8 / len(series)
    for number, (name, intervals) in enumerate(series.items()):
        places = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * width
        _draw_bars(axes, places, width, name, intervals)
    axes.set_xticks(range(len(groups)), groups, rotation=20, ha="right")
    axes.set(title=title)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _draw_bars(
    axes: Axes, places: np.ndarray, width: float, name: str, intervals: Sequence[Interval]
) -> None:
    """Draw the bars of one series; "n/a" where there is no value, no error bar without interval."""
    heights = np.array([interval.value for interval in intervals])
    errors = np.array([_errors(interval) for interval in intervals]).T  # (2, groups)
    bars = axes.bar(places, heights, width, label=name)
    known = np.isfinite(errors).all(axis=0)
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
    style: dict[str, Any] = {"rotation": 90, "fontsize": 7, "ha": "center", "va": "bottom"}
    for place in places[np.isnan(heights)]:
        axes.text(place, 0, "n/a", color=bars.patches[0].get_facecolor(), **style)


def _errors(interval: Interval) -> tuple[float, float]:
    """Return how far an interval reaches below and above its value."""
    return interval.value - interval.low, interval.high - interval.value


def plot_cost(
    gflops: Mapping[str, float], accuracies: Mapping[str, Interval], title: str, path: Path
) -> None:
    """Draw accuracy with its interval against GFLOPs, both by model."""
    figure, axes = plt.subplots(figsize=(6.5, 4.5))
    for name, accuracy in accuracies.items():
        errors = np.clip(np.nan_to_num(_errors(accuracy)), 0, None).reshape(2, 1)
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


def plot_predictions(
    directory: ResultDir,
    split: str,
    targets: np.ndarray,
    predictions: ClassPredictions,
    classes: Classes,
    title: str,
) -> None:
    """Draw confusion matrix, ROC curves and reliability into a result directory; targets (N,)."""
    predicted = predictions.predicted
    confidence = predictions.probabilities[np.arange(len(targets)), predicted]
    reliability = {"predicted grade": Reliability(confidence, predicted == targets)}
    matrix = confusion_matrix(targets, predicted, len(classes))
    curves = _roc_curves(targets, predictions.probabilities, classes)
    plot_confusion(matrix, list(classes.names), title, directory.figure(f"confusion_{split}"))
    plot_roc(curves, title, directory.figure(f"roc_{split}"))
    plot_reliability(reliability, title, directory.figure(f"reliability_{split}"))


def _roc_curves(
    targets: np.ndarray, probabilities: np.ndarray, classes: Classes
) -> dict[str, RocCurve]:
    """Compute the curves of each grade against the rest and of referable images, by label.

    What all images are, or none, has no curve.
    """
    tasks = {t: (probabilities[:, k], targets == k) for k, t in enumerate(classes.titles)}
    cut = classes.referable_from
    if cut is not None:
        title = f"referable ({classes.referable})"
        tasks[title] = (probabilities[:, cut:].sum(axis=1), targets >= cut)
    curves = {}
    for name, (scores, positive) in tasks.items():
        if 0 < positive.sum() < len(positive):
            false_positives, true_positives, _ = roc_curve(positive, scores)
            label = f"{name}, AUC {float(roc_auc(scores, positive)):.3f}"
            curves[label] = RocCurve(false_positives, true_positives)
    return curves


def plot_training(histories: Mapping[str, Sequence[EpochRow]], title: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs, two panels for each classifier, by its name."""
    columns = min(_COLUMNS, len(histories))
    rows = -(-len(histories) // columns)
    figure, panels = plt.subplots(
        2 * rows, columns, figsize=(3.2 * columns, 4.6 * rows), squeeze=False, layout="constrained"
    )
    for panel in panels.flat:
        panel.set_visible(False)
    for place, (name, history) in enumerate(histories.items()):
        row, column = divmod(place, columns)
        measured = [(epoch.epoch, epoch.validation) for epoch in history if epoch.validation]
        losses = {
            "train": {epoch.epoch: epoch.train_loss for epoch in history},
            "val": {number: validation.loss for number, validation in measured},
        }
        accuracies = {
            "train": {epoch.epoch: epoch.train_accuracy for epoch in history},
            "val": {number: validation.accuracy for number, validation in measured},
        }
        _draw_curves(panels[2 * row, column], f"{name} loss", losses)
        _draw_curves(panels[2 * row + 1, column], f"{name} accuracy", accuracies)
    figure.suptitle(title)
    save_figure(figure, path)


def _draw_curves(axes: Axes, title: str, curves: Mapping[str, Mapping[int, float]]) -> None:
    """Draw values over the epochs: label -> epoch -> value."""
    axes.set_visible(True)
    for label, values in curves.items():
        if values:
            marker = "." if len(values) < 9 else ""
            axes.plot(list(values), list(values.values()), label=label, marker=marker)
    axes.set(title=title, xlabel="epoch")
    axes.legend(fontsize=8)
