"""On a CPU pairs are trained side by side, and learn what they learn alone."""

import pytest
import torch
from helpers import close_weights, same_weights

from common.pairs import pair_head
from common.system.errors import TrainingError
from common.training import loop, step

PAIRS = [(0, 1), (0, 2), (2, 3)]
OPTIONS = {"pairs": ["0-1", "0-2", "2-3"], "threads": "2", "epochs": 2}
SAID = "2 pairs are trained side by side, each with 1 of the threads"


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
    check, checks = loop.signals.check, []

    def stop_once():
        checks.append(1)
        if len(checks) == 9:
            raise loop.signals.Stopped(15)
        check()

    monkeypatch.setattr(loop.signals, "check", stop_once)
    assert quick_train(tmp_path / "parts", **options) != 0
    assert quick_train(tmp_path / "parts", **options, resume=None) == 0
    for pair in PAIRS:
        assert same_weights(tmp_path / "whole", tmp_path / "parts", pair_head(pair))


def test_from_scratch_the_look_at_the_memory_moves_no_statistics(quick_train, tmp_path):
    options = OPTIONS | {"base_models": "demo_coatnet", "freeze_weights": "false"}
    options |= {"precision": "bf16", "pairs": ["0-1", "0-2"]}
    for mode in ("auto", "off"):
        assert quick_train(tmp_path / mode, pair_parallelism=mode, **options) == 0
    assert close_weights(
        tmp_path / "auto", tmp_path / "off", 0.02, pair_head((0, 2)), "demo_coatnet"
    )


def test_where_memory_is_short_pairs_are_trained_one_by_one(
    quick_train, tmp_path, groups, monkeypatch
):
    monkeypatch.setattr(step, "free_memory", lambda: 1e5)
    assert quick_train(tmp_path, **OPTIONS, precision="bf16") == 0
    assert max(groups) == 1


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
    assert 1 in seen and set(seen) <= {1, 2}
