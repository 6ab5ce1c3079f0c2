import re
import shutil

import numpy as np
import pytest
import torch

from common import result_dir
from common.config import MONITORS
from common.data.synthetic import write_dataset
from common.models import checkpoint_file
from common.models.backbones import build, native_state, resolve
from common.models.ovo import Branch
from common.models.parallel_branches import ParallelBranches
from common.pairs import head_from_classes, pair_head, softmax_head
from common.result_dir import ResultDir
from common.training import loop, step, trainer


def state(output, pair=(0, 1), model="demo_convnext"):
    """All tensors of a pair's file."""
    content = checkpoint_file.load_checkpoint(
        ResultDir(output).best(model, head_from_classes(pair))
    )
    return {
        (part, k): v for part in ("trunk", "top", "classifier") for k, v in content[part].items()
    }


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def close(one, two, tolerance):
    return one.keys() == two.keys() and all(
        torch.allclose(one[key], two[key], atol=tolerance, rtol=1e-3) for key in one
    )


def history(output):
    rows = result_dir.read_history(ResultDir(output).history)
    return [(r.head, r.epoch, r.train_loss, r.validation, r.learning_rate) for r in rows]


# -- invariants --------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", ["true", "false"])
@pytest.mark.parametrize("model", ["demo_convnext", "demo_coatnet"])
def test_a_pair_alone_is_bit_identical_to_a_pair_among_all(quick_train, tmp_path, model, freeze):
    options = {"base_models": model, "freeze_weights": freeze}
    assert quick_train(tmp_path / "all", **options) == 0
    assert quick_train(tmp_path / "one", pairs="2-3", **options) == 0
    assert same(state(tmp_path / "all", (2, 3), model), state(tmp_path / "one", (2, 3), model))


def test_pairs_trained_in_two_runs_make_the_same_directory(quick_train, tmp_path, trained):
    assert quick_train(tmp_path / "r", pairs=["0-1", "2-3"]) == 0
    assert quick_train(tmp_path / "r", resume=None) == 0
    for pair in [(0, 1), (2, 3), (3, 4)]:
        assert same(state(tmp_path / "r", pair), state(trained, pair))
    assert sorted(history(tmp_path / "r")) == sorted(history(trained))
    assert not (tmp_path / "r" / "checkpoints").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("model", "frequency"),
    [("demo_convnext", 1), ("demo_convnext", 2), ("demo_coatnet", 1), ("demo_swinv2", 2)],
)
def test_killed_anywhere_and_resumed_gives_the_same_bits(
    quick_train, tmp_path, monkeypatch, model, frequency
):
    options = {
        "base_models": model,
        "pairs": ["0-1", "2-3"],
        "epochs": 3,
        "freeze_weights": "false",
        "checkpoint_frequency": frequency,
    }
    assert quick_train(tmp_path / "whole", **options) == 0
    train_step, steps = loop.train_step, []

    def dies(*inputs):
        steps.append(1)
        if len(steps) in (3, 16, 22, 31):
            raise Killed
        train_step(*inputs)

    monkeypatch.setattr(loop, "train_step", dies)
    kills = 0
    while True:
        try:
            assert quick_train(tmp_path / "killed", resume=None, **options) == 0
            break
        except Killed:
            kills += 1
    assert kills == 4
    for pair in [(0, 1), (2, 3)]:
        assert same(state(tmp_path / "whole", pair, model), state(tmp_path / "killed", pair, model))
    assert history(tmp_path / "whole") == history(tmp_path / "killed")


def test_a_smaller_micro_batch_changes_the_outcome_to_rounding_only(
    quick_train, tmp_path, monkeypatch, capsys
):
    options = {"pairs": "1-3", "batch_size": 8, "ovo_dropout": 0.28}
    assert quick_train(tmp_path / "whole", **options) == 0
    forward = Branch.forward

    def small_device(self, features, mask=None):
        if torch.is_grad_enabled() and len(features) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return forward(self, features, mask)

    monkeypatch.setattr(Branch, "forward", small_device)
    capsys.readouterr()
    assert quick_train(tmp_path / "parts", **options) == 0
    said = capsys.readouterr().out
    assert "micro-batch 16 -> 8" in said and "micro-batch 4 -> 2" in said
    assert "the effective batch stays 16" in said
    one, two = state(tmp_path / "whole", (1, 3)), state(tmp_path / "parts", (1, 3))
    assert close(one, two, 2e-4)


def test_memory_that_is_never_enough_ends_in_one_line(quick_train, tmp_path, monkeypatch, capsys):
    def no_device(self, features, mask=None):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(Branch, "forward", no_device)
    assert quick_train(tmp_path / "r", pairs="0-1") == 1
    said = capsys.readouterr()
    assert "gradient checkpointing is on" in said.out
    assert re.search(r"out of memory at pair 0-1 .* try --grad_checkpointing on", said.err)


def test_memory_that_runs_out_outside_of_a_step_is_one_line(
    quick_train, tmp_path, monkeypatch, capsys
):
    def no_room(*inputs):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(step, "update", no_room)  # where the moments are allocated
    assert quick_train(tmp_path / "r", pairs="0-1") == 1
    assert re.search(r"error: out of memory .*simulated.* try a smaller", capsys.readouterr().err)


def test_one_classifier_has_none_to_share_launches_with(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", pairs="0-1", pair_parallelism="on") == 0
    assert "single classifier" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["demo_coatnet", "demo_swinv2"])
def test_grad_checkpointing_does_not_change_what_is_learned(quick_train, tmp_path, model):
    options = {"base_models": model, "pairs": "0-1", "freeze_weights": "false"}
    for mode in ("on", "off"):
        assert quick_train(tmp_path / mode, grad_checkpointing=mode, **options) == 0
    assert close(*(state(tmp_path / mode, (0, 1), model) for mode in ("on", "off")), 1e-6)


@pytest.mark.parametrize("model", ["demo_convnext", "demo_swinv2"])
def test_pairs_that_share_launches_learn_the_same_to_rounding(
    quick_train, tmp_path, model, monkeypatch, capsys
):
    groups, train_step = [], loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda context, b: (groups.append(len(b)), train_step(context, b))
    )
    options = {"base_models": model, "pairs": ["0-1", "0-2", "2-3"]}
    for mode in ("on", "off", "auto"):
        groups.clear()
        assert quick_train(tmp_path / mode, pair_parallelism=mode, **options) == 0
        assert max(groups) == (3 if mode == "on" else 1)
        assert ("pairs share launches" in capsys.readouterr().out) == (mode == "on")
    for pair in [(0, 1), (0, 2), (2, 3)]:
        apart, together = (state(tmp_path / mode, pair, model) for mode in ("off", "on"))
        assert close(apart, together, 2e-4) and not same(apart, together)
        assert same(apart, state(tmp_path / "auto", pair, model)), "a CPU takes the loop"


def test_launches_are_not_shared_where_that_cannot_be(quick_train, tmp_path, capsys):
    options = {"pair_parallelism": "on", "pairs": ["0-1", "0-2"]}
    assert quick_train(tmp_path / "a", grad_checkpointing="on", **options) == 2
    assert "--pair_parallelism on cannot be" in capsys.readouterr().err
    options |= {"base_models": "demo_coatnet", "freeze_weights": "false"}
    assert quick_train(tmp_path / "b", **options) == 2
    assert "batch statistics" in capsys.readouterr().err


def test_memory_too_small_for_shared_launches_goes_on_pair_by_pair(
    quick_train, tmp_path, monkeypatch, capsys
):
    calls, run = [], ParallelBranches.__call__

    def fails_later(self, *inputs):
        calls.append(1)
        if len(calls) > 3:  # the three of the measurement pass
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return run(self, *inputs)

    monkeypatch.setattr(ParallelBranches, "__call__", fails_later)
    options = {"pairs": ["0-2", "2-3"]}
    assert quick_train(tmp_path / "on", pair_parallelism="on", **options) == 0
    assert "one after the other from here" in capsys.readouterr().out
    assert quick_train(tmp_path / "off", **options) == 0
    assert same(*(state(tmp_path / mode, (2, 3)) for mode in ("on", "off")))


def test_pretrained_batch_norms_keep_their_statistics(quick_train, tmp_path):
    backbone = build(resolve("demo_coatnet"), 64, False, "", False, 7)
    torch.save(native_state(backbone.stages), tmp_path / "w.pth")
    options = {"base_models": "demo_coatnet", "pairs": "0-1", "freeze_weights": "false"}
    pretrained = {"no_pretrained": False, "weights": tmp_path / "w.pth"}
    assert quick_train(tmp_path / "p", **pretrained, **options) == 0
    assert quick_train(tmp_path / "s", **options) == 0
    kept = {
        k: v for k, v in state(tmp_path / "p", model="demo_coatnet").items() if "running" in k[1]
    }
    assert kept and all(
        torch.equal(v, native_state(backbone.stages)[k[1]]) for k, v in kept.items()
    )
    moved = state(tmp_path / "s", model="demo_coatnet")
    assert any(not torch.equal(moved[k], v) for k, v in kept.items())


# -- every flag is honoured --------------------------------------------------------------------

FLAGS = {
    "batch_size": 3,
    "gradient_accumulation_steps": 3,
    "learning_rate": 2e-3,
    "weight_decay": 0.3,
    "scheduler": "linear",
    "warmup_epochs": 0,
    "min_lr": 5e-4,
    "max_grad_norm": 0.01,
    "enable_focal_loss": "false",
    "focal_loss_gamma": 1.0,
    "focal_loss_alpha": 1.0,
    "enable_class_weights": "false",
    "class_weight_0": 3.0,
    "class_weight_1": 3.0,
    "label_smoothing": 0.0,
    "enable_clahe": "false",
    "clahe_clip_limit": 4.0,
    "clahe_tile_grid_size": 4,
    "rotation_range": 5,
    "brightness_range": 0.0,
    "contrast_range": 0.0,
    "ovo_dropout": 0.0,
    "seed": 1,
    "freeze_weights": "false",
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
    assert history(tmp_path / "r") != history(plain)


def test_schedule_warm_up_and_end_as_configured(quick_train, tmp_path):
    options = {"pairs": "2-3", "epochs": 4, "warmup_epochs": 2, "min_lr": 1e-5}
    assert quick_train(tmp_path / "r", **options) == 0
    rates = [row[4] for row in history(tmp_path / "r")]
    assert rates[1] == pytest.approx(1e-3) and rates[0] < rates[1] > rates[2]
    assert rates[-1] == pytest.approx(1e-5)


def test_early_stopping_waits_for_patience_and_counts_min_delta(quick_train, tmp_path):
    options = {"pairs": "0-1", "epochs": 12, "min_delta": 2.0}  # no gain is ever that large
    for patience in (2, 4):
        assert quick_train(tmp_path / str(patience), patience=patience, **options) == 0
        assert len(history(tmp_path / str(patience))) == patience + 1
    assert quick_train(tmp_path / "free", pairs="0-1", epochs=12, patience=12, min_delta=0) == 0
    assert len(history(tmp_path / "free")) == 12


def test_validation_and_checkpoints_come_as_often_as_asked(quick_train, tmp_path, monkeypatch):
    saved = []
    write = trainer.write_checkpoint
    monkeypatch.setattr(
        trainer, "write_checkpoint", lambda p, *rest: (saved.append(p.name), write(p, *rest))
    )
    options = {"pairs": "0-1", "epochs": 6, "validation_frequency": 4, "checkpoint_frequency": 3}
    assert quick_train(tmp_path / "r", **options) == 0
    rows = result_dir.read_history(ResultDir(tmp_path / "r").history)
    assert [row.validation is not None for row in rows] == [False, False, False, True, False, True]
    assert sum(name.startswith("last") for name in saved) == 1


@pytest.mark.parametrize("monitor", ["val_loss", "val_auc", "val_accuracy"])
def test_the_best_epoch_is_that_of_the_monitored_value(quick_train, tmp_path, monitor):
    assert quick_train(tmp_path / "r", pairs="1-3", epochs=5, monitor=monitor, min_delta=0) == 0
    rows = result_dir.read_history(ResultDir(tmp_path / "r").history)
    values = [row.validation.monitored(monitor) for row in rows]
    best = int(np.argmin(values) if monitor == "val_loss" else np.argmax(values))
    content = checkpoint_file.load_checkpoint(
        ResultDir(tmp_path / "r").best("demo_convnext", pair_head((1, 3)))
    )
    assert content["best_epoch"] == 1 + best and content["metrics"][monitor] == values[best]


# -- trouble -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("monitor", MONITORS)
def test_best_so_far_is_shown_as_what_picks_it(quick_train, tmp_path, capsys, monitor):
    assert quick_train(tmp_path / "r", pairs="0-1", epochs=1, monitor=monitor) == 0
    row = result_dir.read_history(ResultDir(tmp_path / "r").history)[0]
    value = row.validation.monitored(monitor)
    shown = {
        "val_loss": f"val loss {value:.4f}",
        "val_auc": f"AUC {value:.3f}",
        "val_accuracy": f"acc {value:.1%}",
        "val_balanced_accuracy": f"bal {value:.1%}",
    }
    assert f"best {shown[monitor]} @1" in capsys.readouterr().out


def test_a_resumed_run_says_where_it_goes_on(quick_train, tmp_path, trained, capsys, monkeypatch):
    output = shutil.copytree(trained, tmp_path / "r")
    capsys.readouterr()
    assert quick_train(output, resume=None) == 0
    assert "pair 0-1: is finished, 2 epochs" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_line", lambda *_inputs: (_ for _ in ()).throw(KeyboardInterrupt))
        assert quick_train(tmp_path / "s", pairs="0-1", epochs=3) == 130
    assert quick_train(tmp_path / "s", pairs="0-1", epochs=3, resume=None) == 0
    assert "pair 0-1: goes on after epoch 1" in capsys.readouterr().out


def test_batch_statistics_of_one_image_are_refused(quick_train, tmp_path, capsys):
    options = {"base_models": "demo_coatnet", "freeze_weights": "false", "batch_size": 1}
    assert quick_train(tmp_path / "r", gradient_accumulation_steps=1, **options) == 2
    assert "the effective batch is one image" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["demo_coatnet"])
def test_a_small_network_learns_to_tell_grades_apart(quick_train, tmp_path, model):
    write_dataset(tmp_path / "images", {"train": 60, "val": 20}, seed=3, size=128)
    options = {
        "freeze_weights": "false",
        "epochs": 6,
        "batch_size": 8,
        "base_models": model,
        "gradient_accumulation_steps": 1,
        "pairs": ["0-3", "2-3", "3-4"],
        "dataset_path": tmp_path / "images",
    }
    assert quick_train(tmp_path / "r", **options) == 0
    for pair in [(0, 3), (2, 3), (3, 4)]:
        content = checkpoint_file.load_checkpoint(
            ResultDir(tmp_path / "r").best(model, pair_head(pair))
        )
        assert content["metrics"]["val_accuracy"] >= 0.9


# -- the softmax head --------------------------------------------------------------------------


def test_a_softmax_head_trains_resumes_and_is_evaluated(quick_train, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert quick_train(whole, head="softmax", epochs=3) == 0
    finish, calls = loop.finish_epoch, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        finish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish_epoch", dies)
        assert quick_train(killed, head="softmax", epochs=3) == 130
    assert quick_train(killed, head="softmax", epochs=3, resume=None) == 0
    pair = (0, 1, 2, 3, 4)
    assert same(state(whole, pair), state(killed, pair)) and history(whole) == history(killed)
    assert (
        ResultDir(whole).best("demo_convnext", softmax_head(5)).name
        == "best_demo_convnext_softmax.pth"
    )
    assert state(whole, pair)["classifier", "weight"].shape[0] == 5


@pytest.mark.slow
def test_a_softmax_head_learns(quick_train, tmp_path):
    write_dataset(tmp_path / "images", {"train": 60, "val": 20}, seed=3, size=128)
    values = {
        "head": "softmax",
        "freeze_weights": "false",
        "epochs": 6,
        "batch_size": 8,
        "base_models": "demo_coatnet",
        "gradient_accumulation_steps": 1,
        "dataset_path": tmp_path / "images",
    }
    assert quick_train(tmp_path / "r", **values) == 0
    content = checkpoint_file.load_checkpoint(
        ResultDir(tmp_path / "r").best("demo_coatnet", softmax_head(5))
    )
    assert content["metrics"]["val_accuracy"] >= 0.6, "chance is 0.2"


def test_a_softmax_head_has_no_pairs(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", head="softmax", pairs="0-1") == 2
    assert "--pairs" in capsys.readouterr().err


# -- more trouble ------------------------------------------------------------------------------


def test_weights_that_blow_up_in_the_last_step_are_not_kept(quick_train, tmp_path, capsys):
    values = {"warmup_epochs": 0, "learning_rate": 1e30, "max_grad_norm": 0, "batch_size": 64}
    assert quick_train(tmp_path / "r", pairs="0-1", **values) == 1
    assert "validation loss is not finite at pair 0-1, epoch 1" in capsys.readouterr().err
    assert not ResultDir(tmp_path / "r").best("demo_convnext", pair_head((0, 1))).exists()


def test_a_lost_best_file_is_trained_again(quick_train, tmp_path, monkeypatch, capsys):
    whole, output = tmp_path / "whole", tmp_path / "r"
    assert quick_train(whole, pairs="0-1", epochs=3) == 0
    finish = loop.finish_epoch

    def dies(context, trainer, *arguments):
        if trainer.epoch == 2:
            raise KeyboardInterrupt
        finish(context, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish_epoch", dies)
        assert quick_train(output, pairs="0-1", epochs=3) == 130
    ResultDir(output).best("demo_convnext", pair_head((0, 1))).unlink()
    assert quick_train(output, pairs="0-1", epochs=3, resume=None) == 0
    assert "is missing or of another epoch; it is trained from the start" in capsys.readouterr().out
    assert same(state(whole), state(output))


def test_a_damaged_resume_file_is_named(quick_train, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        loop, "epoch_line", lambda *inputs: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    output = tmp_path / "r"
    assert quick_train(output, pairs="0-1", epochs=3) == 130
    monkeypatch.undo()
    last = ResultDir(output).last("demo_convnext", pair_head((0, 1)))
    checkpoint_file.save_checkpoint(last, {})
    capsys.readouterr()
    assert quick_train(output, pairs="0-1", epochs=3, resume=None) == 2
    error = capsys.readouterr().err
    assert f"{last}: cannot be continued from" in error and error.count("\n") == 1


def test_history_is_whole_again_after_a_kill_before_it_was_written(quick_train, tmp_path, trained):
    output = shutil.copytree(trained, tmp_path / "r")
    ResultDir(output).history.unlink()
    assert quick_train(output, resume=None) == 0
    assert history(output) == history(trained)


def test_the_same_effective_batch_may_be_resumed(quick_train, tmp_path, trained, capsys):
    output = shutil.copytree(trained, tmp_path / "r")
    values = {"batch_size": 1, "gradient_accumulation_steps": 4, "resume": None}
    assert quick_train(output, **values) == 0
    assert quick_train(output, **{**values, "batch_size": 2}) == 2
    assert "gradient_accumulation_steps" in capsys.readouterr().err
