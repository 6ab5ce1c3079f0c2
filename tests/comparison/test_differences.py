"""Comparing models on the same images: differences, intervals, exact and permutation tests."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers import GRADES
from scipy.stats import binomtest, rankdata

from benchmarks.comparisons import BETTER, EQUAL, Case, compare, share_told_apart
from common.comparison.differences import (
    compare_metrics,
    compare_shares,
    compare_to_best,
    correction_note,
    every_pair,
    few_images_note,
    holm,
    verdict,
)
from common.comparison.sums import BY_CLASS, METRICS, pair_up
from common.comparison.swaps import sign_flip_p, swap_p_values
from common.metrics.classification import classification_metrics, roc_auc
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.system.errors import InputError

ALL = (*METRICS, *(f"{metric}_{k}" for metric in BY_CLASS for k in range(5)))


def model(targets: np.ndarray, skill: float, seed: int, classes: int = 5) -> ClassPredictions:
    noise = np.random.default_rng(seed).normal(0, 1, (len(targets), classes))
    shares = np.exp(noise + skill * np.eye(classes)[targets])
    shares /= shares.sum(1, keepdims=True)
    return ClassPredictions(shares, shares.argmax(1))


def measured(targets, one, weights=None):
    return classification_metrics(targets, one.probabilities, one.predicted, weights)


TARGETS = np.random.default_rng(0).integers(0, 5, 120)
GOOD, POOR = model(TARGETS, 3.0, 1), model(TARGETS, 1.0, 2)
EACH = np.arange(len(TARGETS))


@pytest.mark.parametrize("name", ALL)
def test_a_difference_with_and_without_each_image_is_that_of_the_metrics(name):
    found = pair_up(name, TARGETS, GOOD, POOR, EACH)
    expected = measured(TARGETS, GOOD)[name] - measured(TARGETS, POOR)[name]
    assert found.difference == pytest.approx(float(expected), abs=1e-12)
    weights = 1 - np.eye(len(TARGETS))
    left = measured(TARGETS, GOOD, weights)[name] - measured(TARGETS, POOR, weights)[name]
    assert np.allclose(expected - left, found.without, atol=1e-12)
    assert (found.one_unit > 0).all()


def swapped(targets, first, other, exchanged, name):
    """A metric's difference after an exchange of some images' predictions, by the definition."""
    models = []
    for one, two in ((first, other), (other, first)):
        predicted = np.where(exchanged, two.predicted, one.predicted)
        ranks = [rankdata(m.probabilities, axis=0) for m in (one, two)]
        scores = np.where(exchanged[:, None], ranks[1], ranks[0])
        if name.endswith("auc"):
            present = np.unique(targets)
            models.append(np.mean([roc_auc(scores[:, k], targets == k) for k in present]))
        else:
            models.append(classification_metrics(targets, scores / len(targets), predicted)[name])
    return abs(models[0] - models[1])


@pytest.mark.parametrize("name", METRICS[1:])
@pytest.mark.parametrize("grouped", [False, True])
def test_p_agrees_with_every_possible_exchange(name, grouped):
    targets = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    first, other = model(targets, 3.0, 5, 3), model(targets, 0.5, 6, 3)
    units = np.array([0, 0, 1, 2, 2, 3, 4, 4]) if grouped else np.arange(8)
    signs = np.array(list(product([False, True], repeat=int(units.max()) + 1)))[:, units]
    gaps = np.array([swapped(targets, first, other, each, name) for each in signs])
    expected = np.mean(gaps >= gaps[0] - 1e-9)
    paired = [pair_up(name, targets, first, other, units)]
    assert swap_p_values(paired, units, 200, 0) == pytest.approx([expected]), "each is made once"
    apart = np.append(units, 20 + np.arange(12))  # more units, which change nothing
    rows = {
        f: np.append(getattr(paired[0], f), np.zeros((12, n)), 0)
        for f, n in (("first", paired[0].first.shape[1]), ("other", paired[0].other.shape[1]))
    }
    (many,) = swap_p_values([replace(paired[0], **rows)], apart, 20_000, 0)
    assert many == pytest.approx(expected, abs=0.08), "at random"


def test_the_exact_p_is_mcnemar_s_and_by_patient_that_of_every_flip():
    for first, second in ((8, 2), (0, 0), (5, 5), (12, 0)):
        more = np.repeat([1, -1, 0], [first, second, 20])
        expected = binomtest(first, first + second).pvalue if first + second else 1.0
        assert sign_flip_p(more) == pytest.approx(expected)
    more = np.array([3, -1, 2, 2, 1, 0, -2, 3, 1])
    signs = np.array(list(product([1, -1], repeat=len(more))))
    expected = np.mean(np.abs(signs @ more) >= abs(more.sum()))
    assert sign_flip_p(more) == pytest.approx(expected)


@pytest.mark.parametrize("predictions", [POOR, model(TARGETS, 9.0, 3)])
def test_equal_predictions_have_an_interval_of_some_width(predictions):
    both = {"a": predictions, "b": predictions}
    found = compare_metrics(TARGETS, both, [(m, "a", "b") for m in ALL], BootstrapConfig())
    for row in found:
        gap = row.difference
        assert gap.value == 0 and gap.p == 1 and not row.differs
        assert gap.low == -gap.high and 0.002 < gap.high < 0.4, row.metric
    short = ClassPredictions(predictions.probabilities[:61], predictions.predicted[:61])
    both = {"a": short, "b": short}
    (row,) = compare_metrics(TARGETS[:61], both, [("accuracy", "a", "b")], BootstrapConfig())
    assert row.difference.high == pytest.approx(0.064, abs=0.001)


def test_intervals_hold_the_estimate_and_zero_where_p_says_so():
    for seed in range(12):
        targets = np.random.default_rng(seed).integers(0, 5, 40)
        models = {str(n): model(targets, 1 + n, 10 * seed + n) for n in range(3)}
        groups = targets * 10 + np.arange(40) % 4 if seed % 2 else None
        asked = every_pair(list(models), ALL)
        for row in compare_metrics(targets, models, asked, BootstrapConfig(100, 0, groups)):
            gap = row.difference
            if not np.isnan(gap.value):
                assert gap.low <= gap.value <= gap.high and gap.low < gap.high
                if gap.p >= 0.05:
                    assert gap.low <= 0 <= gap.high
                else:
                    assert not gap.low < 0 < gap.high


@pytest.mark.parametrize(("case", "simulations"), [(0, 40), (5, 20), (6, 20)])
def test_equal_models_are_told_apart_in_at_most_one_of_twenty(case, simulations):
    # sevens of models on 61 images: of as many patients, of 30 patients, of two grades
    assert share_told_apart(EQUAL[case], simulations) <= 0.05


def test_a_better_model_is_found():
    case = BETTER[1]
    for seed in range(3):
        rows = compare(case, seed)
        found = {(row.model, row.metric) for row in rows if row.differs}
        assert {("0", "kappa"), ("0", "macro_auc")} <= found
        assert all(row.difference.value > 0 for row in rows if row.differs)


def test_a_set_of_thousands_of_images_is_compared():
    targets = np.random.default_rng(0).integers(0, 5, 3000)
    right, wrong = (ClassPredictions(np.eye(5)[p], p) for p in (targets, (targets + 1) % 5))
    asked = [("kappa", "right", "wrong")]
    models = {"right": right, "wrong": wrong}
    (found,) = compare_metrics(targets, models, asked, BootstrapConfig(20))
    assert found.differs


def test_the_order_of_the_models_turns_the_sign_alone():
    asked = [(metric, a, b) for metric in METRICS for a, b in (("a", "b"), ("b", "a"))]
    found = compare_metrics(TARGETS, {"a": GOOD, "b": POOR}, asked, BootstrapConfig())
    for one, back in zip(found[::2], found[1::2]):
        gap, turned = one.difference, back.difference
        assert (gap.value, gap.low, gap.high) == pytest.approx(
            (-turned.value, -turned.high, -turned.low)
        )
        assert gap.p == pytest.approx(turned.p) and gap.value > 0


def test_patients_count_once():
    groups = np.repeat(np.arange(12), 10)
    right = np.repeat(np.arange(12) < 7, 10)  # patients are right or wrong as a whole
    predicted = np.where(right, TARGETS, (TARGETS + 1) % 5)
    clustered = ClassPredictions(np.eye(5)[predicted], predicted)
    wrong = (TARGETS + 2) % 5
    other = ClassPredictions(np.eye(5)[wrong], wrong)
    asked = [(metric, "a", "b") for metric in METRICS[:3]]
    alone, together = (
        compare_metrics(TARGETS, {"a": clustered, "b": other}, asked, BootstrapConfig(groups=g))
        for g in (None, groups)
    )
    for one, grouped in zip(alone, together):
        assert grouped.difference.p > 4 * one.difference.p
        width, wide = (gap.high - gap.low for gap in (one.difference, grouped.difference))
        assert wide > 1.5 * width
    assert together[0].difference.p == pytest.approx(2 / 2**7), "7 patients, all for the one"


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("patients", [0, 1, 2])
def test_sets_of_any_size_give_an_interval_or_nothing(count, classes, patients):
    groups = np.arange(count) % patients if patients else None
    for seed in range(3):
        targets = np.random.default_rng(seed).integers(0, classes, count)
        models = {str(n): model(targets, n, seed + n, classes) for n in range(3)}
        names = (*METRICS, *(f"{m}_{k}" for m in BY_CLASS for k in range(classes)))
        asked = every_pair(list(models), names)
        found = compare_metrics(targets, models, asked, BootstrapConfig(10, seed, groups))
        for gap in (row.difference for row in found):
            assert np.isnan(gap.value) == np.isnan(gap.p) == np.isnan(gap.p_holm)
            assert np.isnan(gap.low) or gap.low < gap.high
            assert gap.p >= 2**-7 or np.isnan(gap.p), "of at most eight images, each of two sides"
        assert "in at most 5 of 100" in correction_note([row.difference for row in found])


def test_what_is_undefined_is_no_test():
    targets = np.zeros(30, int)
    models = {"a": model(targets, 1.0, 1), "b": model(targets, 3.0, 2)}
    found = {
        row.metric: row.difference
        for row in compare_metrics(targets, models, every_pair(["a", "b"]), BootstrapConfig())
    }
    assert np.isnan([found["macro_auc"].value, found["macro_auc"].p_holm]).all()
    assert not found["macro_auc"].differs and verdict(found["macro_auc"]) == "not defined"
    assert "for all 3 tests" in correction_note(list(found.values()))
    assert found["accuracy"].p_holm <= 3 * found["accuracy"].p
    one_patient = BootstrapConfig(groups=np.zeros(len(TARGETS)))
    for row in compare_metrics(
        TARGETS, {"a": GOOD, "b": POOR}, every_pair(["a", "b"]), one_patient
    ):
        assert row.difference.p == 1 and np.isnan(row.difference.low)


def test_holm_corrects_as_computed_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.01, np.nan, 0.03])) == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)
    assert holm(np.array([0.01, 0.03]), family=5) == pytest.approx([0.05, 0.12])
    assert len(holm(np.array([]))) == 0


def test_the_family_is_all_pairs_in_all_metrics():
    models = {str(n): model(TARGETS, 2.0, n) for n in range(4)}
    found = compare_metrics(TARGETS, models, every_pair(list(models)), BootstrapConfig())
    assert len(found) == 6 * 4
    least = min(found, key=lambda row: row.difference.p)
    assert least.difference.p_holm == pytest.approx(min(1, 24 * least.difference.p))


def test_the_best_is_compared_with_every_other_and_counts_who_is_right_alone():
    models = {"poor": POOR, "good": GOOD, "same": GOOD}
    found = compare_to_best(TARGETS, models, "good", BootstrapConfig())
    assert set(found) == {"poor", "same"}
    poor, same = found["poor"], found["same"]
    first, second = POOR.predicted == TARGETS, GOOD.predicted == TARGETS
    assert poor.mcnemar.only_first == (first & ~second).sum()
    assert poor.mcnemar.only_second == (~first & second).sum()
    assert all(gap.differs and gap.high < 0 for gap in poor.differences.values())
    assert same.mcnemar.p == 1 and not any(gap.differs for gap in same.differences.values())


def test_where_the_best_was_chosen_on_these_images_all_pairs_are_allowed_for():
    models = {str(n): model(TARGETS, 2.0, n) for n in range(4)}
    plain, picked = (
        compare_to_best(TARGETS, models, "0", BootstrapConfig(), here) for here in (False, True)
    )
    accuracies = [found["1"].differences["accuracy"] for found in (plain, picked)]
    assert accuracies[0].p == accuracies[1].p
    least = min(
        (gap for found in picked.values() for gap in found.differences.values()),
        key=lambda gap: gap.p,
    )
    assert least.p_holm == pytest.approx(min(1, 6 * 4 * least.p))
    assert accuracies[0].p_holm <= accuracies[1].p_holm


def test_shares_of_several_models_are_compared_as_counted_by_hand():
    correct = np.stack([m.predicted == TARGETS for m in (GOOD, POOR, GOOD)], axis=1)
    weights = np.array([[2, -1, -1], [2, -2, 0]])
    over_mean, over_poor = compare_shares(correct, weights, 2, BootstrapConfig())
    shares = correct.mean(0)
    assert over_mean.value == pytest.approx(shares[0] - shares[1:].mean())
    assert over_poor.value == pytest.approx(2 * over_mean.value)
    (row,) = compare_metrics(
        TARGETS, {"a": GOOD, "b": POOR}, [("accuracy", "a", "b")], BootstrapConfig()
    )
    assert over_poor.p == pytest.approx(row.difference.p) == over_mean.p
    assert (over_poor.low, over_poor.high) == pytest.approx(
        (row.difference.low, row.difference.high)
    )


def test_grades_of_few_images_are_named():
    note = few_images_note([20, 19, 0, 5, 40], GRADES)
    assert "fewer than 20 images of" in note and "(19)" in note and "(5)" in note
    assert "(20)" not in note and "(0)" not in note
    assert few_images_note([20, 20], classes_of(("a", "b"))) == ""


def test_many_images_are_compared_too():
    case = Case("3,000 images", images=3000, models=2, better=0.3)
    assert all(row.differs for row in compare(case, 0) if row.metric != "kappa")


def test_what_is_no_label_or_probability_is_refused_by_comparisons():
    spoiled, asked = POOR.probabilities.copy(), every_pair("ab")
    spoiled[3, 2] = np.nan
    models = {"a": GOOD, "b": ClassPredictions(spoiled, POOR.predicted)}
    with pytest.raises(InputError, match="expected probabilities that are finite"):
        compare_metrics(TARGETS, models, asked, BootstrapConfig(20))
    models = {"a": GOOD, "b": ClassPredictions(POOR.probabilities, POOR.predicted - 1)}
    with pytest.raises(InputError, match="expected predictions of 0 to 4"):
        compare_metrics(TARGETS, models, asked, BootstrapConfig(20))
    with pytest.raises(InputError, match="expected labels of 0 to 4"):
        compare_metrics(TARGETS - 1, {"a": GOOD, "b": POOR}, asked, BootstrapConfig(20))
