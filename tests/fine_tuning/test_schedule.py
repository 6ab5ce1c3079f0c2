"""Learning rates by step, against hand-computed ones and PyTorch's schedulers."""

import pytest
import torch

from common.config import TrainConfig
from common.fine_tuning.schedule import (
    lr_factor,
    plateau_factor,
    plateau_patience,
    schedule_line,
    schedule_warnings,
)


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


def peak_of(steps_per_epoch: int, **settings) -> float:
    """The largest rate of a run, as its steps would have it."""
    config = TrainConfig(**settings)
    total, warmup = config.epochs * steps_per_epoch, config.warmup_epochs * steps_per_epoch
    least = config.min_lr / config.learning_rate
    return config.learning_rate * max(
        lr_factor(step, total, warmup, config.scheduler, least) for step in range(total)
    )


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 40])
@pytest.mark.parametrize(("epochs", "warmup"), [(5, 10), (1, 10), (9, 10), (3, 4)])
def test_a_warm_up_longer_than_the_run_is_said_with_the_rate_that_is_reached(
    steps_per_epoch, epochs, warmup
):
    settings = {"epochs": epochs, "warmup_epochs": warmup, "learning_rate": 1e-3}
    (said,) = schedule_warnings(TrainConfig(**settings))
    peak = peak_of(steps_per_epoch, **settings)
    assert f"reaches {peak:.3g}, never 0.001; set --warmup_epochs 0" in said and peak < 1e-3


def test_what_the_warning_suggests_silences_it_and_reaches_the_rate():
    for settings in ({"epochs": 20}, {"epochs": 40, "patience": 5}, {"epochs": 10}):
        wrong = TrainConfig(**settings, warmup_epochs=30)
        (said,) = schedule_warnings(wrong)
        suggested = int(said.split("set --warmup_epochs ")[1].split(",")[0])
        assert not schedule_warnings(TrainConfig(**settings, warmup_epochs=suggested))
        assert peak_of(2, **settings, warmup_epochs=suggested) == pytest.approx(5e-5)
    assert not schedule_warnings(TrainConfig())
    (said,) = schedule_warnings(TrainConfig(epochs=10))
    assert "in the last step only" in said


@pytest.mark.parametrize("frequency", [1, 2])
def test_early_stopping_within_the_warm_up_is_said(frequency):
    settings = {"warmup_epochs": 30, "validation_frequency": frequency}
    (said,) = schedule_warnings(TrainConfig(patience=5, **settings))
    reached = 5e-5 * 6 * frequency / 30
    assert f"after epoch {6 * frequency} " in said and f"rate of {reached:.3g}, not 5e-05" in said
    assert not schedule_warnings(TrainConfig(patience=30, **settings))


@pytest.mark.parametrize(
    ("epochs", "patience", "frequency"), [(10, 28, 1), (11, 28, 1), (8, 9, 2), (9, 9, 2)]
)
def test_a_plateau_that_no_run_can_reach_is_said(epochs, patience, frequency):
    config = TrainConfig(
        epochs=epochs,
        patience=patience,
        validation_frequency=frequency,
        warmup_epochs=0,
        scheduler="plateau",
    )
    before_the_last = [0.5] * ((epochs - 1) // frequency)
    lowered = plateau_factor(before_the_last, plateau_patience(config), 0.0) < 1
    assert lowered == (not schedule_warnings(config))


def test_the_plan_says_how_the_rate_moves_and_what_cannot_happen():
    assert schedule_line(TrainConfig()) == (
        "learning rate: 10 of 100 epochs of warm-up, 5e-05, then cosine to 1e-07; stops after 28 "
        "validations without gain"
    )
    short = schedule_line(TrainConfig(epochs=28, warmup_epochs=0, scheduler="plateau"))
    assert "halved after 9" in short and "which 28 epochs cannot hold" in short
    last = TrainConfig(monitor="last", patience=5)
    assert "(--patience and --min_delta have no effect)" in schedule_line(last)
    (said,) = schedule_warnings(TrainConfig(head_lr_factor=1e20))
    assert said.startswith("warning: the learning rate is up to 5e+15")
    assert not schedule_warnings(last), "a warm-up that is longer than the patience does no harm"
