"""What an evaluation has fitted on is kept, so that other scripts give the same figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.fitting.ensemble import ModelResult, apply_vote
from common.fitting.images import FittingImages, fitting_images
from common.pairs import class_pairs
from common.prediction.evaluated_models import EvaluatedModel
from common.prediction.predictions import PairPredictions
from common.result_dir.stored import read_predictions, write_predictions
from common.system.errors import InputError
from common.system.log import log

_ARRAYS = ("ids", "targets", "pair_probabilities", "pair_accuracies")


@dataclass(frozen=True)
class Kept:
    """The images that a model's evaluation fitted things on, and whether it calibrated."""

    images: FittingImages | None
    calibrate: bool
    why_not: str = ""  # why there are no images


def save_fitting(path: Path, model: ModelResult, calibrate: bool) -> None:
    """Keep the images that a model's figures are fitted on, or why there are none."""
    details = {
        "checkpoints": model.pairs.origin.checkpoints,
        "judged": model.pairs.origin.images,
        "tta": model.pairs.origin.tta,
        "calibrate": calibrate,
        "why_not": model.why_not,
    }
    if model.fitted is None:
        write_predictions(path, {}, details)
        return
    images = model.fitted.images
    details |= {"name": images.name, "head": images.head, "group": images.group}
    write_predictions(path, {name: getattr(images, name) for name in _ARRAYS}, details)


def load_fitting(path: Path, pairs: PairPredictions) -> Kept | None:
    """Read what `save_fitting` wrote of a model's evaluation; None for anything else."""
    if not path.is_file():
        return None
    try:
        arrays, details = read_predictions(path)
        origin = str(details["checkpoints"]), str(details["judged"]), details.get("tta", "none")
        if origin != (pairs.origin.checkpoints, pairs.origin.images, pairs.origin.tta):
            return None
        why_not, calibrate = str(details["why_not"]), bool(details["calibrate"])
        if not arrays:
            return Kept(None, calibrate, why_not)
        images = FittingImages(
            name=str(details["name"]),
            ids=arrays["ids"],
            targets=arrays["targets"],
            pair_probabilities=arrays["pair_probabilities"],
            pair_accuracies=arrays["pair_accuracies"],
            num_classes=pairs.num_classes,
            head=str(details["head"]),
            group=str(details["group"]),
        )
        _check(images)
    except (InputError, KeyError, TypeError, ValueError) as error:
        log(f"{path}: what is stored of the images for fitting is not usable ({error})")
        return None
    return Kept(images, calibrate, why_not)


def _check(images: FittingImages) -> None:
    """Raise ValueError for images that fit neither each other nor their meaning."""
    count, pairs = len(images.ids), len(class_pairs(images.num_classes))
    shapes = [getattr(images, name).shape for name in _ARRAYS]
    if not count or shapes != [(count,), (count,), (count, pairs), (count, pairs)]:
        raise ValueError(f"{count} images, {pairs} pairs, but arrays of {shapes}")
    if not np.isin(images.targets, range(images.num_classes)).all():
        raise ValueError("targets outside the classes")
    if not ((images.pair_probabilities >= 0) & (images.pair_probabilities <= 1)).all():
        raise ValueError("pair probabilities outside 0..1")


def results_of(found: Sequence[EvaluatedModel], split: str, vote: str) -> list[ModelResult]:
    """Turn stored predictions into classes, calibrated as their evaluation has done it.

    Of an earlier version's evaluation, which does not say what it was fitted on, the predictions on
    val are taken, and probabilities are as the vote gives them.
    """
    results = []
    for model in found:
        kept = load_fitting(model.directory.fitting(split), model.pairs)
        if kept is None:
            val = model.stored_val() if split != "val" else None
            images = fitting_images(val, "val") if val is not None else None
            kept = Kept(images, False, f"evaluate {model.label} again to calibrate it")
        results.append(
            apply_vote(model.label, model.pairs, vote, kept.images, kept.calibrate, kept.why_not)
        )
    return results
