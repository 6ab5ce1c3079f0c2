"""Draw models beside each other: their figures with intervals, accuracy against cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from common.figures.style import save_figure
from common.metrics.intervals import Interval


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
