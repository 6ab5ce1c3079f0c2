"""Likely label errors: flipped labels come first, a perfect grader contradicts none."""

import numpy as np
import pytest
from helpers import GRADES

from common.fitting.grader import Grader, Sample
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.screening.label_errors import (
    confident_class,
    find_label_errors,
    mean_self_confidence,
)


def grader_of(targets, probabilities, classes=GRADES) -> Grader:
    """Make a grader that says these probabilities (N, K) of images graded so (N,)."""
    targets, probabilities = np.array(targets), np.array(probabilities, dtype=float)
    ids = np.array([f"test/{i:03}.jpg" for i in range(len(targets))])
    said = ClassPredictions(probabilities, probabilities.argmax(1))
    sample = Sample("test", ids, targets, said, probabilities[None])
    return Grader("model", classes, sample, None, "no val", BootstrapConfig(20))


def skilled(targets, sharpness, seed=0):
    """Draw probabilities (N, 5) that mostly agree with the targets (N,)."""
    noise = np.random.default_rng(seed).normal(0, 1, (len(targets), 5))
    scores = np.exp(noise + sharpness * np.eye(5)[targets])
    return scores / scores.sum(1, keepdims=True)


def test_labels_flipped_on_purpose_are_the_first_to_be_found():
    truth = np.tile(np.arange(5), 60)
    probabilities = skilled(truth, 4)
    flipped = np.random.default_rng(1).choice(len(truth), 15, replace=False)
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + 2) % 5
    found = find_label_errors(grader_of(labels, probabilities)).found
    wrong = {f"test/{i:03}.jpg" for i in flipped}
    assert len(found) >= 9 and all(each.image in wrong for each in found[:9])
    assert all(each.suggested == truth[int(each.image[5:8])] for each in found[:9])


def test_a_perfect_grader_contradicts_no_label():
    targets = np.tile(np.arange(5), 4)
    assert find_label_errors(grader_of(targets, np.eye(5)[targets])).found == ()
    assert find_label_errors(grader_of(targets, skilled(targets, 30))).found == ()


def test_it_finds_what_cleanlab_finds():
    filters = pytest.importorskip("cleanlab.filter")
    truth = np.random.default_rng(2).integers(0, 5, 300)
    probabilities = skilled(truth, 2.5)
    labels = np.where(np.arange(300) % 11 == 0, (truth + 1) % 5, truth)
    expected = filters.find_label_issues(
        labels, probabilities, filter_by="confident_learning", n_jobs=1
    )
    found = find_label_errors(grader_of(labels, probabilities)).found
    mine = {int(each.image[5:8]) for each in found}
    assert len(mine) > 20 and mine == set(np.flatnonzero(expected).tolist())


def test_the_thresholds_and_the_suggestion_are_those_computed_by_hand():
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55]])
    thresholds = mean_self_confidence(targets, probabilities)
    assert thresholds == pytest.approx([0.55, 0.625])
    assert confident_class(probabilities, thresholds).tolist() == [0, 1, 1, -1]
    found = find_label_errors(grader_of(targets, probabilities, classes_of(("no", "yes")))).found
    assert [(each.image, each.suggested) for each in found] == [("test/001.jpg", 1)]
    assert found[0].score == pytest.approx(0.6)


def test_ties_keep_the_order_of_the_files():
    targets = [0] * 6 + [1] * 6
    probabilities = [[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 8
    found = find_label_errors(grader_of(targets, probabilities, classes_of(("0", "1"))))
    assert [each.image for each in found.found] == ["test/004.jpg", "test/005.jpg"]
    assert [row["rank"] for row in found.rows()] == [1, 2]


def test_a_grade_that_no_image_has_is_never_suggested_and_that_is_said():
    targets = np.array([0] * 12 + [2] * 4)
    probabilities = np.tile([0.8, 0.05, 0.05, 0.05, 0.05], (16, 1))
    probabilities[12:] = [0.05, 0.05, 0.8, 0.05, 0.05]
    probabilities[3] = [0.01, 0.96, 0.01, 0.01, 0.01]
    found = find_label_errors(grader_of(targets, probabilities))
    assert found.found == ()
    assert found.notes == (
        "never suggested, as no image is labelled so: grade 1, grade 3, grade 4",
        "suggested on the word of fewer than 10 images: grade 2 (4)",
    )


def test_a_set_of_one_image_has_no_contradiction():
    assert find_label_errors(grader_of([3], [[0.9, 0.1, 0, 0, 0]])).found == ()


def test_the_rows_leave_columns_for_the_grader():
    truth = np.tile(np.arange(5), 20)
    labels = truth.copy()
    labels[7] = 4
    found = find_label_errors(grader_of(labels, 0.9 * np.eye(5)[truth] + 0.02))
    row = found.rows()[0]
    assert row["file"] == "test/007.jpg" and (row["label"], row["suggested_grade"]) == ("4", "2")
    assert row["reviewed_grade"] == row["comment"] == ""
    assert found.to_json()["likely_label_errors"] == len(found.found)
