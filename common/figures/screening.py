"""Draw what a screening programme asks: referral, subgroups, sets of grades.

T points of a curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.figures.comparison import draw_interval, prepare_rows
from common.figures.style import (
    COLORS,
    INK,
    LINE,
    PAGE,
    QUIET,
    Look,
    looks,
    near,
    new_figure,
    quiet_grid,
    short_names,
    wrapped,
)
from common.metrics.intervals import Interval

_ROW = 1.3 * LINE  # inches
_MOST_ROWS = 100  # of subgroups
_MOST_REFERRED = 0.6  # beyond it, few images are left to measure


@dataclass(frozen=True)
class ReferralCurve:
    """A figure of the images that are kept, against the share of images that is referred."""

    referred: np.ndarray  # (T,) 0..1
    values: np.ndarray  # (T,)
    intervals: Sequence[Interval | None] = ()  # (T,) or none


@dataclass(frozen=True)
class ReferralPanel:
    """One figure under several rules."""

    title: str
    curves: Mapping[str, ReferralCurve]  # by the rule


@dataclass(frozen=True)
class ForestRow:
    """What was measured of one subgroup."""

    name: str
    count: str  # such as "34 images"
    intervals: Sequence[Interval]  # one for each figure
    few: Sequence[bool]  # which of them rest on too few images to say much; drawn in grey


@dataclass(frozen=True)
class SetsOfGrade:
    """Sets of grades for the images of one grade."""

    name: str
    count: str
    coverage: Interval
    size: Interval  # mean number of grades in a set


def plot_referral(panels: Sequence[ReferralPanel], title: str) -> Figure:
    """Draw how good grading of the rest is if the least certain images go to a physician."""
    width = PAGE / max(len(panels), 2)
    rules = list(dict.fromkeys(rule for panel in panels for rule in panel.curves))
    figure = new_figure(width * len(panels), width + 0.75 + LINE * -(-len(rules) // 2), title)
    styles = dict(zip(rules, looks(len(rules))))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        _draw_referral(axes, panel, styles)
    figure.axes[0].set_ylabel("of the images not referred")
    handles = [_handle(look, wrapped(rule, 60)) for rule, look in styles.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _handle(look: Look, label: str) -> Line2D:
    """Make the entry of a legend."""
    line = Line2D([], [], color=look.color, marker=look.marker, markersize=4, label=label)
    line.set(linestyle=look.stroke)
    return line


def _draw_referral(axes: Axes, panel: ReferralPanel, styles: Mapping[str, Look]) -> None:
    shown: list[float] = []
    for rule, look in styles.items():
        curve = panel.curves.get(rule)
        inside = np.zeros(0, dtype=bool) if curve is None else curve.referred <= _MOST_REFERRED
        x, y = (curve.referred[inside], curve.values[inside]) if curve else (inside, inside)
        few = len(x) < 12
        style = {"color": look.color, "linestyle": look.stroke}
        line = axes.plot(x, y, marker=look.marker if few else "", markersize=4)[0]
        line.set(**style)
        shown += y.tolist()
        for place, interval in zip(x, _inside(curve, inside)):
            if interval is not None and np.isfinite([interval.low, interval.high]).all():
                axes.plot([place] * 2, [interval.low, interval.high], color=look.color, lw=0.8)
                shown += [interval.low, interval.high]
    axes.set_ylim(*near(shown, 0, 1))
    axes.set_xlim(-0.02, _MOST_REFERRED + 0.02)
    axes.set(xlabel="share of images referred", title=wrapped(panel.title, 28))
    quiet_grid(axes)


def _inside(curve: ReferralCurve | None, inside: np.ndarray) -> list[Interval | None]:
    intervals = curve.intervals if curve is not None else ()
    return [interval for interval, shown in zip(intervals, inside) if shown]


def plot_forest(
    figures: Sequence[str],
    overall: Sequence[Interval],
    blocks: Mapping[str, Sequence[ForestRow]],
    title: str,
) -> Figure:
    """Draw figures of subgroups, each with its interval, beside that of all images as a line.

    blocks: column, such as "camera" -> its values. overall: of all images, one for each figure.
    """
    lines: list[tuple[str, ForestRow | None]] = []
    for column, rows in blocks.items():
        names = short_names([row.name for row in rows], 24)
        lines += [(wrapped(column, 30), None)]
        lines += [(f"{name} ({row.count})", row) for name, row in zip(names, rows)]
    if len(lines) > _MOST_ROWS:
        left_out = sum(row is not None for _, row in lines[_MOST_ROWS:])
        lines = [*lines[:_MOST_ROWS], (f"({left_out} more in the table)", None)]
    lines.reverse()
    titles = [wrapped(name, int(56 / len(figures))) for name in figures]
    above = LINE * max(text.count("\n") for text in titles)
    figure = new_figure(PAGE, 1.1 + above + _ROW * len(lines), title)
    panels = figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
    for place, (axes, text) in enumerate(zip(panels, titles)):
        shown = [row.intervals[place] for _, row in lines if row is not None]
        prepare_rows(axes, [*shown, overall[place]], len(lines))
        _draw_overall(axes, overall[place])
        for number, (_, row) in enumerate(lines):
            if row is not None:
                color = QUIET if row.few[place] else COLORS[0]
                draw_interval(axes, number, row.intervals[place], color)
        axes.set_title(text)
    panels[0].set_yticks(range(len(lines)), [text for text, _ in lines])
    for label, (_, row) in zip(panels[0].get_yticklabels(), lines):
        label.set_fontweight("bold" if row is None else "normal")
    handles = [Line2D([], [], color=INK, linewidth=0.8, linestyle="--", label="all images")]
    if any(row is not None and any(row.few) for _, row in lines):
        handles.append(Line2D([], [], color=QUIET, marker="o", label="too few images"))
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _draw_overall(axes: Axes, overall: Interval) -> None:
    """Draw what was measured of all images as a line, and its interval as a band."""
    if np.isfinite(overall.value):
        axes.axvline(overall.value, color=INK, linewidth=0.8, linestyle="--", zorder=1)
    if np.isfinite([overall.low, overall.high]).all():
        axes.axvspan(overall.low, overall.high, color="#eeeeee", zorder=-1)


def plot_sets(grades: Sequence[SetsOfGrade], level: float, title: str) -> Figure:
    """Draw how often sets of grades hold the true one, and how large they are, by grade."""
    rows = list(reversed(grades))
    names = short_names([row.name for row in rows], 24)
    figure = new_figure(PAGE, 1.0 + _ROW * len(rows), title)
    left, right = figure.subplots(1, 2, sharey=True)
    prepare_rows(left, [row.coverage for row in rows] + [Interval(level, level, level)], len(rows))
    prepare_rows(right, [row.size for row in rows], len(rows))
    low, high = near([end for row in rows for end in (row.size.value, row.size.low, row.size.high)])
    right.set_xlim(min(low, 0.9), max(high, 2.1))
    left.axvline(level, color=INK, linewidth=0.8, linestyle="--", zorder=1)
    for number, row in enumerate(rows):
        draw_interval(left, number, row.coverage)
        draw_interval(right, number, row.size)
    left.set_yticks(range(len(rows)), [f"{name} ({row.count})" for name, row in zip(names, rows)])
    left.set_title(wrapped(f"sets with the true grade (wanted: {level:.0%})", 26))
    right.set_title(wrapped("grades in a set, on average", 26))
    return figure
