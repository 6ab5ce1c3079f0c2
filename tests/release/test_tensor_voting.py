"""Votes, temperatures and means in exported operations equal those of the evaluation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.data.class_names import SetClasses
from common.fitting.calibration import Temperature
from common.fitting.ensemble import GradingRule, MemberRule, grade_again
from common.pairs import class_pairs
from common.prediction.voting import VOTES, pairwise_wins
from common.prediction.voting import couple as couple_in_numpy
from common.release.tensor_voting import Grading, couple

REFERABLE = SetClasses(("not", "referable"), (0, 0, 1, 1, 1))


def pair_probabilities(kind, num_classes, generator, count=500):
    shape = (count, len(class_pairs(num_classes)))
    if kind == "any":
        return generator.random(shape)
    if kind == "sure, also in circles":
        return generator.integers(0, 2, shape).astype(float)
    if kind == "in tenths, with ties":
        return generator.random(shape).round(1)
    scores = 8 * generator.normal(size=(count, num_classes))  # as a softmax head has them
    differences = [scores[:, b] - scores[:, a] for a, b in class_pairs(num_classes)]
    return 1 / (1 + np.exp(-np.stack(differences, axis=1)))


KINDS = ("any", "sure, also in circles", "in tenths, with ties", "of one softmax")


@pytest.mark.parametrize("num_classes", [2, 3, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_coupling_by_elimination_equals_that_by_a_linear_solver(kind, num_classes):
    pairs = pair_probabilities(kind, num_classes, np.random.default_rng(num_classes))
    wins = pairwise_wins(pairs, num_classes)
    found = couple(torch.from_numpy(wins)).numpy()
    np.testing.assert_allclose(found, couple_in_numpy(wins), rtol=0, atol=1e-12)


def rule_of(votes, set_classes, weights=None, temperature=None):
    accuracies = np.linspace(0.5, 1, 10)
    own = Temperature(1.7, 40, 9)
    members = tuple(MemberRule(vote, accuracies, own) for vote in votes)
    weights = np.ones(1) if weights is None else weights
    return GradingRule(members, 5, set_classes, weights, temperature)


RULES = {
    **{vote: rule_of([vote], None) for vote in VOTES},
    "coarser": rule_of(["coupling"], REFERABLE),
    "not calibrated": GradingRule(
        (MemberRule("soft", np.full(10, np.nan), Temperature(why_not="no images")),),
        5,
        None,
        np.ones(1),
        None,
    ),
    "ensemble": rule_of(VOTES, None, np.array([0.4, 0.3, 0.2, 0.1]), Temperature(0.6, 40, 9)),
    "coarser ensemble": rule_of(
        ["coupling", "hard"], REFERABLE, np.array([0.7, 0.3]), Temperature(why_not="off")
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_classes_follow_from_pairs_as_in_the_evaluation(name):
    rule, generator = RULES[name], np.random.default_rng(0)
    pairs = [
        np.concatenate([pair_probabilities(kind, 5, generator, 50) for kind in KINDS])
        for _ in rule.members
    ]
    expected = grade_again(rule, pairs).classes
    probabilities, predicted = Grading(rule)([torch.from_numpy(each) for each in pairs])
    np.testing.assert_allclose(probabilities, expected.probabilities, rtol=0, atol=1e-12)
    fine = np.sort(
        grade_again(replace(rule, set_classes=None), pairs).classes.probabilities, axis=1
    )
    clear = fine[:, -1] - fine[:, -2] > 1e-9  # which of two equal classes is chosen is rounding
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(predicted.numpy()[clear], expected.predicted[clear])
