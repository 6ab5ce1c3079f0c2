"""How all figures look and are written; import this module before any other drawing."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from common.system.files import atomic_write

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a name may hold a dollar sign


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, and free the figure."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
    plt.close(figure)
