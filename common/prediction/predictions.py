"""What the classifiers of one model say about a split, as it is stored.

N images, P pairs, K classes.
"""

import math
from dataclasses import asdict, dataclass
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
class Cost:
    """What grading one image costs with all classifiers of a model."""

    parameters: int
    gflops: float  # 10^9 multiplications and additions
    images_per_second: float  # as measured
    device: str  # on which that was

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Cost":
        """Read what is stored; raises KeyError, TypeError or ValueError for anything else."""
        parameters, device = int(content["parameters"]), content["device"]
        gflops, speed = float(content["gflops"]), float(content["images_per_second"])
        if not math.isfinite(gflops) or not math.isfinite(speed) or not isinstance(device, str):
            raise ValueError(f"cost {content}")
        return cls(parameters, gflops, speed, device)


@dataclass(frozen=True)
class Origin:
    """What predictions were made of and how; "" where an earlier file does not say."""

    checkpoints: str  # fingerprint of the classifiers' files
    data: str  # fingerprint of the image files, their times included
    images: str  # fingerprint of the image files' names and sizes
    precision: str

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Origin":
        """Read what is stored; raises KeyError or TypeError for anything else."""
        later = [str(content.get(key, "")) for key in ("data", "images", "precision")]
        return cls(str(content["checkpoints"]), *later)


@dataclass(frozen=True)
class PairPredictions:
    """What the classifiers of one backbone say about a split."""

    model: str
    head: str
    class_names: list[str]
    ids: np.ndarray  # (N,) str
    targets: np.ndarray  # (N,) int
    pair_probabilities: np.ndarray  # (N, P) float64, of the pair's higher class
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch; ones: softmax
    cost: Cost
    origin: Origin

    @property
    def num_classes(self) -> int:
        """Count the classes."""
        return len(self.class_names)


def same_images(first: PairPredictions, other: PairPredictions) -> bool:
    """Tell whether two models were evaluated on the same images with the same grades."""
    known = {p.origin.images for p in (first, other) if p.origin.images}
    return (
        first.num_classes == other.num_classes
        and np.array_equal(first.ids, other.ids)
        and np.array_equal(first.targets, other.targets)
        and len(known) < 2  # names and sizes of the files, where both are known
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
        "cost": asdict(predictions.cost),
        "origin": asdict(predictions.origin),
        "vote": vote,
        "temperature": temperature,
        "computed_with": versions(),
    }
    write_predictions(path, arrays, details)


def load_predictions(path: Path) -> PairPredictions | None:
    """Read stored predictions; None if there are none that can be used."""
    if not path.is_file():
        return None
    try:
        return parse_predictions(*read_predictions(path))
    except InputError as error:
        log(f"{path}: stored predictions are not usable ({error})")
        return None


def parse_predictions(arrays: dict[str, np.ndarray], details: dict[str, Any]) -> PairPredictions:
    """Make predictions of what a file holds; raises InputError for anything else."""
    try:
        found = PairPredictions(
            model=details["model"],
            head=details["head"],
            class_names=details["class_names"],
            ids=arrays["ids"],
            targets=arrays["targets"],
            pair_probabilities=arrays["pair_probabilities"],
            pair_accuracies=arrays["pair_val_accuracies"],
            cost=Cost.from_json(details["cost"]),
            origin=Origin.from_json(details["origin"]),
        )
        _check(found)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(str(error)) from error
    return found


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
    if found.head not in HEADS:
        raise ValueError(f"head {found.head}")


def require_same_images(found: list[PairPredictions]) -> None:
    """Raise InputError unless all models were evaluated on the same images and classes."""
    for other in found[1:]:
        if not same_images(found[0], other):
            raise InputError(
                f"{found[0].model} and {other.model} grade different images or classes; models of "
                "one ensemble need the same classes in the same order (--class_names)"
            )
