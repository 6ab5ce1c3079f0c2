"""Figures: pictures that show their data, also where a part of it is unknown."""

import cv2
import numpy as np
import pytest
from helpers import GRADES

from common.figures.comparison import plot_bars, plot_cost
from common.figures.matrices import plot_dendrogram, plot_heatmaps
from common.figures.predictions import (
    Reliability,
    RocCurve,
    plot_confusion,
    plot_predictions,
    plot_reliability,
    plot_roc,
)
from common.figures.training import plot_training
from common.metrics.intervals import UNKNOWN, Interval
from common.models.checkpoint import EpochRow, Validation
from common.prediction.voting import ClassPredictions
from common.result_dir import ResultDir

pytestmark = pytest.mark.usefixtures("drawn_figures")


def opened(path):
    return cv2.imread(str(path))


def test_figures_are_pictures_that_show_their_data(tmp_path):
    names = list("01234")
    plot_confusion(np.diag([9, 9, 9, 9, 9]), names, "t", tmp_path / "a.png")
    plot_confusion(np.full((5, 5), 3), names, "t", tmp_path / "b.png")
    curve = RocCurve(np.array([0, 0.2, 1]), np.array([0, 0.9, 1]))
    plot_roc({"grade 0": curve}, "t", tmp_path / "c.png")
    plot_roc({}, "t", tmp_path / "d.png")
    rows = [
        EpochRow("0-1", e, 1 / e, 0.5, Validation(1 / e, 0.5, 0.5, 0.5), 0.1, 9.0, 1.0)
        if e % 2
        else EpochRow("0-1", e, 1 / e, 0.5, None, 0.1, 9.0, 1.0)
        for e in range(1, 5)
    ]
    plot_training({f"pair {i}": rows for i in range(7)}, "t", tmp_path / "e.png")
    images = [opened(tmp_path / f"{name}.png") for name in "abcde"]
    assert all(image.std() > 5 for image in images)
    assert not np.array_equal(images[0], images[1])
    assert (images[2] != 255).sum() > (images[3] != 255).sum()


def test_figures_of_the_analyses_show_their_data(tmp_path):
    entry, unknown = Interval(0.8, 0.7, 0.9), UNKNOWN
    unbounded = Interval(0.5, float("nan"), float("nan"))
    matrix = np.array([[np.nan, 0.2], [0.9, np.nan]])
    reliability = {"m": Reliability(np.array([0.3, 0.95]), np.array([0, 1]))}
    drawn = {
        "a": lambda p: plot_bars({"m": [entry, unknown], "n": [entry, entry]}, ["x", "y"], "t", p),
        "b": lambda p: plot_cost({"m": 1.0, "n": 5.0}, {"m": entry, "n": unbounded}, "t", p),
        "c": lambda p: plot_heatmaps({k: matrix for k in "wxyz"}, ["a", "b"], ["a", "b"], "t", p),
        "d": lambda p: plot_dendrogram(np.array([[0, 0.4], [0.4, 0]]), ["a", "b"], "t", p),
        "e": lambda p: plot_reliability(reliability, "t", p),
    }
    for name, draw in drawn.items():
        draw(tmp_path / f"{name}.png")
        assert opened(tmp_path / f"{name}.png").std() > 5


def test_predictions_are_drawn_as_three_figures(tmp_path):
    targets = np.array([0, 1, 2, 2])  # no image of grades 3 and 4
    scores = np.full((4, 5), 0.1) + 0.5 * np.eye(5)[targets]
    plot_predictions(
        ResultDir(tmp_path),
        "test",
        targets,
        ClassPredictions(scores, scores.argmax(1)),
        GRADES,
        "t",
    )
    found = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert found == ["confusion_test.png", "reliability_test.png", "roc_test.png"]
