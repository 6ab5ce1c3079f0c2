"""Settings and clocks that change between runs or in the middle of one."""

import json
import time
from functools import partial

import pytest
from helpers import FOUR_EPOCHS, MODEL, history_of, same_weights

from common.config import TrainConfig
from common.in_force import TrainedWith
from common.models.backbones import build, resolve
from common.result_dir.paths import ResultDir
from common.result_dir.stored import read_history
from common.system.errors import InputError
from common.training import loop
from common.training.context import Fingerprints
from common.training.resume import check_continuation, start_config


def test_override_accepts_other_settings_and_records_them(quick_train, stopped, capsys):
    changed = {**FOUR_EPOCHS, "learning_rate": 2e-3, "weight_decay": 0.01, "batch_size": 4}
    changed |= {"head_lr_factor": 3, "layer_decay": 0.5, "ema_decay": 0.9}
    assert quick_train(stopped, resume=None, **changed) == 2
    error = capsys.readouterr().err
    assert "learning_rate: 0.001 -> 0.002" in error and "--override accepts" in error
    before = history_of(stopped)
    assert quick_train(stopped, resume=None, override=None, **changed) == 0
    content = json.loads((stopped / "config.json").read_text())
    (entry,) = content["overrides"]
    assert {"name": "learning_rate", "from": 0.001, "to": 0.002} in entry["changes"]
    assert entry["after_epoch"]["0-1"] == 3 and entry["when"].endswith("+00:00")
    assert content["config"]["learning_rate"] == 2e-3
    assert history_of(stopped)[:3] == before and len(history_of(stopped)) == 4
    assert entry["finished"] == []
    trained = TrainedWith.from_content(content)
    assert "learning_rate 0.002 (changed after epochs 0 to 3: 0.001 -> 0.002)" in trained.listed(
        ["epochs", "learning_rate"]
    )
    capsys.readouterr()
    assert quick_train(stopped, resume=None, **changed) == 0, "they are the settings now"
    recorded = (stopped / "config.json").read_bytes()
    changed["epochs"] = 50
    assert quick_train(stopped, resume=None, **changed) == 2
    assert "--override has nothing to train" in capsys.readouterr().err
    assert quick_train(stopped, resume=None, override=None, dry_run=None, **changed) == 2
    assert "learn nothing" in capsys.readouterr().err
    assert quick_train(stopped, resume=None, override=None, **changed) == 2, "none goes on"
    error = capsys.readouterr().err
    assert "would learn nothing from the changed settings (epochs: 4 -> 50)" in error
    assert (stopped / "config.json").read_bytes() == recorded


@pytest.mark.parametrize("epochs", [2, 3])
def test_override_cannot_end_a_training_before_where_it_is(quick_train, stopped, capsys, epochs):
    before = (stopped / "config.json").read_bytes()
    shorter = {**FOUR_EPOCHS, "epochs": epochs}
    assert quick_train(stopped, resume=None, override=None, **shorter) == 2
    assert f"--epochs {epochs}: pair 0-1 has been trained for 3" in capsys.readouterr().err
    assert (stopped / "config.json").read_bytes() == before
    assert quick_train(stopped, resume=None, **FOUR_EPOCHS) == 0, "nothing was lost"


@pytest.mark.parametrize("change", [{"img_size": 96}, {"freeze_weights": "false"}])
def test_override_cannot_change_network_or_pixels(quick_train, stopped, capsys, change):
    assert quick_train(stopped, resume=None, override=None, **FOUR_EPOCHS, **change) == 2
    assert "no --override can change that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "now", "differ"),
    [
        ({"freeze_weights": False}, {"frozen_stages": 0}, []),
        ({"frozen_stages": 0, "freeze_weights": False}, {"freeze_weights": False}, []),
        ({}, {"frozen_stages": 2}, []),  # the model's own cut
        ({"img_size": 64}, {}, []),
        ({}, {"class_names": tuple("01234")}, []),
        ({}, {"precision": "fp32", "use_amp": False}, []),
        (
            {"enable_focal_loss": False, "focal_loss_gamma": 9.0},
            {"enable_focal_loss": False, "focal_loss_alpha": 1.0},
            [],
        ),
        ({"focal_loss_gamma": 9.0}, {"enable_focal_loss": False}, ["enable_focal_loss", "gamma"]),
        ({}, {"frozen_stages": 1}, ["frozen_stages"]),
        ({}, {"img_size": 96}, ["img_size"]),
    ],
)
def test_settings_that_mean_the_same_are_no_difference(tmp_path, before, now, differ):
    old, new = (TrainConfig(model=MODEL, **values) for values in (before, now))
    backbone = build(resolve(MODEL), 64, False, "", new.freezes, 0, new.frozen_stages)
    prints = Fingerprints({"train": "a", "val": "b"}, "c", "fp32", synthetic=False)
    start_config(ResultDir(tmp_path), old, prints, {})
    check = partial(check_continuation, ResultDir(tmp_path), new, backbone, prints, [], True, False)
    if not differ:
        assert check() == []
        return
    with pytest.raises(InputError) as error:
        check()
    assert all(name in str(error.value) for name in differ)


def test_override_needs_resume(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", override=None, **FOUR_EPOCHS) == 2
    assert "add --resume" in capsys.readouterr().err


def test_a_clock_that_goes_backwards_changes_nothing(
    quick_train, undisturbed, tmp_path, monkeypatch, capsys
):
    now = [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    monkeypatch.setattr(loop, "_HEARTBEAT", 0.0)
    assert quick_train(tmp_path / "r", **FOUR_EPOCHS) == 0
    said = capsys.readouterr().out
    assert "epoch ends in " in said and "in -" not in said and "ETA -" not in said
    records = read_history(ResultDir(tmp_path / "r").history)
    assert all(row.seconds > 0 and row.images_per_second > 0 for row in records)
    assert same_weights(tmp_path / "r", undisturbed)


def test_config_says_what_a_run_depends_on(undisturbed):
    content = json.loads((undisturbed / "config.json").read_text())
    assert content["seed"] == 42 and {"torch", "numpy", "opencv"} <= set(content["versions"])
    assert len(content["data"]["train"]) == 16 and "git_commit" in content
    assert content["created"].endswith("+00:00")
