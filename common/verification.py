"""Compute stored predictions again and measure how far they are from what is stored.

N images, P pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import artifacts
from common.aggregation import VOTES, aggregate
from common.calibration import apply_temperature
from common.inference import Predictions, load_predictions
from common.runtime import InputError, log, versions

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


def compare(path: Path, stored: Predictions, again: Predictions) -> Verified:
    """Compare stored predictions with those computed again: of pairs, of classes, the grades."""
    arrays, details = artifacts.read_predictions(path)
    same_ids = np.array_equal(stored.ids, again.ids)
    names = {
        "checkpoints": stored.origin["checkpoints"] == again.origin["checkpoints"],
        "images": same_ids,
        "grades": not same_ids or np.array_equal(stored.targets, again.targets),
        "validation accuracies": np.array_equal(stored.pair_accuracies, again.pair_accuracies),
    }
    largest = float("inf")
    if same_ids and stored.pair_probabilities.shape == again.pair_probabilities.shape:
        largest = float(np.abs(stored.pair_probabilities - again.pair_probabilities).max())
    classes, predicted = _derive(stored, details)
    if arrays["class_probabilities"].shape == classes.shape:
        largest = max(largest, float(np.abs(arrays["class_probabilities"] - classes).max()))
    else:
        names["class probabilities"] = False
    names["predictions"] = np.array_equal(arrays["predictions"], predicted)
    tolerance = TOLERANCES.get(str(stored.origin.get("precision")), TOLERANCES["fp32"])
    if details.get("computed_with") == versions() and again.cost["device"] == "cpu":
        tolerance = SAME
    changed = tuple(name for name, same in names.items() if not same)
    return Verified(str(path), len(stored.ids), largest, tolerance, changed)


def _derive(stored: Predictions, details: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Derive class probabilities (N, K) and grades (N,) from stored pair probabilities again."""
    vote = details.get("vote") if details.get("vote") in VOTES else "coupling"
    classes, predicted = aggregate(
        stored.pair_probabilities, stored.num_classes, vote, stored.pair_accuracies
    )
    temperature = details.get("temperature", 1.0)
    if temperature != 1.0:
        classes = apply_temperature(classes, float(temperature))
    return classes, predicted


def verify(paths: list[Path], again: list[Callable[[str], Predictions]]) -> bool:
    """Verify stored predictions, and say how it went, line by line.

    again: for each file what computes its predictions anew, with a precision. Returns whether all
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
        new = predict(str(stored.origin.get("precision", "auto")))
        results.append(compare(path, stored, new))
        log(results[-1].line())
    return all(result.holds for result in results)
