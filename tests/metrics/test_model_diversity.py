"""How differently the models of an ensemble err."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

from common.metrics.agreement import ensemble_diversity, pairwise_diversity

GENERATOR = np.random.default_rng(0)
CORRECT = GENERATOR.random((200, 4)) < np.array([0.9, 0.8, 0.6, 0.7])


def test_pairwise_measures_agree_with_scikit_learn_and_with_counts():
    found = pairwise_diversity(CORRECT)
    for i in range(4):
        for j in range(4):
            first, second = CORRECT[:, i], CORRECT[:, j]
            kappa, phi = cohen_kappa_score(first, second), matthews_corrcoef(first, second)
            assert found.error_kappa[i, j] == pytest.approx(kappa)
            assert found.correlation[i, j] == pytest.approx(phi)
            assert found.disagreement[i, j] == pytest.approx((first != second).mean())
            assert found.double_fault[i, j] == pytest.approx((~first & ~second).mean())


def test_yule_s_q_agrees_with_a_count_by_hand():
    # 3 both right, 1 only the first, 2 only the second, 2 both wrong: (3*2 - 1*2) / (3*2 + 1*2)
    first = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    second = np.array([1, 1, 1, 0, 1, 1, 0, 0], dtype=bool)
    assert pairwise_diversity(np.stack([first, second], 1)).q[0, 1] == pytest.approx(0.5)


def test_a_model_that_never_errs_has_no_correlation():
    perfect = np.stack([np.ones(8, bool), np.arange(8) % 2 == 0], 1)
    assert np.isnan(pairwise_diversity(perfect).correlation[0, 1])


def test_measures_of_the_ensemble_agree_with_counts_by_hand():
    # three models, four images with 3, 2, 1 and 0 of them right
    correct = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    found = ensemble_diversity(correct)
    assert found.entropy == pytest.approx((0 + 1 + 1 + 0) / 4)
    assert found.kohavi_wolpert == pytest.approx((0 + 2 + 2 + 0) / (4 * 9))
    # p(1) = (0 + 1 + 2 + 3) / 12, p(2) = (0 + 0 + 2 + 6) / 24
    assert found.generalised == pytest.approx(1 - (8 / 24) / (6 / 12))
    assert found.oracle_accuracy == pytest.approx(0.75)


def test_kohavi_wolpert_is_the_mean_disagreement_scaled():
    # Kuncheva & Whitaker 2003: KW = (L - 1) / (2 L) * mean disagreement
    pairs = pairwise_diversity(CORRECT).disagreement[np.triu_indices(4, 1)]
    expected = 3 / 8 * pairs.mean()
    assert ensemble_diversity(CORRECT).kohavi_wolpert == pytest.approx(expected)


def test_what_does_not_say_who_is_right_is_refused():
    for wrong in (CORRECT.astype(float), CORRECT[:, 0], CORRECT[:0], CORRECT[:, :0]):
        for measure in (pairwise_diversity, ensemble_diversity):
            with pytest.raises(ValueError, match="expected True or False for each image"):
                measure(wrong)
