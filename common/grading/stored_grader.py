"""What an evaluation chose, kept with the model, and new pictures graded by it.

Everything that is needed beside the networks is in one file, `results/grader.json`: how the pairs'
probabilities become a grade, who is referred, which grades are plausible, what is too uncertain.

N pictures, P pairs, K classes that are scored, M models.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.data.class_names import SetClasses
from common.fitting.calibration import Temperature
from common.fitting.ensemble import Ensemble, GradingRule, MemberRule, ModelResult, grade_again
from common.fitting.grader import Grader, Sample, cycles_of
from common.fitting.threshold import ARGMAX, Rule, parse_rule
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions
from common.screening.abstention import (
    MEASURES,
    ReviewThreshold,
    choose_review,
    why_no_threshold,
)
from common.screening.conformal import choose_thresholds, make_sets, never_ruled_out
from common.screening.operating_point import Decision, choose, cuts_of, score_of

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
    split: str = "test"  # that was evaluated; earlier files do not say
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
        split=grader.judged_on.name,
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


def rules_of(grader: StoredGrader) -> list[Rule]:
    """List the rules that operating points were asked for by, without the argmax."""
    found = dict.fromkeys(parse_rule(point.rule) for point in grader.points)
    return [rule for rule in found if rule != ARGMAX]
