"""Calibration error of graders whose confidence is right, and scores of what is no probability."""

import math

import numpy as np
import pytest

from common.metrics.calibration_error import (
    brier_score,
    calibrated_level,
    expected_calibration_error,
    negative_log_likelihood,
    squared_calibration_error,
)
from common.metrics.intervals import BootstrapConfig
from common.system.errors import InputError


def calibrated(count, generator, shift=0.0):
    confidences = generator.uniform(0.5, 1, count)
    return confidences, generator.random(count) < confidences - shift


def test_the_error_of_a_calibrated_grader_lies_in_the_range_of_calibrated_ones():
    generator = np.random.default_rng(0)
    inside, errors = 0, []
    for _ in range(100):
        confidences, correct = calibrated(61, generator)
        level = calibrated_level(confidences, BootstrapConfig(200))
        error = float(expected_calibration_error(confidences, correct))
        inside += level.low <= error <= level.high
        errors.append(error)
    assert inside >= 90 and np.mean(errors) == pytest.approx(level.value, abs=0.01)
    assert level.value > 0.08, "which is no sign of wrong confidence on 61 images"
    confidences, correct = calibrated(61, generator, shift=0.3)
    assert expected_calibration_error(confidences, correct) > level.high


def test_the_debiased_error_of_a_calibrated_grader_is_zero_on_average():
    generator = np.random.default_rng(0)
    found = [squared_calibration_error(*calibrated(61, generator)) for _ in range(1000)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 1000**0.5 < 0.01
    found = [squared_calibration_error(*calibrated(200, generator, 0.2)) for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.04, abs=0.004)


def test_more_images_and_the_seed_change_the_level_of_calibrated_graders():
    few, many = (calibrated_level(np.full(n, 0.8), BootstrapConfig(300)) for n in (50, 5000))
    assert many.high < few.low + few.value and many.value < few.value / 5
    assert calibrated_level(np.full(50, 0.8), BootstrapConfig(300)) == few
    assert calibrated_level(np.full(50, 0.8), BootstrapConfig(300, seed=1)) != few
    assert math.isnan(calibrated_level(np.array([]), BootstrapConfig()).value)


def test_the_level_and_the_debiased_error_allow_for_patients_who_are_right_as_a_whole():
    generator, groups = np.random.default_rng(3), np.repeat(np.arange(60), 4)
    inside, debiased, alone = 0, [], []
    level = calibrated_level(np.full(240, 0.8), BootstrapConfig(300, groups=groups))
    for _ in range(200):
        correct = np.repeat(generator.random(60) < 0.8, 4)
        error = float(expected_calibration_error(np.full(240, 0.8), correct))
        inside += level.low <= error <= level.high
        debiased.append(squared_calibration_error(np.full(240, 0.8), correct, groups))
        alone.append(squared_calibration_error(np.full(240, 0.8), correct))
    assert inside >= 180
    assert abs(np.mean(debiased)) < 4 * np.std(debiased) / 200**0.5
    assert np.mean(alone) > 2 * abs(np.mean(debiased))


@pytest.mark.parametrize("score", [brier_score, negative_log_likelihood])
def test_what_is_no_probability_or_no_label_is_refused(score):
    good, labels = np.full((3, 2), 0.5), np.array([0, 1, 1])
    for wrong in (math.nan, math.inf, -0.5, 1.5):
        bad = good.copy()
        bad[1, 0] = wrong
        with pytest.raises(InputError, match="probabilities that are finite numbers between"):
            score(bad, labels)
    for wrong in (-1, 2):
        with pytest.raises(InputError, match="expected labels of 0 to 1"):
            score(good, np.array([0, wrong, 1]))
    with pytest.raises(InputError, match="confidences"):
        expected_calibration_error(np.array([0.5, math.nan]), np.array([True, False]))
