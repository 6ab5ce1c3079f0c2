"""Areas under the ROC curve, and bounds of them that hold near 1."""

import math

import numpy as np
import pytest

from common.metrics.auc import auc_interval, roc_auc
from common.system.errors import InputError

POSITIVES = np.arange(50) < 20


def test_scores_that_are_no_numbers_are_refused():
    for wrong in (math.nan, math.inf, -math.inf):
        scores = np.linspace(0, 1, 50)
        scores[3] = wrong
        with pytest.raises(InputError, match=r"scores that are finite numbers.*first at \[3\]"):
            roc_auc(scores, POSITIVES)
    with pytest.raises(InputError, match="a score for each of 50 images"):
        roc_auc(np.zeros(49), POSITIVES)
    with pytest.raises(InputError, match="weights that are finite numbers"):
        roc_auc(np.zeros(50), POSITIVES, np.full((2, 50), math.nan))


def test_bounds_solve_the_equation_of_newcombes_method_5():
    found = auc_interval(0.9, POSITIVES)
    for area in (found.low, found.high):
        spread = 1 + 24 * ((1 - area) / (2 - area) + area / (1 + area))
        error = math.sqrt(area * (1 - area) * spread / (20 * 30))
        assert abs(0.9 - area) == pytest.approx(1.959964 * error, rel=1e-5)
    assert found.low < 0.9 < found.high


def test_an_area_of_1_or_0_leaves_doubt_that_shrinks_with_more_images():
    few, many = auc_interval(1.0, POSITIVES), auc_interval(1.0, np.tile(POSITIVES, 10))
    assert 0.8 < few.low < 0.95 < many.low < 1 and few.high == 1
    mirrored = auc_interval(0.0, POSITIVES)
    assert (mirrored.low, mirrored.high) == pytest.approx((0, 1 - few.low))


def test_bounds_rise_with_the_area():
    for positives in (POSITIVES, np.arange(4) < 1, np.arange(2000) < 400):
        found = [auc_interval(area, positives) for area in np.linspace(0, 1, 101)]
        for end in ("low", "high"):
            assert (np.diff([vars(each)[end] for each in found]) >= 0).all()


def test_images_of_the_same_patient_count_less():
    alone, paired = (auc_interval(0.9, POSITIVES, groups) for groups in (None, np.arange(50) // 2))
    assert paired.low < alone.low and paired.high > alone.high
    assert auc_interval(0.9, POSITIVES, np.arange(50)) == alone
    assert math.isnan(auc_interval(math.nan, POSITIVES).low)


def test_positives_are_0_and_1_and_an_area_needs_both():
    as_numbers = roc_auc(np.linspace(0, 1, 50), POSITIVES.astype(int))
    assert as_numbers == roc_auc(np.linspace(0, 1, 50), POSITIVES)
    for wrong in (-1, 2, math.nan):
        with pytest.raises(InputError, match="expected positives of 0 to 1"):
            roc_auc(np.linspace(0, 1, 50), np.where(POSITIVES, 1, wrong))
    for one_kind in (np.zeros(5, bool), np.ones(5, bool)):
        assert math.isnan(auc_interval(0.5, one_kind).value)
