"""Draw how far a grader's confidence can be taken at its word. N images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.figures.style import COLORS, LINE, PAGE, QUIET, new_figure, quiet_grid, wrapped
from common.metrics.shares import clopper_pearson

_BINS = 10  # of confidence
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


@dataclass(frozen=True)
class Reliability:
    """How confident predictions were, and whether they were right."""

    confidence: np.ndarray  # (N,) 0..1
    correct: np.ndarray  # (N,) bool
    note: str = field(default="")  # such as the calibration error with its interval


def plot_reliability(curves: Mapping[str, Reliability], title: str) -> Figure:
    """Draw accuracy against confidence of the predicted grade, a column for each label.

    In ten bins of confidence, with each one's exact interval and number of images.
    """
    width = PAGE if len(curves) > 1 else 0.62 * PAGE
    titles = [
        "\n".join(wrapped(text, 38) for text in (name, curve.note) if text)
        for name, curve in curves.items()
    ]
    above = LINE * max(text.count("\n") for text in titles)
    height = 0.6 + above + (width if len(curves) == 1 else 1.25 * width / min(len(curves), 3))
    figure = new_figure(width, height, title)
    panels = figure.subplots(
        2,
        len(curves),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=(3, 1),
    )
    for column, curve in enumerate(curves.values()):
        upper, lower = panels[:, column]
        _draw_bins(upper, lower, curve)
        upper.set_title(titles[column], fontsize=8)
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
        exact = clopper_pearson(right, images)
        place = float(curve.confidence[inside].mean())
        upper.plot([place, place], [exact.low, exact.high], color=COLORS[0], linewidth=1)
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
