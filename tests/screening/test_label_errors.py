"""Likely label errors: flipped labels come first, a perfect grader contradicts none."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import GRADES
from PIL import Image

from common.data.folders import ImageFile, Split
from common.evaluation.questions import Answers
from common.fitting.grader import Grader, Sample
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.reporting.contact_sheets import label_error_sheet
from common.reporting.screening_tables import answers_tables
from common.screening.label_errors import (
    LabelError,
    LabelErrors,
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


@pytest.mark.parametrize(
    ("sharpness", "accuracy", "listed", "rightly"),
    [(2.5, 0.88, 0.57, 0.78), (3, 0.95, 0.61, 0.96), (4, 0.99, 0.71, 0.999)],
)
def test_as_many_wrong_labels_are_found_as_the_documentation_says(
    sharpness, accuracy, listed, rightly
):
    truth, shares = np.tile(np.arange(5), 60), []
    for seed in range(60):
        probabilities = skilled(truth, sharpness, seed)
        flipped = np.random.default_rng(1000 + seed).choice(len(truth), 15, replace=False)
        labels = truth.copy()
        labels[flipped] = (truth[flipped] + 2) % 5
        found = find_label_errors(grader_of(labels, probabilities)).found
        rows = {int(each.image[5:8]) for each in found}
        hits = len(rows & set(flipped.tolist()))
        right = np.delete(probabilities.argmax(1) == truth, flipped).mean()
        shares.append((right, hits / 15, hits / len(rows)))
    assert np.mean(shares, axis=0) == pytest.approx((accuracy, listed, rightly), abs=0.006)


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


def test_where_much_is_contradicted_the_model_is_doubted():
    truth = np.tile(np.arange(5), 20)
    few, many = truth.copy(), truth.copy()
    few[:5], many[:20] = few[:5][::-1], (many[:20] + 1) % 5
    said = 0.9 * np.eye(5)[truth] + 0.02
    assert find_label_errors(grader_of(few, said)).notes == ()
    assert "more about the model" in find_label_errors(grader_of(many, said)).notes[-1]


def test_a_set_of_one_image_has_no_contradiction():
    assert find_label_errors(grader_of([3], [[0.9, 0.1, 0, 0, 0]])).found == ()


def test_labels_that_the_models_have_learned_are_not_judged():
    grader = grader_of([0, 1], np.eye(5)[[1, 0]])
    learned = replace(grader, judged_on=replace(grader.judged_on, name="train"))
    assert "have learned the labels of train" in find_label_errors(learned)


def test_the_table_leaves_columns_for_a_grader_and_shows_the_first_rows_only():
    truth = np.tile(np.arange(5), 40)
    labels = truth.copy()
    labels[:30:2] = (truth[:30:2] + 2) % 5
    found = find_label_errors(grader_of(labels, 0.9 * np.eye(5)[truth] + 0.02))
    (table,) = (t for t in answers_tables(Answers(label_errors=found)) if t.name == "label_errors")
    header, rows = table.to_csv()
    assert header == [
        "rank",
        "file",
        "label",
        "suggested_grade",
        "probability_of_label",
        "probability_of_suggested",
        "score",
        "reviewed_grade",
        "comment",
    ]
    assert len(rows) == found.to_json()["likely_label_errors"] == 15
    assert rows[0] == [1, "test/000.jpg", "2", "0", *map(pytest.approx, (0.02, 0.92, 0.9)), "", ""]
    text = table.to_text()
    assert "test/018.jpg" in text and "test/020.jpg" not in text
    assert "15 of 200 images" in text and "The first 10 are shown" in text


def test_a_table_without_a_contradicted_label_says_so():
    targets = np.tile(np.arange(5), 20)
    (table,) = answers_tables(
        Answers(label_errors=find_label_errors(grader_of(targets, np.eye(5)[targets])))
    )
    assert table.rows == () and table.notes == (
        "No label of 100 images is contradicted with confidence.",
    )


def test_the_sheet_shows_the_pictures_and_goes_where_there_is_nothing_to_show(tmp_path):
    Image.new("RGB", (90, 60), "red").save(tmp_path / "a.png")
    image = ImageFile("test/0/a.png", str(tmp_path / "a.png"), "test", 0, 1, 1, "0")
    split, sheet = Split("test", (image,)), tmp_path / "sheet.png"
    error = LabelError("test/0/a.png", 0, 2, 0.1, 0.8)
    found = LabelErrors((error,), 1, tuple("01234"), (0.5,) * 5, ())
    label_error_sheet(found, split, sheet)
    assert (255, 0, 0) in {color for _, color in Image.open(sheet).getcolors(1 << 20)}
    label_error_sheet(replace(found, found=()), split, sheet)
    assert not sheet.exists()
