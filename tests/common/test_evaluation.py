import numpy as np
import pytest

from common.evaluation import evaluate_votes


def test_all_votes_are_measured_on_the_same_images():
    generator = np.random.default_rng(0)
    targets, pairs = generator.integers(0, 5, 80), generator.random((80, 10))
    found = evaluate_votes(targets, pairs, np.linspace(0.5, 1, 10), 5, "soft", 50, 0)
    assert set(found["votes"]) == {"coupling", "soft", "hard", "weighted"}
    assert found["metrics"] == found["votes"]["soft"]
    matrix = np.array(found["confusion_matrix"])
    assert matrix.sum() == found["images"] == 80
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.trace(matrix) / 80)
    assert found["images_per_grade"] == np.bincount(targets, minlength=5).tolist()
    assert 0 < found["tied_images"] < 80
