"""Comparing models on the same images: paired bootstrap, McNemar's test, Holm's correction."""

import numpy as np
import pytest

from common.metrics.classification import classification_metrics
from common.metrics.comparison import holm, mcnemar, paired_metrics
from common.metrics.intervals import BootstrapConfig
from common.prediction.voting import ClassPredictions

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 5, 300)


def graded(skill: float):
    predictions = np.where(RNG.random(300) < skill, TARGETS, RNG.integers(0, 5, 300))
    return ClassPredictions(np.eye(5)[predictions] * 0.6 + 0.08, predictions)


GOOD, POOR = graded(0.9), graded(0.5)


def test_values_are_the_metrics_and_draws_are_paired():
    found = paired_metrics(TARGETS, [GOOD, POOR, GOOD], ["accuracy", "kappa"], BootstrapConfig(200))
    alone = classification_metrics(TARGETS, POOR.probabilities, POOR.predicted)
    assert found["kappa"].values[1] == pytest.approx(float(alone["kappa"]))
    draws = found["accuracy"].draws
    assert draws.shape == (200, 3)
    assert np.array_equal(draws[:, 0], draws[:, 2]), "the same resamples"
    same = found["accuracy"].difference(0, 2)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_clear_difference_is_found_with_its_sign():
    paired = paired_metrics(TARGETS, [GOOD, POOR], ["accuracy"], BootstrapConfig(500))["accuracy"]
    found, back = paired.difference(0, 1), paired.difference(1, 0)
    assert 0 < found.low < found.value < found.high and found.p < 0.01
    assert back.value == -found.value and back.high == pytest.approx(-found.low)


def test_grouped_images_widen_the_interval():
    groups = np.repeat(np.arange(30), 10)
    right = np.repeat(RNG.random(30) < 0.6, 10)  # patients are right or wrong as a whole
    predictions = np.where(right, TARGETS, (TARGETS + 1) % 5)
    clustered = ClassPredictions(np.eye(5)[predictions], predictions)
    widths = []
    for chosen in (None, groups):
        bootstrap = BootstrapConfig(500, groups=chosen)
        paired = paired_metrics(TARGETS, [clustered, GOOD], ["accuracy"], bootstrap)
        found = paired["accuracy"].difference(0, 1)
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]


def test_mcnemar_agrees_with_a_count_by_hand():
    first = np.array([1] * 8 + [0] * 2 + [1] * 5, dtype=bool)
    second = np.array([0] * 8 + [1] * 2 + [1] * 5, dtype=bool)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (8, 2)
    assert found.p == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # two-sided binomial, 10 at 1/2
    assert mcnemar(first, first).p == 1


def test_holm_corrects_as_computed_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert len(holm(np.array([]))) == 0
