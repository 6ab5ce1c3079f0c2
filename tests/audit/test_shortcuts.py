"""The shortcut probe: what predicts the grade alarms only where no eye can cause it."""

import numpy as np
import pytest

from common.audit import shortcuts
from common.audit.shortcuts import probe

GRADES = np.repeat(np.arange(3), 40)
ALONE = np.arange(120)


@pytest.fixture(autouse=True)
def fewer_permutations(monkeypatch):
    """Draw as few as can give a p-value below 0.02."""
    monkeypatch.setattr(shortcuts, "PERMUTATIONS", 60)


@pytest.fixture
def noise():
    generator = np.random.default_rng(0)
    return {"a": generator.normal(size=120), "b": generator.normal(size=120)}


def test_what_tells_nothing_is_chance(noise):
    found = probe("file", noise, GRADES, ALONE)
    assert found.verdict == "chance" and found.p_value > 0.02
    assert abs(found.balanced_accuracy - found.chance) < 0.15


def test_what_the_eye_cannot_cause_alarms_and_is_named(noise):
    noise["luma table"] = np.where(GRADES == 1, 20.0, 5.0)
    found = probe("file", noise, GRADES, ALONE)
    assert found.verdict == "alarming" and found.p_value < 0.02
    assert next(iter(found.top_features)) == "luma table"
    assert found.grade_auc[1] > 0.99


def test_the_whole_picture_never_alarms(noise):
    noise["contrast"] = GRADES + 0.0
    found = probe("image", noise, GRADES, ALONE)
    assert found.verdict == "above chance" and "lesions" in found.reason


def test_copies_and_patients_cannot_tell_their_own_grade():
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 10)
    grades = generator.integers(0, 2, 60)[groups]
    values = generator.normal(size=60)[groups]  # each group has its own value
    found = probe("file", {"a": values}, grades, groups)
    assert found.images == 60 and found.verdict == "chance"


def test_the_probe_gives_the_same_again(noise):
    assert probe("file", noise, GRADES, ALONE, 3) == probe("file", noise, GRADES, ALONE, 3)


def test_what_cannot_be_measured_says_so(noise):
    few = probe("file", {"a": np.arange(6.0)}, np.arange(6) % 2, np.arange(6))
    assert few.verdict == "not measured" and np.isnan(few.balanced_accuracy)
    same = probe("file", {"a": np.ones(120)}, GRADES, ALONE)
    assert same.verdict == "chance" and np.isnan(same.p_value)


def test_grades_that_no_disease_sets_apart_alarm_together():
    generator = np.random.default_rng(1)
    grades, groups = np.repeat(np.arange(5), 40), np.arange(200)
    noise = generator.normal(0, 0.2, 200)
    blurred = np.isin(grades, (1, 3)) + noise
    found = probe("background", {"sharpness": blurred}, grades, groups)
    assert found.verdict == "alarming" and "which no disease sets apart" in found.reason
    assert next(iter(found.nonmonotone_auc)) in ("1 and 3", "0 and 2 and 4")
    assert "grades " in found.reason
    names = ("No_DR", "Mild", "Moderate", "Severe", "PDR")
    found = probe("background", {"sharpness": blurred}, grades, groups, titles=names)
    assert found.reason.startswith(("Mild and Severe, which", "No_DR and Moderate and PDR, which"))
    found = probe("background", {"haze": (grades >= 3) + noise}, grades, groups)
    assert found.verdict == "above chance", "an end of the scale may be the disease"
