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
    apply_temperature,
    fit_pair_temperatures,
    fit_temperature,
    fit_weights,
)
from common.prediction.predictions import PairPredictions, same_images
from common.prediction.voting import Grader, combine_models, combine_pairs
from common.result_dir import ResultDir, Run
from common.system.errors import InputError


@dataclass
class ModelResult:
    """One model's class probabilities on the split, and on val if there are any."""

    label: str
    found: PairPredictions
    val: PairPredictions | None
    vote: str
    temperature: float  # of the class probabilities; 1 unless calibrated
    pair_temperatures: np.ndarray | None  # (P,) fitted on val
    grader: Grader
    val_grader: Grader | None


def apply_vote(
    label: str, found: PairPredictions, val: PairPredictions | None, vote: str, calibrate: bool
) -> ModelResult:
    """Turn pair probabilities into class probabilities, with a temperature fitted on val if asked.

    The probabilities of a softmax head need no vote; the coupling gives them back.
    """
    vote = vote if found.head == "ovo" else "coupling"
    temperature, temperatures = 1.0, None
    grader, val_grader = _grade(found, vote), None
    if val is not None:
        val_grader = _grade(val, vote)
        if found.head == "ovo":
            temperatures = fit_pair_temperatures(
                val.pair_probabilities, val.targets, val.num_classes
            )
        if calibrate:
            temperature = fit_temperature(val_grader[0], val.targets)
            grader = apply_temperature(grader[0], temperature), grader[1]
            val_grader = apply_temperature(val_grader[0], temperature), val_grader[1]
    return ModelResult(label, found, val, vote, temperature, temperatures, grader, val_grader)


def _grade(found: PairPredictions, vote: str) -> Grader:
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
    on_val = all(member.val_grader is not None for member in members)
    if on_val:
        scores = [(m.val_grader[1] == m.val.targets).mean() for m in members]
    else:
        scores = [(m.grader[1] == m.found.targets).mean() for m in members]
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
            np.stack([member.val_grader[0] for member in members]), members[0].val.targets
        )
    accuracies = np.array([(m.val_grader[1] == m.val.targets).mean() for m in members])
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
) -> tuple[Grader, float]:
    """Average the models' class probabilities; with `calibrate` at a temperature fitted on val."""
    mixed = combine_models([member.grader[0] for member in members], list(weights))
    temperature = 1.0
    if calibrate:
        on_val = combine_models([member.val_grader[0] for member in members], list(weights))
        temperature = fit_temperature(on_val, members[0].val.targets)
        mixed = apply_temperature(mixed, temperature)
    return (mixed, mixed.argmax(1)), temperature
