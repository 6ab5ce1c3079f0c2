"""Referral: the area under the risk-coverage curve by hand, thresholds of val, ties."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import grader_of, probabilities_of, sample_of

from common.metrics.intervals import BootstrapConfig
from common.screening.abstention import (
    MEASURES,
    area_of_blocks,
    aurc_with_intervals,
    choose_review,
    measure_abstention,
    oracle_area,
    risk_coverage,
    threshold_for,
    why_no_threshold,
)

TARGETS = np.tile(np.arange(5), 30)
FEW_DRAWS = BootstrapConfig(100)


def plain_area(uncertainty, wrong):
    """The definition: the mean risk over all coverages, ties in the order given."""
    ordered = np.asarray(wrong)[np.argsort(uncertainty, kind="stable")]
    return (np.cumsum(ordered) / np.arange(1, len(ordered) + 1)).mean()


def test_the_area_is_the_mean_risk_over_all_coverages():
    generator = np.random.default_rng(0)
    uncertainty, wrong = generator.random(40), generator.random(40) < 0.3
    area, excess = aurc_with_intervals(uncertainty, wrong, FEW_DRAWS)
    assert area.value == pytest.approx(plain_area(uncertainty, wrong))
    oracle = plain_area(wrong, wrong)
    assert excess.value == pytest.approx(area.value - oracle)
    assert float(oracle_area(40.0, wrong.sum())) == pytest.approx(oracle)
    assert area.low < area.value < area.high


def test_equal_uncertainties_count_as_in_a_random_order():
    generator = np.random.default_rng(1)
    uncertainty, wrong = generator.integers(0, 3, 30), generator.random(30) < 0.4
    orders = [generator.permutation(30) for _ in range(4000)]
    mean = np.mean([plain_area(uncertainty[order], wrong[order]) for order in orders])
    area, _ = aurc_with_intervals(uncertainty.astype(float), wrong, FEW_DRAWS)
    assert area.value == pytest.approx(mean, abs=0.003)


def test_an_uncertainty_that_says_nothing_has_the_error_rate_as_its_area():
    wrong = np.array([True] * 3 + [False] * 7)
    area, _ = aurc_with_intervals(np.zeros(10), wrong, FEW_DRAWS)
    assert area.value == pytest.approx(0.3)
    assert float(area_of_blocks(np.array([10.0]), np.array([3.0]))) == pytest.approx(0.3)


def test_neighbours_without_an_error_may_be_one_block_and_many_images_have_a_series():
    wrong = np.random.default_rng(2).random(400) < 0.2
    area, _ = aurc_with_intervals(np.arange(400.0), wrong, FEW_DRAWS)
    assert float(area_of_blocks(np.ones(400), wrong)) == pytest.approx(area.value, abs=1e-13)
    assert area.value == pytest.approx(plain_area(np.arange(400.0), wrong), abs=1e-13)


@pytest.mark.parametrize("right", [0, 10])
def test_without_right_or_wrong_grades_the_other_ones_are_still_possible(right):
    wrong = np.arange(10) >= right
    area, excess = aurc_with_intervals(np.arange(10.0), wrong, FEW_DRAWS)
    assert area.value == pytest.approx(wrong.mean()) and 0 < area.high - area.low < 0.95
    assert area.low <= area.value <= area.high
    assert excess.value == pytest.approx(0, abs=1e-12)


def test_patients_are_drawn_as_a_whole():
    generator = np.random.default_rng(2)
    uncertainty, wrong = generator.random(60), generator.random(60) < 0.3
    alone, _ = aurc_with_intervals(np.tile(uncertainty, 3), np.tile(wrong, 3), BootstrapConfig(400))
    together, _ = aurc_with_intervals(
        np.tile(uncertainty, 3),
        np.tile(wrong, 3),
        BootstrapConfig(400, 0, np.tile(np.arange(60), 3)),
    )
    assert together.high - together.low > 1.3 * (alone.high - alone.low)


def test_the_curve_ends_at_the_error_rate():
    uncertainty, wrong = np.array([0.1, 0.2, 0.2, 0.9]), np.array([False, True, False, True])
    curve = risk_coverage(uncertainty, wrong)
    assert curve.coverage.tolist() == [0.25, 0.75, 1]
    assert curve.risk.tolist() == [0, pytest.approx(1 / 3), 0.5]


def test_a_share_is_never_exceeded_and_ties_stay_together():
    uncertainty = np.array([0.0] * 90 + [0.5] * 6 + [1.0] * 4)
    assert threshold_for(uncertainty, 0.05) == 1.0  # with those at 0.5 it would be 10 %
    assert threshold_for(uncertainty, 0.10) == 0.5
    assert threshold_for(uncertainty, 0.50) == 0.5
    assert threshold_for(uncertainty, 0.02) == math.inf


def measured(members=1, val=True, shift=0.0):
    judged_on = probabilities_of(TARGETS, 0.8, seed=3)
    several = [probabilities_of(TARGETS, 0.8, seed=seed) for seed in range(members)]
    judged = sample_of(TARGETS, judged_on, members=several if members > 1 else None)
    judged = replace(judged, cycles=(judged_on.max(1) < 0.5).astype(int) if members > 1 else None)
    chosen = sample_of(TARGETS, probabilities_of(TARGETS, 0.8 + shift, seed=4), "val")
    return measure_abstention(grader_of(judged, chosen if val else None))


def test_referring_the_uncertain_gains_accuracy():
    found = measured()
    for ranking in found.rankings:
        accuracies = [row.accuracy.value for row in ranking.rows]
        assert accuracies[-1] > accuracies[0]
        assert ranking.rows[2].images == 135 and ranking.rows[0].images == 150
        assert ranking.rows[3].accuracy_of_referred.value < accuracies[0]
        assert 0 < ranking.excess.value < ranking.aurc.value < 1 - accuracies[0]
        for row in ranking.rows:
            assert row.accuracy.low < row.accuracy.value < row.accuracy.high


def test_measures_that_one_model_or_a_softmax_cannot_have_are_named():
    assert set(measured().not_measured) == {"disagreement", "cycles"}
    found = measured(members=3)
    assert [ranking.measure for ranking in found.rankings] == list(MEASURES)
    assert not found.not_measured


def test_models_that_agree_have_no_disagreement():
    same = probabilities_of(TARGETS)
    sample = sample_of(TARGETS, same, members=[same, same])
    measure, _ = MEASURES["disagreement"]
    assert measure(sample) == pytest.approx(0, abs=1e-12)
    certain = sample_of([0], [[0.5, 0.5, 0, 0, 0]], members=[np.eye(5)[[0]], np.eye(5)[[1]]])
    assert measure(certain) == pytest.approx(math.log(2))


def test_measure_and_thresholds_are_chosen_on_val():
    found = measured()
    assert found.chosen_on == "val" and found.best in MEASURES
    least = min(ranking.where_chosen for ranking in found.rankings)
    assert least == next(r.where_chosen for r in found.rankings if r.measure == found.best)
    assert [review.judged.asked for review in found.reviews] == [0.05, 0.1, 0.2]
    for review in found.reviews:
        assert review.where_chosen <= review.judged.asked + 1e-9
    surer = measured(shift=4)  # a val on which the grader is surer refers more elsewhere
    assert surer.reviews[1].judged.referred > found.reviews[1].judged.referred


def chosen_with_cycles(cycles):
    """Choose on a val of which this is how often pairs contradict each other."""
    targets, probabilities = np.arange(len(cycles)) % 5, np.full((len(cycles), 5), 0.2)
    probabilities[:, 0] += np.linspace(0, 0.1, len(cycles))  # the surer, the more often wrong
    val = replace(sample_of(targets, probabilities, "val"), cycles=np.array(cycles))
    return choose_review(grader_of(val, val))


def test_a_measure_that_is_the_same_for_all_or_too_often_is_not_chosen():
    wrong = np.arange(100) % 5 > 0
    best = chosen_with_cycles(np.where(wrong, np.arange(100), 0))
    assert best.measure == "cycles"
    for tied in (np.zeros(100), np.where(wrong, 1, 0)):  # of the latter 80 % are equally uncertain
        found = chosen_with_cycles(tied)
        assert found.measure != "cycles"
        assert all(math.isfinite(each.value) for each in found.thresholds)
    assert "not cycles, by which too many" in found.note, "the area of cycles was the least"


def test_where_no_image_can_be_told_from_others_there_is_no_threshold_and_it_is_said():
    same = sample_of(TARGETS, np.full((150, 5), 0.2), "val")
    assert choose_review(grader_of(same, same)) == "all images of val are equally uncertain"
    found = measure_abstention(grader_of(same, same))
    assert not found.best and found.note == "all images of val are equally uncertain"
    assert why_no_threshold(0.1, 9, "val") == "10% of the 9 images of val is less than one"
    assert "equally so" in why_no_threshold(0.1, 10, "val")


def test_the_labels_of_the_images_judged_change_no_threshold():
    probabilities = probabilities_of(TARGETS, 0.8, seed=3)
    chosen = sample_of(TARGETS, probabilities_of(TARGETS, 0.8, seed=4), "val")
    one, other = (
        measure_abstention(grader_of(sample_of(targets, probabilities), chosen))
        for targets in (TARGETS, TARGETS[::-1])
    )
    assert one.best == other.best
    assert [r.judged.threshold for r in one.reviews] == [r.judged.threshold for r in other.reviews]


def test_without_val_nothing_is_chosen_and_it_is_said():
    found = measured(val=False)
    assert not found.best and not found.reviews and found.note == "no images to choose on"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_images_is_measured_without_an_error(count):
    few = sample_of(range(count), np.full((count, 5), 0.2))
    found = measure_abstention(grader_of(few, few))
    assert all(row.images in (0, count) for r in found.rankings for row in r.rows)


def test_what_more_models_say_is_not_compared_with_what_fewer_say():
    """Out of fold, each image has the answer of one model; counts over three are larger."""
    three = [probabilities_of(TARGETS, 0.8, seed=seed) for seed in range(3)]
    judged = sample_of(TARGETS, np.mean(three, axis=0), members=three)
    judged = replace(judged, cycles=np.arange(150) % 3)
    chosen = replace(sample_of(TARGETS, three[0], "out of fold"), cycles=np.arange(150) % 2)
    found = measure_abstention(grader_of(judged, chosen))
    area = {ranking.measure: ranking.where_chosen for ranking in found.rankings}
    assert math.isnan(area["cycles"]) and math.isnan(area["disagreement"])
    assert "the answer of 1 model, those that are judged the mean of 3" in found.note
