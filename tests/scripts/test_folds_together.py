"""The models of a cross-validation's folds, trained and evaluated together."""

import json
import os
import shutil

import pytest
from helpers import flags

import compare_models
import evaluate_ensemble


@pytest.fixture
def folds(demo, tmp_path):
    """Two folds of the demo's pictures: val of the second is learned from in the first."""
    roots = [shutil.copytree(demo, tmp_path / f"fold_{n}", copy_function=os.link) for n in (1, 2)]
    for folder in sorted((roots[1] / "val").iterdir()):
        before = sorted(folder.iterdir())
        for path in sorted((roots[1] / "train" / folder.name).iterdir())[: len(before)]:
            path.rename(folder / f"{path.name}")
        for path in before:
            path.rename(roots[1] / "train" / folder.name / f"from_val_{path.name}")
    return roots


@pytest.mark.slow
def test_models_of_folds_are_fitted_out_of_fold_and_one_without_its_fold_is_refused(
    folds, quick_train, shared_cache, tmp_path, capsys
):
    directories = [tmp_path / f"{root.name}_5class_results" for root in folds]
    for root, directory in zip(folds, directories):
        assert quick_train(directory, dataset_path=root) == 0
    values = {
        "results_dirs": directories,
        "dataset_path": folds[0],
        "cache_dir": shared_cache,
        "output_dir": tmp_path / "together",
        "device": "cpu",
        "resamples": 20,
        "evidence_maps": 0,
        "figure_format": "none",
        "holdout_check": "names",
    }
    asked = {"weights": "optimized", "calibrate": None}
    capsys.readouterr()
    assert evaluate_ensemble.main(flags(**values, **asked)) == 0
    said = capsys.readouterr().out
    assert "fitted on val of 2 folds, out of fold, 40 images" in said
    assert "has learned from 20 of 20 images of val, such as" in said
    content = json.loads((tmp_path / "together/results/metrics_test.json").read_text())
    assert content["weights"] == [0.5, 0.5] and "2 folds" in content["weights_fitted_on"]
    assert "T 1." in content["calibration"] and "2 folds, out of fold" in content["calibration"]
    places = [directories[0], *(tmp_path / "together").glob("*_5class_results")]
    found = [json.loads((place / "results/metrics_test.json").read_text()) for place in places]
    assert found[0]["temperature"] == found[1]["temperature"] != 1

    words = flags(results_dirs=places, output_dir=tmp_path / "compared", resamples=20)
    assert compare_models.main(words) == 0
    compared = json.loads((tmp_path / "compared/results/comparison.json").read_text())
    eces = [each["metrics"]["ece"]["value"] for each in found]
    assert [each["ece"]["value"] for each in compared["models"].values()] == eces
    assert all("out of fold" in text for text in compared["calibration"].values())

    shutil.rmtree(folds[1] / "val")
    (directories[1] / "results" / "predictions_val.npz").unlink()
    assert evaluate_ensemble.main(flags(**values, **asked)) == 2
    error = capsys.readouterr().err
    assert "has learned from 20 of 20 images of val, such as" in error
    assert "own val is not at hand" in error and error.count("\n") == 1
    assert evaluate_ensemble.main(flags(**values)) == 0
    content = json.loads((tmp_path / "together/results/metrics_test.json").read_text())
    assert content["temperature"] == 1 and "raw" not in content
