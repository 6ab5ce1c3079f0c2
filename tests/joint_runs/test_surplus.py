"""Whom a process waits for that has nothing to train, and when it gives up."""

import pytest
from helpers import HEAD, MODEL, in_another_training, left_by_another_host

from common.config import TrainConfig
from common.data.folders import scan_dataset
from common.joint_runs import surplus
from common.joint_runs.surplus import Surplus, complete_ones
from common.pairs import heads_of_model
from common.result_dir.paths import ResultDir

PAIRS = heads_of_model(5, "ovo")
GIVEN_UP = "is not complete, and nobody trains it any more"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(surplus, "_LOOK_EVERY", 0.05)


def waiting(folder, heads=PAIRS):
    """Return a process that waits for one backbone, which another one trains."""
    config = TrainConfig(model=MODEL, output_dir=str(folder))
    return Surplus([config], heads, [config], trainers=1, local_rank=0)


@pytest.mark.parametrize(
    ("split", "goes_on", "said"),
    [
        ("train", False, "note: this process cannot help those that train, and ends: "),
        ("val", False, "note: this process cannot help those that train, and ends: "),
        ("test", True, "note: test is left to the evaluation: "),
    ],
)
def test_a_cache_that_cannot_be_written_ends_no_training(
    demo, tmp_path, monkeypatch, capsys, split, goes_on, said
):
    def decode(config, found):
        if found.name == split:
            raise OSError(30, "Read-only file system", "cache")

    monkeypatch.setattr(surplus, "_decode", decode)
    assert surplus.decode_all(waiting(tmp_path).configs, scan_dataset(demo)) is goes_on
    assert f"{said}Read-only file system at cache" in capsys.readouterr().out


def test_what_is_complete_is_not_waited_for(trained):
    found = waiting(trained)
    assert list(complete_ones(found)) == found.predicts


def test_pairs_that_nobody_asked_for_are_not_waited_for(trained_copy, capsys):
    ResultDir(trained_copy).best(MODEL, HEAD).unlink()
    others = [head for head in PAIRS if head != HEAD]
    assert not list(complete_ones(waiting(trained_copy, others)))
    assert f"{trained_copy}: {GIVEN_UP}" in capsys.readouterr().out


def test_a_file_that_is_no_classifier_ends_no_training(trained_copy, capsys):
    ResultDir(trained_copy).best(MODEL, HEAD).write_bytes(b"no checkpoint")
    assert not list(complete_ones(waiting(trained_copy)))
    assert f"{trained_copy}: {GIVEN_UP}" in capsys.readouterr().out


def test_who_never_begins_is_waited_for_a_while(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(surplus, "_PATIENCE", 0.2)
    monkeypatch.setattr(surplus, "_SAY_EVERY", 0.1)
    assert not list(complete_ones(waiting(tmp_path / "r")))
    said = capsys.readouterr().out
    assert f"waiting for {tmp_path / 'r'} to become complete" in said and GIVEN_UP in said


def test_who_is_at_work_is_waited_for_and_who_may_be_after_that_for_a_while(
    trained_copy, monkeypatch
):
    directory = ResultDir(trained_copy)
    directory.best(MODEL, HEAD).unlink()
    watch = surplus._Watch(waiting(trained_copy))
    with in_another_training(directory, HEAD):
        assert not watch.all_gone()
    assert not watch.all_gone(), "it lives, and may begin with another backbone"
    monkeypatch.setattr(surplus, "_PATIENCE", 0.0)
    assert watch.all_gone()
    left_by_another_host(directory, HEAD)
    assert not watch.all_gone(), "nobody can tell whether that one lives"
