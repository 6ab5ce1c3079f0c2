"""Every setting of the training does what it says."""

import numpy as np
import pytest
import torch
from helpers import history_of

from common.config import TrainConfig
from common.models import checkpoint_file
from common.models.checkpoint import load_pair, restore_pair
from common.pairs import pair_head
from common.result_dir.paths import ResultDir
from common.result_dir.stored import read_history
from common.training import trainer

FLAGS = {
    "batch_size": 3,
    "gradient_accumulation_steps": 3,
    "learning_rate": 2e-3,
    "head_lr_factor": 5.0,
    "layer_decay": 0.5,
    "ema_decay": 0.9,
    "weight_decay": 0.3,
    "scheduler": "linear",
    "warmup_epochs": 0,
    "min_lr": 5e-4,
    "max_grad_norm": 0.01,
    "enable_focal_loss": "false",
    "focal_loss_gamma": 1.0,
    "focal_loss_alpha": 1.0,
    "enable_class_weights": "false",
    "class_weight_power": 0.5,
    "class_weight_0": 3.0,
    "class_weight_1": 3.0,
    "label_smoothing": 0.0,
    "enable_clahe": "false",
    "clahe_clip_limit": 4.0,
    "clahe_tile_grid_size": 4,
    "rotation_range": 5,
    "horizontal_flip": "true",
    "vertical_flip": "true",
    "scale_range": 0.1,
    "shift_range": 0.1,
    "brightness_range": 0.0,
    "contrast_range": 0.0,
    "ovo_dropout": 0.0,
    "seed": 1,
    "freeze_weights": "false",
    "frozen_stages": 1,
    "img_size": 96,
    "epochs": 3,
    "precision": "bf16",
}


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    return tmp_path_factory.mktemp("plain") / "r"


@pytest.mark.parametrize("name", FLAGS)
def test_changing_the_flag_changes_what_is_learned(quick_train, plain, tmp_path, name):
    if not plain.exists():
        assert quick_train(plain, pairs="0-1") == 0
    assert quick_train(tmp_path / "r", pairs="0-1", **{name: FLAGS[name]}) == 0
    assert history_of(tmp_path / "r") != history_of(plain)


def test_classifiers_that_see_all_trained_stages_learn_and_are_asked_so(
    quick_train, tmp_path, capsys
):
    options = {"base_models": "demo_coatnet", "pairs": "0-1", "epochs": 2}
    widths = {}
    for pooled in ("last", "trained"):
        assert quick_train(tmp_path / pooled, pooled_stages=pooled, **options) == 0
        stored = load_pair(ResultDir(tmp_path / pooled).best("demo_coatnet", pair_head((0, 1))))
        again = restore_pair(stored, pooled)
        widths[pooled] = again.branch.classifier.in_features
        with torch.no_grad():
            said = again.branch(again.trunk(torch.rand(2, 3, 64, 64)))
        assert said.shape == (2,)
    assert widths["trained"] > widths["last"]
    assert quick_train(tmp_path / "auto", pooled_stages="auto", **options) == 0
    assert history_of(tmp_path / "auto") == history_of(tmp_path / "trained")
    assert history_of(tmp_path / "last") != history_of(tmp_path / "trained")
    other = options | {"epochs": 3, "pooled_stages": "last", "resume": None, "override": None}
    assert quick_train(tmp_path / "trained", **other) == 2
    assert "pooled_stages" in (error := capsys.readouterr().err)
    assert "no --override can change that" in error


def test_what_has_no_stages_to_join_is_refused_before_anything_is_trained(
    quick_train, tmp_path, capsys
):
    assert quick_train(tmp_path / "r", pooled_stages="auto", dry_run=None) == 0
    assert "classifiers see the last stage alone" in capsys.readouterr().out
    assert quick_train(tmp_path / "r", pooled_stages="trained") == 2
    error = capsys.readouterr().err
    assert "--pooled_stages trained: expected several" in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.pth"))


def test_schedule_warm_up_and_end_as_configured(quick_train, tmp_path):
    options = {"pairs": "2-3", "epochs": 4, "warmup_epochs": 2, "min_lr": 1e-5}
    assert quick_train(tmp_path / "r", **options) == 0
    rates = [row.learning_rate for row in history_of(tmp_path / "r")]
    assert rates[1] == pytest.approx(1e-3) and rates[0] < rates[1] > rates[2]
    assert rates[-1] == pytest.approx(1e-5)


def test_early_stopping_waits_for_patience_and_counts_min_delta(quick_train, tmp_path):
    options = {"pairs": "0-1", "epochs": 12, "min_delta": 2.0}  # no gain is ever that large
    for patience in (2, 4):
        assert quick_train(tmp_path / str(patience), patience=patience, **options) == 0
        assert len(history_of(tmp_path / str(patience))) == patience + 1
    assert quick_train(tmp_path / "free", pairs="0-1", epochs=12, patience=12, min_delta=0) == 0
    assert len(history_of(tmp_path / "free")) == 12


def test_validation_and_checkpoints_come_as_often_as_asked(quick_train, tmp_path, monkeypatch):
    saved = []
    write = trainer.write_checkpoint
    monkeypatch.setattr(
        trainer, "write_checkpoint", lambda p, *rest: (saved.append(p.name), write(p, *rest))
    )
    options = {"pairs": "0-1", "epochs": 6, "validation_frequency": 4, "checkpoint_frequency": 3}
    assert quick_train(tmp_path / "r", **options) == 0
    rows = read_history(ResultDir(tmp_path / "r").history)
    assert [row.validation is not None for row in rows] == [False, False, False, True, False, True]
    assert sum(name.startswith("last") for name in saved) == 1


@pytest.mark.parametrize("monitor", ["val_loss", "val_auc", "val_accuracy"])
def test_the_best_epoch_is_that_of_the_monitored_value(quick_train, tmp_path, monitor):
    assert quick_train(tmp_path / "r", pairs="1-3", epochs=5, monitor=monitor, min_delta=0) == 0
    rows = read_history(ResultDir(tmp_path / "r").history)
    values = [row.validation.monitored(monitor) for row in rows]
    best = int(np.argmin(values) if monitor == "val_loss" else np.argmax(values))
    content = checkpoint_file.load_checkpoint(
        ResultDir(tmp_path / "r").best("demo_convnext", pair_head((1, 3)))
    )
    assert content["best_epoch"] == 1 + best and content["metrics"][monitor] == values[best]


def test_monitor_last_keeps_the_last_epoch_and_never_stops_early(
    quick_train, tmp_path, capsys, monkeypatch
):
    options = {"pairs": "1-3", "epochs": 4, "validation_frequency": 3, "monitor": "last"}
    monkeypatch.setattr(TrainConfig, "without_effect", {})  # which --patience would be
    assert quick_train(tmp_path / "r", patience=1, **options) == 0
    said = capsys.readouterr().out
    assert "kept epoch 4 of 4" in said and "keeps the last" in said
    rows = read_history(ResultDir(tmp_path / "r").history)
    assert [row.validation is not None for row in rows] == [False, False, True, True]
    path = ResultDir(tmp_path / "r").best("demo_convnext", pair_head((1, 3)))
    content = checkpoint_file.load_checkpoint(path)
    assert content["best_epoch"] == 4 and content["metrics"]["epoch"] == 4
