"""Draw results with their intervals: models side by side, and accuracy against cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from common.figures.style import (
    COLORS,
    FAINT,
    LINE,
    PAGE,
    QUIET,
    EndLabel,
    label_at_right,
    near,
    new_figure,
    quiet_grid,
    short_names,
    wrapped,
)
from common.metrics.intervals import Interval

_MOST_ACROSS, _NARROWEST = 4, 1.4  # panels beside each other, and how narrow, in inches
_FEWEST_TICKS = 3
_STEPS = ((1,), (1, 2, 5), (1, 2, 3, 5, 7), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))  # in a decade
_ROW = 1.35 * LINE  # inches, from one model to the next


def plot_intervals(
    series: Mapping[str, Sequence[Interval]], groups: Sequence[str], title: str
) -> Figure:
    """Draw an interval for each series and group: a panel for each group, sorted by the first.

    series: name -> an interval for each group. All panels have the same order, so that a name is
    read once; each has an axis of its own, near its values. A single series has one panel, with the
    groups as rows.
    """
    if len(series) == 1:
        return _plot_one(next(iter(series.values())), groups, title)
    order = sorted(series, key=lambda name: _sortable(series[name][0]))
    names = short_names(order)
    room = PAGE - 0.07 * max(map(len, names))  # inches, beside the names
    down = -(-len(groups) // max(1, min(_MOST_ACROSS, int(room / _NARROWEST))))
    across = -(-len(groups) // down)
    height = 0.55 + down * (0.8 + _ROW * len(names))
    figure = new_figure(PAGE, height, title)
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    for place, (axes, group) in enumerate(zip(panels.flat, groups)):
        intervals = [series[name][place] for name in order]
        draw_intervals(axes, intervals)
        axes.set_title(wrapped(group, 18))
        axes.set_yticks(range(len(names)), names)
    return figure


def _plot_one(intervals: Sequence[Interval], groups: Sequence[str], title: str) -> Figure:
    """Draw the figures of one model, sorted, with their values."""
    order = sorted(range(len(groups)), key=lambda place: _sortable(intervals[place]))
    figure = new_figure(PAGE, 0.9 + _ROW * len(groups), title)
    axes = figure.subplots()
    draw_intervals(axes, [intervals[place] for place in order])
    axes.set_yticks(range(len(order)), short_names([groups[place] for place in order], 40))
    return figure


def draw_intervals(axes: Axes, intervals: Sequence[Interval]) -> None:
    """Draw a dot and a line for each row, from the bottom."""
    prepare_rows(axes, intervals, len(intervals))
    for row, each in enumerate(intervals):
        draw_interval(axes, row, each)


def prepare_rows(axes: Axes, intervals: Sequence[Interval], rows: int) -> None:
    """Make room for intervals in rows, on an axis near their values."""
    ends = [end for each in intervals for end in (each.value, each.low, each.high)]
    axes.set_xlim(*near(ends, lowest=-1, highest=1))
    axes.set_ylim(-0.6, rows - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    quiet_grid(axes, "x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def draw_interval(axes: Axes, row: float, interval: Interval, color: str = COLORS[0]) -> None:
    """Draw a dot and a line in a row; "n/a" where there is no value.

    A dot without a line is hollow: its interval is not known.
    """
    axes.axhline(row, color=FAINT, linewidth=0.6, zorder=0)
    if np.isnan(interval.value):
        style: dict[str, Any] = {"color": QUIET, "fontsize": 8, "va": "center", "ha": "left"}
        axes.text(0.02, row, "n/a", transform=axes.get_yaxis_transform(), **style)
        return
    known = np.isfinite([interval.low, interval.high]).all()
    if known:
        axes.plot([interval.low, interval.high], [row, row], color=color, solid_capstyle="butt")
    dot = axes.plot(interval.value, row, "o", color=color, clip_on=False)[0]
    dot.set_markerfacecolor(color if known else "white")


def _sortable(interval: Interval) -> float:
    return -np.inf if np.isnan(interval.value) else interval.value


def plot_cost(
    gflops: Mapping[str, float], accuracies: Mapping[str, Interval], title: str
) -> Figure:
    """Draw accuracy with its interval against GFLOPs, both by model."""
    panel = max(2.0, 1.1 * LINE * len(accuracies))  # inches
    figure = new_figure(0.75 * PAGE, 1.2 + panel, title)
    axes = figure.subplots()
    names = dict(zip(accuracies, short_names(list(accuracies))))
    known = {
        name: found
        for name, found in accuracies.items()
        if np.isfinite([found.value, gflops[name]]).all() and gflops[name] > 0
    }
    for name, found in known.items():
        ends = np.nan_to_num([found.low, found.high], nan=found.value)
        axes.plot([gflops[name]] * 2, ends, color=COLORS[0], linewidth=1)
        axes.plot(gflops[name], found.value, "o", color=COLORS[0])
    _log_axis(axes, [gflops[name] for name in known] or [1.0])
    limits = [end for found in known.values() for end in (found.value, found.low, found.high)]
    axes.set_ylim(*near(limits, lowest=0, highest=1))
    axes.set(xlabel="GFLOPs per image, all classifiers", ylabel="accuracy")
    quiet_grid(axes)
    labels = [EndLabel(gflops[name], found.value, names[name]) for name, found in known.items()]
    label_at_right(axes, labels, panel)
    return figure


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make a logarithmic axis of a few round numbers around the values."""
    axes.set_xscale("log")
    low, high = min(values) / 1.3, max(values) * 1.3
    axes.set_xlim(low, high)
    decades = [10.0**power for power in range(-6, 9)]
    for steps in _STEPS:
        ticks = [step * decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= _FEWEST_TICKS:
            break
    axes.set_xticks(ticks)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
