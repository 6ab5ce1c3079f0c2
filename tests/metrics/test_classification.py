"""Metrics against scikit-learn and by hand, and what their intervals cover."""

import math

import numpy as np
import pytest
from helpers import GRADES
from sklearn import metrics as oracle

from common.evaluation.evaluate import undefined_reasons
from common.metrics import calibration_error, classification, shares
from common.metrics.bounds import metrics_with_intervals
from common.metrics.intervals import BootstrapConfig
from common.prediction.voting import ClassPredictions
from common.screening import prevalence
from common.system.errors import InputError


@pytest.fixture
def grading():
    generator = np.random.default_rng(3)
    targets = generator.integers(0, 5, 400)
    probabilities = generator.dirichlet(np.ones(5), 400) + 0.4 * np.eye(5)[targets]
    probabilities = np.round(probabilities / probabilities.sum(1, keepdims=True), 2)  # with ties
    return targets, probabilities, probabilities.argmax(1)


def test_agrees_with_scikit_learn(grading):
    targets, scores, predicted = grading
    found = classification.classification_metrics(targets, scores, predicted, referable_from=2)
    expected = {
        "accuracy": oracle.accuracy_score(targets, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(targets, predicted),
        "kappa": oracle.cohen_kappa_score(targets, predicted, weights="quadratic"),
        "macro_precision": oracle.precision_score(targets, predicted, average="macro"),
        "macro_recall": oracle.recall_score(targets, predicted, average="macro"),
        "macro_f1": oracle.f1_score(targets, predicted, average="macro"),
        "referable_sensitivity": oracle.recall_score(targets >= 2, predicted >= 2),
        "referable_specificity": oracle.recall_score(targets < 2, predicted < 2),
        "referable_auc": oracle.roc_auc_score(targets >= 2, scores[:, 2:].sum(1)),
        "macro_auc": np.mean([oracle.roc_auc_score(targets == k, scores[:, k]) for k in range(5)]),
    }
    for k in range(5):
        expected[f"auc_{k}"] = oracle.roc_auc_score(targets == k, scores[:, k])
        expected[f"recall_{k}"] = oracle.recall_score(targets == k, predicted == k)
        expected[f"precision_{k}"] = oracle.precision_score(targets == k, predicted == k)
        expected[f"f1_{k}"] = oracle.f1_score(targets == k, predicted == k)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-9), name
    matrix = shares.confusion_matrix(targets, predicted, 5)
    assert np.array_equal(matrix, oracle.confusion_matrix(targets, predicted))


def test_probability_scores_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 5, 200)
    scores = generator.dirichlet(np.ones(5), 200)
    assert float(calibration_error.negative_log_likelihood(scores, targets)) == pytest.approx(
        oracle.log_loss(targets, scores)
    )
    by_class = [oracle.brier_score_loss(targets == k, scores[:, k]) for k in range(5)]
    assert float(calibration_error.brier_score(scores, targets)) == pytest.approx(sum(by_class))


def test_calibration_error_agrees_with_a_count_by_hand():
    confidences = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    expected = 4 / 6 * abs(0.75 - 0.95) + 2 / 6 * abs(0.5 - 0.55)
    found = calibration_error.expected_calibration_error(confidences, correct)
    assert float(found) == pytest.approx(expected)


def test_a_weighted_resample_equals_the_repeated_images(grading):
    targets, scores, predicted = grading
    weights = np.random.default_rng(1).integers(0, 3, (4, len(targets))).astype(np.float32)
    found = classification.classification_metrics(targets, scores, predicted, weights, 2)
    for row in range(4):
        take = np.repeat(np.arange(len(targets)), weights[row].astype(int))
        single = classification.classification_metrics(
            targets[take], scores[take], predicted[take], None, 2
        )
        for name, value in single.items():
            assert found[name][row] == pytest.approx(float(value), abs=1e-6), name


def test_what_is_undefined_is_nan_with_a_reason():
    targets, predicted = np.array([0, 0, 1, 2]), np.array([0, 0, 0, 2])
    scores = np.eye(5)[predicted]
    found = classification.classification_metrics(targets, scores, predicted)
    values = {name: float(value) for name, value in found.items()}
    reasons = undefined_reasons(values, shares.confusion_matrix(targets, predicted, 5), GRADES)
    assert math.isnan(values["recall_4"]) and "no image of grade 4" in reasons["recall_4"]
    assert math.isnan(values["precision_1"]) and "never predicted" in reasons["precision_1"]
    assert math.isnan(values["macro_precision"]), (
        "an average over the other grades would look too good"
    )
    other = undefined_reasons({"kappa": math.nan}, np.eye(5), GRADES)
    assert other == {"kappa": "it is not defined on these images"}
    other = undefined_reasons({"kappa": math.nan}, np.diag([0, 3, 0, 0, 0]), GRADES)
    assert other == {"kappa": "the images are all of one grade"}
    assert values["recall_1"] == 0 and values["macro_recall"] == pytest.approx(2 / 3)
    assert set(reasons) == {name for name, value in values.items() if math.isnan(value)}


def test_binary_metrics_agree_with_a_count_by_hand():
    found = classification.binary_metrics(np.array([0.2, 0.6, 0.7, 0.4]), np.array([0, 0, 1, 1]))
    assert (found.accuracy, found.sensitivity, found.specificity) == (0.5, 0.5, 0.5)
    assert found.auc == 0.75
    assert math.isnan(classification.binary_metrics(np.array([0.2]), np.array([0])).auc)


def test_intervals_cover_the_truth_and_shrink_with_more_images():
    generator = np.random.default_rng(5)
    covered, widths = 0, {}
    for count in (60, 600):
        for _ in range(40):
            targets = generator.integers(0, 2, count)
            predicted = np.where(generator.random(count) < 0.8, targets, 1 - targets)
            classes = ClassPredictions(np.eye(2)[predicted], predicted)
            entry = metrics_with_intervals(targets, classes, BootstrapConfig(200))["accuracy"]
            covered += entry.low <= 0.8 <= entry.high
            widths[count] = entry.high - entry.low
    assert covered >= 68  # of 80, where 76 are expected
    assert widths[600] < widths[60] / 2


def test_a_perfect_score_does_not_claim_certainty():
    targets = np.repeat(np.arange(5), 4)
    perfect = ClassPredictions(np.eye(5)[targets], targets)
    found = metrics_with_intervals(targets, perfect, BootstrapConfig(50))
    assert found["recall_3"].value == 1 and found["recall_3"].low < 0.6
    assert found["macro_auc"].low < 0.75 and found["macro_auc"].high == 1
    assert 0.7 < found["kappa"].low < 0.9 and found["kappa"].high == 1


def test_a_bound_that_is_zero_but_for_rounding_is_zero():
    one_answer = ClassPredictions(np.tile([0.6, 0.1, 0.1, 0.1, 0.1], (30, 1)), np.zeros(30, int))
    found = metrics_with_intervals(np.arange(30) % 5, one_answer, BootstrapConfig(50))["kappa"]
    assert found.value == found.low == 0


def test_patients_widen_the_interval():
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 10)
    right = np.repeat(generator.random(40) < 0.7, 10)  # a patient's images stand or fall together
    targets = generator.integers(0, 2, 400)
    predicted = np.where(right, targets, 1 - targets)
    widths = []
    for groups in (None, patients):
        classes = ClassPredictions(np.eye(2)[predicted], predicted)
        found = metrics_with_intervals(targets, classes, BootstrapConfig(groups=groups))["accuracy"]
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0]


def test_a_perfect_auc_has_a_lower_bound_that_more_images_raise():
    bounds = []
    for count in (10, 100):
        targets = np.repeat(np.arange(5), count)
        classes = ClassPredictions(np.eye(5)[targets] * 0.9 + 0.02, targets)
        found = metrics_with_intervals(targets, classes, BootstrapConfig(50))["macro_auc"]
        assert found.value == 1.0 and found.high == 1.0
        bounds.append(found.low)
    assert 0.6 < bounds[0] < bounds[1] < 1


def test_a_grade_that_is_always_right_still_leaves_doubt_at_another_prevalence():
    targets = np.repeat(np.arange(5), [8, 40, 40, 40, 40])
    predictions = targets.copy()
    predictions[targets == 2] = np.tile([1, 2], 20)
    mix = np.array([0.735, 0.07, 0.15, 0.025, 0.02])
    restated = prevalence.restated_with_intervals(targets, predictions, mix, BootstrapConfig(), 2)
    found = restated["accuracy"]
    assert found.low < 0.85 and found.low < found.value <= found.high


def test_figures_that_are_asked_for_alone_are_those_of_all(grading):
    targets, scores, predicted = grading
    classes = ClassPredictions(scores, predicted)
    for groups in (None, np.arange(400) // 3):
        bootstrap = BootstrapConfig(100, groups=groups)
        every = metrics_with_intervals(targets, classes, bootstrap, 2)
        for names in (("kappa", "macro_f1"), ("macro_auc", "ece_null", "accuracy")):
            found = metrics_with_intervals(targets, classes, bootstrap, 2, names)
            assert tuple(found) == names
            for name, alone in found.items():
                assert vars(alone) == pytest.approx(vars(every[name])), name


def test_seed_and_resamples_change_what_is_resampled_and_nothing_else(grading):
    targets, scores, predicted = grading
    classes = ClassPredictions(scores, predicted)
    first, other, more = (
        metrics_with_intervals(targets, classes, bootstrap, 2)
        for bootstrap in (BootstrapConfig(100), BootstrapConfig(100, 1), BootstrapConfig(300))
    )
    for changed in (other, more):
        assert changed["kappa"].low != first["kappa"].low
        assert changed["brier"].high != first["brier"].high
        assert {name: found.value for name, found in changed.items() if name != "ece_null"} == {
            name: found.value for name, found in first.items() if name != "ece_null"
        }
        assert changed["recall_1"] == first["recall_1"], "which is exact"


@pytest.mark.parametrize("change", ["label", "prediction", "probability", "weight"])
def test_what_is_no_label_no_probability_and_no_weight_is_refused(grading, change):
    targets, scores, predicted = (array.copy() for array in grading)
    weights = np.ones((2, len(targets)))
    for wrong in (-1, 5) if change in ("label", "prediction") else (math.nan, math.inf):
        places = {"label": targets, "prediction": predicted, "probability": scores}
        places.get(change, weights)[1] = wrong
        with pytest.raises(InputError, match="expected"):
            classification.classification_metrics(targets, scores, predicted, weights)
