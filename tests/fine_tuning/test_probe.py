"""Classifiers that start as linear probes of the pretrained features."""

import numpy as np
import pytest
import torch
from helpers import MODEL, same_weights, weights_of
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.fine_tuning.probe import STRENGTH, fit_probe
from common.models.backbones import build, native_state, resolve
from common.pairs import heads_of_model, pair_head

FEATURES = np.random.default_rng(0).normal(3, 2, (60, 7)) * [1, 1, 1, 1, 1, 9, 0]
LABELS = np.arange(60) % 3


def oracle(own, targets, class_weight):
    linear = LogisticRegression(C=STRENGTH, class_weight=class_weight, max_iter=5000)
    return make_pipeline(StandardScaler(), linear).fit(FEATURES[own], targets)


def test_a_pair_s_probe_is_scikit_learn_s_on_its_own_images():
    weight, bias = fit_probe(FEATURES, LABELS, pair_head((0, 2)), np.array([1.0, 3.0]))
    own = LABELS != 1
    expected = oracle(own, LABELS[own] // 2, {0: 1.0, 1: 3.0}).decision_function(FEATURES)
    assert weight.shape == (1, 7) and np.allclose(FEATURES @ weight[0] + bias, expected)


def test_a_softmax_s_probe_is_scikit_learn_s_and_a_shared_one_s_outputs_are_those_of_pairs():
    (softmax,), (shared,) = (heads_of_model(3, kind) for kind in ("softmax", "shared"))
    weight, bias = fit_probe(FEATURES, LABELS, softmax, np.ones(3))
    expected = oracle(slice(None), LABELS, None).decision_function(FEATURES)
    assert np.allclose(FEATURES @ weight.T + bias, expected)
    weights = np.array([[1.0, 2.0], [1.0, 1.0], [3.0, 1.0]])
    weight, bias = fit_probe(FEATURES, LABELS, shared, weights)
    for place, pair in enumerate(shared.pairs):
        alone = fit_probe(FEATURES, LABELS, pair_head(pair), weights[place])
        assert np.array_equal(weight[place], alone[0][0]) and bias[place] == alone[1][0]


@pytest.fixture(scope="session")
def stored_weights(tmp_path_factory):
    """Weights of a tiny backbone in the library's own format."""
    net = build(resolve(MODEL), 64, False, "", False, 3).stages
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(native_state(net), path)
    return path


def test_a_pair_starts_from_its_probe_whoever_is_trained_beside_it(
    quick_train, stored_weights, tmp_path, capsys
):
    options = {"no_pretrained": False, "weights": stored_weights, "epochs": 1}
    probe = {**options, "classifier_init": "probe", "learning_rate": 1e-9, "min_lr": 1e-9}
    probe |= {"ema_decay": 0.9}
    assert quick_train(tmp_path / "one", pairs="0-1", **probe) == 0
    assert "linear probes (C 0.001) of so many training images: 0-1 17" in capsys.readouterr().out
    assert quick_train(tmp_path / "two", pairs=["0-1", "1-4"], **probe) == 0
    assert same_weights(tmp_path / "one", tmp_path / "two")
    assert (
        quick_train(tmp_path / "random", pairs="0-1", **probe | {"classifier_init": "random"}) == 0
    )
    started, random = (
        weights_of(tmp_path / name)["classifier", "weight"] for name in ("one", "random")
    )
    assert (started - random).abs().max() > 1e-3
    assert quick_train(tmp_path / "frequent", pairs="0-1", **probe, prior_correction="true") == 0
    own, moved = (weights_of(tmp_path / name) for name in ("one", "frequent"))
    assert torch.allclose(own["classifier", "weight"], moved["classifier", "weight"], atol=1e-6)
    assert (own["classifier", "bias"] - moved["classifier", "bias"]).abs().max() > 0.1
