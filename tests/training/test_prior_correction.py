"""Class weights change what is learned, not how frequent the grades are said to be."""

import math

import numpy as np
import pytest
import torch
from helpers import history_of, weights_of

from common.config import TrainConfig
from common.data.folders import scan_split
from common.pairs import heads_of_model, pair_head
from common.training.loss import moved_by
from common.training.step import sample_losses
from common.training.trainer import loss_weights

COUNTS = torch.tensor([30, 5, 15])
WEIGHTS = {
    "ovo": torch.tensor([0.5, 3.0]),
    "shared": torch.tensor([[0.5, 3.0], [1.0, 2.0], [2.0, 0.5]]),
    "softmax": torch.tensor([0.5, 3.0, 1.0]),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_without_features_a_head_learns_how_frequent_the_classes_are(kind, device):
    head = pair_head((0, 1)) if kind == "ovo" else heads_of_model(3, kind)[0]
    targets = torch.repeat_interleave(COUNTS[: len(head.classes)])
    config = TrainConfig(enable_focal_loss=False, label_smoothing=0.0, prior_correction=True)
    bias = torch.zeros(head.outputs, requires_grad=True, device=device)
    optimizer = torch.optim.LBFGS([bias], max_iter=200)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = bias.expand(len(targets), -1)
        logits = logits.squeeze(1) if head.is_binary else logits
        own = sample_losses(config, head, WEIGHTS[kind], logits, targets.to(device)).mean()
        own.backward()
        return own

    optimizer.step(loss)
    logs = COUNTS.float().log()
    if kind == "softmax":
        expected, found = logs - logs[0], (bias - bias[0]).cpu()
    else:
        pairs = head.pairs or (head.classes,)
        expected, found = torch.stack([logs[b] - logs[a] for a, b in pairs]), bias.cpu()
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_move_each_output_by_their_logarithms(kind):
    head = pair_head((0, 1)) if kind == "ovo" else heads_of_model(3, kind)[0]
    expected = {
        "ovo": [math.log(6)],
        "shared": [math.log(6), math.log(2), -math.log(4)],
        "softmax": [math.log(0.5), math.log(3), 0.0],
    }
    assert moved_by(head, WEIGHTS[kind]).tolist() == pytest.approx(expected[kind])


@pytest.mark.parametrize("kind", WEIGHTS)
def test_it_is_the_same_training_but_for_the_bias(quick_train, demo, tmp_path, kind):
    options = {"head": kind, "monitor": "last", "epochs": 2, "class_weight_power": 0.5}
    options |= {"ema_decay": 0.9, "precision": "fp32"} | ({"pairs": "0-1"} if kind == "ovo" else {})
    for name, changes in (("plain", {}), ("corrected", {"prior_correction": "true"})):
        assert quick_train(tmp_path / name, **options, **changes) == 0
    head = pair_head((0, 1)) if kind == "ovo" else heads_of_model(5, kind)[0]
    plain, corrected = (weights_of(tmp_path / name, head) for name in ("plain", "corrected"))
    bias = ("classifier", "bias")
    moved = plain.pop(bias) - corrected.pop(bias)
    counts = np.bincount(scan_split(demo, "train").labels)[list(head.classes)].tolist()
    weights = torch.tensor(loss_weights(TrainConfig(class_weight_power=0.5), head, counts))
    assert torch.allclose(moved, moved_by(head, weights), atol=1e-4) and moved.abs().max() > 0.1
    for key, value in plain.items():
        assert torch.allclose(corrected[key], value, rtol=1e-3, atol=1e-5), key
    losses = [
        [row.validation.loss for row in history_of(tmp_path / name)]
        for name in ("plain", "corrected")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_run_goes_on_only_as_it_began(quick_train, tmp_path, capsys):
    options = {"pairs": "0-1", "epochs": 1}
    assert quick_train(tmp_path / "r", **options) == 0
    again = {"epochs": 2, "prior_correction": "true", "resume": None, "override": None}
    assert quick_train(tmp_path / "r", **options | again) == 2
    assert "prior_correction: false -> true" in capsys.readouterr().err.lower()
