"""What altered photographs do to grades and referrals: how many change, in which direction."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import GRADES, grader_of, probabilities_of, sample_of

from common.evaluation.questions import Answers, Asked, ask
from common.metrics.classification import quadratic_weighted_kappa
from common.metrics.shares import clopper_pearson, confusion_matrix
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.reporting.screening_tables import answers_tables
from common.reporting.weakness_tables import weaknesses
from common.screening.operating_point import Decision
from common.screening.robustness import Robustness, measure_robustness

TARGETS = np.tile(np.arange(5), 40)
ARGMAX = Decision("argmax", 2, np.nan)
SAMPLE = sample_of(TARGETS, np.eye(5)[TARGETS])  # a perfect grader


def predicting(classes):
    """Predictions of these classes (N,)."""
    return ClassPredictions(np.eye(5)[classes], np.array(classes))


def measured(altered, sample=SAMPLE, decisions=(ARGMAX,)) -> Robustness:
    found = measure_robustness(grader_of(sample), altered, decisions)
    assert isinstance(found, Robustness)
    return found


def test_grades_and_referrals_that_flip_are_counted_by_direction():
    after = TARGETS.copy()
    after[:10] = [2, 1, 1, 4, 4] * 2  # 0 to 2 (in vain), 2 to 1 (missed), 3 to 4 (neither)
    (one,) = measured({"blur": predicting(after)}).alterations
    assert one.flipped == clopper_pearson(6, 200)
    (change,) = one.referrals
    assert (change.missed, change.alarmed) == (2, 2)
    assert change.flipped == clopper_pearson(4, 200)
    assert change.missed_share == clopper_pearson(2, 120)
    assert change.alarmed_share == clopper_pearson(2, 80)
    assert change.sensitivity.value == pytest.approx(-2 / 120)
    assert change.specificity.value == pytest.approx(-2 / 80)
    assert one.accuracy.value == pytest.approx(-6 / 200)
    kappa = quadratic_weighted_kappa(confusion_matrix(TARGETS, after, 5))
    assert one.kappa.value == pytest.approx(float(kappa) - 1)


def test_what_was_wrong_before_and_is_wrong_still_is_no_flip():
    before = np.where(TARGETS == 2, 1, TARGETS)
    sample = sample_of(TARGETS, np.eye(5)[before])
    after = np.where(TARGETS == 2, 0, before)
    (one,) = measured({"noise": predicting(after)}, sample).alterations
    assert one.flipped.value == 0.2 and one.referrals[0].flipped.value == 0
    assert one.referrals[0].missed == 0 and one.kappa.value < 0


def test_where_nothing_changes_the_intervals_have_the_width_that_so_many_images_allow():
    found = measured({"jpeg": predicting(TARGETS)})
    (one,) = found.alterations
    assert one.flipped.value == 0 and 0.01 < one.flipped.high < 0.03
    for difference in (one.accuracy, one.kappa, one.referrals[0].sensitivity):
        assert difference.value == 0 and difference.low < 0 < difference.high
        assert difference.p_holm == 1


def test_a_drop_is_told_from_chance_and_the_worst_alteration_is_named():
    generator = np.random.default_rng(0)
    little, much = TARGETS.copy(), TARGETS.copy()
    little[generator.choice(200, 3, replace=False)] = 1
    worse = generator.choice(200, 60, replace=False)
    much[worse] = (much[worse] + 2) % 5
    found = measured({"jpeg": predicting(little), "blur": predicting(much)})
    assert found.worst.name == "blur"
    assert found.worst.kappa.p_holm < 0.05 < found.alterations[0].kappa.p_holm
    assert found.tests == 8


def test_images_of_one_patient_flip_together():
    after = np.where(np.arange(200) < 20, (TARGETS + 1) % 5, TARGETS)
    alone = measured({"blur": predicting(after)}).alterations[0]
    sample = replace(SAMPLE, groups=np.arange(200) // 20)
    together = measured({"blur": predicting(after)}, sample)
    assert together.patients == 10
    one = together.alterations[0]
    assert one.flipped.value == alone.flipped.value and one.flipped.high > alone.flipped.high
    assert one.accuracy.low < alone.accuracy.low


def test_thresholds_stay_those_that_were_chosen_before():
    sample = sample_of(TARGETS, probabilities_of(TARGETS, 2.0))
    dimmed = 0.5 * sample.classes.probabilities + 0.5 * np.eye(5)[0]
    altered = {"darker": ClassPredictions(dimmed, sample.classes.predicted)}
    decisions = (ARGMAX, Decision("sensitivity=0.9", 2, 0.4))
    (one,) = measured(altered, sample, decisions).alterations
    same, fewer = one.referrals
    assert same.flipped.value == 0 and fewer.rule == "sensitivity=0.9"
    scores = dimmed[:, 2:].sum(1)
    before = sample.classes.probabilities[:, 2:].sum(1) >= 0.4
    assert fewer.missed == int(((TARGETS >= 2) & before & (scores < 0.4)).sum()) > 0
    assert fewer.alarmed == 0


@pytest.mark.parametrize("targets", [[0] * 8, [4] * 8, [2], [0, 4]])
def test_a_set_of_one_side_or_of_one_image_has_figures_where_they_are_defined(targets):
    targets = np.array(targets)
    sample = sample_of(targets, np.eye(5)[targets])
    (one,) = measured({"blur": predicting((targets + 2) % 5)}, sample).alterations
    assert one.flipped.value == 1
    change = one.referrals[0]
    sides = (targets >= 2).any(), (targets < 2).any()
    defined = [not np.isnan(d.value) for d in (change.sensitivity, change.specificity)]
    assert defined == list(sides)


def test_without_a_referable_class_only_grades_are_compared():
    odd = grader_of(SAMPLE, classes=classes_of("abcde"))
    found = measure_robustness(odd, {"blur": predicting((TARGETS + 1) % 5)}, [])
    assert found.referable is None and found.alterations[0].referrals == ()
    assert [table.name for table in answers_tables(Answers(robustness=found))] == ["robustness"]


def test_two_classes_are_enough():
    targets = np.tile([0, 1], 30)
    sample = sample_of(targets, np.eye(2)[targets])
    after = ClassPredictions(np.eye(2)[1 - targets], 1 - targets)
    grader = grader_of(sample, classes=classes_of(("no", "yes")))
    found = measure_robustness(grader, {"blur": after}, [Decision("argmax", 1, np.nan)])
    assert found.alterations[0].referrals[0].missed == 30


def test_it_is_answered_only_where_it_was_asked():
    grader = grader_of(SAMPLE)
    assert "--robustness" in ask(grader, Asked()).unanswered["robustness"]
    answers = ask(grader, Asked(altered={"blur": predicting(TARGETS)}))
    assert answers.robustness.alterations[0].name == "blur"
    assert answers.to_json()["robustness"]["alterations"]["blur"]["flipped"].value == 0
    assert len(GRADES) == 5


def test_the_tables_name_alterations_with_their_strength():
    after = {"blur": predicting((TARGETS + 1) % 5), "rotation": predicting(TARGETS)}
    decisions = (ARGMAX, Decision("sensitivity=0.9", 2, 0.4))
    tables = answers_tables(Answers(robustness=measured(after, decisions=decisions)))
    assert [table.name for table in tables] == [
        "robustness",
        "robustness_referral_argmax",
        "robustness_referral_sensitivity_0_9",
    ]
    assert any("Gaussian blur of 0.5 % of the disc" in row for row in tables[0].to_csv()[1])
    header, rows = tables[1].to_csv()
    assert header[:4] == ["title", "alteration", "images", "referral_changes"]
    assert [row[1] for row in rows] == ["blur", "rotation"]
    assert "120 of 200 images are referable" in tables[1].to_text()


def test_the_summary_names_the_worst_alteration_and_what_it_hides():
    after = np.where(TARGETS == 2, 1, TARGETS)
    found = measured({"jpeg": predicting(TARGETS), "blur": predicting(after)})
    (line,) = weaknesses(Answers(robustness=found))
    assert line.startswith("Altered photographs: blur costs most, a change in kappa of -0.")
    assert line.endswith("blur hides 40 referable images that were referred by argmax.")
    (line,) = weaknesses(Answers(robustness=measured({"jpeg": predicting(TARGETS)})))
    assert line == "Altered photographs: none costs kappa."
    assert weaknesses(Answers()) == []


def test_a_single_patient_gives_changes_without_intervals_and_that_is_said():
    sample = replace(SAMPLE, groups=np.zeros(200, dtype=int))
    answers = Answers(robustness=measured({"blur": predicting((TARGETS + 1) % 5)}, sample))
    assert np.isnan(answers.robustness.alterations[0].kappa.low)
    assert "A single patient gives no interval" in answers_tables(answers)[0].to_text()
    assert "nan" not in " ".join(weaknesses(answers))
