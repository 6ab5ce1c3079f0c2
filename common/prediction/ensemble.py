"""Turn the stored predictions of several models into graders that can be compared.

N images, K classes, M models.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.folders import SPLITS, scan_split
from common.models.backbones import resolve
from common.pairs import with_head
from common.prediction.calibration import (
    WEIGHTS,
    apply_pair_temperatures,
    apply_temperature,
    fit_pair_temperatures,
    fit_temperature,
    fit_weights,
)
from common.prediction.predictions import PairPredictions, same_images
from common.prediction.voting import (
    SKLEARN_VOTE,
    VOTES,
    ClassPredictions,
    combine_models,
    combine_pairs,
)
from common.result_dir import ResultDir, Run
from common.system.errors import InputError

TEMPERED = "coupling, tempered"  # each pair's temperature fitted on val


@dataclass
class ModelResult:
    """One model's class probabilities on the split, and on val if there are any."""

    label: str
    found: PairPredictions
    val: PairPredictions | None
    vote: str
    temperature: float  # of the class probabilities; 1 unless calibrated
    pair_temperatures: np.ndarray | None  # (P,) fitted on val
    classes: ClassPredictions
    val_classes: ClassPredictions | None


def apply_vote(
    label: str, found: PairPredictions, val: PairPredictions | None, vote: str, calibrate: bool
) -> ModelResult:
    """Turn pair probabilities into class probabilities, with a temperature fitted on val if asked.

    The probabilities of a softmax head need no vote; the coupling gives them back.
    """
    vote = vote if found.head == "ovo" else "coupling"
    temperature, temperatures = 1.0, None
    classes, val_classes = _grade(found, vote), None
    if val is not None:
        val_classes = _grade(val, vote)
        if found.head == "ovo":
            temperatures = fit_pair_temperatures(
                val.pair_probabilities, val.targets, val.num_classes
            )
        if calibrate:
            temperature = fit_temperature(val_classes.probabilities, val.targets)
            classes = _tempered(classes, temperature)
            val_classes = _tempered(val_classes, temperature)
    return ModelResult(label, found, val, vote, temperature, temperatures, classes, val_classes)


def combine_by_every_vote(member: ModelResult) -> dict[str, ClassPredictions]:
    """Turn a model's pair probabilities into class probabilities by each vote.

    Where there is val, once more by coupling after each pair's temperature, fitted on val.
    """
    found = member.found
    classes = {name: _grade(found, name) for name in (*VOTES, SKLEARN_VOTE)}
    if member.pair_temperatures is not None:
        pairs = apply_pair_temperatures(found.pair_probabilities, member.pair_temperatures)
        classes[TEMPERED] = combine_pairs(pairs, found.num_classes)
    return classes


def _tempered(classes: ClassPredictions, temperature: float) -> ClassPredictions:
    return ClassPredictions(
        apply_temperature(classes.probabilities, temperature), classes.predicted
    )


def _grade(found: PairPredictions, vote: str) -> ClassPredictions:
    return combine_pairs(found.pair_probabilities, found.num_classes, vote, found.pair_accuracies)


def labels(runs: list[Run], directories: list[ResultDir]) -> list[str]:
    """Name models briefly and differently: by alias, or by directory where two are alike."""
    names = [with_head(resolve(run.model).alias, run.head) for run in runs]
    return [
        name if names.count(name) == 1 else str(directory.root)
        for name, directory in zip(names, directories)
    ]


def output_dir_for(
    directory: ResultDir, run: Run, dataset_path: str, output_dir: Path | None
) -> ResultDir:
    """Return where a model's results on a dataset go: into its own directory, if it is its own.

    Results on another dataset must not take the place of those; they go into `output_dir`. It is
    the model's own at the place where it was trained, or where the training images are the same; of
    the earlier trainer's models, which do not say, where there are training or validation images.
    """
    root, known = Path(dataset_path), run.dataset_path or run.train_fingerprint
    if known:
        own = root.resolve() == Path(run.dataset_path).resolve()
        if not own and (root / "train").is_dir():
            images = scan_split(root, "train", run.num_classes, run.class_names)
            own = images.fingerprint() == run.train_fingerprint
    else:
        own = any((root / name).is_dir() for name in SPLITS[:2])
    if own:
        return directory
    name = "-".join(directory.root.resolve().parts[-2:]).strip("/")
    return ResultDir((output_dir or Path("external_results")) / name)


def best_single(members: list[ModelResult]) -> tuple[int, str]:
    """Choose the best single model by its accuracy on val, else on the split; and say which."""
    on_val = all(member.val_classes is not None for member in members)
    if on_val:
        scores = [m.val_classes.accuracy(m.val.targets) for m in members]
    else:
        scores = [m.classes.accuracy(m.found.targets) for m in members]
    return int(np.argmax(scores)), "chosen on val" if on_val else "chosen on these same images"


def ensemble_weights(choice: list[str], members: list[ModelResult]) -> np.ndarray:
    """Return the weights (M,), sum 1: given numbers, or fitted on val.

    "val_accuracy" weighs by each model's accuracy, "optimized" by `calibration.fit_weights`.
    Raises InputError for a wrong number of weights or where val is needed and missing.
    """
    given = check_weights(choice, len(members))
    if given is not None:
        return given
    if choice[0] == "uniform":
        return np.full(len(members), 1 / len(members))
    require_val(members, f"--weights {choice[0]}")
    if choice[0] == "optimized":
        return fit_weights(
            np.stack([member.val_classes.probabilities for member in members]),
            members[0].val.targets,
        )
    accuracies = np.array([m.val_classes.accuracy(m.val.targets) for m in members])
    return accuracies / accuracies.sum()


def check_weights(choice: list[str], count: int) -> np.ndarray | None:
    """Read weights given as numbers (M,), None for a method; InputError for anything else."""
    if choice[0] in WEIGHTS and len(choice) == 1:
        return None
    try:
        weights = np.array([float(word) for word in choice])
    except ValueError as error:
        raise InputError(
            f"--weights: expected {', '.join(WEIGHTS)} or numbers, found {' '.join(choice)}"
        ) from error
    if len(weights) != count or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise InputError(
            f"--weights: expected {count} numbers >= 0, one per model, found {' '.join(choice)}"
        )
    return weights / weights.sum()


def require_val(members: list[ModelResult], what: str) -> None:
    """Raise InputError unless every model has predictions on the same val images."""
    missing = [member.label for member in members if member.val is None]
    if missing:
        raise InputError(
            f"{what} is fitted on val, and {', '.join(missing)} has no predictions on it; run "
            "evaluate_ensemble.py --split val on the dataset that it was trained on first"
        )
    first = members[0]
    if not all(same_images(first.val, member.val) for member in members):
        raise InputError(
            f"{what}: the models' val predictions are of other images; run evaluate_ensemble.py "
            "--split val on one dataset for all"
        )


def average_models(
    members: list[ModelResult], weights: np.ndarray, calibrate: bool
) -> tuple[ClassPredictions, float]:
    """Average the models' class probabilities; with `calibrate` at a temperature fitted on val."""
    mean = combine_models([m.classes.probabilities for m in members], list(weights))
    temperature = 1.0
    if calibrate:
        on_val = combine_models([m.val_classes.probabilities for m in members], list(weights))
        temperature = fit_temperature(on_val.probabilities, members[0].val.targets)
        mean = _tempered(mean, temperature)
    return mean, temperature
