"""Draw what a grader says of a split: confusion, ROC curves, reliability.

N images, K classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

from common.figures.style import save_figure
from common.metrics.auc import roc_auc
from common.metrics.shares import confusion_matrix
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions
from common.result_dir import ResultDir

_BINS = 10  # of confidence


class RocCurve(NamedTuple):
    """The points of a ROC curve, each array (points,)."""

    false_positives: np.ndarray  # rates
    true_positives: np.ndarray


class Reliability(NamedTuple):
    """How confident predictions were, and whether they were right."""

    confidence: np.ndarray  # (N,) 0..1
    correct: np.ndarray  # (N,) bool


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
