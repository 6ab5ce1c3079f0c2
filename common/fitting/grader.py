"""What one grader, a model or an ensemble, says of graded images; all questions are asked of it.

N images, K classes that are scored, L models of the grader.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.fitting.ensemble import Ensemble, ModelResult, ValResult, common_val
from common.metrics.agreement import count_cycles
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import Classes, sum_up
from common.prediction.predictions import PairPredictions
from common.prediction.voting import ClassPredictions

PatientsOf = Callable[[Sequence[str]], np.ndarray | None]  # image ids -> groups, None: not known


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


def model_grader(
    model: ModelResult, split: str, bootstrap: BootstrapConfig, patients_of: PatientsOf
) -> Grader:
    """Make a grader of one model; bootstrap: of the images that it is judged on."""
    vals = common_val([model])
    on_val = vals[0].classes if vals else None
    return _grader(model.label, [model], model.classes, on_val, split, bootstrap, patients_of)


def ensemble_grader(
    label: str,
    ensemble: Ensemble,
    models: Sequence[ModelResult],
    split: str,
    bootstrap: BootstrapConfig,
    patients_of: PatientsOf,
) -> Grader:
    """Make a grader of the final mean of an ensemble; models: those that it is the mean of."""
    return _grader(label, models, ensemble.classes, ensemble.on_val, split, bootstrap, patients_of)


def _grader(
    label: str,
    models: Sequence[ModelResult],
    classes: ClassPredictions,
    on_val: ClassPredictions | None,
    split: str,
    bootstrap: BootstrapConfig,
    patients_of: PatientsOf,
) -> Grader:
    first = models[0].pairs
    judged_on = Sample(
        name=split,
        ids=first.ids,
        targets=first.targets,
        classes=classes,
        members=np.stack([model.classes.probabilities for model in models]),
        cycles=_cycles([model.pairs for model in models]),
        groups=bootstrap.groups,
    )
    chosen_on, why_not = None, "no images to choose on (val or cal)"
    if split == "val":
        why_not = "val is judged here, and nothing is chosen on what is judged"
    elif on_val is not None:
        chosen_on, why_not = _chosen_on(models[0], common_val(models), on_val, patients_of), ""
    return Grader(label, first.scored, judged_on, chosen_on, why_not, bootstrap)


def _chosen_on(
    model: ModelResult, vals: Sequence[ValResult], on_val: ClassPredictions, patients_of: PatientsOf
) -> Sample:
    """Say what a grader says of val, in the classes that are scored."""
    pairs, found = model.pairs, vals[0].pairs
    return Sample(
        name="val",
        ids=found.ids,
        targets=np.array(pairs.of_model)[found.targets],
        classes=sum_up(on_val, pairs.set_classes),
        members=np.stack([sum_up(v.classes, pairs.set_classes).probabilities for v in vals]),
        cycles=_cycles([val.pairs for val in vals]),
        groups=patients_of(found.ids.tolist()),
    )


def _cycles(models: Sequence[PairPredictions]) -> np.ndarray | None:
    """Count (N,) over all models how often their pairs contradict each other; None without any."""
    found = [count_cycles(p.pair_probabilities, p.num_classes) for p in models if p.head == "ovo"]
    return np.sum(found, axis=0) if found else None
