"""Draw how classifiers learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from common.figures.style import save_figure
from common.models.checkpoint import EpochRow

_COLUMNS = 5  # classifiers beside each other


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
