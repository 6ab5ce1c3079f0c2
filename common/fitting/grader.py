"""What one grader, a model or an ensemble, says of graded images; all questions are asked of it.

N images, K classes that are scored, L models of the grader.
"""

from dataclasses import dataclass

import numpy as np

from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions


@dataclass(frozen=True)
class Sample:
    """Graded images and what a grader says of them."""

    name: str  # "test", "val", "cal", or "val of every fold"
    ids: np.ndarray  # (N,) str
    targets: np.ndarray  # (N,) int
    classes: ClassPredictions  # (N, K) probabilities, calibrated where that was asked for
    members: np.ndarray  # (L, N, K) the same of each model; (1, N, K) of a single one
    cycles: np.ndarray | None = None  # (N,) how often pairs contradict each other, over the models
    groups: np.ndarray | None = None  # (N,) patients; None: nothing tells which images share one


@dataclass(frozen=True)
class Grader:
    """A model or an ensemble as it is judged."""

    label: str
    scored: Classes
    judged_on: Sample  # the split that was asked for; nothing is chosen on it
    chosen_on: Sample | None  # where thresholds and the like are chosen: cal, val or val of folds
    why_nothing_is_chosen: str  # where chosen_on is None
    bootstrap: BootstrapConfig  # of judged_on; its groups are the patients there
