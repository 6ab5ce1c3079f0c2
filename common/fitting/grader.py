"""What one grader, a model or an ensemble, says of graded images; all questions are asked of it.

N images, K classes that are scored, L models of the grader.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.fitting.ensemble import (
    Ensemble,
    Fitted,
    ModelResult,
    shared_fitted,
    why_not_fitted,
)
from common.metrics.agreement import count_cycles
from common.metrics.intervals import BootstrapConfig
from common.pairs import has_pair_outputs
from common.prediction.classes import Classes, sum_up
from common.prediction.predictions import PairPredictions
from common.prediction.voting import ClassPredictions

PatientsOf = Callable[[Sequence[str]], np.ndarray | None]  # image ids -> groups, None: not known


@dataclass(frozen=True)
class Sample:
    """Graded images and what a grader says of them."""

    name: str  # "test", "val", "cal", or "val of 5 folds, out of fold"
    ids: np.ndarray  # (N,) str
    targets: np.ndarray  # (N,) int
    classes: ClassPredictions  # (N, K) probabilities, calibrated where that was asked for
    members: np.ndarray  # (L, N, K) the same of each model; those of folds are one in chosen_on
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


def model_grader(
    model: ModelResult, split: str, bootstrap: BootstrapConfig, patients_of: PatientsOf
) -> Grader:
    """Make a grader of one model; bootstrap: of the images that it is judged on."""
    fitted = model.fitted.classes if model.fitted is not None else None
    return _grader(model.label, [model], model.classes, fitted, split, bootstrap, patients_of)


def ensemble_grader(
    label: str,
    ensemble: Ensemble,
    models: Sequence[ModelResult],
    split: str,
    bootstrap: BootstrapConfig,
    patients_of: PatientsOf,
) -> Grader:
    """Make a grader of the final mean of an ensemble; models: those that it is the mean of."""
    return _grader(label, models, ensemble.classes, ensemble.fitted, split, bootstrap, patients_of)


def _grader(
    label: str,
    models: Sequence[ModelResult],
    classes: ClassPredictions,
    fitted: ClassPredictions | None,
    split: str,
    bootstrap: BootstrapConfig,
    patients_of: PatientsOf,
) -> Grader:
    first = models[0].pairs
    pairs = [(m.pairs.head, m.pairs.pair_probabilities) for m in models]
    judged_on = Sample(
        name=split,
        ids=first.ids,
        targets=first.targets,
        classes=classes,
        members=np.stack([model.classes.probabilities for model in models]),
        cycles=cycles_of(pairs, first.num_classes),
        groups=bootstrap.groups,
    )
    chosen_on = None
    if fitted is not None:
        chosen_on = _chosen_on(first, shared_fitted(models), fitted, patients_of)
    why_not = "" if chosen_on else why_not_fitted(models)
    return Grader(label, first.scored, judged_on, chosen_on, why_not, bootstrap)


def _chosen_on(
    pairs: PairPredictions,
    members: Sequence[Fitted],
    fitted: ClassPredictions,
    patients_of: PatientsOf,
) -> Sample:
    """Say what a grader says of the images for fitting, in the classes that are scored.

    The models of one dataset's folds count as one: each image has the answer of one of them.
    """
    own = {each.images.group or str(place): each for place, each in enumerate(members)}
    images, different = members[0].images, list(own.values())
    return Sample(
        name=images.name,
        ids=images.ids,
        targets=np.array(pairs.of_model)[images.targets],
        classes=sum_up(fitted, pairs.set_classes),
        members=np.stack([sum_up(m.classes, pairs.set_classes).probabilities for m in different]),
        cycles=cycles_of(
            [(m.images.head, m.images.pair_probabilities) for m in members], images.num_classes
        ),
        groups=patients_of(images.ids.tolist()),
    )


def cycles_of(models: Sequence[tuple[str, np.ndarray]], num_classes: int) -> np.ndarray | None:
    """Count (N,) over all models how often their pairs contradict each other; None without any.

    models: each one's head and pair probabilities (N, P).
    """
    found = [count_cycles(pairs, num_classes) for head, pairs in models if has_pair_outputs(head)]
    return np.sum(found, axis=0) if found else None
