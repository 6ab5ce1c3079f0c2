"""Temperatures and ensemble weights that are fitted on validation data."""

import numpy as np
import pytest
from scipy.optimize import minimize

from common.fitting.calibration import (
    apply_pair_temperatures,
    apply_temperature,
    fit_pair_temperatures,
    fit_temperature,
    fit_weights,
    pair_logits,
)
from common.pairs import class_pairs

RNG = np.random.default_rng(1)


def drawn(count: int):
    """Probabilities and targets drawn from them: calibrated by construction."""
    logits = RNG.normal(0, 2, (count, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p, np.array([RNG.choice(5, p=row) for row in p])


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_was_applied(true):
    p, targets = drawn(4000)
    distorted = apply_temperature(p, 1 / true)
    assert fit_temperature(distorted, targets) == pytest.approx(true, rel=0.1)


def test_a_temperature_keeps_the_order_and_the_sum():
    p, _ = drawn(50)
    tempered = apply_temperature(p, 2.5)
    assert np.allclose(tempered.sum(1), 1)
    assert np.array_equal(tempered.argmax(1), p.argmax(1))
    assert np.allclose(apply_temperature(p, 1.0), p)
    assert np.isfinite(apply_temperature(np.array([[1.0, 0.0]]), 0.05)).all()


def test_pairs_are_fitted_on_their_own_classes_alone():
    targets = RNG.integers(0, 5, 3000)
    true = RNG.normal(0, 1.2, (3000, 10)).clip(-4, 4)
    for column, (a, b) in enumerate(class_pairs(5)):
        own = np.isin(targets, (a, b))
        targets_own = RNG.random(own.sum()) < 1 / (1 + np.exp(-true[own, column]))
        if column == 3:  # one pair only: redrawing a target would disturb the others
            targets[own] = np.where(targets_own, b, a)
    p = 1 / (1 + np.exp(-3 * true))  # three times too sure
    found = fit_pair_temperatures(p, targets, 5)
    assert found[3] == pytest.approx(3, rel=0.25)
    assert np.allclose(pair_logits(apply_pair_temperatures(p, np.full(10, 3.0))), true, atol=1e-4)
    lonely = fit_pair_temperatures(p[targets != 4], targets[targets != 4], 5)
    assert all(lonely[c] == 1 for c, pair in enumerate(class_pairs(5)) if 4 in pair)


def test_weights_maximise_the_likelihood_on_the_simplex():
    good, targets = drawn(400)
    models = np.stack([good, RNG.dirichlet(np.ones(5), 400), np.roll(good, 1, axis=0)])
    weights = fit_weights(models, targets)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all() and weights[0] > 0.6

    def loss(w):
        p = np.tensordot(w, models, 1)[np.arange(400), targets]
        return -np.log(p).mean()

    best = minimize(
        loss,
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    assert loss(weights) <= best.fun + 1e-5
