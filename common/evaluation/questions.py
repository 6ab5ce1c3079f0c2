"""Ask a grader the questions of a screening programme, one after the other.

What follows from a grader and what is known of its images is found in `screening/`, a module for
each question; here stands which are asked, and why some have no answer.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from common.fitting.grader import Grader
from common.fitting.threshold import ARGMAX, Rule
from common.listing.column_values import Columns
from common.metrics.grade_mix import GradeMix
from common.prediction.voting import ClassPredictions
from common.screening.abstention import Abstention, measure_abstention
from common.screening.conformal import ConformalSets, measure_conformal_sets
from common.screening.label_errors import LabelErrors, find_label_errors
from common.screening.operating_point import OperatingPoints, decisions_of, find_operating_points
from common.screening.patients import PATIENT_RULES, PatientResults, People, measure_patients
from common.screening.prevalence import DecisionsAtGradeMix, restate_decisions
from common.screening.robustness import Robustness, measure_robustness
from common.screening.subgroups import Subgroups, measure_subgroups


@dataclass(frozen=True)
class Asked:
    """What the command line, and what is known of the images, asks of a grader."""

    operating_points: tuple[Rule, ...] = ()  # beside the argmax, which is always measured
    patient_rule: str = PATIENT_RULES[0]
    people: People | None = None  # who the images are of; None: nothing tells
    grade_mix: GradeMix | None = None  # of a population
    columns: Columns = field(default_factory=dict)  # what is known of the images that are judged
    altered: Mapping[str, ClassPredictions] = field(default_factory=dict)  # of them, by alteration


@dataclass(frozen=True)
class Answers:
    """What a screening programme asks of a grader; None where a question has no answer."""

    operating_points: OperatingPoints | None = None
    at_grade_mix: DecisionsAtGradeMix | None = None
    subgroups: Subgroups | None = None
    robustness: Robustness | None = None
    label_errors: LabelErrors | None = None
    patients: PatientResults | None = None
    abstention: Abstention | None = None
    conformal_sets: ConformalSets | None = None
    unanswered: dict[str, str] = field(default_factory=dict)  # question: why it has no answer

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it: each answer, or why there is none."""
        given = {
            question.name: getattr(self, question.name).to_json()
            for question in fields(self)
            if question.name != "unanswered" and getattr(self, question.name) is not None
        }
        return given | {name: {"not_answered": why} for name, why in self.unanswered.items()}


def ask(grader: Grader, asked: Asked, alone: Collection[str] = ()) -> Answers:
    """Ask all questions of one grader: each has its answer or a reason why there is none.

    alone: the names of those to be asked, where these are not all.
    """
    rules = tuple(dict.fromkeys((ARGMAX, *asked.operating_points)))
    points = find_operating_points(grader, rules)
    known, decisions = None if isinstance(points, str) else points, decisions_of(points)
    questions: dict[str, Callable[[], Any]] = {
        "operating_points": lambda: points,
        "at_grade_mix": lambda: restate_decisions(grader, decisions, asked.grade_mix),
        "subgroups": lambda: measure_subgroups(grader, asked.columns, decisions),
        "patients": lambda: measure_patients(grader, asked.people, asked.patient_rule, known),
        "abstention": lambda: measure_abstention(grader),
        "conformal_sets": lambda: measure_conformal_sets(grader),
        "robustness": lambda: measure_robustness(grader, asked.altered, decisions),
        "label_errors": lambda: find_label_errors(grader),
    }
    found = {name: answer() for name, answer in questions.items() if not alone or name in alone}
    # a question without an answer gives the reason
    unanswered = {name: answer for name, answer in found.items() if isinstance(answer, str)}
    answered = {name: answer for name, answer in found.items() if name not in unanswered}
    return Answers(**answered, unanswered=unanswered)
