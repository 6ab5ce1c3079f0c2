"""One network with an output per pair, against the classifiers of single pairs."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.config import TrainConfig
from common.history import EpochRow, Validation
from common.models.backbones import build, resolve
from common.models.ovo import Branch, build_branch
from common.pairs import class_pairs, pair_head, shared_head
from common.prediction.voting import combine_pairs
from common.trained_networks.outputs import pair_probabilities
from common.training import loop
from common.training.loss import binary_focal_loss, shared_focal_loss
from common.training.step import decide, sample_losses
from common.training.trainer import class_weights, loss_weights

PAIRS = class_pairs(5)
COUNTS = [30, 7, 12, 9, 4]
CONFIG = TrainConfig(model="demo_convnext", class_weight_2=3.0)
TARGETS = torch.tensor([0, 3, 4, 1, 2, 2, 4])
OWN_WEIGHTS = [class_weights(CONFIG, pair_head(p), [COUNTS[c] for c in p]) for p in PAIRS]


def one_by_one(columns):
    """Each image's mean over its pairs, from one pair's loss after the other; columns: logits."""
    found = torch.zeros(len(TARGETS))
    for pair, logits, weights in zip(PAIRS, columns, OWN_WEIGHTS):
        own = (pair[0] == TARGETS) | (pair[1] == TARGETS)
        is_second = (TARGETS[own] == pair[1]).long()
        loss = sample_losses(CONFIG, pair_head(pair), torch.tensor(weights), logits[own], is_second)
        found = found.index_add(0, own.nonzero()[:, 0], loss / 4)
    return found


def test_the_loss_is_that_of_the_ten_pairs_computed_one_by_one():
    logits = 3 * torch.randn(len(TARGETS), 10, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor(loss_weights(CONFIG, shared_head(5), COUNTS))
    assert weights.shape == (10, 2) and weights[1].tolist() == pytest.approx([42 / 60, 3.0])
    found = sample_losses(CONFIG, shared_head(5), weights, logits, TARGETS)
    assert torch.allclose(found, one_by_one(logits.T), rtol=1e-6)
    parts = [
        sample_losses(CONFIG, shared_head(5), weights, logits[rows], TARGETS[rows])
        for rows in (slice(0, 2), slice(2, 7))
    ]
    assert torch.equal(torch.cat(parts), found), "the same in any micro-batch"


def test_three_classes_have_as_many_pairs_as_classes_and_are_told_apart():
    logits, targets = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([1])
    found = shared_focal_loss(
        logits, targets, torch.ones(3, 2), tuple(class_pairs(3)), 0.0, 1.0, 0.0
    )
    # class 1 is the second of pair 0-1 and the first of pair 1-2; pair 0-2 says nothing
    expected = [math.log1p(math.exp(-2.0)) / 2 + math.log1p(math.exp(0.5)) / 2]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_it_starts_as_ten_pair_classifiers_of_one_network_and_has_their_gradients():
    backbone = build(resolve("demo_convnext"), 64, False, "", True, 0)
    shared = build_branch(backbone, shared_head(5), 7)
    classifiers = [build_branch(backbone, pair_head(pair), 7).classifier for pair in PAIRS]
    pixels = torch.randn(len(TARGETS), 3, 64, 64, generator=torch.Generator().manual_seed(2))
    features = backbone.trunk(pixels).detach()
    common = build_branch(backbone, shared_head(5), 7).stages
    columns = [Branch(common, classifier)(features) for classifier in classifiers]
    logits = shared(features)
    assert torch.allclose(logits, torch.stack(columns, 1), atol=1e-6)

    weights = torch.tensor(loss_weights(CONFIG, shared_head(5), COUNTS))
    sample_losses(CONFIG, shared_head(5), weights, logits, TARGETS).mean().backward()
    one_by_one(columns).mean().backward()
    rows = torch.cat([classifier.weight.grad for classifier in classifiers])
    assert torch.allclose(shared.classifier.weight.grad, rows, rtol=1e-4, atol=1e-6)
    for mine, theirs in zip(shared.stages.parameters(), common.parameters()):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_right_answers_in_training_are_those_of_the_soft_vote():
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(3))
    of_pairs = pair_probabilities(logits.numpy(), "shared")
    expected = combine_pairs(of_pairs, 5, "soft").predicted
    assert np.array_equal(decide(shared_head(5), logits).numpy(), expected)


def test_gradients_are_zero_for_the_pairs_of_others_and_finite_however_sure():
    logits = torch.full((1, 10), 90.0, requires_grad=True)
    shared_focal_loss(
        logits, torch.tensor([0]), torch.ones(10, 2), tuple(PAIRS), 3.0, 2.5, 0.1
    ).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].count_nonzero() == 4 and logits.grad[0, :4].all()


def test_the_weights_of_the_classes_are_those_of_each_logit():
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = binary_focal_loss(torch.zeros(2), torch.tensor([1, 0]), weights, 0.0, 1.0, 0.0)
    assert found.tolist() == pytest.approx([2 * math.log(2), 3 * math.log(2)])


def test_the_curves_name_each_pair_of_a_shared_head():
    scores = Validation(0.5, 0.6, 0.7, 0.8, pair_accuracies=tuple(np.arange(10) / 10))
    row = EpochRow("shared", 3, 0.4, 0.5, scores, 1e-3, 10.0, 2.0)
    points = {}
    writer = SimpleNamespace(
        add_scalar=lambda tag, value, step: points.update({tag: (value, step)})
    )
    loop._write_scalars(writer, SimpleNamespace(history=[row], head=shared_head(5)))
    assert points["shared/val_accuracy"] == (0.6, 3)
    assert points["shared/val_accuracy_0-2"] == (0.1, 3) and len(points) == 2 + 4 + 10 + 3
