"""The focal loss, against PyTorch's losses and the formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.training.loss import balanced_class_weights, binary_focal_loss, focal_loss

LOGITS = torch.tensor([-2.0, 0.3, 1.5, 4.0])
TARGETS = torch.tensor([0, 1, 0, 1])
ONES = torch.ones(2)


def test_without_focus_it_is_cross_entropy(device):
    expected = F.binary_cross_entropy_with_logits(LOGITS, TARGETS.float(), reduction="none")
    given = (values.to(device) for values in (LOGITS, TARGETS, ONES))
    found = binary_focal_loss(*given, 0.0, 1.0, 0.0)
    assert torch.allclose(found.cpu(), expected)


def test_the_loss_is_that_computed_by_hand():
    # z = 0: p_t = 1/2; smoothed target 0.95; w_1 = 3, gamma 2, alpha 2.5
    loss = binary_focal_loss(
        torch.zeros(1), torch.ones(1).long(), torch.tensor([1.0, 3.0]), 2.0, 2.5, 0.1
    )
    assert loss.item() == pytest.approx(2.5 * 3 * 0.25 * math.log(2), rel=1e-6)


def test_smoothing_moves_the_target_not_the_focus():
    z, s, gamma = torch.tensor([1.2]), 0.1, 3.0
    p = torch.sigmoid(z)
    target = 1 - s + s / 2
    expected = (1 - p) ** gamma * -(target * p.log() + (1 - target) * (1 - p).log())
    loss = binary_focal_loss(z, torch.tensor([1]), ONES, gamma, 1.0, s)
    assert torch.allclose(loss, expected)


@pytest.mark.parametrize("gamma", [0.5, 3.0])
@pytest.mark.parametrize("logit", [-90.0, 0.0, 90.0])
def test_gradients_stay_finite_however_sure_the_classifier(gamma, logit, device):
    z = torch.full((2,), logit, requires_grad=True, device=device)
    targets, weights = torch.tensor([0, 1], device=device), ONES.to(device)
    binary_focal_loss(z, targets, weights, gamma, 1.0, 0.1).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_balanced_weights_give_each_class_the_same_total():
    weights = balanced_class_weights([30, 10])
    assert weights == [40 / 60, 40 / 20]
    with pytest.raises(ValueError, match="at least one image"):
        balanced_class_weights([3, 0])


def test_of_all_classes_without_focus_it_is_smoothed_cross_entropy(device):
    logits, targets = torch.randn(6, 5).to(device), torch.tensor([0, 1, 2, 3, 4, 0], device=device)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], device=device)
    expected = weights[targets] * F.cross_entropy(
        logits, targets, reduction="none", label_smoothing=0.1
    )
    assert torch.allclose(focal_loss(logits, targets, weights, 0.0, 1.0, 0.1), expected)
    focused = focal_loss(logits, targets, weights, 3.0, 2.5, 0.1)
    p = logits.softmax(1)[torch.arange(6), targets]
    assert torch.allclose(focused, 2.5 * (1 - p) ** 3 * expected, atol=1e-6)


def test_of_all_classes_it_is_finite_however_sure():
    logits = torch.tensor([[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 0]), torch.ones(3), 3.0, 2.5, 0.1).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_logits_of_a_pair_take_the_binary_form():
    found = focal_loss(LOGITS, TARGETS, ONES, 2.0, 2.5, 0.1)
    assert torch.equal(found, binary_focal_loss(LOGITS, TARGETS, ONES, 2.0, 2.5, 0.1))
