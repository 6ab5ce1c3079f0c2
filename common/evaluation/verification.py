"""Compute stored predictions again and measure how far they are from what is stored.

N images, P pairs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.fitting.calibration import apply_temperature
from common.pairs import has_pair_outputs
from common.prediction.predictions import Origin, PairPredictions, parse_predictions
from common.prediction.voting import VOTES, ClassPredictions, combine_models, combine_pairs
from common.result_dir.stored import read_predictions
from common.system.environment import versions
from common.system.errors import InputError
from common.system.log import log

# largest difference of a probability that arithmetic in another order explains, with other
# software or on another processor; on the same CPU it is 0
SAME = 1e-6
TOLERANCES = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}
AS_VOTED = "as voted"  # an ensemble averages its models' classes before their temperatures


@dataclass(frozen=True)
class PredictionsFile:
    """The content of a predictions file, read once, as it is."""

    path: Path
    arrays: dict[str, np.ndarray]
    details: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "PredictionsFile":
        """Read a file; raises InputError for one that holds no predictions."""
        return cls(path, *read_predictions(path))

    @property
    def temperature(self) -> float | None:
        """The temperature of the class probabilities; None for what is no temperature."""
        found = self.details.get("temperature", 1.0)
        good = isinstance(found, int | float) and math.isfinite(found) and found > 0
        return float(found) if good else None

    def tempered(self, probabilities: np.ndarray) -> np.ndarray:
        """Apply the stored temperature, if it is one."""
        if self.temperature in (None, 1.0):
            return probabilities
        return apply_temperature(probabilities, self.temperature)


@dataclass(frozen=True)
class Recomputable:
    """A model whose stored predictions can be computed again."""

    label: str
    path: Path  # of the stored predictions
    predict: Callable[[Origin], PairPredictions]  # anew, in its precision and from its views


@dataclass(frozen=True)
class Verified:
    """How stored predictions compare with new ones."""

    path: Path
    images: int
    largest: float  # difference of a probability
    tolerance: float
    changed: tuple[str, ...]  # what is no longer as it was, such as "checkpoints" or "grades"

    @property
    def holds(self) -> bool:
        """Tell whether the stored predictions can be trusted."""
        return not self.changed and self.largest <= self.tolerance

    def line(self) -> str:
        """Say it in one line."""
        verdict = "PASS" if self.holds else "FAIL"
        what = f"; changed since: {', '.join(self.changed)}" if self.changed else ""
        return (
            f"verify {self.path}: {self.images} images, largest absolute difference of a "
            f"probability {self.largest:.3g}, tolerance {self.tolerance:g}{what}: {verdict}"
        )


def verify(models: Sequence[Recomputable], ensemble: Path) -> bool:
    """Verify stored predictions, and say how it went, line by line.

    ensemble: the file of the models' ensemble, verified if it is there and made of these models.
    Returns whether all hold.
    """
    files, results = [], []
    for model in models:
        file, stored = _read_stored(model.path)
        origin = stored.origin
        known = origin if origin.precision in TOLERANCES else replace(origin, precision="auto")
        again = model.predict(known)
        files.append(file)
        results.append(compare(file, stored, again))
        log(results[-1].line())
    if len(models) > 1 and ensemble.is_file():
        mean = PredictionsFile.read(ensemble)
        if mean.details.get("members") == [model.label for model in models]:
            results.append(compare_ensemble(mean, files))
            log(results[-1].line())
        else:
            log(f"{ensemble} is of other models than these and was not verified")
    return all(result.holds for result in results)


def _read_stored(path: Path) -> tuple[PredictionsFile, PairPredictions]:
    try:
        file = PredictionsFile.read(path)
        return file, parse_predictions(file.arrays, file.details)
    except InputError as error:
        raise InputError(
            f"--verify: expected stored predictions in {path}, found none that can be used "
            f"({error}); run evaluate_ensemble.py without --verify first, with the same --split"
        ) from error


def compare(file: PredictionsFile, stored: PairPredictions, again: PairPredictions) -> Verified:
    """Compare stored predictions with those computed again: of pairs, of classes, the grades."""
    derived = _derive(file, stored)
    differences = (
        _difference(stored.pair_probabilities, again.pair_probabilities),
        _difference(file.arrays.get("class_probabilities"), derived.probabilities),
    )
    precision = stored.origin.precision
    same_ids = np.array_equal(stored.ids, again.ids)
    same = {
        "checkpoints": stored.origin.checkpoints == again.origin.checkpoints,
        "model": (stored.model, stored.head) == (again.model, again.head),
        "class names": list(stored.class_names) == list(again.class_names),
        "classes scored": (stored.scored.names, stored.set_classes)
        == (again.scored.names, again.set_classes),
        "precision": precision in TOLERANCES,
        "images": same_ids,
        "grades": not same_ids or np.array_equal(stored.targets, again.targets),
        "validation accuracies": np.array_equal(stored.pair_accuracies, again.pair_accuracies),
        "vote": not has_pair_outputs(again.head) or file.details.get("vote") in VOTES,
        "temperature": file.temperature is not None,
        "predictions": _equal(file.arrays.get("predictions"), derived.predicted),
    }
    tolerance = TOLERANCES.get(precision, TOLERANCES["fp32"])
    if file.details.get("computed_with") == versions() and again.cost.device == "cpu":
        tolerance = SAME
    return Verified(file.path, len(stored.ids), max(differences), tolerance, _changed(same))


def compare_ensemble(file: PredictionsFile, members: Sequence[PredictionsFile]) -> Verified:
    """Compare an ensemble's stored predictions with the mean of what its members have stored.

    Earlier versions averaged the members' classes at their temperatures.
    """
    arrays, stored = file.arrays, [member.arrays for member in members]
    try:
        averaged = [m["class_probabilities"] for m in stored]
        if file.details.get("averaged") == AS_VOTED:
            averaged = [_voted(m).probabilities for m in members]
        mean = combine_models(averaged, file.details["weights"])
        probabilities = file.tempered(mean.probabilities)
        of_model = file.details.get("of_model", range(probabilities.shape[1]))
        predicted = np.array(list(of_model))[probabilities.argmax(1)]
        same = {
            "images": all(np.array_equal(arrays["ids"], m["ids"]) for m in stored),
            "grades": all(np.array_equal(arrays["targets"], m["targets"]) for m in stored),
            "temperature": file.temperature is not None,
            "predictions": np.array_equal(arrays["predictions"], predicted),
        }
        largest = _difference(arrays["class_probabilities"], probabilities)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{file.path}: expected an ensemble's predictions ({error!r}); run "
            "evaluate_ensemble.py without --verify again"
        ) from error
    return Verified(file.path, len(arrays["ids"]), largest, SAME, _changed(same))


def _changed(same: dict[str, bool]) -> tuple[str, ...]:
    return tuple(name for name, is_same in same.items() if not is_same)


def _equal(stored: np.ndarray | None, again: np.ndarray) -> bool:
    return stored is not None and np.array_equal(stored, again)


def _difference(stored: np.ndarray | None, again: np.ndarray) -> float:
    """Return the largest difference; infinite where these are not numbers of one shape."""
    if stored is None or stored.dtype.kind != "f" or stored.shape != again.shape:
        return math.inf
    largest = float(np.abs(stored - again).max())
    return largest if math.isfinite(largest) else math.inf


def _derive(file: PredictionsFile, stored: PairPredictions) -> ClassPredictions:
    """Derive class probabilities and the chosen classes from the stored pairs again."""
    classes = _voted(file, stored)
    predicted = np.array(stored.of_model)[classes.predicted]
    return ClassPredictions(file.tempered(classes.probabilities), predicted)


def _voted(file: PredictionsFile, stored: PairPredictions | None = None) -> ClassPredictions:
    """Turn the stored pairs into the model's classes by the stored vote."""
    found = stored or parse_predictions(file.arrays, file.details)
    vote = file.details.get("vote")
    return combine_pairs(
        found.pair_probabilities,
        found.num_classes,
        vote if vote in VOTES else "coupling",
        found.pair_accuracies,
    )
