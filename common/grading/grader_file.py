"""The file of what an evaluation chose, results/grader.json: written whole, checked when read.

P pairs, K classes that are scored, M models.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from common.config import VIEWS
from common.data.class_names import grade_order
from common.fitting.calibration import Temperature
from common.fitting.threshold import ARGMAX, parse_rule
from common.grading.stored_grader import (
    ChosenOn,
    StoredGrader,
    StoredMember,
    StoredPoint,
    StoredReview,
    StoredSets,
)
from common.pairs import HEADS, class_pairs
from common.prediction.classes import Classes
from common.prediction.voting import VOTES, usable_weights
from common.screening.abstention import MEASURES, ReviewThreshold
from common.screening.operating_point import Decision
from common.system.environment import versions
from common.system.errors import InputError
from common.system.files import read_json, write_json

_VERSION = 1


def save_grader(path: Path, grader: StoredGrader) -> None:
    """Write a grader; the models' directories are named as seen from the file."""
    write_json(path, grader_to_dict(grader, path.parent))


def grader_to_dict(grader: StoredGrader, folder: Path) -> dict[str, Any]:
    """Return a grader as it is stored; the models' directories are named as seen from a folder."""
    members = []
    for member in grader.members:
        place = os.path.relpath(member.directory.resolve(), folder.resolve())
        members.append({**vars(member), "directory": place})
    return {
        "version": _VERSION,
        **{name: value for name, value in vars(grader).items() if name != "evaluated"},
        "fingerprint": grader.fingerprint,
        "members": members,
        "chosen_on": vars(grader.chosen_on) | {"images": grader.chosen_on.images},
        "points": [
            {
                "detection": point.detection,
                "definition": point.definition,
                "rule": point.rule,
                "from_class": point.decision.cut,
                "threshold": point.decision.threshold,
                "why_none": point.why_none,
            }
            for point in grader.points
        ],
        "written_with": versions(),
    }


def keep_grader(path: Path, grader: StoredGrader) -> bool:
    """Write a grader, unless it would replace a better one of these models; returns whether it did.

    That is one for which more was chosen, as where the images are evaluated that things are chosen
    on, and that of test, which figures are quoted of, for an evaluation of another split.
    """
    earlier = earlier_grader(path)
    if earlier and earlier.chosen_on.name and _networks(earlier) == _networks(grader):
        of_test = earlier.split == "test" != grader.split
        if of_test or not grader.chosen_on.name:
            return False
    save_grader(path, grader)
    return True


def earlier_grader(path: Path) -> StoredGrader | None:
    """Read what an earlier evaluation stored; None for nothing, another version's or damage."""
    try:
        return load_grader(path) if path.is_file() else None
    except InputError:
        return None


def _networks(grader: StoredGrader) -> list[tuple[str, str]]:
    return sorted((member.checkpoints, member.tta) for member in grader.members)


def load_grader(path: Path) -> StoredGrader:
    """Read a grader; raises InputError for anything else."""
    return grader_from_dict(read_json(path), path.parent, str(path))


def grader_from_dict(content: Any, folder: Path, source: str) -> StoredGrader:
    """Read what `grader_to_dict` returned; raises InputError naming `source` for anything else."""
    try:
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']!r}, this release knows {_VERSION}")
        found = _parse(content, folder)
        _check(found)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{source}: expected what evaluate_ensemble.py stores of a grader ({reason[:200]}); "
            "evaluate the models again"
        ) from error
    return found


def _parse(content: dict[str, Any], folder: Path) -> StoredGrader:
    scored, chosen_on = content["scored"], content["chosen_on"]
    cut = scored["referable_from"]
    names = _texts(scored["names"])
    sets, review, mean = content["sets"], content["review"], content["temperature"]
    return StoredGrader(
        label=_text(content["label"]),
        class_names=_texts(content["class_names"]),
        scored=Classes(
            names,
            None if cut is None else int(cut),
            _text(scored["unknown"]),
            _text(scored["note"]),
        ),
        of_model=tuple(int(k) for k in content["of_model"]),
        members=tuple(_parse_member(member, folder) for member in content["members"]),
        weights=_numbers(content["weights"]),
        weighting=_text(content["weighting"]),
        temperature=None if mean is None else _parse_temperature(mean),
        calibration=_text(content["calibration"]),
        chosen_on=ChosenOn(
            _text(chosen_on["name"]),
            tuple(int(count) for count in chosen_on["images_per_class"]),
            _text(chosen_on["why_none"]),
        ),
        points=tuple(_parse_point(point) for point in content["points"]),
        sets=StoredSets(_numbers(sets["thresholds"]), _text(sets["why_none"])),
        review=StoredReview(
            _text(review["measure"]),
            _text(review["note"]),
            _text(review["why_none"]),
            tuple(_parse_threshold(each) for each in review["thresholds"]),
        ),
        dataset_path=_text(content["dataset_path"]),
        split=_text(content.get("split", "test")),
    )


def _parse_member(content: dict[str, Any], folder: Path) -> StoredMember:
    texts = {name: _text(content[name]) for name in ("label", "checkpoints", "model")}
    choices = {"head": HEADS, "tta": VIEWS, "vote": VOTES}
    for name, known in choices.items():
        if content[name] not in known:
            raise ValueError(f"{name} {content[name]!r}")
    return StoredMember(
        **texts,
        **{name: content[name] for name in choices},
        directory=Path(os.path.normpath(folder / _text(content["directory"]))),
        pair_accuracies=_numbers(content["pair_accuracies"]),
        temperature=_parse_temperature(content["temperature"]),
    )


def _parse_temperature(content: dict[str, Any]) -> Temperature:
    value = float(content["value"])
    if not 0 < value < math.inf:
        raise ValueError(f"temperature {value}")
    counts = int(content["images"]), int(content["mistakes"])
    return Temperature(value, *counts, _text(content["why_not"]))


def _parse_point(content: dict[str, Any]) -> StoredPoint:
    rule, threshold = parse_rule(_text(content["rule"])), content["threshold"]
    value = math.nan if threshold is None else float(threshold)
    why_none = _text(content["why_none"])
    if math.isnan(value) != bool(why_none or rule == ARGMAX):
        raise ValueError(f"threshold {threshold} of {rule}")
    return StoredPoint(
        _text(content["detection"]),
        _text(content["definition"]),
        Decision(str(rule), int(content["from_class"]), value),
        why_none,
    )


def _parse_threshold(content: dict[str, Any]) -> ReviewThreshold:
    value = math.inf if content["value"] is None else float(content["value"])
    return ReviewThreshold(float(content["share"]), value, float(content["where_chosen"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {str(value)[:40]!r}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"expected a list, found {str(values)[:40]!r}")
    return tuple(_text(value) for value in values)


def _numbers(values: Any) -> np.ndarray:
    """Read a list of numbers; NaN for null."""
    return np.array([math.nan if value is None else float(value) for value in values], np.float64)


def _check(grader: StoredGrader) -> None:
    """Raise ValueError for a grader whose parts do not fit each other."""
    classes, scored, members = len(grader.class_names), len(grader.scored), grader.members
    if not 2 <= classes <= 100 or scored < 2 or len(grader.of_model) != classes:
        raise ValueError(f"{classes} classes, scored as {grader.of_model}")
    if list(grader.of_model) != sorted(grader.of_model) or set(grader.of_model) != set(
        range(scored)
    ):
        raise ValueError(f"{scored} scored classes, {grader.of_model}")
    if list(grade_order(grader.class_names)) != list(range(classes)):
        raise ValueError("classes in another order than their grades")
    cuts = [point.decision.cut for point in grader.points]
    cuts += [grader.scored.referable_from] if grader.scored.referable_from is not None else []
    if not all(0 < cut < scored for cut in cuts):
        raise ValueError(f"referred from {cuts}")
    if not members or not usable_weights(grader.weights, len(members)):
        raise ValueError(f"{len(members)} models, weights {grader.weights}")
    if (len(members) > 1) != (grader.temperature is not None):
        raise ValueError(f"{len(members)} models and the temperature {grader.temperature}")
    pairs = len(class_pairs(classes))
    for member in members:
        if member.pair_accuracies.shape != (pairs,):
            raise ValueError(f"{member.pair_accuracies.shape} accuracies of {pairs} pairs")
        if member.vote == "weighted" and not usable_weights(member.pair_accuracies, pairs):
            raise ValueError("a weighted vote without weights")
    if grader.sets.thresholds.shape != (scored,):
        raise ValueError(f"thresholds {grader.sets.thresholds} of {scored} classes")
    review = grader.review
    needed = {"disagreement": len(members) > 1, "cycles": any(m.head != "softmax" for m in members)}
    if review.thresholds and (
        review.measure not in MEASURES or not needed.get(review.measure, True)
    ):
        raise ValueError(f"uncertainty {review.measure!r}")
