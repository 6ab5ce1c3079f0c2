"""prepare_dataset.py merge: directories of pairs trained apart become one, or are refused."""

import json
import shutil

import pytest
from helpers import (
    MODEL,
    THREE,
    at_step,
    history_of,
    in_another_training,
    left_by_another_host,
    same_weights,
)

import prepare_dataset
from common.locks import kernel_locks
from common.models.checkpoint_file import load_checkpoint, save_checkpoint
from common.pairs import heads_of_model
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run, read_config
from common.system import signals
from common.trained_networks.loading import load_model

FIRST, MIDDLE, LAST = heads_of_model(3, "ovo")


@pytest.fixture(scope="module")
def apart(quick_train, three_classes, tmp_path_factory):
    """Two directories: pair 0-1 in one, 0-2 and 1-2 in the other."""
    folder = tmp_path_factory.mktemp("apart")
    for name, pairs in (("one", ["0-1"]), ("two", ["0-2", "1-2"])):
        values = {**THREE, "dataset_path": three_classes, "pairs": pairs}
        assert quick_train(folder / name, **values) == 0
    return folder / "one", folder / "two"


def merge(*folders):
    *parts, target = map(str, folders)
    return prepare_dataset.main(["merge", *parts, "--output_dir", target])


def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / f"copy_{folder.name}")


def test_directories_trained_apart_become_what_one_process_writes(apart, alone, tmp_path, capsys):
    output = tmp_path / "merged"
    assert merge(*apart, output) == 0
    said = capsys.readouterr().out
    assert "3 of 3 pairs are trained, the directory is complete" in said and "next: " in said
    for part, head in ((apart[0], FIRST), (apart[1], MIDDLE), (apart[1], LAST)):
        copy, source = (ResultDir(each).best(MODEL, head) for each in (output, part))
        assert copy.read_bytes() == source.read_bytes() and same_weights(output, alone, head)
    assert history_of(output) == history_of(alone) and find_run(ResultDir(output))
    content, expected = (read_config(ResultDir(each)) for each in (output, alone))
    assert content["config"]["output_dir"] == str(output)
    for each in (content, expected):
        each["config"]["output_dir"] = each["created"] = ""
    assert content == expected
    card = ResultDir(output).model_card.read_text()
    assert "# merged" in card and ".part" not in card
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"merged"} and not (output / "checkpoints").exists()
    before = output.stat().st_mtime_ns
    assert merge(*apart, output) == 2 and output.stat().st_mtime_ns == before
    assert "is not empty" in capsys.readouterr().err


def test_the_same_pair_twice_is_accepted_if_equal_and_refused_if_not(apart, tmp_path, capsys):
    again = copy_of(apart[0], tmp_path)
    assert merge(apart[0], again, apart[1], tmp_path / "merged") == 0
    other = ResultDir(again).best(MODEL, FIRST)
    shutil.copyfile(ResultDir(apart[1]).best(MODEL, MIDDLE), other)  # of another pair
    assert merge(again, apart[1], tmp_path / "second") == 0
    said = capsys.readouterr().out
    assert "holds pair 0-2 of " in said and "2 of 3 pairs are trained; missing 0-1" in said


def test_a_pair_trained_to_another_end_is_refused(apart, quick_train, three_classes, tmp_path):
    other = tmp_path / "other"
    values = {**THREE, "dataset_path": three_classes, "pairs": "0-1", "checkpoint_frequency": 2}
    assert quick_train(other, **values) == 0
    assert merge(apart[0], other, tmp_path / "merged") == 0, "a setting that changes nothing"
    assert history_of(tmp_path / "merged") == history_of(other)


def test_directories_of_different_runs_are_refused_with_the_difference(apart, tmp_path, capsys):
    other = copy_of(apart[1], tmp_path)
    config = ResultDir(other).config
    content = json.loads(config.read_text())
    for change, named in (
        ({"config": {**content["config"], "seed": 7}}, "seed: 42 -> 7"),
        ({"config": {**content["config"], "model": "resnet50"}}, "of one model"),
        ({"data": {**content["data"], "train": "other"}}, "data: {'train': "),
        ({"initial_weights": "other"}, "initial_weights: "),
        ({"skipped": {"train": ["a.png"]}}, "skipped: {} -> "),
    ):
        config.write_text(json.dumps(content | change))
        assert merge(apart[0], other, tmp_path / "merged") == 2, named
        assert named in capsys.readouterr().err
    config.write_text(json.dumps(content | {"data": {"train": "other", "val": "other"}}))
    assert merge(other, tmp_path / "merged") == 2
    assert "has learned from other images than" in capsys.readouterr().err
    assert merge(apart[0], apart[0], tmp_path / "merged") == 2
    assert merge(apart[0], apart[0] / "inside") == 2
    assert not (tmp_path / "merged").exists()


def changed_file(folder, head, **changes):
    """Let a classifier be as if another run had trained it."""
    path = ResultDir(folder).best(MODEL, head)
    content = load_checkpoint(path)
    content["config"] |= changes.pop("config", {})
    save_checkpoint(path, content | changes)
    return path


def test_a_classifier_of_another_run_that_was_copied_in_is_refused_and_noted(
    apart, alone, tmp_path, capsys
):
    part = copy_of(apart[1], tmp_path)
    good = ResultDir(part).best(MODEL, MIDDLE).read_bytes()
    trunk = load_checkpoint(ResultDir(part).best(MODEL, MIDDLE))["trunk"]
    other = {name: value + 1 for name, value in trunk.items()}
    for changes, said in (
        ({"config": {"seed": 7}}, "(seed: 7, not 42); remove it"),
        ({"initial_weights": "other"}, "(initial_weights: other, not "),
        ({"initial_weights": "", "trunk": other}, "their frozen stages or their preprocessing"),
    ):
        path = changed_file(part, MIDDLE, **changes)
        assert merge(apart[0], part, tmp_path / "merged") == 2
        error = capsys.readouterr().err
        assert said in error and str(path) in error and error.count("\n") == 1
        path.write_bytes(good)
    changed_file(part, MIDDLE, initial_weights="", config={"seed": 42})
    assert merge(apart[0], part, tmp_path / "merged") == 0, "earlier files tell less"
    mixed = copy_of(alone, tmp_path)
    changed_file(mixed, MIDDLE, config={"seed": 7}, trunk=other)
    capsys.readouterr()
    assert len(load_model(find_run(ResultDir(mixed))).groups) == 2
    said = capsys.readouterr().out
    for what in ("frozen stages", "seed"):
        assert f"{mixed}: 0-2 of 3 classifiers have another {what} than the rest" in said


def test_an_unfinished_pair_comes_along_and_goes_on(
    apart, alone, quick_train, three_classes, tmp_path, monkeypatch, capsys
):
    part, output = tmp_path / "part", tmp_path / "merged"
    values = {**THREE, "dataset_path": three_classes, "resume": None}
    with monkeypatch.context() as patch:

        def stop():
            raise signals.Stopped(15)

        at_step(patch, 7, stop)
        assert quick_train(part, pairs="0-1", **values) == 143
    assert len(history_of(part)) == 1
    assert merge(part, apart[1], output) == 0
    said = capsys.readouterr().out
    assert "pair 0-1 is not finished, 1 epochs; --resume goes on" in said
    assert "2 of 3 pairs are trained; missing 0-1" in said
    assert merge(part, *apart, tmp_path / "whole") == 0, "it is how the finished one began"
    assert "3 of 3 pairs" in capsys.readouterr().out
    assert quick_train(output, **values) == 0
    assert same_weights(output, alone, FIRST) and history_of(output) == history_of(alone)


def test_a_directory_that_is_being_trained_is_not_merged(apart, tmp_path, capsys):
    with in_another_training(ResultDir(apart[0]), FIRST):
        assert merge(*apart, tmp_path / "merged") == 2
    assert "is being trained by process" in capsys.readouterr().err


def test_what_another_host_has_left_in_it_is_named_with_its_files(
    apart, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    part = copy_of(apart[1], tmp_path)
    locks = left_by_another_host(ResultDir(part), MIDDLE, LAST)
    assert merge(apart[0], part, tmp_path / "merged") == 2
    said = capsys.readouterr().err
    assert f"runs no more: rm -f {locks[0]} {locks[0]}.soft {locks[1]} {locks[1]}.soft" in said
    for lock in locks:
        lock.unlink()
    assert merge(apart[0], part, tmp_path / "merged") == 0


def test_a_directory_without_config_is_refused_in_a_line(apart, tmp_path, capsys):
    part = copy_of(apart[1], tmp_path)
    ResultDir(part).config.unlink()  # as the earlier trainer left it
    for folder, said in (
        (part, "directories of the earlier trainer: they cannot be merged"),
        (
            part / "models",
            "expected a result directory of train_ovo.py, found no config.json there",
        ),
        (tmp_path / "nowhere", "found no such folder"),
    ):
        assert merge(apart[0], folder, tmp_path / "merged") == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
