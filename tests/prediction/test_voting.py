"""Every vote against its definition: by hand, by optimisation, by scikit-learn."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.utils.multiclass import _ovr_decision_function

from common.metrics.agreement import count_cycles, votes_by_grade
from common.pairs import class_pairs
from common.prediction.voting import (
    SKLEARN_VOTE,
    VOTES,
    combine_models,
    combine_pairs,
    couple,
    hard_votes,
    has_tie,
    pairwise_wins,
    votes_with_confidence,
)


def pair_probabilities(class_probabilities: np.ndarray) -> np.ndarray:
    """The pairs that a consistent set of class probabilities (N, K) implies."""
    p = class_probabilities
    columns = [p[:, b] / (p[:, a] + p[:, b]) for a, b in class_pairs(p.shape[1])]
    return np.stack(columns, axis=1)


def test_coupling_recovers_consistent_probabilities():
    expected = np.random.default_rng(0).dirichlet(np.ones(5), 200)
    found = combine_pairs(pair_probabilities(expected), 5, "coupling")
    assert np.allclose(found.probabilities, expected, atol=1e-6)
    assert np.array_equal(found.predicted, expected.argmax(1))


def test_coupling_minimises_what_the_paper_says():
    wins = pairwise_wins(np.random.default_rng(1).random((5, 10)), 5)

    def cost(p, r):
        differences = r.T * p[:, None] - r * p[None, :]  # r_ji p_i - r_ij p_j
        return (differences**2 * (1 - np.eye(5))).sum()

    for r, found in zip(wins, couple(wins)):
        constraint = {"type": "eq", "fun": lambda p: p.sum() - 1}
        best = minimize(
            cost,
            np.full(5, 0.2),
            args=(r,),
            constraints=constraint,
            bounds=[(0, 1)] * 5,
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert np.allclose(found, best.x, atol=1e-4)


def test_hard_votes_break_ties_by_probability():
    # three classes in a cycle 0 > 1 > 2 > 0; class 2 is surest
    pairs = np.array([[0.4, 0.9, 0.45]])  # p(1 beats 0), p(2 beats 0), p(2 beats 1)
    found = combine_pairs(pairs, 3, "hard")
    assert np.allclose(found.probabilities, 1 / 3)
    assert found.predicted.tolist() == [2]
    assert has_tie(pairs, 3).tolist() == [True]


def test_424_of_1024_patterns_tie():
    patterns = np.array(list(product([0.0, 1.0], repeat=10)))
    assert has_tie(patterns, 5).sum() == 424


def test_soft_and_weighted_votes_agree_with_sums_by_hand():
    pairs = np.array([[0.2, 0.6, 0.7]])
    soft = combine_pairs(pairs, 3, "soft").probabilities
    assert np.allclose(soft, np.array([[0.8 + 0.4, 0.2 + 0.3, 0.6 + 0.7]]) / 3)
    weighted = combine_pairs(pairs, 3, "weighted", np.array([1.0, 0.0, 0.5]))
    assert np.allclose(weighted.probabilities, np.array([[0.8, 0.2 + 0.15, 0.35]]) / 1.5)
    assert weighted.predicted.tolist() == [0]


def test_equal_weights_are_the_soft_vote():
    pairs = np.random.default_rng(2).random((50, 10))
    soft = combine_pairs(pairs, 5, "soft").probabilities
    weighted = combine_pairs(pairs, 5, "weighted", np.full(10, 0.7)).probabilities
    assert np.allclose(soft, weighted)


@pytest.mark.parametrize("vote", ["coupling", "soft", "hard", "weighted"])
def test_every_vote_gives_a_distribution_and_finds_a_clear_winner(vote):
    pairs = np.array(list(product([0.0, 0.5, 1.0], repeat=10)))[::7]
    found = combine_pairs(pairs, 5, vote, np.ones(10))
    scores = found.probabilities
    assert np.isfinite(scores).all() and (scores >= 0).all()
    assert np.allclose(scores.sum(1), 1)
    assert set(found.predicted) <= set(range(5))
    for winner in range(5):
        sure = np.array(
            [[0.98 if b == winner else 0.02 if a == winner else 0.5 for a, b in class_pairs(5)]]
        )
        assert combine_pairs(sure, 5, vote, np.ones(10)).predicted.tolist() == [winner]


def test_unknown_votes_are_refused():
    with pytest.raises(ValueError, match="expected a vote"):
        combine_pairs(np.zeros((1, 10)), 5, "loud")


WRONG_WEIGHTS = [np.nan, np.inf, -0.1, None]


@pytest.mark.parametrize("wrong", WRONG_WEIGHTS)
def test_pair_weights_that_are_none_are_refused(wrong):
    weights = None if wrong is None else np.array([*[0.9] * 9, wrong])
    for given in (weights, np.zeros(10), np.ones(9), np.ones((1, 10))):
        with pytest.raises(ValueError, match="pair_weights, 10 numbers"):
            combine_pairs(np.full((3, 10), 0.7), 5, "weighted", given)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.01, 1.01])
def test_what_is_no_probability_is_refused_by_every_function(wrong):
    pairs = np.full((3, 10), 0.7)
    pairs[1, 4] = wrong
    functions = [partial(combine_pairs, vote=vote) for vote in (*VOTES, SKLEARN_VOTE)]
    functions += [pairwise_wins, hard_votes, has_tie, votes_with_confidence]
    functions.append(count_cycles)
    functions.append(lambda pairs, classes: votes_by_grade(pairs, np.zeros(3, int), classes))
    for function in functions:
        with pytest.raises(ValueError, match=r"of 0 to 1, found 1 that are none.*at \(1, 4\)"):
            function(pairs, 5)
        for shape in ((3, 9), (30,), (3, 10, 1)):
            with pytest.raises(ValueError, match="probabilities of 10 pairs"):
                function(np.full(shape, 0.7), 5)
    classes = np.full((3, 5), 0.2)
    classes[1, 4] = wrong
    with pytest.raises(ValueError, match="class probabilities of 0 to 1"):
        combine_models([np.full((3, 5), 0.2), classes])
    with pytest.raises(ValueError, match="pairwise probabilities"):
        couple(np.full((3, 5, 5), wrong))


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [np.nan, 1], [-1, 2], [np.inf, 1]])
def test_wrong_weights_of_models_and_wrong_shapes_are_refused(weights):
    models = [np.full((3, 5), 0.2)] * 2
    with pytest.raises(ValueError, match="a weight of 0 or more for each of 2 models"):
        combine_models(models, weights)
    for shapes in ([], [models[0], models[0][:2]], [models[0][0]]):
        with pytest.raises(ValueError, match="of each model alike"):
            combine_models(shapes)


def test_models_are_averaged():
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert np.allclose(combine_models([a, b]).probabilities, 0.5)
    assert np.allclose(combine_models([a, b], [3, 1]).probabilities, [[0.75, 0.25]])


def test_votes_with_confidence_are_scikit_learn_s():
    p = np.random.default_rng(5).random((300, 10))
    logits = np.log(p / (1 - p))
    expected = _ovr_decision_function(p > 0.5, logits, 5)
    assert np.allclose(votes_with_confidence(p, 5), expected)
    found = combine_pairs(p, 5, SKLEARN_VOTE)
    scores = found.probabilities
    assert np.array_equal(found.predicted, expected.argmax(1))
    assert (scores > 0).all() and np.allclose(scores.sum(1), 1)
