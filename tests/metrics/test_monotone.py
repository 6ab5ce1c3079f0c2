"""A prediction made right never lowers a bound, a gate or the rating."""

import numpy as np
import pytest
from helpers import GRADES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from common.evaluation.gates import (
    FAIL,
    NOT_MEASURED,
    PASS,
    GateInput,
    Holdout,
    check_gates,
    rating,
)
from common.metrics.bounds import metrics_with_intervals
from common.metrics.intervals import BootstrapConfig, Metrics
from common.prediction.voting import ClassPredictions
from common.screening.prevalence import restated_with_intervals

CUT = 2
COSTS = ("brier", "nll")  # the lower, the better
STATUSES = (NOT_MEASURED, FAIL, PASS)
RATINGS = ("none", "C", "B", "A", "A+")
MIX = np.array([0.735, 0.07, 0.15, 0.025, 0.02])


@st.composite
def gradings(draw, least_right=0.0):
    """Draw targets, predictions, patients of any sizes, and a wrong prediction."""
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    count = draw(st.sampled_from([6, 25, 80, 400]))
    targets = generator.integers(0, 5, count)
    share = draw(
        st.sampled_from([share for share in (0.3, 0.8, 0.95, 1.0) if share >= least_right])
    )
    predicted = np.where(generator.random(count) < share, targets, generator.integers(0, 5, count))
    image = int(generator.integers(count))
    predicted[image] = (targets[image] + draw(st.integers(1, 4))) % 5
    patients = generator.integers(0, max(count // 3, 1), count)
    noise = generator.dirichlet(np.ones(5), count)
    probabilities = 0.5 * noise + 0.5 * np.eye(5)[predicted]
    groups = patients if draw(st.booleans()) else None
    return targets, ClassPredictions(probabilities, predicted), groups, image


def made_right(targets, classes, image) -> ClassPredictions:
    predicted, probabilities = classes.predicted.copy(), classes.probabilities.copy()
    predicted[image] = targets[image]
    probabilities[image] = 0.3 * probabilities[image] + 0.7 * np.eye(5)[targets[image]]
    return ClassPredictions(probabilities, predicted)


def measure(targets, classes, groups) -> Metrics:
    return metrics_with_intervals(targets, classes, BootstrapConfig(100, groups=groups), CUT)


def gates_of(metrics: Metrics):
    families = [GateInput(f"m{i}", f"m{i}", f"family {i}", metrics, [0.99]) for i in range(4)]
    return check_gates(families, metrics, GRADES, Holdout(PASS, ""))


def assert_no_worse(before: Metrics, after: Metrics):
    for name, was in before.items():
        now = after[name]
        if "ece" in name or np.isnan([was.value, now.value]).any():
            continue  # such as the precision of a class that is no longer predicted
        # chance agreement may fall with the mistake; above 6/7 kappa rises for sure (docs)
        if name == "kappa" and was.low < 6 / 7:
            continue
        for end in ("value", "low", "high"):
            gain = vars(now)[end] - vars(was)[end]
            assert (-gain if name in COSTS else gain) >= -1e-9, (name, end, was, now)
    before_gates, after_gates = gates_of(before), gates_of(after)
    for was, now in zip(before_gates, after_gates):
        assert STATUSES.index(now.status) >= STATUSES.index(was.status), was
        assert STATUSES.index(now.lower_bound) >= STATUSES.index(was.lower_bound), was
    assert RATINGS.index(rating(after_gates)) >= RATINGS.index(rating(before_gates))


@given(gradings())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_prediction_made_right_lowers_no_bound_and_no_rating(grading):
    targets, classes, groups, image = grading
    before = measure(targets, classes, groups)
    assert_no_worse(before, measure(targets, made_right(targets, classes, image), groups))


@given(gradings())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_prediction_made_right_lowers_nothing_at_another_prevalence(grading):
    targets, classes, groups, image = grading
    bootstrap, right = BootstrapConfig(100, groups=groups), made_right(targets, classes, image)
    before, after = (
        restated_with_intervals(targets, each.predicted, MIX, bootstrap, CUT)
        for each in (classes, right)
    )
    for name in ("accuracy", "ppv", "npv"):
        for end, was in vars(before[name]).items():
            assert np.isnan(was) or vars(after[name])[end] >= was - 1e-9, (name, end)


@given(gradings())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_interval_has_a_width_and_holds_its_value(grading):
    targets, classes, groups, _ = grading
    found = measure(targets, classes, groups)
    perfect = measure(targets, ClassPredictions(np.eye(5)[targets], targets), groups)
    for name, entry in [*found.items(), *perfect.items()]:
        if name not in ("ece", "squared_ece", "ece_null") and not np.isnan(entry.value):
            assert entry.low <= entry.value <= entry.high and entry.low < entry.high, name


@pytest.mark.parametrize("patients", [None, 2, 5])
def test_from_one_mistake_to_none_no_method_changes(patients):
    targets = np.repeat(np.arange(5), 50)
    groups = None if patients is None else np.arange(250) // patients
    wrong = np.eye(5)[targets] * 0.8 + 0.04
    wrong[0] = np.eye(5)[1] * 0.8 + 0.04
    before = measure(targets, ClassPredictions(wrong, wrong.argmax(1)), groups)
    perfect = np.eye(5)[targets] * 0.8 + 0.04
    after = measure(targets, ClassPredictions(perfect, targets), groups)
    assert_no_worse(before, after)
    assert before["accuracy"].low < after["accuracy"].low < 0.99
    if groups is None:
        assert before["accuracy"].low == pytest.approx(beta.ppf(0.025, 249, 2))
        assert after["accuracy"].low == pytest.approx(0.025 ** (1 / 250))


def test_one_mistake_in_each_grade_does_not_earn_a_better_rating():
    targets = np.repeat(np.arange(5), 250)
    perfect = np.eye(5)[targets] * 0.8 + 0.04
    wrong = perfect.copy()
    wrong[::250] = np.roll(perfect[::250], 1, axis=1)
    before, after = (
        measure(targets, ClassPredictions(each, each.argmax(1)), None) for each in (wrong, perfect)
    )
    assert before["macro_auc"].low < after["macro_auc"].low
    assert_no_worse(before, after)
