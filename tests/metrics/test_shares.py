"""Shares and their bounds, against SciPy and by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from common.metrics import intervals
from common.metrics.bounds import metrics_with_intervals
from common.metrics.intervals import BootstrapConfig
from common.metrics.shares import (
    Share,
    average_interval,
    clopper_pearson,
    confusion_matrix,
    share_interval,
)
from common.prediction.voting import ClassPredictions
from common.system.errors import InputError


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (7, 7), (249, 250), (81, 100)])
def test_bounds_of_independent_images_are_those_of_clopper_and_pearson(successes, trials):
    oracle = binomtest(successes, trials).proportion_ci(method="exact")
    expected = (successes / trials, oracle.low, oracle.high)
    hits = np.arange(trials) < successes
    for found in (
        clopper_pearson(successes, trials),
        share_interval(hits, None, BootstrapConfig(50)),
        share_interval(hits, np.arange(trials), BootstrapConfig(50)),
    ):
        assert (found.value, found.low, found.high) == pytest.approx(expected)


def test_the_share_of_no_image_is_unknown():
    for groups in (None, np.array([], dtype=int)):
        assert math.isnan(share_interval(np.array([], bool), groups, BootstrapConfig()).value)


def test_patients_of_one_image_each_and_one_of_two_change_little():
    hits, patients = np.arange(200) < 190, np.r_[np.arange(199), 198]
    exact = share_interval(hits, None, BootstrapConfig())
    grouped = share_interval(hits, patients, BootstrapConfig(4000))
    assert grouped.low == pytest.approx(exact.low, abs=0.004)
    assert grouped.high == pytest.approx(exact.high, abs=0.004)


def test_patients_whose_images_are_all_alike_count_as_one_image():
    right = np.arange(60) < 57
    exact = share_interval(right, None, BootstrapConfig())
    eyes = share_interval(np.repeat(right, 3), np.repeat(np.arange(60), 3), BootstrapConfig(4000))
    assert eyes.low == pytest.approx(exact.low, abs=0.006)
    assert eyes.high == pytest.approx(exact.high, abs=0.006)


def test_hits_and_counts_that_are_none_are_refused():
    with pytest.raises(InputError, match="expected hits of 0 to 1"):
        share_interval(np.array([1.0, math.nan]), None, BootstrapConfig())
    for successes, trials in ((3, 2), (-1, 2), (math.nan, 2)):
        with pytest.raises(InputError, match="successes"):
            clopper_pearson(successes, trials)


def test_labels_that_are_no_class_are_refused():
    for labels in ([0, -1], [0, 2], [0.5, 1], [math.nan, 1]):
        with pytest.raises(InputError, match="expected labels of 0 to 1"):
            confusion_matrix(np.array(labels), np.array([0, 1]), 2)
        with pytest.raises(InputError, match="expected predictions of 0 to 1"):
            confusion_matrix(np.array([0, 1]), np.array(labels), 2)


def test_weights_of_patients_do_not_depend_on_blocks_nor_on_whether_they_are_kept(monkeypatch):
    bootstrap = BootstrapConfig(30, 5)
    drawn = []
    for block, kept in ((2**17, 20_000_000), (50, 20_000_000), (50, 0)):
        monkeypatch.setattr(intervals, "_BLOCK", block)
        monkeypatch.setattr(intervals, "_KEPT", kept)
        intervals._kept_weights.cache_clear()
        pairs = list(intervals.posterior_weights(20, bootstrap, 3))
        drawn.append([np.concatenate(each) for each in zip(*pairs)])
    for own, more in drawn:
        assert np.array_equal(own, drawn[0][0]) and np.array_equal(more, drawn[0][1])
        assert np.array_equal(more, intervals.more_weights(bootstrap, 3))


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_averages_are_bounded_together_as_each_alone(groups):
    generator = np.random.default_rng(2)
    targets = np.arange(60) % 3
    scores = generator.dirichlet(np.ones(3), 60) + np.eye(3)[targets] / 2
    classes = ClassPredictions(scores / scores.sum(1, keepdims=True), scores.argmax(1))
    bootstrap = BootstrapConfig(50, 0, groups)
    found = metrics_with_intervals(targets, classes, bootstrap)
    shares = []
    for k in range(3):
        mine = targets == k
        shares.append(Share(mine & (classes.predicted == k), mine, mine))
    alone = average_interval(shares, groups, bootstrap)
    for name, value in vars(alone).items():
        assert vars(found["macro_recall"])[name] == pytest.approx(value, abs=1e-12)
    assert found["macro_recall"] == found["balanced_accuracy"]
