"""What a training says and learns, and where it stops."""

import shutil

import pytest

from common.config import LAST, MONITORS
from common.models import checkpoint_file
from common.pairs import pair_head
from common.result_dir.paths import ResultDir
from common.result_dir.stored import read_history
from common.training import step


def test_a_loss_that_is_no_number_stops_with_place_and_advice(
    quick_train, tmp_path, monkeypatch, capsys
):
    loss, calls = step.focal_loss, []

    def breaks(*inputs):
        calls.append(1)
        value = loss(*inputs)
        return value * float("nan") if len(calls) == 4 else value

    monkeypatch.setattr(step, "focal_loss", breaks)
    assert quick_train(tmp_path / "r", pairs="0-1") == 1
    said = capsys.readouterr().err
    assert "pair 0-1, epoch 1, step 4 of" in said and "--learning_rate" in said


def test_an_empty_class_is_refused_by_name(quick_train, tmp_path, demo, capsys):
    root = shutil.copytree(demo, tmp_path / "images")
    for path in (root / "val" / "2").iterdir():
        path.unlink()
    assert quick_train(tmp_path / "r", dataset_path=root) == 2
    assert "in val, found none of grade 2" in capsys.readouterr().err
    assert quick_train(tmp_path / "r", dataset_path=root, pairs="0-1", resume=None) == 0


def test_the_log_has_one_plain_line_per_pair_and_epoch(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", pairs=["0-1", "0-2"], epochs=2) == 0
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if "  epoch " in line]
    assert len(lines) == 4 and "\r" not in said and "\x1b" not in said
    for part in ("loss", "val acc", "bal", "AUC", "lr", "images/s", "ETA", "best"):
        assert part in lines[0]


@pytest.mark.parametrize("monitor", [name for name in MONITORS if name != LAST])
def test_best_so_far_is_shown_as_what_picks_it(quick_train, tmp_path, capsys, monitor):
    assert quick_train(tmp_path / "r", pairs="0-1", epochs=1, monitor=monitor) == 0
    row = read_history(ResultDir(tmp_path / "r").history)[0]
    value = row.validation.monitored(monitor)
    shown = {
        "val_loss": f"val loss {value:.4f}",
        "val_auc": f"AUC {value:.3f}",
        "val_accuracy": f"acc {value:.1%}",
        "val_balanced_accuracy": f"bal {value:.1%}",
    }
    assert f"best {shown[monitor]} @1" in capsys.readouterr().out


def test_batch_statistics_of_one_image_are_refused(quick_train, tmp_path, capsys):
    options = {"base_models": "demo_coatnet", "freeze_weights": "false", "batch_size": 1}
    assert quick_train(tmp_path / "r", gradient_accumulation_steps=1, **options) == 2
    assert "the effective batch is one image" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["demo_coatnet"])
def test_a_small_network_learns_to_tell_grades_apart(quick_train, large_demo, tmp_path, model):
    options = {
        "freeze_weights": "false",
        "epochs": 4,
        "batch_size": 8,
        "base_models": model,
        "gradient_accumulation_steps": 1,
        "pairs": ["0-3", "2-3", "3-4"],
        "dataset_path": large_demo,
    }
    assert quick_train(tmp_path / "r", **options) == 0
    for pair in [(0, 3), (2, 3), (3, 4)]:
        content = checkpoint_file.load_checkpoint(
            ResultDir(tmp_path / "r").best(model, pair_head(pair))
        )
        assert content["metrics"]["val_accuracy"] >= 0.9


def test_weights_that_blow_up_in_the_last_step_are_not_kept(quick_train, tmp_path, capsys):
    values = {"warmup_epochs": 0, "learning_rate": 1e30, "max_grad_norm": 0, "batch_size": 64}
    assert quick_train(tmp_path / "r", pairs="0-1", **values) == 1
    assert "validation loss is not finite at pair 0-1, epoch 1" in capsys.readouterr().err
    assert not ResultDir(tmp_path / "r").best("demo_convnext", pair_head((0, 1))).exists()
