"""On a CPU pairs are trained side by side, and learn what they learn alone."""

import math

import pytest
import torch
from helpers import close_weights, same_weights

from common.pairs import pair_head
from common.result_dir.paths import ResultDir
from common.system.errors import TrainingError
from common.system.files import read_json, write_json
from common.training import loop, parallelism, step

PAIRS = [(0, 1), (0, 2), (2, 3)]
OPTIONS = {"pairs": ["0-1", "0-2", "2-3"], "threads": "2", "epochs": 2}
SAID = "2 pairs are trained side by side, each with 1 of 2 threads"


@pytest.fixture(autouse=True)
def as_before(set_threads):
    """Take back what --threads sets."""


@pytest.fixture
def groups(monkeypatch):
    """How many heads each step was of."""
    found, train_step = [], loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda context, b: (found.append(len(b)), train_step(context, b))
    )
    return found


def stop_in(monkeypatch, step_number):
    """Let a signal come in this step, and none later."""
    check, checks = loop.signals.check, []

    def stop_once():
        checks.append(1)
        if len(checks) == step_number:
            raise loop.signals.Stopped(15)
        check()

    monkeypatch.setattr(loop.signals, "check", stop_once)


@pytest.mark.parametrize("model", ["demo_convnext", "demo_coatnet"])
def test_pairs_side_by_side_learn_the_same_to_rounding(
    quick_train, tmp_path, groups, capsys, model
):
    for mode in ("auto", "off"):
        groups.clear()
        options = OPTIONS | {"base_models": model, "precision": "bf16", "pair_parallelism": mode}
        assert quick_train(tmp_path / mode, **options) == 0
        assert max(groups) == (2 if mode == "auto" else 1)
        assert (SAID in capsys.readouterr().out) == (mode == "auto")
    for pair in PAIRS:
        folders = tmp_path / "auto", tmp_path / "off"
        assert close_weights(*folders, 0.02, pair_head(pair), model)


def test_in_fp32_a_pair_is_the_same_to_the_last_bit_whatever_is_beside_it(
    quick_train, tmp_path, groups, capsys
):
    options = OPTIONS | {"precision": "fp32"}
    assert quick_train(tmp_path / "all", **options) == 0
    assert quick_train(tmp_path / "alone", **options | {"pairs": "2-3"}) == 0
    assert max(groups) == 1 and "side by side" not in capsys.readouterr().out
    assert same_weights(tmp_path / "all", tmp_path / "alone", pair_head((2, 3)))


def test_a_run_side_by_side_goes_on_after_a_stop_as_if_there_had_been_none(
    quick_train, tmp_path, monkeypatch
):
    options = OPTIONS | {"precision": "bf16"}
    assert quick_train(tmp_path / "whole", **options) == 0
    stop_in(monkeypatch, 9)
    assert quick_train(tmp_path / "parts", **options) != 0
    assert quick_train(tmp_path / "parts", **options, resume=None) == 0
    for pair in PAIRS:
        assert same_weights(tmp_path / "whole", tmp_path / "parts", pair_head(pair))


class Killed(BaseException):
    """Ends a training as a kill does: nothing is tidied up."""


def test_a_run_killed_between_two_checkpoints_of_an_epoch_becomes_the_same(
    quick_train, tmp_path, monkeypatch
):
    options = OPTIONS | {"precision": "bf16"}
    assert quick_train(tmp_path / "whole", **options) == 0
    with monkeypatch.context() as patches:
        finish_epoch, ended = loop.finish_epoch, []

        def killed(context, trainer, *given):
            finish_epoch(context, trainer, *given)
            ended.append(trainer)
            if len(ended) == 2:
                raise Killed

        patches.setattr(loop, "finish_epoch", killed)
        with pytest.raises(Killed):
            quick_train(tmp_path / "parts", **options)
    # the third pair catches up alone
    assert quick_train(tmp_path / "parts", **options, resume=None) == 0
    for pair in PAIRS:
        assert same_weights(tmp_path / "whole", tmp_path / "parts", pair_head(pair))


def test_a_pair_becomes_the_same_whatever_is_beside_it_and_however_much_memory_is_free(
    quick_train, tmp_path, monkeypatch, groups, capsys
):
    options = OPTIONS | {"precision": "bf16"}
    assert quick_train(tmp_path / "all", **options) == 0
    capsys.readouterr()
    assert quick_train(tmp_path / "alone", **options | {"pairs": "2-3"}) == 0
    said = "a pair is trained with 1 of 2 threads; --pair_parallelism off gives it all of them"
    assert said in capsys.readouterr().out
    monkeypatch.setattr(parallelism, "free_memory", lambda: 1e5)
    groups.clear()
    assert quick_train(tmp_path / "short", **options) == 0
    assert max(groups) == 1
    assert "with 1 of 2 threads, as memory is free for no more" in capsys.readouterr().out
    for other in ("alone", "short"):
        assert same_weights(tmp_path / "all", tmp_path / other, pair_head((2, 3)))


def test_where_nothing_is_known_of_the_memory_it_is_no_limit(
    quick_train, tmp_path, monkeypatch, groups
):
    monkeypatch.setattr(parallelism, "free_memory", lambda: math.inf)
    assert quick_train(tmp_path, **OPTIONS, precision="bf16") == 0
    assert max(groups) == 2


def test_a_run_that_began_one_pair_after_the_other_goes_on_so(
    quick_train, tmp_path, monkeypatch, groups
):
    options = OPTIONS | {"precision": "bf16"}
    stop_in(monkeypatch, 9)
    assert quick_train(tmp_path, **options) != 0
    config = ResultDir(tmp_path).config
    write_json(config, read_json(config) | {"kernel_version": 3})
    groups.clear()
    assert quick_train(tmp_path, **options, resume=None) == 0
    assert max(groups) == 1


def test_from_scratch_the_look_at_the_memory_moves_no_statistics(quick_train, tmp_path):
    options = OPTIONS | {"base_models": "demo_coatnet", "freeze_weights": "false"}
    options |= {"precision": "bf16", "pairs": ["0-1", "0-2"]}
    for mode in ("auto", "off"):
        assert quick_train(tmp_path / mode, pair_parallelism=mode, **options) == 0
    assert close_weights(
        tmp_path / "auto", tmp_path / "off", 0.02, pair_head((0, 2)), "demo_coatnet"
    )


def test_one_of_several_that_fails_is_named(quick_train, tmp_path, monkeypatch, capsys):
    update = step.update

    def fails(config, trainer, found, size):
        if trainer.head.classes == (0, 2):
            raise TrainingError(f"the loss is not finite at {trainer.title}")
        update(config, trainer, found, size)

    monkeypatch.setattr(step, "update", fails)
    assert quick_train(tmp_path, **OPTIONS, precision="bf16") == 1
    said = capsys.readouterr()
    assert "the loss is not finite" in said.out + said.err and "Traceback" not in said.err


def test_steps_side_by_side_run_in_other_threads_with_one_thread_each(
    quick_train, tmp_path, monkeypatch
):
    seen, accumulate = [], step.accumulate
    monkeypatch.setattr(
        step,
        "accumulate",
        lambda *given: (seen.append(torch.get_num_threads()), accumulate(*given))[1],
    )
    assert quick_train(tmp_path, **OPTIONS | {"pairs": ["0-1", "0-2"]}, precision="bf16") == 0
    assert set(seen) == {1}
