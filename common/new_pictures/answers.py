"""From what networks say of pictures to rows: by all that an evaluation chose, and with doubts.

N pictures, K classes that are scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from common.data.class_names import grades_of
from common.fitting.threshold import ARGMAX, parse_rule
from common.grading.networks import Said
from common.grading.stored_grader import Graded, StoredGrader, grade
from common.new_pictures.rows import (
    GRADED,
    UNCERTAINTIES,
    UNGRADABLE,
    UNLIKE,
    UNREADABLE,
    Row,
)
from common.new_pictures.run import ReadPicture
from common.prediction.classes import Classes
from common.screening.abstention import MEANINGS, ReviewThreshold
from common.system.errors import InputError
from common.system.log import utc_now

REFERABLE = "referable"  # of the detections
REVIEW_SHARE = 0.1  # of `abstention.REVIEW_SHARES`: the pictures that are reviewed as unsure


class Doubts(Protocol):
    """Tells which pictures are not to be graded."""

    @property
    def fingerprint(self) -> str:
        """Name what the doubts rest on: other thresholds have another one."""
        ...

    @property
    def why_not_known(self) -> str:
        """Say why that cannot be told of any picture, or in part; "" where it can."""
        ...

    @property
    def tells_ungradable(self) -> bool:
        """Whether it is known what cannot be graded."""
        ...

    @property
    def tells_unlike(self) -> bool:
        """Whether it is known what is unlike the pictures of the training."""
        ...

    def look(self, squares: Sequence[np.ndarray]) -> Any:
        """Measure a picture as each model sees it, (S, S, 3) uint8, for `ungradable`."""
        ...

    def ungradable(self, measured: Any) -> str:
        """Say why a picture cannot be graded; "" where it can."""
        ...

    def unlike(self, said: Said) -> Sequence[str]:
        """Say (N,) in how far pictures are unlike those of the training; "" where they are not."""
        ...


@dataclass(frozen=True)
class NoDoubts:
    """Where nothing is known of the pictures of the training: all are graded."""

    why_not_known: str
    fingerprint: str = ""
    tells_ungradable: bool = False
    tells_unlike: bool = False

    def look(self, squares: Sequence[np.ndarray]) -> None:
        """Measure nothing."""

    def ungradable(self, measured: Any) -> str:
        """Doubt nothing."""
        return ""

    def unlike(self, said: Said) -> Sequence[str]:
        """Doubt nothing."""
        return [""] * len(said.pair_probabilities[0])


@dataclass(frozen=True)
class Asked:
    """What is asked of a grader, of what it has."""

    point: int | None  # place of the operating point among its `points`; None: nothing is referable
    review: int | None  # place of the threshold among its `review.thresholds`; None: it has none


def choose_asked(grader: StoredGrader, rule: str, share: float | None) -> Asked:
    """Choose among the operating points and review thresholds that are stored.

    rule: "" for the first one beside argmax that has a threshold, else argmax. share: of the
    pictures that are to be reviewed, at most; None: the usual one. Raises InputError for what was
    not chosen.
    """
    points = [n for n, point in enumerate(grader.points) if point.detection == REFERABLE]
    names = {grader.points[n].rule: n for n in points}
    chosen = None
    if rule:
        wanted = str(parse_rule(rule))
        if not names:
            raise InputError(
                f"--operating_point {rule}: what is referable is {grader.scored.referable}"
            )
        if wanted not in names:
            raise InputError(
                f"--operating_point {rule}: expected one that was chosen by the evaluation, "
                f"{' or '.join(names)}; evaluate_ensemble.py --operating_point {wanted} chooses it"
            )
        chosen = names[wanted]
        if grader.points[chosen].why_none:
            raise InputError(
                f"--operating_point {rule}: no threshold was found for it "
                f"({grader.points[chosen].why_none}); there is {_others(grader, points)}"
            )
    elif points:
        found = [n for n in points if not grader.points[n].why_none]
        others = [n for n in found if grader.points[n].rule != str(ARGMAX)]
        chosen = next(iter(others or found), None)
    return Asked(chosen, _review_place(grader, share))


def _review_place(grader: StoredGrader, share: float | None) -> int | None:
    """Return the place of the threshold for a share; None: the usual one, if there is any."""
    thresholds = grader.review.thresholds
    shares = [each.share for each in thresholds]
    if share is None:
        return shares.index(_usual(shares)) if shares else None
    if share not in shares:
        known = ", ".join(f"{each:g}" for each in shares) or f"none ({grader.review.why_none})"
        raise InputError(f"--review_share {share:g}: expected one that was chosen, {known}")
    why_none = grader.why_not_unsure(thresholds[shares.index(share)])
    if why_none:
        others = [f"{t.share:g}" for t in thresholds if not grader.why_not_unsure(t)]
        raise InputError(
            f"--review_share {share:g}: {why_none}; there is {' or '.join(others) or 'none'}"
        )
    return shares.index(share)


def _usual(shares: Sequence[float]) -> float:
    return REVIEW_SHARE if REVIEW_SHARE in shares else shares[0]


def _others(grader: StoredGrader, points: Sequence[int]) -> str:
    return " or ".join(p.rule for n in points if not (p := grader.points[n]).why_none) or "none"


@dataclass(frozen=True)
class Answers:
    """Writes rows by what a grader has."""

    grader: StoredGrader
    asked: Asked
    doubts: Doubts

    @property
    def open_questions(self) -> list[str]:
        """Say what is left open in every row, and why."""
        grader, why = self.grader, {}
        if self.asked.point is None:
            why["nothing is said on referral"] = grader.scored.referable
        if grader.sets.why_none:
            why["no set of grades"] = grader.sets.why_none
        why_not_unsure = grader.why_not_unsure(self.review)
        if why_not_unsure:
            why["nothing is marked as unsure"] = why_not_unsure
        reasons = dict.fromkeys(why.values())  # several things are often open for one
        found = [
            f"{', '.join(what for what in why if why[what] == reason)}: {reason}"
            for reason in reasons
        ]
        found += grader.never_ruled_out
        return [*found, self.doubts.why_not_known] if self.doubts.why_not_known else found

    @property
    def review(self) -> ReviewThreshold | None:
        """The threshold from which on a picture is unsure; None: there is none."""
        place = self.asked.review
        return None if place is None else self.grader.review.thresholds[place]

    def judge(self, read: Sequence[ReadPicture], said: Said) -> list[Row]:
        """Write the rows (N,) of pictures that can be read."""
        graded = grade(self.grader, said.pair_probabilities)
        unlike = self.doubts.unlike(said)
        return [
            self._row(place, picture, graded, unlike[place]) for place, picture in enumerate(read)
        ]

    def refuse(self, read: ReadPicture) -> Row:
        """Write the row of a picture that cannot be read."""
        return self._row_of(read, UNREADABLE, _Said(), [f"{UNREADABLE}: {read.error}"])

    def _row(self, n: int, read: ReadPicture, graded: Graded, unlike: str) -> Row:
        """Write the row of the n-th picture of a chunk.

        Probabilities are given for each, but a class and what follows from it only of one that is
        graded.
        """
        probabilities = tuple(graded.classes.probabilities[n].tolist())
        scores, decided = graded.scores.get(REFERABLE), None
        uncertainty = [graded.uncertainty.get(name) for name in UNCERTAINTIES]
        said = _Said(
            probabilities,
            None if scores is None else float(scores[n]),
            tuple(None if values is None else _number(values[n]) for values in uncertainty),
        )
        ungradable = self.doubts.ungradable(read.measured)
        doubts = [f"{UNGRADABLE}: {ungradable}"] if ungradable else []
        doubts += [f"{UNLIKE}: {unlike}"] if unlike else []
        if doubts:
            return self._row_of(read, UNGRADABLE if ungradable else UNLIKE, said, doubts)
        if self.asked.point is not None:
            decided = graded.referred[self.asked.point]
        names = self.grader.scored.names
        certain = replace(
            said,
            place=int(graded.classes.predicted[n]),
            referable=None if decided is None else bool(decided[n]),
            in_set=()
            if graded.sets is None
            else tuple(name for name, inside in zip(names, graded.sets[n]) if inside),
        )
        return self._row_of(read, GRADED, certain, self._unsure(n, graded))

    def _unsure(self, n: int, graded: Graded) -> list[str]:
        """Say why the n-th picture is too uncertain; nothing if it is not."""
        measure, place, threshold = self.grader.review.measure, self.asked.review, self.review
        if place is None or threshold is None or not graded.unsure[place][n]:
            return []
        value = graded.uncertainty[measure][n]
        return [
            f"unsure: {MEANINGS[measure]} {value:.3g}, from {threshold.value:.3g} on it is among "
            f"the least certain {threshold.share:.0%}"
        ]

    def _row_of(self, read: ReadPicture, outcome: str, said: "_Said", reasons: list[str]) -> Row:
        point = None if self.asked.point is None else self.grader.points[self.asked.point]
        names, place = self.grader.scored.names, said.place
        return Row(
            image=read.picture.name,
            outcome=outcome,
            grade=None if place is None else grade_texts(self.grader.scored)[place],
            class_name=None if place is None else names[place],
            probabilities=said.probabilities,
            p_referable=said.p_referable,
            referable=said.referable,
            operating_point=None if said.referable is None or point is None else point.rule,
            uncertainty=said.uncertainty,
            classes_in_set=said.in_set,
            review=bool(reasons),
            reason="; ".join(reasons),
            remarks="; ".join([*read.notes, *(self.open_questions if place is not None else [])]),
            model=self.grader.fingerprint,
            time=utc_now(),
            file=read.file,
        )


@dataclass(frozen=True)
class _Said:
    """What is known of one picture."""

    probabilities: tuple[float, ...] = ()  # (K,)
    p_referable: float | None = None
    uncertainty: tuple[float | None, ...] = (None,) * len(UNCERTAINTIES)
    place: int | None = None  # of its class
    referable: bool | None = None
    in_set: tuple[str, ...] = ()


def _number(value: float) -> float:
    """Write a count as a whole number."""
    return int(value) if float(value).is_integer() else float(value)


def grade_texts(scored: Classes) -> list[int | str]:
    """Write the grades of each class: 3, or "2-4" for several.

    Where the name of a class does not tell them, each class has its number in the order of grades.
    """
    found = grades_of(scored.names)
    known = [both for both in found if both is not None]
    if len(known) < len(found):
        return list(range(len(found)))
    return [first if first == last else f"{first}-{last}" for first, last in known]
