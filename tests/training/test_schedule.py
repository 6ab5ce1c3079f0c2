"""Learning rates by step, against hand-computed ones and PyTorch's schedulers."""

import pytest
import torch

from common.training.schedule import lr_factor, plateau_factor


def test_warm_up_is_linear_and_reaches_the_peak():
    assert [lr_factor(i, 100, 4, "cosine", 0.0) for i in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("scheduler", ["cosine", "linear"])
def test_decay_ends_at_the_least_rate_and_never_rises(scheduler):
    factors = [lr_factor(i, 50, 10, scheduler, 0.01) for i in range(10, 50)]
    assert factors[-1] == pytest.approx(0.01)
    assert factors == sorted(factors, reverse=True)


def test_cosine_agrees_with_pytorch():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=39, eta_min=0.1)
    for step in range(40):
        rate = optimizer.param_groups[0]["lr"]
        assert lr_factor(step, 40, 0, "cosine", 0.1) == pytest.approx(rate, abs=1e-9)
        optimizer.step()
        oracle.step()


def test_none_stays_and_plateau_halves_after_waiting():
    assert lr_factor(77, 100, 3, "none", 0.1) == 1.0
    assert plateau_factor([0.5, 0.6, 0.6, 0.6], patience=2, min_delta=0.0) == 0.5
    assert plateau_factor([0.5, 0.6, 0.7, 0.8], patience=2, min_delta=0.0) == 1.0
    assert plateau_factor([0.5] * 5, patience=2, min_delta=0.0) == 0.25
