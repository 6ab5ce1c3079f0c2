"""Operating points: chosen on val alone, exact where ties and few images make it hard."""

import math

import numpy as np
import pytest
from helpers import GRADES, grader_of, probabilities_of, sample_of

from common.fitting.threshold import ARGMAX, Rule, choose_threshold, parse_rule
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import classes_of
from common.screening.operating_point import TRIALS, find_operating_points, measure_rates
from common.system.errors import InputError

RULES = (Rule("sensitivity", 0.9), Rule("specificity", 0.9), Rule("youden"), ARGMAX)
TARGETS = np.tile(np.arange(5), 40)


def grader(val_targets=TARGETS, judged_targets=TARGETS, classes=GRADES):
    judged = sample_of(judged_targets, probabilities_of(judged_targets, 0.7, seed=1))
    chosen = sample_of(val_targets, probabilities_of(val_targets, 0.7, seed=2), "val")
    return grader_of(judged, chosen, classes)


def referable(found):
    return {str(point.rule): point for point in found.detections[0].points}


def test_each_rule_reaches_on_val_what_it_was_asked_for():
    found = referable(find_operating_points(grader(), RULES))
    assert found["sensitivity=0.9"].where_chosen.sensitivity.value >= 0.9
    assert found["specificity=0.9"].where_chosen.specificity.value >= 0.9
    youden = found["youden"].where_chosen
    best = youden.sensitivity.value + youden.specificity.value
    for point in found.values():
        rates = point.where_chosen
        assert rates.sensitivity.value + rates.specificity.value <= best + 1e-12


def test_another_rule_gives_another_decision_on_the_images_judged():
    found = referable(find_operating_points(grader(), (*RULES, Rule("sensitivity", 0.99))))
    assert len({point.judged.referred for point in found.values()}) >= 4
    assert (
        found["sensitivity=0.99"].judged.sensitivity.value
        > found["sensitivity=0.9"].judged.sensitivity.value
        > found["specificity=0.9"].judged.sensitivity.value - 1e-12
    )


def test_the_labels_of_the_images_judged_change_no_threshold():
    one = find_operating_points(grader(), RULES)
    other = find_operating_points(grader(judged_targets=TARGETS[::-1].copy()), RULES)
    for first, second in zip(one.detections, other.detections):
        for a, b in zip(first.points, second.points):
            assert a.threshold == b.threshold or math.isnan(a.threshold.value)
            assert a.where_chosen == b.where_chosen


def test_argmax_is_the_decision_of_the_grades():
    made = grader()
    rates = referable(find_operating_points(made, (ARGMAX,)))["argmax"].judged
    referred = made.judged_on.classes.predicted >= 2
    assert rates.referred == referred.sum()
    assert rates.sensitivity.value == pytest.approx(referred[TARGETS >= 2].mean())
    assert rates.ppv.value == pytest.approx((TARGETS >= 2)[referred].mean())


def test_the_highest_threshold_that_is_sensitive_enough_is_taken():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1, 0.15, 0.05])
    positive = np.array([True] * 10 + [False] * 2)
    assert choose_threshold(scores, positive, Rule("sensitivity", 0.9)).value == 0.2
    assert choose_threshold(scores, positive, Rule("sensitivity", 0.5)).value == 0.5
    assert choose_threshold(scores, positive, Rule("specificity", 0.5)).value == 0.1
    assert choose_threshold(scores, positive, Rule("youden")).value == 0.2


def test_equal_probabilities_are_referred_together():
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    positive = np.array([True, True, True, False, False])
    found = choose_threshold(scores, positive, Rule("sensitivity", 0.6))
    assert found.value == 0.5  # all three at 0.5, so that sensitivity is 1
    assert choose_threshold(scores, positive, Rule("specificity", 0.6)).value == 0.9


@pytest.mark.parametrize(
    ("scores", "positive", "rule", "why"),
    [
        ([0.5, 0.5, 0.5], [1, 0, 1], Rule("youden"), "the same probability"),
        ([0.1, 0.9, 0.5], [1, 0, 0], Rule("sensitivity", 0.9), "only by referring every"),
        ([0.1, 0.9, 0.9], [1, 0, 0], Rule("specificity", 0.9), "only by referring no"),
        ([0.1, 0.9], [1, 0], Rule("youden"), "better than chance"),
        ([0.1, 0.9], [1, 1], Rule("sensitivity", 0.9), "are all to be referred"),
        ([0.1, 0.9], [0, 0], Rule("specificity", 0.9), "are all not to be referred"),
    ],
)
def test_a_threshold_that_cannot_be_reached_is_not_replaced(scores, positive, rule, why):
    found = choose_threshold(np.array(scores), np.array(positive, dtype=bool), rule)
    assert math.isnan(found.value) and why in found.why_none


def test_without_val_only_argmax_has_figures_and_the_others_say_why():
    judged = sample_of(TARGETS, probabilities_of(TARGETS))
    found = referable(find_operating_points(grader_of(judged), RULES))
    assert found["argmax"].judged is not None and found["argmax"].where_chosen is None
    assert found["youden"].judged is None
    assert found["youden"].threshold.why_none == "no images to choose on"


def test_few_referable_images_on_val_are_said():
    few = find_operating_points(grader(val_targets=np.array([0, 0, 1, 1, 2, 3, 4])), RULES)
    assert "only 3 images with the disease" in referable(few)["sensitivity=0.9"].note
    assert "only 4 images without it" in referable(few)["specificity=0.9"].note
    assert not referable(find_operating_points(grader(), RULES))["sensitivity=0.9"].note


@pytest.mark.parametrize(("targets", "nothing"), [([2, 3, 4], "specificity"), ([0, 1], "ppv")])
def test_sets_of_one_side_have_undefined_rates_with_reasons(targets, nothing):
    judged = sample_of(targets, np.eye(5)[targets])
    rates = referable(find_operating_points(grader_of(judged), (ARGMAX,)))["argmax"].judged
    assert math.isnan(getattr(rates, nothing).value) and rates.undefined[nothing]
    assert find_operating_points(grader_of(judged), (ARGMAX,)).detections[0].roc is None


def test_the_vision_threatening_grades_are_found_where_all_five_are_scored():
    found = find_operating_points(grader(), (ARGMAX,)).detections
    assert [(each.name, each.cut) for each in found] == [
        ("referable", 2),
        ("vision-threatening", 3),
    ]
    targets = np.tile([0, 1], 20)
    two = sample_of(targets, probabilities_of(targets, classes=2))
    coarse = grader_of(two, classes=classes_of(["No_DR", "referable"]))
    assert [each.cut for each in find_operating_points(coarse, (ARGMAX,)).detections] == [1]


def test_without_a_referable_cut_the_question_has_a_reason():
    assert "not known" in find_operating_points(grader(classes=classes_of("abcde")), RULES)


def test_the_curve_passes_through_every_operating_point():
    detection = find_operating_points(grader(), RULES[:3]).detections[0]
    for point in detection.points:
        at = detection.roc.sensitivity == point.judged.sensitivity.value
        # the threshold of val lies between two scores of the images judged
        assert (np.abs(detection.roc.specificity[at] - point.judged.specificity.value) < 1e-9).any()
    assert (np.diff(detection.roc.sensitivity) >= 0).all()


def test_rates_count_images_and_patients():
    groups = np.array([0, 0, 1, 1, 2])
    positive = np.array([True, True, False, False, True])
    rates = measure_rates(positive, ~positive, BootstrapConfig(20, 0, groups))
    assert (rates.positives, rates.negatives, rates.count, rates.patients) == (3, 2, 5, 3)
    assert rates.sensitivity.value == 0 and rates.sensitivity.high > 0


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("sensitivity=0.90", Rule("sensitivity", 0.9)),
        ("Specificity=85%", Rule("specificity", 0.85)),
        ("youden", Rule("youden")),
        ("argmax", ARGMAX),
    ],
)
def test_a_rule_is_read(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize("kind", ["sensitivity", "youden", "argmax", "ppv", ""])
@pytest.mark.parametrize("share", ["", "=", "=1", "=0", "=90", "=nan", "=-0.1", "=0.9"])
def test_anything_else_is_refused_with_what_was_expected(kind, share):
    if (kind, share) in {("sensitivity", "=0.9"), ("youden", ""), ("argmax", "")}:
        return
    with pytest.raises(InputError, match=r"--operating_point: expected sensitivity=0\.90"):
        parse_rule(kind + share)


def test_trials_are_cited_with_their_source_and_nothing_is_claimed_against_them():
    for trial in TRIALS:
        assert "et al. 20" in trial.source and trial.sensitivity.value > 0.8
    content = find_operating_points(grader(), RULES).to_json()
    assert content["others_in_trials"] == TRIALS and "pass" not in str(content).lower()
