"""Results at the grade mix of a population, where single images decide much."""

import math

import numpy as np
import pytest
from helpers import GRADES

from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import BootstrapConfig, Interval
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.screening.prevalence import restate_models, restated_with_intervals

MIX = np.array([0.735, 0.07, 0.15, 0.025, 0.02])
TARGETS = np.repeat(np.arange(5), 20)


def restate(predictions, groups=None, targets=TARGETS, cut: int | None = 2) -> dict[str, Interval]:
    bootstrap = BootstrapConfig(400, groups=groups)
    return restated_with_intervals(targets, predictions, MIX, bootstrap, cut)


def test_mistakes_below_the_cut_leave_doubt_about_referrals():
    predictions = TARGETS.copy()
    predictions[0], predictions[20] = 1, 0  # neither is referred
    found = restate(predictions)
    assert found["ppv"].value == 1 and found["ppv"].low < 0.66 and found["ppv"].high == 1
    assert found["npv"].value == 1 and found["npv"].low < 0.98
    referrals = found["referrals_per_1000"]
    assert referrals.value == pytest.approx(195) and referrals.low < 190 < 200 < referrals.high


def test_no_interval_is_without_width_and_each_holds_its_value():
    for predictions in (TARGETS, np.full(100, 4), np.roll(TARGETS, 7)):
        for groups in (None, np.arange(100) // 3):
            for name, found in restate(predictions, groups).items():
                assert math.isnan(found.value) or found.low <= found.value <= found.high, name
                assert math.isnan(found.value) or found.low < found.high, name


def test_patients_widen_the_intervals():
    predictions = np.where(np.arange(100) % 10 < 2, 4 - TARGETS, TARGETS)
    alone, grouped = restate(predictions), restate(predictions, np.arange(100) // 2)
    for name in ("accuracy", "ppv", "npv", "referrals_per_1000"):
        assert grouped[name].high - grouped[name].low > 1.1 * (alone[name].high - alone[name].low)


def test_what_no_image_tells_is_not_known():
    some = TARGETS < 4
    for found in restate(TARGETS[some], targets=TARGETS[some]).values():
        assert all(map(math.isnan, vars(found).values()))
    without_cut = restate(TARGETS, cut=None)
    assert math.isnan(without_cut["ppv"].low) and without_cut["accuracy"].low < 1


def test_what_is_not_known_has_a_reason():
    def reasons(targets, predictions, mix=MIX, classes=GRADES) -> dict[str, str]:
        models = {"m": ClassPredictions(np.eye(5)[predictions], predictions)}
        found = restate_models(targets, models, GradeMix(mix, ""), BootstrapConfig(20), classes)
        unknown = {k for k, each in found.prevalence["m"].items() if math.isnan(each.value)}
        assert unknown == set(found.prevalence_undefined)
        return found.prevalence_undefined

    assert reasons(TARGETS, TARGETS) == {}
    some = TARGETS[TARGETS < 3]
    assert "has grade 3, grade 4, of which" in reasons(some, some)["accuracy"]
    assert reasons(some, some, np.array([0.5, 0.2, 0.3, 0, 0])) == {}
    assert "nobody" in reasons(TARGETS, np.zeros_like(TARGETS))["ppv"]
    assert "everybody" in reasons(TARGETS, np.full_like(TARGETS, 3))["npv"]
    assert set(reasons(some, np.zeros_like(some), np.eye(5)[0])) == {"kappa", "ppv"}
    unnamed = classes_of(tuple("ABCDE"))
    assert "not known" in reasons(TARGETS, TARGETS, classes=unnamed)["referrals_per_1000"]


def test_predictive_values_are_held_about_as_often_as_promised():
    generator = np.random.default_rng(0)
    held = {"ppv": 0, "npv": 0, "referrals_per_1000": 0}
    referred = np.array([0.02, 0.05, 0.9, 0.97, 0.99])
    truth = {
        "ppv": MIX[2:] @ referred[2:] / (MIX @ referred),
        "npv": MIX[:2] @ (1 - referred[:2]) / (MIX @ (1 - referred)),
        "referrals_per_1000": 1000 * MIX @ referred,
    }
    for _ in range(100):
        sick = generator.random(100) < referred[TARGETS]
        predictions = np.where(sick, np.maximum(TARGETS, 2), np.minimum(TARGETS, 1))
        found = restate(predictions)
        for name in held:
            held[name] += found[name].low <= truth[name] <= found[name].high
    assert min(held.values()) >= 93
