"""Compute stored predictions again and measure how far they are from what is stored.

N images, P pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.artifacts import ResultDir
from common.dataset import Split
from common.inference import Predictions, load_predictions
from common.runtime import InputError, log

# largest difference of a pair's probability that arithmetic in another order or on another
# processor explains; on the same machine it is nearly always 0
TOLERANCES = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}


@dataclass(frozen=True)
class Verified:
    """How stored predictions compare with new ones."""

    root: str
    images: int
    largest: float  # difference of a pair probability
    tolerance: float
    changed: tuple[str, ...]  # what is no longer as it was: "checkpoints", "images", "grades"

    @property
    def holds(self) -> bool:
        """Tell whether the stored predictions can be trusted."""
        return not self.changed and self.largest <= self.tolerance

    def line(self) -> str:
        """Say it in one line."""
        verdict = "PASS" if self.holds else "FAIL"
        what = f"; changed since: {', '.join(self.changed)}" if self.changed else ""
        return (
            f"verify {self.root}: {self.images} images, largest absolute difference of a pair "
            f"probability {self.largest:.3g}, tolerance {self.tolerance:g}{what}: {verdict}"
        )


def compare(root: str, stored: Predictions, again: Predictions) -> Verified:
    """Compare stored predictions with those computed again."""
    same_ids = np.array_equal(stored.ids, again.ids)
    names = {
        "checkpoints": stored.origin["checkpoints"] == again.origin["checkpoints"],
        "images": same_ids,
        "grades": not same_ids or np.array_equal(stored.targets, again.targets),
    }
    shapes = stored.pair_probabilities.shape == again.pair_probabilities.shape
    largest = float("inf")
    if same_ids and shapes:
        largest = float(np.abs(stored.pair_probabilities - again.pair_probabilities).max())
    tolerance = TOLERANCES.get(str(stored.origin.get("precision")), TOLERANCES["fp32"])
    changed = tuple(name for name, same in names.items() if not same)
    return Verified(root, len(stored.ids), largest, tolerance, changed)


def verify(
    directories: list[ResultDir], splits: list[Split],
    predict: Callable[[ResultDir, Split, str], Predictions],
) -> bool:  # fmt: skip
    """Verify each directory's stored predictions on its split, and say how it went, line by line.

    predict: computes them anew with a precision. Returns whether all hold.
    """
    results = []
    for directory, split in zip(directories, splits):
        path = directory.predictions(split.name)
        stored = load_predictions(path)
        if stored is None:
            raise InputError(
                f"--verify: expected stored predictions in {path}, found none that can be used; "
                f"run evaluate_ensemble.py --results_dirs {directory.root} first, with the same "
                "--split"
            )
        again = predict(directory, split, str(stored.origin.get("precision", "auto")))
        results.append(compare(str(directory.root), stored, again))
        log(results[-1].line())
    return all(result.holds for result in results)
