"""Draw what a grader says of a split: confusion, ROC curves, reliability.

N images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from common.figures.matrices import plot_confusion
from common.figures.style import (
    COLORS,
    INK,
    PAGE,
    QUIET,
    looks,
    new_figure,
    quiet_grid,
    short_names,
    wrapped,
)
from common.metrics.intervals import Interval, Metrics
from common.metrics.shares import confusion_matrix
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions

_BINS = 10  # of confidence
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


@dataclass(frozen=True)
class RocCurve:
    """The points of a ROC curve, each array (points,)."""

    false_positives: np.ndarray  # rates
    true_positives: np.ndarray
    auc: Interval


@dataclass(frozen=True)
class RocPoint:
    """A sensitivity and a specificity: of a threshold, or what a trial asked for or found."""

    label: str
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True)
class RocPanel:
    """The curves of one question, the points in use on them, and those of others' studies."""

    title: str
    curves: Mapping[str, RocCurve]
    points: Sequence[RocPoint] = ()
    references: Sequence[RocPoint] = ()


@dataclass(frozen=True)
class Reliability:
    """How confident predictions were, and whether they were right."""

    confidence: np.ndarray  # (N,) 0..1
    correct: np.ndarray  # (N,) bool
    note: str = field(default="")  # such as the calibration error with its interval


def plot_roc(panels: Sequence[RocPanel], title: str) -> Figure:
    """Draw ROC curves with points in use, as crosses of their intervals, and reference points."""
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    width = PAGE / 2 if across > 1 else 0.62 * PAGE
    lines = max(sum(text.count("\n") + 1 for text in _labels(panel).values()) for panel in panels)
    legend = max(0.17 * lines, 0.1)
    figure = new_figure(width * across, 0.35 + down * (width + 0.1 + legend), title)
    ratios = (width - 0.3, legend) * down
    rows = figure.subplots(2 * down, across, height_ratios=ratios, squeeze=False)
    for axes in rows.flat:
        axes.set_axis_off()
    for upper, lower, panel in zip(rows[::2].flat, rows[1::2].flat, panels):
        upper.set_axis_on()
        _draw_roc(upper, panel)
        handles, texts = upper.get_legend_handles_labels()
        lower.legend(handles, texts, loc="upper left", borderaxespad=0, borderpad=0)
    return figure


def _labels(panel: RocPanel) -> dict[str, str]:
    """Say what each curve and point of a panel is, by its name; the best curve first."""
    order = sorted(panel.curves, key=lambda name: -np.nan_to_num(panel.curves[name].auc.value))
    labels = {}
    for name, short in zip(order, short_names(order, 24)):
        auc = panel.curves[name].auc
        labels[name] = f"{short}, AUC {auc.value:.3f}"
        if np.isfinite([auc.low, auc.high]).all():
            labels[name] += f" [{auc.low:.3f}, {auc.high:.3f}]"
    points = (*panel.points, *panel.references)
    return {name: wrapped(text, 46) for name, text in labels.items()} | {
        point.label: wrapped(point.label, 46) for point in points
    }


def _draw_roc(axes: Axes, panel: RocPanel) -> None:
    """Draw one panel, and name what it shows for its legend."""
    labels = _labels(panel)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.7)
    curves = [name for name in labels if name in panel.curves]
    for name, look in zip(curves, looks(len(curves))):
        line = axes.plot(panel.curves[name].false_positives, panel.curves[name].true_positives)[0]
        line.set(color=look.color, linestyle=look.stroke, label=labels[name])
    for point, look in zip(panel.points, looks(len(panel.points))):
        _draw_cross(axes, point, look.marker, labels[point.label])
    for point, look in zip(panel.references, looks(len(panel.references))):
        place = [1 - point.specificity.value], [point.sensitivity.value]
        line = axes.plot(*place, look.marker, color=QUIET, label=labels[point.label])[0]
        line.set(markerfacecolor="white", markersize=6)
    if not panel.curves:
        axes.text(0.5, 0.25, "n/a: all images are alike in this", ha="center", color=QUIET)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=wrapped(panel.title, 44))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=_TICKS, yticks=_TICKS)
    axes.set_aspect("equal", anchor="NW")
    quiet_grid(axes)


def _draw_cross(axes: Axes, point: RocPoint, marker: str, label: str) -> None:
    """Draw an operating point with the intervals of its two rates."""
    x, y = 1 - point.specificity.value, point.sensitivity.value
    if not np.isfinite([x, y]).all():
        return
    axes.plot([1 - point.specificity.low, 1 - point.specificity.high], [y, y], color=INK, lw=1)
    axes.plot([x, x], [point.sensitivity.low, point.sensitivity.high], color=INK, lw=1)
    axes.plot([x], [y], marker, color=INK, markersize=6, label=label, zorder=5)


def plot_reliability(curves: Mapping[str, Reliability], title: str) -> Figure:
    """Draw accuracy against confidence of the predicted grade, a column for each label.

    In ten bins of confidence, with Wilson's interval (1927) of each, and how many images it has.
    """
    width = PAGE if len(curves) > 1 else 0.62 * PAGE
    figure = new_figure(width, 0.6 + width / min(len(curves), 3) * (0.9 + 0.35), title)
    panels = figure.subplots(
        2,
        len(curves),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=(3, 1),
    )
    for column, (name, curve) in enumerate(curves.items()):
        upper, lower = panels[:, column]
        _draw_bins(upper, lower, curve)
        notes = [name, *([curve.note] if curve.note else [])]
        upper.set_title("\n".join(wrapped(note, 34) for note in notes), fontsize=8.5)
        lower.set_xlabel("confidence of the predicted grade" if column == 0 else "confidence")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("images")
    return figure


def _draw_bins(upper: Axes, lower: Axes, curve: Reliability) -> None:
    bins = np.clip((np.nan_to_num(curve.confidence) * _BINS).astype(int), 0, _BINS - 1)
    upper.plot([0, 1], [0, 1], color=QUIET, linewidth=0.7)
    for number in np.unique(bins):
        inside = bins == number
        right, images = int(curve.correct[inside].sum()), int(inside.sum())
        wilson = binomtest(right, images).proportion_ci(method="wilson")
        place = float(curve.confidence[inside].mean())
        upper.plot([place, place], [wilson.low, wilson.high], color=COLORS[0], linewidth=1)
        upper.plot(place, right / images, "o", color=COLORS[0])
    counts = np.bincount(bins, minlength=_BINS)
    places = (np.arange(_BINS) + 0.5) / _BINS
    lower.bar(places, counts, width=0.85 / _BINS, color=COLORS[5])
    for place, count in zip(places, counts):
        if count:
            lower.annotate(
                str(count), (place, count), (0, 1), textcoords="offset points", ha="center", size=8
            )
    lower.margins(y=0.3)
    upper.set(xlim=(0, 1), ylim=(-0.03, 1.03), xticks=_TICKS, yticks=_TICKS)
    quiet_grid(upper)
    quiet_grid(lower, "y")


def plot_predictions(
    targets: np.ndarray,
    predictions: ClassPredictions,
    classes: Classes,
    metrics: Metrics,
    title: str,
) -> dict[str, Figure]:
    """Draw confusion matrix, ROC curves and reliability of a split, by name; targets (N,).

    metrics: what was measured of the predictions, for the areas under the curves.
    """
    predicted = predictions.predicted
    confidence = predictions.probabilities[np.arange(len(targets)), predicted]
    reliability = {"predicted grade": Reliability(confidence, predicted == targets)}
    matrix = confusion_matrix(targets, predicted, len(classes))
    panels = roc_panels(targets, predictions.probabilities, classes, metrics)
    return {
        "confusion": plot_confusion(matrix, classes.names, title),
        "roc": plot_roc(panels, title),
        "reliability": plot_reliability(reliability, title),
    }


def roc_panels(
    targets: np.ndarray, probabilities: np.ndarray, classes: Classes, metrics: Metrics
) -> list[RocPanel]:
    """Compute the curves of referable images, if that is known, and of each grade against the rest.

    What all images are, or none, has no curve. targets (N,), probabilities (N, K).
    """
    grades = {
        title: curve
        for k, title in enumerate(classes.titles)
        if (curve := roc_of(probabilities[:, k], targets == k, metrics[f"auc_{k}"])) is not None
    }
    panels = []
    cut = classes.referable_from
    if cut is not None:
        score = probabilities[:, cut:].sum(axis=1)
        curve = roc_of(score, targets >= cut, metrics["referable_auc"])
        curves = {} if curve is None else {"referable": curve}
        panels.append(RocPanel(f"referable ({classes.referable})", curves))
    panels.append(RocPanel(f"each {classes.word} against the rest", grades))
    return panels


def roc_of(scores: np.ndarray, positive: np.ndarray, auc: Interval) -> RocCurve | None:
    """Compute the ROC curve of scores (N,); None where all images are positive, or none."""
    if not 0 < positive.sum() < len(positive):
        return None
    false_positives, true_positives, _ = roc_curve(positive, scores)
    return RocCurve(false_positives, true_positives, auc)
