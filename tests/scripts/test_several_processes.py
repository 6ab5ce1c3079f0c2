"""The scripts as torchrun starts them: several processes, and the outcome of one."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
from helpers import flags, history_of, run_ranks, same_weights, wait_for

import evaluate_ensemble
from common.joint_runs import surplus
from common.pairs import heads_of_model
from common.result_dir.paths import ResultDir

SPLITS = ("test", "val")


def test_two_processes_train_the_pairs_of_one_to_the_same_bits(trained, quick_train, tmp_path):
    output, log = tmp_path / "demo_5class_results", tmp_path / "log.txt"
    assert run_ranks(2, lambda rank: quick_train(output), log) == [0, 0]
    for head in heads_of_model(5, "ovo"):
        assert same_weights(output, trained, head), head.name
    assert history_of(output) == history_of(trained)
    assert (output / "MODEL_CARD.md").is_file() and not (output / "checkpoints").exists()
    lines = log.read_text().splitlines()
    assert all("[rank 0 of 2]" in line or "[rank 1 of 2]" in line for line in lines)
    shares = [line for line in lines if "samples an epoch" in line]
    plan = [line.split("demo_convnext ")[1].split(" (")[0] for line in shares]
    assert sorted(" ".join(plan).split()) == [head.name for head in heads_of_model(5, "ovo")]
    complete = [line for line in lines if "the directory is complete" in line]
    assert len(complete) in (1, 2), "that of the last; both, where they end at once"
    assert sum("next: python evaluate" in line for line in lines) == len(complete)
    assert sum("data check: looked at" in line for line in lines) == 1, "once for all"


@pytest.fixture
def train_beside(quick_train, tmp_path, monkeypatch):
    """Train one network in the first of two processes: nothing is left for the second."""
    monkeypatch.setattr(surplus, "_LOOK_EVERY", 0.1)
    monkeypatch.setattr(surplus, "_PATIENCE", 1.0)
    output, log = tmp_path / "demo_5class_results", tmp_path / "log.txt"

    def train(kill=lambda children: None, **changes):
        values = {"head": "shared", "epochs": 1, **changes}
        statuses = run_ranks(2, lambda rank: quick_train(output, **values), log, kill)
        return statuses, log.read_text()

    return ResultDir(output), log, train


def test_a_process_for_which_nothing_is_left_predicts_what_the_evaluation_takes_up(
    train_beside, demo, tmp_path, capsys
):
    (directory, _, train), cache = train_beside, tmp_path / "cache"
    statuses, said = train(cache_dir=cache)
    assert statuses == [0, 0]
    assert "it fills the pixel cache, of test, too, then predicts val and test with demo_co" in said
    assert (
        "[rank 1 of 2] test is decoded, too" in said and "what could be decoded is in the" in said
    )
    assert re.search(r"\[rank 1 of 2\] \S+: predicting 20 images of test, fp32", said)
    assert {path.name for path in directory.results.iterdir()} == {
        "predictions_test.npz",
        "predictions_val.npz",
    }, "no figure of them"
    before = [np.load(directory.predictions(split))["pair_probabilities"] for split in SPLITS]
    words = evaluation_flags(directory.root, demo, cache, reference_pictures=0)
    assert evaluate_ensemble.main(words) == 0
    said = capsys.readouterr().out
    assert all(f": predictions on {split} are reused, nothing has ch" in said for split in SPLITS)
    after = [np.load(directory.predictions(split))["pair_probabilities"] for split in SPLITS]
    assert all(map(np.array_equal, before, after))


def test_who_waits_for_a_process_that_was_killed_says_so_and_ends(train_beside):
    directory, log, train = train_beside
    (network,) = heads_of_model(5, "shared")

    def kill(children):
        lock = directory.head_lock("demo_convnext", network)
        wait_for(lambda: lock.exists() and "what could be decoded" in log.read_text(), 60)
        os.kill(children[0], signal.SIGKILL)

    statuses, said = train(kill, epochs=1000, monitor="last")
    assert statuses == [-signal.SIGKILL, 0]
    assert f"{directory.root}: is not complete, and nobody trains it any more" in said
    assert not directory.results.exists()
    assert not list(directory.root.glob(".parts")), "nothing of the second is left"


@pytest.mark.parametrize(
    ("environment", "values", "said"),
    [
        ({"TORCHELASTIC_MAX_RESTARTS": "3"}, {}, "--max_restarts 3: a training that is started ag"),
        ({}, {"override": None, "resume": None}, "--override changes the settings of all pairs"),
        (
            {},
            {"require_trained": None},
            "--require_trained: torchrun would end the other processes",
        ),
        ({"RANK": "2"}, {}, "RANK=2 and WORLD_SIZE=2"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    quick_train, tmp_path, monkeypatch, capsys, environment, values, said
):
    for name, value in ({"RANK": "1", "WORLD_SIZE": "2"} | environment).items():
        monkeypatch.setenv(name, value)
    assert quick_train(tmp_path / "o", **values) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "o").exists()


def evaluation_flags(directory, demo, cache, **changes):
    """Return the flags of a quick evaluation."""
    values = {"results_dirs": directory, "dataset_path": demo, "cache_dir": cache, "device": "cpu"}
    values |= {"resamples": 20, "evidence_maps": 0, "holdout_check": "names", "num_workers": 1}
    return flags(**values, figure_format="none", precision="fp32", **changes)


def evaluation(trained, folder, demo, cache):
    """Return the work of evaluating a copy of a model in a folder, on its way to be the same."""
    copy = shutil.copytree(trained, folder / "demo_5class_results")
    left = ResultDir(copy).results / ".parts" / "answer.json"  # by a launch that was killed
    left.parent.mkdir(parents=True)
    left.touch()
    return lambda rank: evaluate_ensemble.main(evaluation_flags(copy, demo, cache))


def test_an_evaluation_by_three_processes_is_that_of_one(trained, demo, shared_cache, tmp_path):
    found = {}
    for name, size in (("one", 1), ("three", 3)):
        work = evaluation(trained, tmp_path / name, demo, shared_cache)
        assert run_ranks(size, work, tmp_path / f"{name}.txt") == [0] * size
        place = ResultDir(tmp_path / name / "demo_5class_results")
        arrays = [np.load(place.predictions(split)) for split in ("test", "val")]
        metrics = json.loads(place.metrics("test").read_text())
        del metrics["cost"]["images_per_second"]
        tables = {p.name: p.read_bytes() for p in place.tables.iterdir() if "cost" not in p.name}
        found[name] = arrays, metrics, tables
        assert not (place.results / ".parts").exists()
    for one, three in zip(found["one"][0], found["three"][0], strict=True):
        for key in set(one.files) - {"details"}:
            assert np.array_equal(one[key], three[key]), key
    assert found["one"][1:] == found["three"][1:]
    said = (tmp_path / "three.txt").read_text()
    assert "without rows" not in said and "note: this command" not in said
