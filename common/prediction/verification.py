"""Compute stored predictions again and measure how far they are from what is stored.

N images, P pairs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.prediction.calibration import apply_temperature
from common.prediction.predictions import PairPredictions, load_predictions
from common.prediction.voting import VOTES, ClassPredictions, combine_models, combine_pairs
from common.result_dir import read_predictions
from common.system.environment import versions
from common.system.errors import InputError
from common.system.log import log

# largest difference of a probability that arithmetic in another order explains, with other
# software or on another processor; on the same CPU it is 0
SAME = 1e-6


TOLERANCES = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}


@dataclass(frozen=True)
class Verified:
    """How stored predictions compare with new ones."""

    root: str
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
            f"verify {self.root}: {self.images} images, largest absolute difference of a "
            f"probability {self.largest:.3g}, tolerance {self.tolerance:g}{what}: {verdict}"
        )


def compare(path: Path, stored: PairPredictions, again: PairPredictions) -> Verified:
    """Compare stored predictions with those computed again: of pairs, of classes, the grades."""
    arrays, details = read_predictions(path)
    derived = _derive(stored, details)
    differences = (
        _difference(stored.pair_probabilities, again.pair_probabilities),
        _difference(arrays.get("class_probabilities"), derived.probabilities),
    )
    same_ids = np.array_equal(stored.ids, again.ids)
    names = {
        "checkpoints": stored.origin["checkpoints"] == again.origin["checkpoints"],
        "model": (stored.model, stored.head) == (again.model, again.head),
        "class names": list(stored.class_names) == list(again.class_names),
        "precision": _precision(stored) in TOLERANCES,
        "images": same_ids,
        "grades": not same_ids or np.array_equal(stored.targets, again.targets),
        "validation accuracies": np.array_equal(stored.pair_accuracies, again.pair_accuracies),
        "vote": again.head != "ovo" or details.get("vote") in VOTES,
        "temperature": _temperature(details) is not None,
        "predictions": np.array_equal(arrays.get("predictions"), derived.predicted),
    }
    tolerance = TOLERANCES.get(_precision(stored), TOLERANCES["fp32"])
    if details.get("computed_with") == versions() and again.cost["device"] == "cpu":
        tolerance = SAME
    changed = tuple(name for name, same in names.items() if not same)
    return Verified(str(path), len(stored.ids), max(differences), tolerance, changed)


def compare_ensemble(path: Path, members: list[Path]) -> Verified:
    """Compare an ensemble's stored predictions with the mean of what its members have stored."""
    arrays, details = read_predictions(path)
    stored = [read_predictions(member)[0] for member in members]
    try:
        mean = combine_models([m["class_probabilities"] for m in stored], details["weights"])
        mixed = _tempered(mean.probabilities, details)
        names = {
            "images": all(np.array_equal(arrays["ids"], m["ids"]) for m in stored),
            "grades": all(np.array_equal(arrays["targets"], m["targets"]) for m in stored),
            "temperature": _temperature(details) is not None,
            "predictions": np.array_equal(arrays["predictions"], mixed.argmax(1)),
        }
        largest = _difference(arrays["class_probabilities"], mixed)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{path}: expected an ensemble's predictions ({error!r}); run "
            "evaluate_ensemble.py without --verify again"
        ) from error
    changed = tuple(name for name, same in names.items() if not same)
    return Verified(str(path), len(arrays["ids"]), largest, SAME, changed)


def _difference(stored: np.ndarray | None, again: np.ndarray) -> float:
    """Return the largest difference; infinite where these are not numbers of one shape."""
    if stored is None or stored.dtype.kind != "f" or stored.shape != again.shape:
        return math.inf
    largest = float(np.abs(stored - again).max())
    return largest if math.isfinite(largest) else math.inf


def _precision(stored: PairPredictions) -> str:
    return str(stored.origin.get("precision"))


def _temperature(details: dict[str, Any]) -> float | None:
    """Return the stored temperature; None for what is no temperature."""
    found = details.get("temperature", 1.0)
    good = isinstance(found, int | float) and math.isfinite(found) and found > 0
    return float(found) if good else None


def _tempered(classes: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    temperature = _temperature(details)
    return classes if temperature in (None, 1.0) else apply_temperature(classes, temperature)


def _derive(stored: PairPredictions, details: dict[str, Any]) -> ClassPredictions:
    """Derive class probabilities (N, K) and grades (N,) from stored pair probabilities again."""
    vote = details.get("vote") if details.get("vote") in VOTES else "coupling"
    classes = combine_pairs(
        stored.pair_probabilities, stored.num_classes, vote, stored.pair_accuracies
    )
    return ClassPredictions(_tempered(classes.probabilities, details), classes.predicted)


def verify(
    paths: list[Path],
    again: list[Callable[[str], PairPredictions]],
    names: list[str],
    ensemble: Path,
) -> bool:
    """Verify stored predictions, and say how it went, line by line.

    again: for each file what computes its predictions anew, with a precision; ensemble: the file of
    their ensemble, looked at if it is there and made of models of these names. Returns whether all
    hold.
    """
    results = []
    for path, predict in zip(paths, again):
        stored = load_predictions(path)
        if stored is None:
            raise InputError(
                f"--verify: expected stored predictions in {path}, found none that can be used; "
                "run evaluate_ensemble.py without --verify first, with the same --split"
            )
        precision = _precision(stored)
        new = predict(precision if precision in TOLERANCES else "auto")
        results.append(compare(path, stored, new))
        log(results[-1].line())
    if len(paths) > 1 and ensemble.is_file():
        if read_predictions(ensemble)[1].get("members") == names:
            results.append(compare_ensemble(ensemble, paths))
            log(results[-1].line())
        else:
            log(f"{ensemble} is of other models than these and was not verified")
    return all(result.holds for result in results)
