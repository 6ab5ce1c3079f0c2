"""Any number of processes train the pairs of one result directory, each pair once."""

import os
from dataclasses import replace

import pytest
from helpers import (
    MODEL,
    THREE,
    history_of,
    in_another_training,
    left_by_another_host,
    same_weights,
)

import train_ovo
from common.config import TrainConfig
from common.joint_runs.finish import Standings
from common.joint_runs.heads import hold_heads, left_to_others
from common.locks import kernel_locks
from common.locks.file_lock import Taken
from common.locks.holder import this_process
from common.pairs import heads_of_model
from common.result_dir.paths import ResultDir
from common.result_dir.run import read_config
from common.system.errors import InputError

FIRST, MIDDLE, LAST = heads_of_model(3, "ovo")


def test_pairs_trained_side_by_side_are_those_of_one_process(
    quick_train, three_classes, alone, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    output, common = tmp_path / "r", {"dataset_path": three_classes, **THREE}
    child = os.fork()
    if not child:
        os._exit(quick_train(output, pairs=["0-1", "1-2"], **common))
    assert quick_train(output, pairs="0-2", **common) == 0, "without --resume, at the same time"
    status = os.waitpid(child, 0)[1]
    assert status == 0
    assert all(same_weights(output, alone, head) for head in (FIRST, MIDDLE, LAST))
    assert history_of(output) == history_of(alone)
    mine, theirs = (read_config(ResultDir(each)) for each in (output, alone))
    for content in (mine, theirs):
        content["config"]["output_dir"] = content["created"] = ""
    assert mine == theirs

    def files(folder):
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {str(path) for path in found if "tensorboard" not in path.parts}

    assert files(output) == files(alone) and not (output / "checkpoints").exists()


def test_one_network_that_another_process_trains_is_said_to_be_with_it(tmp_path):
    (network,) = heads_of_model(3, "shared")
    holder = replace(this_process(), host="node7", since="2026-11-26T12:00:00+00:00")
    taken = Taken(tmp_path / ".lock", holder)
    said = Standings([network], frozenset(), {network: taken}).line("012")
    assert said.startswith(
        f"the {network.title} is with {taken.holder}, of which nobody here can tell "
    )
    assert "; if that process runs no more: rm -f" in said
    assert Standings([network], frozenset({network}), {}).line("012").endswith("is complete")


def test_what_others_train_is_left_to_them_and_the_last_one_says_that_all_is_there(
    quick_train, three_classes, alone, tmp_path, capsys
):
    directory, common = ResultDir(tmp_path / "r"), {"dataset_path": three_classes, **THREE}
    with in_another_training(directory, MIDDLE):
        assert quick_train(directory.root, dry_run=None, pairs=["0-1", "0-2"], **common) == 0
        assert f"left to process {os.getpid()} on" in capsys.readouterr().out
        assert quick_train(directory.root, pairs=["0-1", "0-2"], **common) == 0
        said = capsys.readouterr().out
        again = {**common, "resume": None, "require_trained": None}
        assert quick_train(directory.root, pairs=["0-1", "0-2"], **again) == 3
        error = capsys.readouterr().err
        assert f"left to others: {directory.root}: 0-2 by process {os.getpid()} on" in error
        assert quick_train(directory.root, pairs="0-2", **again) == 3, "all of it"
        assert "left to others: " in capsys.readouterr().err
        assert quick_train(directory.root, pairs="0-1", **again) == 0
        assert quick_train(directory.root, dry_run=None, **again) == 2
        assert "--require_trained has no effect with --dry_run" in capsys.readouterr().err
    assert f"left to process {os.getpid()} on" in said and ": pair 0-2" in said
    assert f"1 of 3 pairs are trained; 0-2 by process {os.getpid()} on" in said
    assert "missing 1-2 (--resume with these --pairs trains them)" in said
    assert "next: " not in said and not directory.best(MODEL, MIDDLE).exists()
    assert not directory.model_card.exists() and directory.checkpoints.parent.is_dir()
    assert quick_train(directory.root, pairs=["0-2", "1-2"], **common) == 0
    said = capsys.readouterr().out
    assert "3 of 3 pairs are trained, the directory is complete" in said and "next: " in said
    assert directory.model_card.exists() and history_of(directory.root) == history_of(alone)


def test_a_backbone_that_others_train_keeps_no_other_one_waiting(
    quick_train, three_classes, tmp_path, capsys
):
    common = {"dataset_path": three_classes, **THREE, "epochs": 1, "pairs": "0-1"}
    common["base_models"] = [MODEL, "demo_swinv2"]
    with in_another_training(ResultDir(tmp_path / f"{MODEL}_3class_results"), FIRST):
        assert quick_train(tmp_path, **common) == 0
    said = capsys.readouterr().out
    assert "left to others: " in said and f"is being trained by process {os.getpid()}" in said
    (other,) = tmp_path.rglob("best_*.pth")
    assert "swinv2" in other.name


def test_all_that_another_host_has_left_is_removed_by_one_command(tmp_path, monkeypatch):
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    directory, config = ResultDir(tmp_path / "r"), TrainConfig(model=MODEL, num_classes=3)
    locks = left_by_another_host(directory, MIDDLE, LAST)
    command = "rm -f " + " ".join(f"{lock} {lock}.soft" for lock in locks)
    with hold_heads(directory, config, [FIRST, MIDDLE, LAST]) as held:
        (note,) = left_to_others(held.others)
        assert note.endswith(f": pair 0-2, pair 1-2; if that process runs no more: {command}")
        said = Standings([FIRST, MIDDLE, LAST], frozenset({FIRST}), held.others).line("012")
        assert said.count("rm -f") == 1 and said.endswith(command)
        assert said.count("on 'node7'") == 1 and "; 0-2 1-2 by process" in said
        assert "of which nobody here can tell whether it runs" in said and "nobody here" in note
        with pytest.raises(InputError, match=f"pair 0-2, pair 1-2 is being .*{command}"):
            held.take_the_rest(config, "this")
    with (
        pytest.raises(InputError, match=rf"and 1 more; if that process .*{command}\)"),
        hold_heads(directory, config, [MIDDLE, LAST]),
    ):
        pass


def test_another_configuration_or_seed_is_refused_with_the_difference(
    quick_train, three_classes, alone, tmp_path, capsys
):
    output = tmp_path / "r"
    common = {"dataset_path": three_classes, **THREE}
    assert quick_train(output, pairs="0-1", **common) == 0
    for changed in ({"seed": 7}, {"learning_rate": 0.5}):
        assert quick_train(output, pairs="0-2", **common | changed) == 2
        name = next(iter(changed))
        assert f"was trained differently ({name}: " in capsys.readouterr().err
    assert quick_train(output, pairs="0-1", **common) == 2
    assert "already holds a run; pass --resume" in capsys.readouterr().err


def test_who_comes_second_to_write_the_configuration_must_fit_the_first(
    quick_train, three_classes, tmp_path, capsys, monkeypatch
):
    output, common = tmp_path / "r", {"dataset_path": three_classes, **THREE}
    opened = train_ovo.open_caches

    def meanwhile(inputs):
        with monkeypatch.context() as patch:
            patch.setattr(train_ovo, "open_caches", opened)
            assert quick_train(output, pairs="0-2", **common, seed=7) == 0
        return opened(inputs)

    monkeypatch.setattr(train_ovo, "open_caches", meanwhile)
    assert quick_train(output, pairs="0-1", **common) == 2
    assert "was trained differently (seed: 7 -> " in capsys.readouterr().err
    assert not ResultDir(output).best(MODEL, FIRST).exists()


def test_an_override_waits_until_nobody_else_trains_here(
    quick_train, three_classes, tmp_path, capsys
):
    directory = ResultDir(tmp_path / "r")
    common = {"dataset_path": three_classes, **THREE, "pairs": "0-1", "resume": None}
    assert quick_train(directory.root, **common | {"epochs": 1, "pairs": "1-2"}) == 0
    changed = {**common, "override": None}
    with in_another_training(directory, MIDDLE):
        assert quick_train(directory.root, **changed) == 2
    error = capsys.readouterr().err
    assert "--override changes the settings of all pairs, and pair 0-2 is being trained" in error
    assert quick_train(directory.root, **changed) == 0


def test_what_another_process_has_half_written_is_left_alone(quick_train, three_classes, tmp_path):
    directory = ResultDir(tmp_path / "r")
    own, others = (directory.models / f".best_{MODEL}_{name}.pth.x.part" for name in ("0_1", "0_2"))
    directory.models.mkdir(parents=True)
    for path in (own, others):
        path.write_bytes(b"half")
    common = {"dataset_path": three_classes, **THREE, "epochs": 1}
    assert quick_train(directory.root, pairs="0-1", **common) == 0
    assert others.exists() and not own.exists()
