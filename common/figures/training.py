"""Draw how classifiers learned: a row for each model, with all of its pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from common.figures.style import (
    INK,
    LINE,
    PAGE,
    EndLabel,
    label_at_right,
    near,
    new_figure,
    quiet_grid,
    short_names,
    wrapped,
)
from common.history import EpochRow

_MOST_NAMES = 45  # pairs that are named beside their curves
_FEW = 9  # points that are marked, since a line through them alone says little


@dataclass(frozen=True)
class Learned:
    """How one classifier learned."""

    history: Sequence[EpochRow]
    chosen: int | None = None  # the epoch whose weights were kept


@dataclass(frozen=True)
class _Measure:
    """What a column of panels shows."""

    title: str
    training: str  # the field of an epoch's row
    validation: str  # the field of its validation
    lowest: float
    highest: float

    def on_training(self, history: Sequence[EpochRow]) -> dict[int, float]:
        """Return the values on the training images by epoch."""
        return {row.epoch: getattr(row, self.training) for row in history}

    def on_validation(self, history: Sequence[EpochRow]) -> dict[int, float]:
        """Return the values on the validation images by the epochs that have some."""
        found = [(row.epoch, row.validation) for row in history if row.validation]
        return {epoch: getattr(measured, self.validation) for epoch, measured in found}


_MEASURES = (
    _Measure("loss", "train_loss", "loss", 0, np.inf),
    _Measure("accuracy", "train_accuracy", "accuracy", 0, 1),
)


def plot_training(models: Mapping[str, Mapping[str, Learned]], title: str) -> Figure:
    """Draw loss and accuracy over the epochs: model -> name of the pair -> how it learned.

    All models share their axes. A pair's colour says how many grades apart its two are.
    """
    most = max(len(heads) for heads in models.values())
    named = most <= _MOST_NAMES
    panel = max(1.55, 0.95 * LINE * most) if named else 2.4  # inches
    figure = new_figure(PAGE, 1.15 + (panel + 0.42) * len(models), title)
    panels = figure.subplots(len(models), 2, sharex=True, sharey="col", squeeze=False)
    distances = sorted({_distance(name) for heads in models.values() for name in heads})
    places = np.linspace(0, 0.8, len(distances))
    colors = {d: to_hex(colormaps["viridis"](place)) for d, place in zip(distances, places)}
    epochs = [
        row.epoch for heads in models.values() for each in heads.values() for row in each.history
    ]
    last = max(epochs, default=1)
    panels[0, 0].set_xlim(1 - 0.03 * last, last * 1.03)
    for column, measure in enumerate(_MEASURES):
        values = [value for heads in models.values() for value in _values(heads, measure)]
        panels[0, column].set_ylim(*near(values, measure.lowest, measure.highest))
        for row, (name, heads) in enumerate(zip(short_names(list(models)), models.values())):
            axes = panels[row, column]
            axes.set_title(wrapped(f"{name}: {measure.title}", 44))
            ends = [
                _draw(axes, head, learned, measure, colors[_distance(head)])
                for head, learned in heads.items()
            ]
            if named:
                label_at_right(axes, ends, panel)
            quiet_grid(axes)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.legend(handles=_legend(colors), loc="outside lower left", ncols=3)
    return figure


def _distance(head: str) -> int:
    """Return how many grades apart the two of a pair such as "0-3" are; 0 for another head."""
    first, _, second = head.partition("-")
    known = first.isdecimal() and second.isdecimal()
    return int(second) - int(first) if known else 0


def _values(heads: Mapping[str, Learned], measure: _Measure) -> list[float]:
    return [
        value
        for learned in heads.values()
        for curve in (measure.on_training, measure.on_validation)
        for value in curve(learned.history).values()
    ]


def _draw(axes: Axes, head: str, learned: Learned, measure: _Measure, color: str) -> EndLabel:
    """Draw a classifier's two curves and its chosen epoch; returns where its name belongs."""
    training = measure.on_training(learned.history)
    validation = measure.on_validation(learned.history)
    few = len(learned.history) < _FEW
    axes.plot(
        list(training),
        list(training.values()),
        color=color,
        linewidth=0.8,
        linestyle=(0, (2.5, 1.5)),
        alpha=0.7,
        marker="." if few else "",
        markersize=3,
    )
    axes.plot(
        list(validation),
        list(validation.values()),
        color=color,
        marker="." if few else "",
        markersize=4,
    )
    if learned.chosen in validation:
        axes.plot(learned.chosen, validation[learned.chosen], "o", color=color, markersize=5.5)
    last = list((validation or training).items())[-1:] or [(1, np.nan)]
    return EndLabel(*last[0], head)


def _legend(colors: Mapping[int, str]) -> list[Line2D]:
    """Say what strokes, dots and colours mean."""
    lines = [
        Line2D([], [], color=INK, label="validation"),
        Line2D(
            [],
            [],
            color=INK,
            linewidth=0.8,
            linestyle=(0, (2.5, 1.5)),
            label="training (augmented, dropout)",
        ),
        Line2D([], [], color=INK, marker="o", linestyle="", label="chosen epoch"),
    ]
    pairs = {distance: color for distance, color in colors.items() if distance}
    if len(pairs) < 2:
        return lines
    return [
        *lines,
        *(
            Line2D([], [], color=color, linewidth=3, label=f"{d} grade{'s' * (d > 1)} apart")
            for d, color in list(pairs.items())[:6]
        ),
    ]
