"""A training that was killed goes on as if it had not been."""

import shlex
import shutil

import pytest
import torch
from helpers import MODEL, close_weights, history_of, same_weights

import evaluate_ensemble
import model_analyzer
import train_ovo
from common.models import checkpoint_file
from common.pairs import Head, pair_head, softmax_head
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run, read_config
from common.training import loop

SMALL_DATA = {
    "head_lr_factor": 5,
    "layer_decay": 0.6,
    "ema_decay": 0.9,
    "monitor": "last",
    "horizontal_flip": "true",
    "shift_range": 0.1,
}
ON_A_GPU = {"device": "cuda", "pair_parallelism": "off"}


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("model", "frequency", "settings"),
    [
        ("demo_convnext", 1, {}),
        ("demo_convnext", 2, SMALL_DATA),
        ("demo_coatnet", 1, {}),
        ("demo_swinv2", 2, {}),
        pytest.param("demo_convnext", 1, ON_A_GPU, marks=pytest.mark.gpu),
    ],
    ids=["convnext", "convnext, small data", "coatnet", "swinv2", "convnext on a GPU"],
)
def test_killed_anywhere_and_resumed_gives_the_same_bits(
    quick_train, tmp_path, monkeypatch, model, frequency, settings
):
    options = {
        "base_models": model,
        "pairs": ["0-1", "2-3"],
        "epochs": 3,
        "freeze_weights": "false",
        "checkpoint_frequency": frequency,
        **settings,
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
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    if "device" in settings:  # a GPU does not round the same way twice
        losses = [[row.train_loss for row in history_of(root)] for root in (whole, killed)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-2)
        assert close_weights(whole, killed, 2e-2, pair_head((2, 3)), model)
        return
    for pair in [(0, 1), (2, 3)]:
        assert same_weights(whole, killed, pair_head(pair), model)
    assert history_of(whole) == history_of(killed)


def test_a_resumed_run_says_where_it_goes_on(quick_train, tmp_path, trained, capsys, monkeypatch):
    output = shutil.copytree(trained, tmp_path / "r")
    capsys.readouterr()
    assert quick_train(output, resume=None, cache_dir=tmp_path / "c", tta="flips") == 0
    assert "pair 0-1: is finished, 2 epochs" in capsys.readouterr().out
    assert not (tmp_path / "c").exists(), "nothing is decoded for what is complete"
    assert read_config(ResultDir(output))["config"]["tta"] == "flips", "though it is noted"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_line", lambda *_inputs: (_ for _ in ()).throw(KeyboardInterrupt))
        assert quick_train(tmp_path / "s", pairs="0-1", epochs=3) == 130
    assert quick_train(tmp_path / "s", pairs="0-1", epochs=3, resume=None) == 0
    assert "pair 0-1: goes on after epoch 1" in capsys.readouterr().out


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
    assert same_weights(whole, output)


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


def test_a_state_without_the_average_that_the_run_keeps_is_named(
    quick_train, tmp_path, monkeypatch, capsys
):
    output, words = tmp_path / "r", {"pairs": "0-1", "epochs": 3, "ema_decay": 0.9}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_line", lambda *_inputs: (_ for _ in ()).throw(KeyboardInterrupt))
        assert quick_train(output, **words) == 130
    last = ResultDir(output).last(MODEL, pair_head((0, 1)))
    content = checkpoint_file.load_checkpoint(last)
    del content["average"]
    checkpoint_file.save_checkpoint(last, content)
    capsys.readouterr()
    assert quick_train(output, resume=None, **words) == 2
    assert f"{last}: cannot be continued from" in (said := capsys.readouterr().err)
    assert "without the part that --ema_decay needs" in said and "remove it" in said
    assert quick_train(output, resume=None, dry_run=None, **words) == 0
    assert "goes on after epoch 1, 8 steps at most" in capsys.readouterr().out


def test_a_training_that_has_kept_no_classifier_yet_is_told_with_the_way_on(
    quick_train, tmp_path, monkeypatch, capsys
):
    output, words = tmp_path / "a run", {"monitor": "last", "recipe": "small_data", "epochs": 2}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_line", lambda *_inputs: (_ for _ in ()).throw(KeyboardInterrupt))
        assert quick_train(output, **words) == 130
    capsys.readouterr()
    said = []
    for script, *flags in (
        (evaluate_ensemble, "--results_dirs", output),
        (model_analyzer, "--model", output),
        (model_analyzer, "--model", output / "models"),
    ):
        assert script.main(list(map(str, flags))) == 2
        said.append(capsys.readouterr().err.rsplit(" [", 1)[0])  # the time
    assert "the training is unfinished: 1 of 2 epochs are done and there is no" in said[0]
    assert said[0] == said[1] == said[2] and "\n" not in said[0]
    command = said[0].split("go on with: python train_ovo.py ")[1]
    assert train_ovo.main(shlex.split(command)) == 0
    assert ": goes on after epoch 1" in capsys.readouterr().out


def test_history_is_whole_again_after_a_kill_before_it_was_written(quick_train, tmp_path, trained):
    output = shutil.copytree(trained, tmp_path / "r")
    ResultDir(output).history.unlink()
    assert quick_train(output, resume=None) == 0
    assert history_of(output) == history_of(trained)


def test_a_run_that_goes_on_records_the_views_of_its_predictions(
    quick_train, tmp_path, trained, capsys
):
    output = shutil.copytree(trained, tmp_path / "r")
    assert quick_train(output, resume=None, tta="flips", pairs="0-1") == 0
    assert "tta: none -> flips, recorded in config.json" in capsys.readouterr().out
    assert quick_train(output, resume=None, pairs="2-3") == 0
    assert "tta" not in capsys.readouterr().out
    assert find_run(ResultDir(output)).tta == "flips", "what was asked for stays"
    assert same_weights(output, trained)


def test_the_same_effective_batch_may_be_resumed(quick_train, tmp_path, trained, capsys):
    output = shutil.copytree(trained, tmp_path / "r")
    values = {"batch_size": 1, "gradient_accumulation_steps": 4, "resume": None}
    assert quick_train(output, **values) == 0
    assert quick_train(output, **{**values, "batch_size": 2}) == 2
    assert "gradient_accumulation_steps" in capsys.readouterr().err


# the columns of a run that was begun before referable DR had its own
EARLIER_COLUMNS = (
    "pair",
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "val_auc",
    "val_sensitivity",
    "val_specificity",
    "learning_rate",
    "images_per_second",
    "seconds",
)


def earlier_row(row: dict) -> dict:
    """Lay a row of the history out as it was before."""
    row = {name.replace("referable_", ""): value for name, value in row.items()}
    return {name: row[name] for name in EARLIER_COLUMNS}


def make_earlier(directory: ResultDir, head: Head) -> None:
    """Write the files of an unfinished training again, in the layout that they had before."""
    best, last = directory.best(MODEL, head), directory.last(MODEL, head)
    content = torch.load(best, weights_only=True)
    earlier_best = {
        "format": "ovo-pair-1",
        "model": MODEL,
        "pair": list(head.classes),
        "preprocessing": content["preprocessing"],
        "trunk": content["trunk"],
        "top": content["top"],
        "classifier": content["classifier"],
        "parameters": content["parameters"],
        "class_names": list("01234"),
        "synthetic": True,
        "config": content["config"],
        "data": content["data"],
        "best_epoch": content["best_epoch"],
        "metrics": earlier_row(content["metrics"]),
        "history": [earlier_row(row) for row in content["history"]],
        "complete": False,
    }
    checkpoint_file.save_checkpoint(best, earlier_best)
    state = torch.load(last, weights_only=True)
    rows = [earlier_row(row) for row in state["history"]]
    earlier_state = {
        "format": "ovo-resume-1",
        "pair": list(head.classes),
        "top": state["top"],
        "optimizer": state["optimizer"],
        "scaler": {},
        "epoch": len(rows),
        "step": state["step"],
        "history": rows,
        "best_epoch": state["best_epoch"],
        "best_score": state["best_score"],
        "waited": state["waited"],
    }
    checkpoint_file.save_checkpoint(last, earlier_state)
    lines = [",".join(str(row[name]) for name in EARLIER_COLUMNS) for row in rows]
    directory.history.write_text("\n".join([",".join(EARLIER_COLUMNS), *lines, ""]))


@pytest.mark.parametrize(
    ("head", "flags"),
    [(pair_head((0, 1)), {"pairs": "0-1"}), (softmax_head(5), {"head": "softmax"})],
)
def test_a_run_in_the_earlier_layout_goes_on_to_the_same_bits(
    quick_train, tmp_path, monkeypatch, head, flags
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"epochs": 4, "min_delta": 0, **flags}
    assert quick_train(whole, **options) == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_write_scalars", raise_in_epoch_2)
        assert quick_train(killed, **options) == 130
    make_earlier(ResultDir(killed), head)
    assert quick_train(killed, resume=None, **options) == 0
    assert same_weights(whole, killed, head) and history_of(whole) == history_of(killed)
    columns = ResultDir(killed).history.read_text().splitlines()[0].split(",")
    assert set(columns) == set(EARLIER_COLUMNS) | {
        "val_referable_sensitivity",
        "val_referable_specificity",
        "val_pair_accuracies",
    }


def raise_in_epoch_2(writer, trainer):
    if trainer.epoch == 2:
        raise KeyboardInterrupt
