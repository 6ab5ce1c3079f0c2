"""Evidence for a decision: which pairs speak, with which sign, and what models say together."""

import numpy as np
import pytest

from common.evidence.exact import EXACT, Evidence
from common.evidence.maps import (
    Summed,
    combine,
    pair_shares,
    resample,
    sum_pairs,
    weigh_finer,
    weigh_models,
)
from common.pairs import class_pairs


def evidence(classes: int, side: int = 3, images: int = 2, seed: int = 0) -> Evidence:
    generator = np.random.default_rng(seed)
    pairs = classes * (classes - 1) // 2
    maps = generator.normal(size=(images, pairs, side, side)).astype(np.float32)
    constants = generator.normal(size=(images, pairs)).astype(np.float32)
    return Evidence(maps, constants, maps.mean((2, 3)) + constants, EXACT)


def test_referable_is_the_mean_over_the_pairs_that_cross_the_cut():
    found = pair_shares((2, 3, 4), (0, 1), 5)
    # 0-1 0-2 0-3 0-4 1-2 1-3 1-4 2-3 2-4 3-4
    assert found.tolist() == pytest.approx([0, *[1 / 6] * 6, 0, 0, 0])


def test_a_grade_is_the_mean_over_its_pairs_turned_towards_it():
    found = pair_shares((2,), (0, 1, 3, 4), 5)
    assert found.tolist() == pytest.approx([0, 0.25, 0, 0, 0.25, 0, 0, -0.25, -0.25, 0])
    assert pair_shares((0,), (1,), 2).tolist() == [-1] and pair_shares((1,), (0,), 2).tolist() == [
        1
    ]


def test_with_probabilities_pairs_count_as_the_slope_of_the_log_odds():
    scores = np.array([0.3, -1.0, 1.2, 0.1, -0.4])

    def log_odds(values):
        shares = np.exp(values)
        return np.log(shares[2:].sum() / shares[:2].sum())

    steps = 1e-6 * np.eye(5)
    slopes = [(log_odds(scores + step) - log_odds(scores - step)) / 2e-6 for step in steps]
    found = pair_shares((2, 3, 4), (0, 1), 5, np.exp(scores) / np.exp(scores).sum())
    assert np.abs(found).sum() == pytest.approx(1) and not found[[0, 7, 8, 9]].any()
    of_classes = np.zeros(5)
    for share, (a, b) in zip(found, class_pairs(5)):
        of_classes[b] += share  # the logit of a pair is the difference of its classes' scores
        of_classes[a] -= share
    assert of_classes == pytest.approx(slopes, abs=1e-6)
    ruled_out = pair_shares((2,), (0, 1), 3, np.array([0.0, 0.0, 1.0]))
    assert ruled_out.tolist() == pytest.approx([0, 0.5, 0.5])


def test_one_pair_alone_speaks_for_its_higher_grade():
    assert pair_shares((3,), (1,), 5).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="two sides of 5 classes"):
        pair_shares((3,), (3,), 5)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_sum_over_pairs_still_adds_up(classes):
    own = evidence(classes)
    shares = [pair_shares((k,), set(range(classes)) - {k}, classes) for k in (0, classes - 1)]
    for found in (sum_pairs(own, shares[0]), sum_pairs(own, np.stack(shares))):
        assert found.maps.shape == (2, 3, 3) and len(found) == 2
        assert np.allclose(found.maps.mean((1, 2)) + found.constants, found.scores, atol=1e-6)
    assert found.scores[1] == pytest.approx(own.logits[1] @ shares[1], abs=1e-6)


def test_models_with_maps_of_other_sizes_are_averaged_and_still_add_up():
    shares = pair_shares((1, 2), (0,), 3)
    models = [sum_pairs(evidence(3, side, seed=side), shares) for side in (2, 3, 7)]
    found = weigh_models(models, [0.5, 0.5, 0])
    assert found.maps.shape == (2, 7, 7)
    assert np.allclose(found.maps.mean((1, 2)) + found.constants, found.scores, atol=1e-6)
    assert np.allclose(found.scores, (models[0].scores + models[1].scores) / 2)
    assert np.allclose(weigh_models(models[2:], [3]).maps, models[2].maps)


def test_a_finer_map_counts_where_the_exact_one_speaks_for_the_same_side():
    exact = np.array([[[4.0, -2.0], [0.0, 0.0]]], np.float32)
    finer = np.zeros((1, 4, 4), np.float32)
    finer[0, 0] = [3, -3, -3, 3]  # the exact map there: 4, 2.5, -0.5, -2 (linear between middles)
    finer[0, 3] = 5
    found = weigh_finer(exact, finer)
    # linear, each side alone: for 4, 3, 1, 0; against 0, 0.5, 1.5, 2; over the largest, 4
    assert found[0, 0].tolist() == pytest.approx([3, -3 * 0.5 / 4, -3 * 1.5 / 4, 0])
    assert not found[0, 3].any() and found.dtype == np.float32
    assert np.allclose(weigh_finer(7 * exact, finer), found), "the exact map's size is no matter"
    assert not weigh_finer(0 * exact, finer).any()
    wide = weigh_finer(exact[:, :1], np.ones((1, 2, 6), np.float32))
    assert wide.shape == (1, 2, 6) and wide[0, 0, 0] == 1 and not wide[0, :, -1].any()


def test_what_is_combined_adds_up_to_nothing():
    exact, finer = (
        Summed(np.ones((1, side, side), np.float32), np.zeros(1), np.full(1, 2.0))
        for side in (2, 4)
    )
    found = combine(exact, finer)
    assert np.isnan(found.constants).all() and found.scores == 2 and found.maps.shape == (1, 4, 4)
    assert np.isnan(weigh_models([found, found], [0.0, 1.0]).constants).all()


def test_resampling_keeps_the_mean_and_the_place():
    maps = np.zeros((1, 3, 3), np.float32)
    maps[0, 0, 2] = 9
    found = resample(maps, (4, 6))
    assert found.mean() == pytest.approx(1) and found[0, 0, 4] == found[0, 0, 5] == 9
    assert np.count_nonzero(found) == 4 and found[0, 1, 5] == pytest.approx(3)
    assert np.array_equal(resample(maps, (3, 3)), maps)


def test_evidence_of_one_model_is_itself():
    own = Summed(np.ones((1, 2, 2), np.float32), np.zeros(1), np.ones(1))
    assert np.array_equal(weigh_models([own], [1.0]).maps, own.maps)
