"""Draw ROC curves with the points in use on them, and those of others' studies. N images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.figures.style import (
    INK,
    MARKERS,
    PAGE,
    QUIET,
    Look,
    looks,
    new_figure,
    quiet_grid,
    short_names,
    wrapped,
)
from common.metrics.intervals import Interval

_OWN_POINTS = 3  # looks that operating points take before they repeat; the rest are of studies
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
    study: str = ""  # of others; its points look alike in all panels
    asked: bool = False  # not found; drawn hollow


@dataclass(frozen=True)
class RocPanel:
    """The curves of one question, the points in use on them, and those of others' studies."""

    title: str
    curves: Mapping[str, RocCurve]
    points: Sequence[RocPoint] = ()
    references: Sequence[RocPoint] = ()


def plot_roc(panels: Sequence[RocPanel], title: str) -> Figure:
    """Draw ROC curves with points in use, as crosses of their intervals, and reference points."""
    width = PAGE / 2 if len(panels) > 1 else 0.62 * PAGE
    studies = dict.fromkeys(point.study for panel in panels for point in panel.references)
    reference_looks = dict(zip(studies, cycle(looks(len(MARKERS))[_OWN_POINTS:])))
    texts = [list(_labels(panel, width).values()) for panel in panels]
    lines = max(sum(text.count("\n") + 1 for text in each) for each in texts)
    legend = max(0.17 * lines, 0.1)
    figure = new_figure(width * len(panels), width + 0.45 + legend, title)
    rows = figure.subplots(2, len(panels), height_ratios=(width - 0.3, legend), squeeze=False)
    for upper, lower, panel in zip(*rows, panels):
        lower.set_axis_off()
        _draw_roc(upper, panel, _labels(panel, width), reference_looks)
        handles, texts = upper.get_legend_handles_labels()
        lower.legend(handles, texts, loc="upper left", borderaxespad=0, borderpad=0)
    return figure


def _labels(panel: RocPanel, width: float) -> dict[str, str]:
    """Say what each curve and point of a panel is, by its name; the best curve first.

    width: of the panel, in inches.
    """
    letters = int(13 * width)
    order = sorted(panel.curves, key=lambda name: -np.nan_to_num(panel.curves[name].auc.value))
    labels = {}
    for name, short in zip(order, short_names(order, 24)):
        auc = panel.curves[name].auc
        labels[name] = f"{short}, AUC {auc.value:.3f}"
        if np.isfinite([auc.low, auc.high]).all():
            labels[name] += f" [{auc.low:.3f}, {auc.high:.3f}]"
    points = (*panel.points, *panel.references)
    return {name: wrapped(text, letters) for name, text in labels.items()} | {
        point.label: wrapped(point.label, letters) for point in points
    }


def _draw_roc(
    axes: Axes, panel: RocPanel, labels: Mapping[str, str], reference_looks: Mapping[str, Look]
) -> None:
    """Draw one panel, and name what it shows for its legend."""
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.7)
    curves = [name for name in labels if name in panel.curves]
    for name, look in zip(curves, looks(len(curves))):
        line = axes.plot(panel.curves[name].false_positives, panel.curves[name].true_positives)[0]
        line.set(color=look.color, linestyle=look.stroke, label=labels[name])
    for point, look in zip(panel.points, cycle(looks(_OWN_POINTS))):
        _draw_cross(axes, point, look.marker, labels[point.label])
    for point in panel.references:
        look = reference_looks[point.study]
        place = [1 - point.specificity.value], [point.sensitivity.value]
        line = axes.plot(*place, look.marker, color=look.color, label=labels[point.label])[0]
        line.set(markerfacecolor="white" if point.asked else look.color, markersize=6)
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


def roc_of(scores: np.ndarray, positive: np.ndarray, auc: Interval) -> RocCurve | None:
    """Compute the ROC curve of scores (N,); None where all images are positive, or none.

    Points between two others on a line are left out, as scikit-learn does, which takes longer to
    import than all curves to compute.
    """
    if not 0 < positive.sum() < len(positive):
        return None
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores
    hits = np.cumsum(positive[order])[last]
    false = last + 1 - hits
    corner = np.ones(len(last), dtype=bool)
    corner[1:-1] = (np.diff(hits, 2) != 0) | (np.diff(false, 2) != 0)
    found, called = (np.append(0, counts[corner]) / counts[-1] for counts in (hits, false))
    return RocCurve(called, found, auc)
