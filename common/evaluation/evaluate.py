"""Measure class predictions: metrics with intervals, what is undefined, the confusion matrix.

N images, K classes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.metrics.bounds import metrics_with_intervals
from common.metrics.classification import REFERABLE
from common.metrics.intervals import BootstrapConfig, Metrics
from common.metrics.shares import confusion_matrix
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions


@dataclass(frozen=True)
class Evaluation:
    """How good class predictions are, and on how many images that was measured."""

    images_per_grade: list[int]  # (K,)
    metrics: Metrics
    undefined: dict[str, str]  # metric: why it has no value
    confusion_matrix: list[list[int]]  # (K, K), rows are true grades
    bootstrap: BootstrapConfig
    classes: Classes  # (K,)

    @property
    def images(self) -> int:
        """Count the images."""
        return sum(self.images_per_grade)

    @property
    def units(self) -> str:
        """Say what the intervals take as independent, such as "80 images" or "40 patients"."""
        return self.bootstrap.units(self.images)

    @property
    def resampled(self) -> str:
        """Say what the intervals take as independent, and what tells what belongs together."""
        return self.bootstrap.resampled(self.images)

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {
            "images": self.images,
            "images_per_grade": self.images_per_grade,
            "scored_classes": self.classes.names,
            "referable": self.classes.referable,
            "metrics": self.metrics,
            "undefined": self.undefined,
            "confusion_matrix": self.confusion_matrix,
            "bootstrap": {
                "resamples": self.bootstrap.resamples,
                "seed": self.bootstrap.seed,
                "interval": 0.95,
                "units": self.units,
                "patients": self.bootstrap.evidence,
            },
        }


def evaluate(
    targets: np.ndarray, predictions: ClassPredictions, bootstrap: BootstrapConfig, classes: Classes
) -> Evaluation:
    """Measure predictions of classes against targets (N,)."""
    num_classes = predictions.probabilities.shape[1]
    matrix = confusion_matrix(targets, predictions.predicted, num_classes)
    metrics = metrics_with_intervals(targets, predictions, bootstrap, classes.referable_from)
    values = {name: found.value for name, found in metrics.items()}
    return Evaluation(
        images_per_grade=matrix.sum(1).astype(int).tolist(),
        metrics=metrics,
        undefined=undefined_reasons(values, matrix, classes),
        confusion_matrix=matrix.astype(int).tolist(),
        bootstrap=bootstrap,
        classes=classes,
    )


def undefined_reasons(
    values: dict[str, float], matrix: np.ndarray, classes: Classes
) -> dict[str, str]:
    """Say for each metric that is NaN why; matrix (K, K) is the confusion matrix."""
    counts = matrix.sum(1)
    absent = {str(k): classes.titles[k] for k in np.flatnonzero(counts == 0)}
    silent = [classes.titles[k] for k in np.flatnonzero((matrix.sum(0) == 0) & (counts > 0))]
    reasons = {}
    for name in (name for name, value in values.items() if math.isnan(value)):
        place = name.rsplit("_", 1)[-1]
        if name in REFERABLE and classes.referable_from is None:
            reasons[name] = f"what is referable is {classes.referable}"
        elif name in REFERABLE:
            reasons[name] = (
                f"it needs images that are referable, {classes.referable}, and others that are not"
            )
        elif place in absent:
            reasons[name] = f"there is no image of {absent[place]}"
        elif name == "squared_ece":
            reasons[name] = "no two images have about the same confidence"
        elif "precision" in name:
            verb = "was" if len(silent) == 1 else "were"
            reasons[name] = f"{', '.join(silent)} {verb} never predicted"
        elif len(absent) == len(counts) - 1:
            reasons[name] = f"the images are all of one {classes.word}"
        else:
            reasons[name] = "it is not defined on these images"
    return reasons
