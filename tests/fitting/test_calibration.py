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
from common.metrics.classification import classification_metrics
from common.pairs import class_pairs
from common.system.errors import InputError

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
    found = fit_temperature(distorted, targets)
    assert found.value == pytest.approx(true, rel=0.1) and found.images == 4000


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
    assert found.values[3] == pytest.approx(3, rel=0.25) and found.fitted == 10
    assert np.allclose(pair_logits(apply_pair_temperatures(p, np.full(10, 3.0))), true, atol=1e-4)
    lonely = fit_pair_temperatures(p[targets != 4], targets[targets != 4], 5)
    assert all(lonely.values[c] == 1 for c, pair in enumerate(class_pairs(5)) if 4 in pair)
    assert lonely.fitted == 6


def test_weights_maximise_the_likelihood_on_the_simplex():
    good, targets = drawn(400)
    models = np.stack([good, RNG.dirichlet(np.ones(5), 400), np.roll(good, 1, axis=0)])
    weights = fit_weights(models, targets)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all() and weights[0] > 0.6

    def loss(w):
        p = np.tensordot(w, models, 1)[np.arange(400), targets]
        return -np.log(p).sum() - 5 * np.log(w).sum()  # with the prior

    best = minimize(
        loss,
        np.full(3, 1 / 3),
        bounds=[(1e-6, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    assert loss(weights) <= best.fun + 1e-3


def test_a_set_without_mistakes_fits_no_temperature():
    p = np.full((61, 5), 0.075)
    p[:, 0] = 0.7
    found = fit_temperature(p, np.zeros(61, dtype=int))
    assert not found.fitted and found.value == 1
    assert found.describe("val") == "not fitted: no mistakes among 61 images"
    pairs = fit_pair_temperatures(np.full((61, 10), 0.3), np.arange(61) % 5, 5)
    assert pairs.fitted and pairs.values.max() < 3
    right = np.stack([np.where(np.arange(61) % 5 == b, 0.8, 0.2) for _, b in class_pairs(5)], 1)
    pairs = fit_pair_temperatures(right, np.arange(61) % 5, 5)
    assert not pairs.fitted and np.array_equal(pairs.values, np.ones(10))


def test_a_pair_of_few_images_keeps_its_probabilities():
    targets = np.arange(45) % 5  # 18 of each pair
    assert not fit_pair_temperatures(RNG.random((45, 10)), targets, 5).fitted


def graded(count: int, skill: float, sureness: float, rng=RNG):
    """Targets, and probabilities of a model whose log probabilities are `sureness` too large."""
    targets = rng.integers(0, 5, count)
    logits = skill * (skill * np.eye(5)[targets] + rng.normal(size=(count, 5)))
    scaled = np.exp(sureness * (logits - logits.max(1, keepdims=True)))
    return scaled / scaled.sum(1, keepdims=True), targets


def ece(p, targets):
    return classification_metrics(targets, p, p.argmax(1))["ece"]


def test_the_default_mends_the_confidence_of_focal_loss_and_smoothing():
    rng = np.random.default_rng(5)
    val, val_targets = graded(61, 3.25, 0.18, rng)
    p, targets = graded(200, 3.25, 0.18, rng)
    assert (p.argmax(1) == targets).mean() == pytest.approx(0.965, abs=0.01)
    assert ece(p, targets) > 0.3
    found = fit_temperature(val, val_targets)
    tempered = apply_temperature(p, found.value)
    assert ece(tempered, targets) < 0.04
    assert np.array_equal(tempered.argmax(1), p.argmax(1))


@pytest.mark.parametrize("count", [20, 61, 200])
@pytest.mark.parametrize("sureness", [0.33, 1.0, 2.5])
def test_calibration_is_never_worse_than_raw_by_more_than_noise(count, sureness):
    rng = np.random.default_rng(0)
    fresh, targets = graded(4000, 3.2, sureness, rng)

    def loss(p):
        return -np.log(np.maximum(p[np.arange(len(targets)), targets], 1e-12)).mean()

    cost: dict[int, list[float]] = {}
    for _ in range(60):
        found = fit_temperature(*graded(count, 3.2, sureness, rng))
        tempered = loss(apply_temperature(fresh, found.value))
        cost.setdefault(min(found.mistakes, 4), []).append(tempered - loss(fresh))
    assert all(np.mean(costs) < 0.02 and max(costs) < 0.06 for costs in cost.values()), cost


def test_equal_models_are_not_weighed_0_and_1_by_chance():
    rng = np.random.default_rng(0)
    for _ in range(20):
        targets = rng.integers(0, 5, 61)
        shared = rng.normal(size=(61, 5))
        scores = 2.5 * np.eye(5)[targets] + 0.8 * shared + 0.6 * rng.normal(size=(2, 61, 5))
        p = np.exp(2.5 * scores)
        weights = fit_weights(p / p.sum(2, keepdims=True), targets)
        assert weights.min() > 0.2 and weights.max() < 0.8


@pytest.mark.parametrize("fault", ["nan", "above", "label -1", "label 5"])
def test_nothing_is_fitted_on_what_is_no_probability_or_no_class(fault):
    p, targets = drawn(30)
    pairs = np.full((30, 10), 0.4)
    if fault.startswith("label"):
        targets[3] = int(fault.split()[1])
    else:
        p[3, 2] = pairs[3, 2] = np.nan if fault == "nan" else 1.5
    for fit in (
        lambda: fit_temperature(p, targets),
        lambda: fit_weights(np.stack([np.full_like(p, 0.2), p]), targets),
        lambda: fit_pair_temperatures(pairs, targets, 5),
    ):
        with pytest.raises(InputError, match="expected"):
            fit()
