"""All questions together: each has an answer or a reason, whatever the images are."""

import itertools
import re
import warnings

import numpy as np
import pytest
from helpers import GRADES, grader_of, probabilities_of, sample_of

from common.evaluation.questions import Answers, Asked, ask
from common.fitting.threshold import ARGMAX, Rule
from common.metrics.grade_mix import GradeMix
from common.prediction.classes import classes_of
from common.reporting.screening_tables import answers_tables
from common.screening.patients import People
from common.system.files import read_json, write_json

RULES = (ARGMAX, Rule("sensitivity", 0.9), Rule("specificity", 0.9), Rule("youden"))
TARGETS = {
    "one image": [2],
    "two images": [0, 4],
    "one grade": [0] * 7,
    "an absent grade": [0, 0, 1, 1, 3, 3, 4, 4, 4],
    "all referable": [2, 3, 4] * 5,
    "many": list(range(5)) * 12,
}
KINDS = {
    "skilled": probabilities_of,
    "constant": lambda targets: np.full((len(targets), 5), 0.2),
    "certain": lambda targets: np.eye(5)[targets],
    "wrong": lambda targets: np.eye(5)[(np.array(targets) + 1) % 5],
}


def people_of(count):
    patients = np.arange(count) // 2
    eyes = np.where(np.arange(count) % 2, "left", "right")
    return People(patients, np.arange(count) % 5 > 0, eyes, "patients by twos")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("judged", TARGETS)
def test_every_question_has_an_answer_or_a_reason(judged, kind, tmp_path):
    targets, probabilities = TARGETS[judged], KINDS[kind]
    for chosen, known in itertools.product([None, "one image", "one grade", "many"], [True, False]):
        patients = people_of(len(targets)) if known else None
        groups = patients.patients if patients and len(targets) > 2 else None
        there = chosen and sample_of(TARGETS[chosen], probabilities(TARGETS[chosen]), "val")
        grader = grader_of(sample_of(targets, probabilities(targets), groups=groups), there)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answers = ask(grader, Asked(RULES, people=patients))
            tables = answers_tables(answers)
        check(answers, tables, tmp_path / "answers.json")


@pytest.mark.parametrize("names", [("No_DR", "referable"), ("a", "b", "c"), ("No_DR", "Mild", "x")])
def test_coarser_sets_and_unknown_cuts_have_answers_or_reasons(names, tmp_path):
    targets = np.tile(np.arange(len(names)), 12)
    sample = sample_of(targets, probabilities_of(targets, classes=len(names)))
    answers = ask(grader_of(sample, sample, classes_of(names)), Asked(RULES))
    check(answers, answers_tables(answers), tmp_path / "answers.json")
    assert ("operating_points" in answers.unanswered) == (names[1] != "referable")


def check(answers: Answers, tables, path):
    questions = {name for name in vars(answers) if name != "unanswered"}
    content = answers.to_json()
    assert questions == set(content)
    write_json(path, content)
    assert read_json(path).keys() == content.keys()
    for table in tables:
        assert table.to_text() and len(table.to_csv()[1]) == len(table.rows)
        assert not re.search(r"\bnan\b|\binf\b|\bNone\b", table.to_text())
    for why in answers.unanswered.values():
        assert len(why) > 10


def test_no_label_of_the_images_judged_changes_anything_that_is_chosen():
    targets = np.array(TARGETS["many"] * 4)
    probabilities = probabilities_of(targets, 0.7, seed=1)
    chosen = sample_of(targets, probabilities_of(targets, 0.7, seed=2), "val")
    people, found = people_of(len(targets)), []
    for labels in (targets, np.random.default_rng(3).permutation(targets)):
        grader = grader_of(sample_of(labels, probabilities), chosen)
        altered = {"blur": grader.judged_on.classes}
        answers = ask(grader, Asked(RULES, people=people, altered=altered))
        reviews, sets = answers.abstention.reviews, answers.conformal_sets
        points = [point for each in answers.operating_points.detections for point in each.points]
        found.append(
            str([[point.rule, point.threshold, point.where_chosen] for point in points])
            + str([[each.judged.threshold, each.where_chosen] for each in reviews])
            + str([[each.measure, each.where_chosen] for each in answers.abstention.rankings])
            + str([answers.abstention.best, sets.sets.tolist()])
            + str([[each.threshold, each.calibrated_on] for each in sets.grades])
            + str(
                [[each.rates.referred for each in unit.found] for unit in answers.patients.results]
            )
            + str(
                [change.rule for one in answers.robustness.alterations for change in one.referrals]
            )
        )
    assert found[0] == found[1] and "sensitivity" in found[0]


def test_each_option_changes_the_answers():
    targets = TARGETS["many"]
    judged = sample_of(targets, probabilities_of(targets, 0.7, seed=1))
    chosen = sample_of(targets, probabilities_of(targets, 0.7, seed=2), "val")
    grader, people = grader_of(judged, chosen, GRADES), people_of(len(targets))
    plain = str(ask(grader, Asked(people=people)).to_json())
    assert plain != str(ask(grader, Asked(RULES, people=people)).to_json())
    assert plain != str(ask(grader, Asked(patient_rule="mean", people=people)).to_json())
    assert plain != str(ask(grader, Asked()).to_json())


def test_every_operating_point_is_restated_at_a_population_s_grade_mix():
    targets = TARGETS["many"]
    judged = sample_of(targets, probabilities_of(targets, 0.7, seed=1))
    chosen = sample_of(targets, probabilities_of(targets, 0.7, seed=2), "val")
    grader = grader_of(judged, chosen, GRADES)
    mix = GradeMix(np.array([0.7, 0.1, 0.1, 0.05, 0.05]), "a survey")
    found = ask(grader, Asked(RULES, grade_mix=mix))
    assert "not asked for" in ask(grader, Asked(RULES)).unanswered["at_grade_mix"]
    by_rule = found.at_grade_mix.by_rule
    assert set(by_rule) == {str(rule) for rule in RULES}
    referred = {rule: metrics["referrals_per_1000"].value for rule, metrics in by_rule.items()}
    assert all(m["ppv"].low <= m["ppv"].value <= m["ppv"].high for m in by_rule.values())
    assert len(set(referred.values())) > 1, "other rules refer others"
    called = judged.classes.predicted >= 2
    shares = [called[np.array(targets) == grade].mean() for grade in range(5)]
    assert referred["argmax"] == pytest.approx(1000 * (mix.shares @ shares))
