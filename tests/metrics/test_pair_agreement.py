"""Where the pairs of a model contradict each other."""

import numpy as np
from helpers import GRADES

from common.metrics.agreement import (
    count_cycles,
    measure_consistency,
    votes_by_grade,
)
from common.pairs import class_pairs
from common.prediction.predictions import Cost, Origin, PairPredictions
from common.prediction.voting import ClassPredictions

PAIRS = class_pairs(5)


def ordered(strength: list[float]) -> np.ndarray:
    """Pair probabilities that follow from class strengths: no cycle."""
    s = np.array(strength)
    return np.array([[s[b] / (s[a] + s[b]) for a, b in PAIRS]])


def test_an_order_has_no_cycle():
    pairs = ordered([0.1, 0.4, 0.2, 0.25, 0.05])
    assert count_cycles(pairs, 5) == 0


def test_cycles_are_counted_as_by_hand():
    p = np.array([[0.9, 0.1, 0.9]])  # 0-1: 1 wins, 0-2: 0 wins, 1-2: 2 wins: 1 > 0 > 2 > 1
    assert count_cycles(p, 3) == 1
    assert count_cycles(1 - p, 3) == 1
    # a tournament of five in which everyone beats the next two has the most: five
    beats = {(a, (a + step) % 5) for a in range(5) for step in (1, 2)}
    regular = np.array([[0.0 if (a, b) in beats else 1.0 for a, b in PAIRS]])
    assert count_cycles(regular, 5) == 5


def test_votes_are_counted_on_every_grade_with_images():
    pairs = np.full((4, 10), 0.2)
    pairs[:2, 0] = 0.9
    shares = votes_by_grade(pairs, np.array([0, 1, 1, 3]), 5)
    assert shares["0-1"][:2] == [1.0, 0.5] and shares["0-1"][3] == 0
    assert np.isnan(shares["0-1"][2]) and shares["3-4"][0] == 0


def test_ties_cycles_and_votes_are_measured_together():
    targets = np.arange(50) % 5
    pairs = PairPredictions(
        model="demo_convnext",
        head="ovo",
        class_names=list("01234"),
        ids=np.arange(50).astype(str),
        targets=targets,
        pair_probabilities=np.random.default_rng(0).random((50, 10)),
        pair_accuracies=np.ones(10),
        cost=Cost(1, 1.0, 1.0, "cpu"),
        origin=Origin("", "", "", "fp32"),
        scored=GRADES,
    )
    found = measure_consistency(pairs, ClassPredictions(np.eye(5)[targets], targets))
    assert found.accuracy_of_tied == 1.0 and found.images_with_cycles > 10
    assert len(found.votes_for_higher_class) == 10
