import numpy as np

from common.prediction.voting import ClassPredictions
from common.reporting.report import worst_mistakes


def test_the_farthest_and_most_confident_mistakes_come_first():
    targets = np.array([0, 0, 4, 2, 1])
    predictions = np.array([4, 0, 0, 3, 2])
    probabilities = np.full((5, 5), 0.1)
    probabilities[[0, 2], [4, 0]] = 0.5, 0.9
    probabilities[[3, 4], [3, 2]] = 0.3, 0.8
    assert worst_mistakes(targets, ClassPredictions(probabilities, predictions)).tolist() == [
        2,
        0,
        4,
        3,
    ]
    assert len(worst_mistakes(targets, ClassPredictions(probabilities, targets))) == 0
    many = np.zeros(50, dtype=int)
    assert len(worst_mistakes(many, ClassPredictions(np.full((50, 5), 0.2), many + 1))) == 12
