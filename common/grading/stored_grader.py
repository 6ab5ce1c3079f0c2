"""What an evaluation chose, kept with the model, and new pictures graded by it.

Everything that is needed beside the networks is in one file, `results/grader.json`: how the pairs'
probabilities become a grade, who is referred, which grades are plausible, what is too uncertain.

N pictures, P pairs, K classes that are scored, M models.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.config import VIEWS
from common.data.class_names import SetClasses, grade_order
from common.fitting.calibration import Temperature
from common.fitting.ensemble import Ensemble, GradingRule, MemberRule, ModelResult, grade_again
from common.fitting.grader import Grader, Sample, cycles_of
from common.fitting.threshold import ARGMAX, Rule, parse_rule
from common.pairs import HEADS, class_pairs
from common.prediction.classes import Classes
from common.prediction.voting import VOTES, ClassPredictions, usable_weights
from common.screening.abstention import (
    MEASURES,
    ReviewThreshold,
    choose_review,
    why_no_threshold,
)
from common.screening.conformal import choose_thresholds, make_sets, never_ruled_out
from common.screening.operating_point import Decision, choose, cuts_of, score_of
from common.system.environment import versions
from common.system.errors import InputError
from common.system.files import read_json, write_json

_VERSION = 1
NOT_EVALUATED = "it was not evaluated"


@dataclass(frozen=True)
class StoredMember:
    """A model as it was evaluated."""

    label: str
    directory: Path  # its result directory
    checkpoints: str  # fingerprint of its classifiers' files
    model: str
    head: str
    tta: str  # which views of a picture are averaged, one of `config.VIEWS`
    vote: str
    pair_accuracies: np.ndarray  # (P,) weights of the weighted vote; NaN where not known
    temperature: Temperature  # of the model alone


@dataclass(frozen=True)
class ChosenOn:
    """The images that everything was chosen on."""

    name: str  # "val", "cal", "val of 5 folds, out of fold"; "" for none
    images_per_class: tuple[int, ...] = ()  # (K,)
    why_none: str = ""

    @property
    def images(self) -> int:
        """Count the images."""
        return sum(self.images_per_class)


@dataclass(frozen=True)
class StoredPoint:
    """An operating point that was chosen."""

    detection: str  # what is found: "referable" or "vision-threatening"
    definition: str  # such as "grade 2 or worse"
    decision: Decision
    why_none: str = ""  # why the rule has no threshold

    @property
    def rule(self) -> str:
        """The rule that it was chosen by, as on the command line."""
        return self.decision.rule


@dataclass(frozen=True)
class StoredReview:
    """From which uncertainty on a picture is one for a physician."""

    measure: str = ""  # of `abstention.MEASURES`; "": none was chosen
    note: str = ""  # on what little the choice rests
    why_none: str = ""
    thresholds: tuple[ReviewThreshold, ...] = ()


@dataclass(frozen=True)
class StoredSets:
    """The least probability with which each class is in a conformal set."""

    thresholds: np.ndarray  # (K,) NaN: too few images of it, so it is in every set
    why_none: str = ""  # why no class has one


@dataclass(frozen=True)
class StoredGrader:
    """A model, or an ensemble of several, with all that was chosen for it."""

    label: str
    class_names: tuple[str, ...]  # of the models, in grade order
    scored: Classes  # (K,) as pictures are graded, and which are referable
    of_model: tuple[int, ...]  # which of the scored classes each of the models' is
    members: tuple[StoredMember, ...]
    weights: np.ndarray  # (M,) sum 1
    weighting: str  # how they were chosen
    temperature: Temperature | None  # of the ensemble's mean; None: a single model
    calibration: str  # in words: which temperature, fitted on what, or why none
    chosen_on: ChosenOn
    points: tuple[StoredPoint, ...]  # of each detection and rule; the argmax is among them
    sets: StoredSets
    review: StoredReview
    dataset_path: str = ""  # of the evaluation
    evaluated: bool = True  # False: made for models that were not evaluated (together)

    @property
    def fingerprint(self) -> str:
        """Name the networks: of a model its checkpoints', of an ensemble that of all of them."""
        found = [member.checkpoints for member in self.members]
        return (
            found[0]
            if len(found) == 1
            else hashlib.sha256("".join(found).encode()).hexdigest()[:16]
        )

    @property
    def rule(self) -> GradingRule:
        """How what the models say of a picture becomes a grade."""
        set_classes = SetClasses(self.scored.names, self.of_model)
        return GradingRule(
            tuple(MemberRule(m.vote, m.pair_accuracies, m.temperature) for m in self.members),
            len(self.class_names),
            set_classes if set_classes.coarser else None,
            self.weights,
            self.temperature,
        )

    @property
    def calibration_text(self) -> str:
        """Say which temperature is applied and what it was fitted on, or why none is."""
        return f"temperature {self.calibration}" if self.calibration else "no temperature"

    @property
    def never_ruled_out(self) -> list[str]:
        """Say of which classes too little is known to leave them out of a set."""
        on = self.chosen_on
        return never_ruled_out(
            self.scored.titles, on.images_per_class, self.sets.thresholds, on.name
        )

    def why_not_unsure(self, threshold: ReviewThreshold | None) -> str:
        """Say why no picture can be too uncertain at a threshold; "" where one can.

        None: that of no share at all.
        """
        if threshold is None:
            return self.review.why_none
        if math.isfinite(threshold.value):
            return ""
        on = self.chosen_on
        return f"no threshold: {why_no_threshold(threshold.share, on.images, on.name)}"

    def points_of(self, rule: Rule) -> list[StoredPoint]:
        """Return the operating points of a rule, one for each detection; empty if not chosen."""
        return [point for point in self.points if point.rule == str(rule)]


@dataclass(frozen=True)
class Graded:
    """All that a grader says of pictures."""

    classes: ClassPredictions  # (N, K)
    members: np.ndarray  # (M, N, K) probabilities of each model alone
    scores: dict[str, np.ndarray]  # detection: (N,) its probability; empty where nothing is known
    referred: tuple[np.ndarray | None, ...]  # (N,) bool for each of the grader's `points`
    uncertainty: dict[str, np.ndarray]  # measure: (N,); without those that the grader cannot give
    sets: np.ndarray | None  # (N, K) bool; None: none were calibrated
    unsure: tuple[np.ndarray, ...]  # (N,) bool for each of the grader's `review.thresholds`


def grade(grader: StoredGrader, pair_probabilities: Sequence[np.ndarray]) -> Graded:
    """Grade pictures as the evaluation would, to the last bit, whatever the pictures beside them.

    pair_probabilities: (N, P) of each model, in the order of `members` and of grades.
    """
    found = grade_again(grader.rule, pair_probabilities)
    pairs = [(m.head, p) for m, p in zip(grader.members, pair_probabilities, strict=True)]
    count = len(found.classes.predicted)
    sample = Sample(
        name="new pictures",
        ids=np.arange(count).astype(np.str_),
        targets=np.full(count, -1),  # nobody has graded them
        classes=found.classes,
        members=found.members,
        cycles=cycles_of(pairs, len(grader.class_names)),
    )
    measured = {name: measure(sample) for name, (measure, _) in MEASURES.items()}
    uncertainty = {name: values for name, values in measured.items() if values is not None}
    sets = grader.sets
    return Graded(
        found.classes,
        found.members,
        {name: score_of(sample, cut) for name, cut in cuts_of(grader.scored).items()},
        tuple(
            None if point.why_none else point.decision.refers(found.classes)
            for point in grader.points
        ),
        uncertainty,
        None if sets.why_none else make_sets(found.classes, sets.thresholds),
        tuple(
            uncertainty[grader.review.measure] >= each.value for each in grader.review.thresholds
        ),
    )


# -- what an evaluation chose ------------------------------------------------------------------


def grader_to_store(
    grader: Grader,
    models: Sequence[ModelResult],
    directories: Sequence[Path],
    ensemble: Ensemble | None,
    rules: Sequence[Rule],
    dataset_path: str,
) -> StoredGrader:
    """Gather all that was chosen for a model, or for an ensemble of several.

    directories: the models' result directories. rules: of operating points, beside the argmax.
    """
    first, chosen = models[0].pairs, grader.chosen_on
    chosen_on = ChosenOn("", why_none=grader.why_nothing_is_chosen)
    if chosen is not None:
        counts = np.bincount(chosen.targets, minlength=len(grader.scored))
        chosen_on = ChosenOn(chosen.name, tuple(counts.tolist()))
    return StoredGrader(
        label=grader.label,
        class_names=tuple(first.class_names),
        scored=grader.scored,
        of_model=tuple(first.of_model),
        members=tuple(_member(m, d) for m, d in zip(models, directories, strict=True)),
        weights=np.ones(1) if ensemble is None else ensemble.weights,
        weighting="" if ensemble is None else ensemble.weighting,
        temperature=None if ensemble is None else ensemble.temperature,
        calibration=models[0].calibration if ensemble is None else ensemble.calibration,
        chosen_on=chosen_on,
        points=_points(grader, rules),
        sets=_sets(grader),
        review=_review(grader),
        dataset_path=dataset_path,
    )


def _member(result: ModelResult, directory: Path) -> StoredMember:
    pairs = result.pairs
    return StoredMember(
        label=result.label,
        directory=directory,
        checkpoints=pairs.origin.checkpoints,
        model=pairs.model,
        head=pairs.head,
        tta=pairs.origin.tta,
        vote=result.vote,
        pair_accuracies=pairs.pair_accuracies,
        temperature=result.temperature,
    )


def _points(grader: Grader, rules: Sequence[Rule]) -> tuple[StoredPoint, ...]:
    points = []
    for name, cut in cuts_of(grader.scored).items():
        for rule in dict.fromkeys((ARGMAX, *rules)):
            found = choose(grader, cut, rule)
            decision = Decision(str(rule), cut, found.value)
            definition = grader.scored.from_on(cut)
            points.append(StoredPoint(name, definition, decision, found.why_none))
    return tuple(points)


def _sets(grader: Grader) -> StoredSets:
    found = choose_thresholds(grader)
    if isinstance(found, str):
        return StoredSets(np.full(len(grader.scored), math.nan), found)
    return StoredSets(found)


def _review(grader: Grader) -> StoredReview:
    found = choose_review(grader)
    if isinstance(found, str):
        return StoredReview(why_none=found)
    return StoredReview(found.measure, found.note, "", tuple(found.thresholds))


def unevaluated(members: Sequence[StoredMember], scored: Classes, why: str) -> StoredGrader:
    """Grade with models that were not evaluated (together): equal weights, nothing is chosen.

    Without the models' temperatures, too. why: nothing is known, such as `NOT_EVALUATED`.
    """
    several, names = len(members) > 1, scored.names
    plain = Temperature(why_not=why)
    none = f"no threshold: {why}"
    points = [
        StoredPoint(name, scored.from_on(cut), Decision(str(ARGMAX), cut, math.nan))
        for name, cut in cuts_of(scored).items()
    ]
    return StoredGrader(
        label=f"ensemble of {len(members)} models" if several else members[0].label,
        class_names=names,
        scored=scored,
        of_model=tuple(range(len(names))),
        members=tuple(replace(member, temperature=plain) for member in members),
        weights=np.full(len(members), 1 / len(members)),
        weighting=f"equal: {why}" if several else "",
        temperature=plain if several else None,
        calibration=plain.describe(""),
        chosen_on=ChosenOn("", why_none=why),
        points=tuple(points),
        sets=StoredSets(np.full(len(names), math.nan), none),
        review=StoredReview(why_none=none),
        evaluated=False,
    )


# -- the file ----------------------------------------------------------------------------------


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
    """Write a grader, unless it would replace one of these models for which more was chosen.

    So it is where the images are evaluated that things are chosen on. Returns whether it did.
    """
    earlier = None if grader.chosen_on.name else earlier_grader(path)
    if earlier and earlier.chosen_on.name and _networks(earlier) == _networks(grader):
        return False
    save_grader(path, grader)
    return True


def earlier_grader(path: Path) -> StoredGrader | None:
    """Read what an earlier evaluation stored; None for nothing, another version's or damage."""
    try:
        return load_grader(path) if path.is_file() else None
    except InputError:
        return None


def rules_of(grader: StoredGrader) -> list[Rule]:
    """List the rules that operating points were asked for by, without the argmax."""
    found = dict.fromkeys(parse_rule(point.rule) for point in grader.points)
    return [rule for rule in found if rule != ARGMAX]


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
