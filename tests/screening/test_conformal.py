"""Sets of grades: coverage by simulation, MAPIE's thresholds, gaps, few images."""

import math

import numpy as np
import pytest
from helpers import grader_of, probabilities_of, sample_of

from common.prediction.voting import ClassPredictions
from common.screening.conformal import FEWEST, fit_thresholds, make_sets, measure_conformal_sets


def draw(per_grade, seed, sharpness=1.0):
    targets = np.repeat(np.arange(5), per_grade)
    return targets, probabilities_of(targets, sharpness, seed)


def predictions(probabilities):
    return ClassPredictions(np.array(probabilities), np.argmax(probabilities, 1))


def test_sets_hold_the_grade_as_often_as_promised_in_each_grade():
    """Over many calibrations on images like those that are judged."""
    judged, probabilities = draw(200, seed=0)
    held = np.zeros(5)
    for seed in range(1, 81):
        targets, seen = draw(49, seed)
        sets = make_sets(predictions(probabilities), fit_thresholds(seen, targets))
        hit = sets[np.arange(len(judged)), judged]
        held += [hit[judged == k].mean() for k in range(5)]
    assert (held / 80 > 0.88).all() and (held / 80 < 0.93).all()


def test_nine_images_of_a_grade_are_needed():
    assert FEWEST == 9
    targets, seen = draw(9, seed=0)
    assert not np.isnan(fit_thresholds(seen, targets)).any()
    few = np.delete(np.arange(45), 9)  # eight of grade 1
    thresholds = fit_thresholds(seen[few], targets[few])
    assert np.isnan(thresholds).tolist() == [False, True, False, False, False]
    assert thresholds[0] == seen[targets == 0, 0].min()  # of nine, the worst


def test_a_grade_of_too_few_images_is_not_measured_and_said():
    targets, seen = draw(20, seed=1)
    keep = (targets != 1) | (np.arange(100) < 25)
    chosen = sample_of(targets[keep], seen[keep], "val")
    found = measure_conformal_sets(grader_of(sample_of(*draw(20, seed=2)), chosen))
    mild = found.grades[1]
    assert math.isnan(mild.coverage.value) and math.isnan(mild.size.value)
    assert mild.why_not_measured == "5 images of it on val, 9 are needed"
    assert found.all_measured.images == 80
    assert 0 < found.grades[0].coverage.low < found.grades[0].coverage.value
    assert found.sets[:, 1].all() and not found.sets[:, 4].all()
    always = (
        "grade 1: too few images on val (5, 9 are needed) to rule it out, so it is in every set"
    )
    assert found.notes[0].startswith(always)


def test_where_no_grade_has_enough_images_there_is_a_reason():
    few = sample_of(*draw(4, seed=1), "val")
    assert "9 images of a grade are needed" in measure_conformal_sets(grader_of(few, few))
    assert measure_conformal_sets(grader_of(few)) == "no images to choose on"


def test_sets_hold_the_predicted_grade_and_those_that_cannot_be_ruled_out_without_gaps():
    thresholds = np.array([0.3, 0.9, 0.3, math.nan, 0.3])
    sets = make_sets(
        predictions(
            [
                [0.4, 0.2, 0.4, 0, 0],  # 0 and 2, and so 1
                [0.0, 0.6, 0.2, 0.2, 0],  # none: the predicted one
                [0.0, 0.0, 0.1, 0.9, 0],  # nothing is known of 3, and it is predicted
                [0.0, 0.0, 0.4, 0.2, 0.4],  # 3 lies between
                [0.4, 0.6, 0.0, 0.0, 0],  # 1 is predicted, with less than it needs
                [1.0, 0.0, 0.0, 0.0, 0],  # what is not known fills no gap
            ]
        ),
        thresholds,
    )
    expected = ["11110", "01010", "00010", "00111", "11010", "10010"]
    assert ["".join(map(str, row)) for row in sets.astype(int)] == expected


def test_filling_gaps_only_adds_grades():
    targets, seen = draw(30, seed=3, sharpness=0.3)
    thresholds = fit_thresholds(seen, targets)
    _, judged = draw(30, seed=4, sharpness=0.3)
    sets = make_sets(predictions(judged), thresholds)
    assert (sets >= (judged >= thresholds)).all()
    assert (np.abs(np.diff(np.pad(sets, ((0, 0), (1, 1))).astype(int), axis=1)).sum(1) == 2).all()


def test_val_and_cal_are_told_apart():
    judged = sample_of(*draw(10, seed=5))
    on_val, on_cal = (
        measure_conformal_sets(grader_of(judged, sample_of(*draw(10, seed=6), name)))
        for name in ("val", "cal")
    )
    assert any("epochs were chosen" in note for note in on_val.notes)
    assert not any("epochs were chosen" in note for note in on_cal.notes)
    assert (on_val.sets == on_cal.sets).all()


def test_the_labels_of_the_images_judged_change_no_set():
    targets, seen = draw(20, seed=7)
    chosen = sample_of(*draw(20, seed=8), "val")
    one, other = (
        measure_conformal_sets(grader_of(sample_of(labels, seen), chosen))
        for labels in (targets, targets[::-1])
    )
    assert (one.sets == other.sets).all() and one.grades[0] != other.grades[0]


def test_an_absent_grade_and_sets_of_equal_size_are_said():
    judged = sample_of([0] * 12, np.eye(5)[[0] * 12])
    found = measure_conformal_sets(grader_of(judged, sample_of(*draw(20, seed=9), "cal")))
    assert found.grades[0].size.value == found.grades[0].size.low == 1 < found.grades[0].size.high
    assert found.grades[3].why_not_measured == "no image of it is judged"


def test_thresholds_are_those_of_mapie():
    classification = pytest.importorskip("mapie.classification")
    base = pytest.importorskip("sklearn.base")

    class Stored(base.ClassifierMixin, base.BaseEstimator):
        """Gives the probabilities that are its input back."""

        classes_ = np.arange(5)

        def fit(self, inputs, targets):
            return self

        def predict_proba(self, inputs):
            return inputs

        def predict(self, inputs):
            return inputs.argmax(1)

        def __sklearn_is_fitted__(self):
            return True

    targets, seen = draw(30, seed=10)
    _, judged = draw(30, seed=11)
    thresholds = fit_thresholds(seen, targets)
    for k in range(5):
        oracle = classification.SplitConformalClassifier(
            Stored(), confidence_level=0.9, conformity_score="lac", prefit=True
        )
        own = targets == k
        oracle.conformalize(seen[own], targets[own])
        _, sets = oracle.predict_set(judged)
        assert (sets[:, k, 0] == (judged[:, k] >= thresholds[k])).all()
