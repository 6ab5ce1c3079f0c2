import numpy as np
import pytest

from common.aggregation import SKLEARN_VOTE, VOTES
from common.evaluation import Sampling, evaluate_model


def test_all_votes_are_measured_on_the_same_images():
    generator = np.random.default_rng(0)
    targets, pairs = generator.integers(0, 5, 80), generator.random((80, 10))
    found = evaluate_model(targets, pairs, np.linspace(0.5, 1, 10), 5, "soft", Sampling(50))
    assert set(found["votes"]) == {*VOTES, SKLEARN_VOTE}
    assert found["metrics"] == found["votes"]["soft"]
    matrix = np.array(found["confusion_matrix"])
    assert matrix.sum() == found["images"] == 80
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.trace(matrix) / 80)
    assert found["images_per_grade"] == np.bincount(targets, minlength=5).tolist()
    assert 0 < found["consistency"]["tied_images"] < 80
