import numpy as np
import pytest

from common.evaluation.comparison import difference, holm, mcnemar, paired_draws
from common.evaluation.metrics import classification_metrics

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 5, 300)


def grader(skill: float):
    predictions = np.where(RNG.random(300) < skill, TARGETS, RNG.integers(0, 5, 300))
    return np.eye(5)[predictions] * 0.6 + 0.08, predictions


GOOD, POOR = grader(0.9), grader(0.5)


def test_values_are_the_metrics_and_draws_are_paired():
    values, draws = paired_draws(TARGETS, [GOOD, POOR, GOOD], ["accuracy", "kappa"], None, 200)
    assert values["kappa"][1] == pytest.approx(
        float(classification_metrics(TARGETS, *POOR)["kappa"])
    )
    assert draws["accuracy"].shape == (200, 3)
    assert np.array_equal(draws["accuracy"][:, 0], draws["accuracy"][:, 2]), "the same resamples"
    same = difference(values["accuracy"], draws["accuracy"], 0, 2)
    assert (same["value"], same["low"], same["high"], same["p"]) == (0, 0, 0, 1)


def test_a_clear_difference_is_found_with_its_sign():
    values, draws = paired_draws(TARGETS, [GOOD, POOR], ["accuracy"], None, 500)
    found = difference(values["accuracy"], draws["accuracy"], 0, 1)
    assert 0 < found["low"] < found["value"] < found["high"] and found["p"] < 0.01
    back = difference(values["accuracy"], draws["accuracy"], 1, 0)
    assert back["value"] == -found["value"] and back["high"] == pytest.approx(-found["low"])


def test_grouped_images_widen_the_interval():
    groups = np.repeat(np.arange(30), 10)
    right = np.repeat(RNG.random(30) < 0.6, 10)  # patients are right or wrong as a whole
    predictions = np.where(right, TARGETS, (TARGETS + 1) % 5)
    clustered = (np.eye(5)[predictions], predictions)
    widths = []
    for chosen in (None, groups):
        values, draws = paired_draws(TARGETS, [clustered, GOOD], ["accuracy"], chosen, 500)
        found = difference(values["accuracy"], draws["accuracy"], 0, 1)
        widths.append(found["high"] - found["low"])
    assert widths[1] > 1.5 * widths[0]


def test_mcnemar_by_hand():
    first = np.array([1] * 8 + [0] * 2 + [1] * 5, dtype=bool)
    second = np.array([0] * 8 + [1] * 2 + [1] * 5, dtype=bool)
    found = mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (8, 2)
    assert found["p"] == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # two-sided binomial, 10 at 1/2
    assert mcnemar(first, first)["p"] == 1


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert len(holm(np.array([]))) == 0
