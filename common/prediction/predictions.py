"""What the classifiers of one model say about a split, as it is stored.

N images, P pairs, K classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.pairs import HEADS, class_pairs
from common.prediction.voting import ClassPredictions
from common.result_dir import read_predictions, write_predictions
from common.system.environment import versions
from common.system.errors import InputError
from common.system.log import log


@dataclass(frozen=True)
class PairPredictions:
    """What the ten classifiers of one backbone say about a split."""

    model: str
    head: str
    class_names: list[str]
    ids: np.ndarray  # (N,) str
    targets: np.ndarray  # (N,) int
    pair_probabilities: np.ndarray  # (N, P) float64, of the pair's higher class
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch; ones: softmax
    cost: dict[str, Any]  # parameters, gflops per image, images_per_second as measured, device
    origin: dict[str, str]  # fingerprints of the checkpoints and the images, precision

    @property
    def num_classes(self) -> int:
        """Count the classes."""
        return len(self.class_names)


def same_images(first: PairPredictions, other: PairPredictions) -> bool:
    """Tell whether two models were evaluated on the same images with the same grades."""
    return (
        first.num_classes == other.num_classes
        and np.array_equal(first.ids, other.ids)
        and np.array_equal(first.targets, other.targets)
        # names and sizes of the files, where both are known
        and len({p.origin["images"] for p in (first, other) if "images" in p.origin}) < 2
    )


def save_predictions(
    path: Path,
    predictions: PairPredictions,
    classes: ClassPredictions,
    vote: str,
    temperature: float = 1.0,
) -> None:
    """Write predictions of the pairs and of the classes.

    vote, temperature: how the latter follow from the former.
    """
    arrays = {
        "ids": predictions.ids,
        "targets": predictions.targets,
        "pairs": np.array(class_pairs(predictions.num_classes)),
        "pair_probabilities": predictions.pair_probabilities,
        "class_probabilities": classes.probabilities,
        "predictions": classes.predicted,
        "pair_val_accuracies": predictions.pair_accuracies,
    }
    details = {
        "model": predictions.model,
        "class_names": predictions.class_names,
        "head": predictions.head,
        "cost": predictions.cost,
        "origin": predictions.origin,
        "vote": vote,
        "temperature": temperature,
        "computed_with": versions(),
    }
    write_predictions(path, arrays, details)


def load_predictions(path: Path, origin: dict[str, str] | None = None) -> PairPredictions | None:
    """Read stored predictions; None if there are none, or not those of `origin`."""
    if not path.is_file():
        return None
    try:
        arrays, details = read_predictions(path)
        if origin not in (None, details["origin"]):
            return None
        found = PairPredictions(
            model=details["model"],
            head=details["head"],
            class_names=details["class_names"],
            ids=arrays["ids"],
            targets=arrays["targets"],
            pair_probabilities=arrays["pair_probabilities"],
            pair_accuracies=arrays["pair_val_accuracies"],
            cost=details["cost"],
            origin=details["origin"],
        )
        _check(found)
        return found
    except (InputError, KeyError, TypeError, AttributeError, ValueError) as error:
        log(f"{path}: stored predictions are not usable ({error})")
        return None


def _check(found: PairPredictions) -> None:
    """Raise ValueError for predictions that fit neither each other nor their meaning."""
    count, pairs = len(found.ids), len(class_pairs(found.num_classes))
    shapes = (found.targets.shape, found.pair_probabilities.shape, found.pair_accuracies.shape)
    if not count or shapes != ((count,), (count, pairs), (pairs,)):
        raise ValueError(f"{count} images, {pairs} pairs, but arrays of {shapes}")
    if not np.isin(found.targets, range(found.num_classes)).all():
        raise ValueError("targets outside the classes")
    if not ((found.pair_probabilities >= 0) & (found.pair_probabilities <= 1)).all():
        raise ValueError("pair probabilities outside 0..1")
    costs = [float(found.cost[key]) for key in ("parameters", "gflops", "images_per_second")]
    if not np.isfinite(costs).all() or not isinstance(found.cost["device"], str):
        raise ValueError(f"cost {found.cost}")
    if found.head not in HEADS or "checkpoints" not in found.origin:
        raise ValueError("no head or no origin")


def require_same_images(found: list[PairPredictions]) -> None:
    """Raise InputError unless all models were evaluated on the same images and classes."""
    for other in found[1:]:
        if not same_images(found[0], other):
            raise InputError(
                f"{found[0].model} and {other.model} grade different images or classes; models of "
                "one ensemble need the same classes in the same order (--class_names)"
            )
