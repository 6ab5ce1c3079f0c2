"""What the classifiers of one model say about a split, as it is stored.

N images, P pairs, K classes.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config import VIEWS
from common.data.class_names import SetClasses, grade_order, quoted
from common.pairs import HEADS, class_pairs
from common.prediction.classes import Classes, require_same_classes, same_classes, scored_classes
from common.prediction.voting import ClassPredictions
from common.result_dir.stored import read_predictions, write_predictions
from common.system.environment import versions
from common.system.errors import InputError
from common.system.log import log


@dataclass(frozen=True)
class Cost:
    """What grading one image costs with all classifiers of a model."""

    parameters: int
    gflops: float  # 10^9 multiplications and additions, of all views
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
    tta: str = "none"  # which views of an image were averaged, one of `config.VIEWS`

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Origin":
        """Read what is stored; raises KeyError, TypeError or ValueError for anything else."""
        data, images, precision = (
            str(content.get(key, "")) for key in ("data", "images", "precision")
        )
        tta = content.get("tta", "none")
        if tta not in VIEWS:
            raise ValueError(f"test-time augmentation {tta!r}")
        return cls(str(content["checkpoints"]), data, images, precision, tta)


@dataclass(frozen=True)
class PairPredictions:
    """What the classifiers of one backbone say about a split."""

    model: str
    head: str
    class_names: list[str]  # (K,) of the model, in grade order
    ids: np.ndarray  # (N,) str
    targets: np.ndarray  # (N,) int, of the classes that are scored
    pair_probabilities: np.ndarray  # (N, P) float64, of the pair's higher class
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch; ones: softmax
    cost: Cost
    origin: Origin
    scored: Classes  # (M,) those that the images are graded in
    set_classes: SetClasses | None = None  # where these are fewer than the model's

    @property
    def num_classes(self) -> int:
        """Count the model's classes."""
        return len(self.class_names)

    @property
    def of_model(self) -> list[int]:
        """Tell which of the scored classes each of the model's is, (K,)."""
        classes = self.set_classes.of_model if self.set_classes else range(self.num_classes)
        return list(classes)


def same_images(first: PairPredictions, other: PairPredictions) -> bool:
    """Tell whether two models were evaluated on the same images with the same grades."""
    known = {p.origin.images for p in (first, other) if p.origin.images}
    return (
        same_classes(first.class_names, other.class_names)
        and same_classes(first.scored.names, other.scored.names)
        and first.set_classes == other.set_classes
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
    """Write predictions of the pairs and of the model's classes.

    vote, temperature: how the latter follow from the former.
    """
    arrays = {
        "ids": predictions.ids,
        "targets": predictions.targets,
        "pairs": np.array(class_pairs(predictions.num_classes)),
        "pair_probabilities": predictions.pair_probabilities,
        "class_probabilities": classes.probabilities,
        "predictions": np.array(predictions.of_model)[classes.predicted],
        "pair_val_accuracies": predictions.pair_accuracies,
    }
    details = {
        "model": predictions.model,
        "class_names": predictions.class_names,
        "scored": asdict(predictions.scored),
        "of_model": predictions.of_model,
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
        log(f"stored predictions are not usable ({error})")
        return None


def parse_predictions(arrays: dict[str, np.ndarray], details: dict[str, Any]) -> PairPredictions:
    """Make predictions of what a file holds; raises InputError for anything else."""
    try:
        class_names = details["class_names"]
        scored, set_classes = _read_classes(class_names, details)
        found = PairPredictions(
            model=details["model"],
            head=details["head"],
            class_names=class_names,
            ids=arrays["ids"],
            targets=arrays["targets"],
            pair_probabilities=arrays["pair_probabilities"],
            pair_accuracies=arrays["pair_val_accuracies"],
            cost=Cost.from_json(details["cost"]),
            origin=Origin.from_json(details["origin"]),
            scored=scored,
            set_classes=set_classes,
        )
        _check(found)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(str(error)) from error
    return found


def _read_classes(
    class_names: list[str], details: dict[str, Any]
) -> tuple[Classes, SetClasses | None]:
    """Read which classes are scored; an earlier file has those of the model, as they are."""
    if not all(isinstance(name, str) for name in class_names):
        raise TypeError(f"class names {class_names}")
    content = details.get("scored")
    if content is None:
        return scored_classes(class_names, "", None), None
    cut, names = content["referable_from"], tuple(map(str, content["names"]))
    if cut is not None and not 0 < int(cut) < len(names):
        raise ValueError(f"referable from class {cut} of {len(names)}")
    texts = str(content["unknown"]), str(content.get("note", ""))
    scored = Classes(names, cut if cut is None else int(cut), *texts)
    of_model = tuple(map(int, details["of_model"]))
    if list(of_model) != sorted(of_model) or set(of_model) != set(range(len(names))):
        raise ValueError(f"classes {of_model}")
    set_classes = SetClasses(names, of_model)
    return scored, set_classes if set_classes.coarser else None


def _check(found: PairPredictions) -> None:
    """Raise ValueError for predictions that fit neither each other nor their meaning."""
    count, pairs = len(found.ids), len(class_pairs(found.num_classes))
    shapes = (found.targets.shape, found.pair_probabilities.shape, found.pair_accuracies.shape)
    if not count or shapes != ((count,), (count, pairs), (pairs,)):
        raise ValueError(f"{count} images, {pairs} pairs, but arrays of {shapes}")
    if len(found.of_model) != found.num_classes or max(found.of_model) + 1 != len(found.scored):
        raise ValueError(f"{found.num_classes} classes, scored as {found.of_model}")
    if list(grade_order(found.class_names)) != list(range(found.num_classes)):
        raise ValueError(f"classes {quoted(found.class_names)} in another order than their grades")
    if not np.isin(found.targets, range(len(found.scored))).all():
        raise ValueError("targets outside the classes")
    if not ((found.pair_probabilities >= 0) & (found.pair_probabilities <= 1)).all():
        raise ValueError("pair probabilities outside 0..1")
    known = found.pair_accuracies[~np.isnan(found.pair_accuracies)]
    if not ((known >= 0) & (known <= 1)).all():
        raise ValueError("validation accuracies outside 0..1")
    if found.head not in HEADS:
        raise ValueError(f"head {found.head}")


def require_same_images(found: list[PairPredictions]) -> None:
    """Raise InputError unless all models were evaluated on the same images and classes."""
    for other in found[1:]:
        first = found[0]
        require_same_classes([(p.model, p.class_names) for p in (first, other)])
        if not same_images(first, other):
            raise InputError(
                f"{first.model} and {other.model} grade different images or classes, "
                f"{quoted(first.scored.names)} and {quoted(other.scored.names)}; evaluate them on "
                "one dataset"
            )
        if first.scored.referable_from != other.scored.referable_from:
            raise InputError(
                f"{first.model} was trained with {first.scored.referable} as referable, "
                f"{other.model} with {other.scored.referable}; pass --referable_from CLASS"
            )
