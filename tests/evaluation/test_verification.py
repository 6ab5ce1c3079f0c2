"""Computing stored predictions again and noticing every change."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import FEW_FILES, flags

import evaluate_ensemble
from common.result_dir.paths import ResultDir
from common.result_dir.stored import read_predictions, write_predictions


@pytest.fixture(scope="module")
def options(demo, shared_cache):
    return {
        "dataset_path": demo,
        "cache_dir": shared_cache,
        "device": "cpu",
        "resamples": 20,
        **FEW_FILES,
        "split": "val",
        "precision": "fp32",
    }


@pytest.fixture(scope="module")
def original(make_once, trained, options):
    def make(folder):
        copy = shutil.copytree(trained, folder / "r")
        assert evaluate_ensemble.main(flags(results_dirs=copy, **options)) == 0

    return make_once("verification", make) / "r"


@pytest.fixture
def evaluated(original, tmp_path):
    """A result directory with stored predictions that a test may tamper with."""
    return shutil.copytree(original, tmp_path / "r")


def verify(options, *folders, **more):
    return evaluate_ensemble.main(flags(results_dirs=list(folders), **options, **more, verify=None))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "1e-06: PASS"),
        ({"temperature": 0}, "temperature: FAIL"),
        ({"temperature": "abc"}, "temperature: FAIL"),
        ({"vote": "best"}, "vote: FAIL"),
        ({"model": "demo_swinv2"}, "model: FAIL"),
        ({"class_names": list("abcde")}, "class names: FAIL"),
        ({"origin": {"checkpoints": "x", "precision": ["fp32"]}}, "checkpoints, precision: FAIL"),
        ({"origin": {"checkpoints": "x", "precision": "fp32", "tta": "d4"}}, "checkpoints: FAIL"),
    ],
)
def test_every_change_of_the_file_s_details_is_noticed(evaluated, options, capsys, change, said):
    path = ResultDir(evaluated).predictions("val")
    arrays, details = read_predictions(path)
    write_predictions(path, arrays, details | change)
    assert verify(options, evaluated) == int("FAIL" in said)
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["nan", "complex", "text", "missing"])
def test_what_is_no_probability_fails(evaluated, options, capsys, broken):
    path = ResultDir(evaluated).predictions("val")
    arrays, details = read_predictions(path)
    classes = arrays.pop("class_probabilities")
    other = {
        "nan": np.where(classes == classes[0, 0], np.nan, classes),
        "complex": classes.astype(complex),
        "text": classes.astype(str),
    }
    if broken in other:
        arrays["class_probabilities"] = other[broken]
    write_predictions(path, arrays, details)
    assert verify(options, evaluated) == 1
    assert "difference of a probability inf" in capsys.readouterr().out


def test_a_changed_ensemble_is_noticed(evaluated, trained_swin, options, tmp_path, capsys):
    folders = [evaluated, shutil.copytree(trained_swin, tmp_path / "other")]
    both = {"output_dir": tmp_path / "both", "weights": [0.7, 0.3]}
    words = flags(results_dirs=folders, **options, **both, calibrate="auto")
    assert evaluate_ensemble.main(words) == 0
    capsys.readouterr()
    assert verify(options, *folders, **both) == 0
    path = ResultDir(tmp_path / "both").predictions("val")
    assert f"verify {path}" in capsys.readouterr().out
    arrays, details = read_predictions(path)
    write_predictions(path, arrays | {"predictions": arrays["targets"]}, details)
    assert verify(options, *folders, **both) == 1
    assert "changed since: predictions: FAIL" in capsys.readouterr().out
    write_predictions(path, arrays, details | {"weights": [0.5]})
    assert verify(options, *folders, **both) == 2
    assert verify(options, evaluated, output_dir=both["output_dir"]) == 0, "no ensemble of one"


def test_verify_recomputes_what_is_stored(trained_copy, options, capsys):
    path = trained_copy / "results" / "predictions_val.npz"
    assert verify(options, trained_copy) == 2
    assert "--verify: expected stored predictions" in capsys.readouterr().err
    assert evaluate_ensemble.main(flags(results_dirs=trained_copy, **options)) == 0
    assert verify(options, trained_copy) == 0
    said = capsys.readouterr().out
    assert "difference of a probability 0, tolerance 1e-06: PASS" in said
    with np.load(path, allow_pickle=False) as file:
        good = dict(file)
    scores = good["pair_probabilities"]
    for name, value, said in (
        ("pair_probabilities", np.where(scores == scores[3, 2], 1 - scores, scores), ": FAIL"),
        ("pair_probabilities", np.clip(scores + 1e-4, 0, 1), ": FAIL"),
        ("class_probabilities", np.roll(good["class_probabilities"], 1, axis=1), ": FAIL"),
        ("predictions", (good["predictions"] + 1) % 5, "changed since: predictions: FAIL"),
        ("pair_val_accuracies", good["pair_val_accuracies"] * 0.5, "validation accuracies"),
    ):
        np.savez_compressed(path, **{**good, name: value})
        before = path.read_bytes()
        assert verify(options, trained_copy) == 1
        assert said in capsys.readouterr().out and path.read_bytes() == before


def test_verify_opens_each_stored_file_once(evaluated, options):
    opened: Counter[str] = Counter()
    watching = True

    def watch(event, arguments):
        if watching and event == "open" and isinstance(arguments[0], str | Path):
            opened[str(arguments[0])] += 1

    sys.addaudithook(watch)  # which stays, so that it is told when to stop
    try:
        assert verify(options, evaluated) == 0
    finally:
        watching = False
    stored = [*evaluated.glob("models/*.pth"), evaluated / "results" / "predictions_val.npz"]
    assert len(stored) == 11 and {opened[str(path)] for path in stored} == {1}
