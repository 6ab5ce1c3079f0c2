"""Folds from the split to the ensemble: each fold's model, a common test, and who has seen what."""

import json
import shutil

import pytest
from helpers import flags

import evaluate_ensemble
import prepare_dataset


@pytest.mark.slow
def test_folds_are_trained_and_their_ensemble_is_tested_on_what_none_has_seen(
    demo, quick_train, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name, grade in (("No_DR", "1"), ("DR", "4")):
        for split in ("train", "val"):
            source = demo / split / grade
            shutil.copytree(source, tmp_path / "pictures" / name, dirs_exist_ok=True)
    words = ["split", "pictures", "folds", "--folds", "2", "--cal", "0.2", "--test", "0.2"]
    words += ["--num_classes", "2", "--cache_dir", "cache"]
    assert prepare_dataset.main(words) == 0
    said = capsys.readouterr().out
    assert "--output_dir ./convnext_fold${fold}_5class_results --resume --num_classes 2" in said
    results = [f"demo_convnext_fold{fold}_5class_results" for fold in (1, 2)]
    values = {"num_classes": 2, "epochs": 1, "cache_dir": "cache"}
    for fold, output in enumerate(results, 1):
        assert quick_train(output, dataset_path=f"folds/fold_{fold}", **values) == 0
    values = {"dataset_path": "folds/fold_1", "output_dir": "ensemble", "cache_dir": "cache"}
    values |= {"device": "cpu", "precision": "fp32", "resamples": 50, "figure_format": "none"}
    capsys.readouterr()
    assert evaluate_ensemble.main(flags(results_dirs=results, **values)) == 0
    said = " ".join(capsys.readouterr().out.split())
    metrics = json.loads((tmp_path / "ensemble/results/metrics_test.json").read_text())
    assert metrics["holdout"][0] == "PASS", "neither model has seen test"
    [seen] = metrics["holdout_overlaps"]
    assert (seen["split"], seen["model"], seen["seen_as"]) == (
        "val",
        results[1].removesuffix("_5class_results"),
        "train",
    )
    assert seen["images"] == seen["of"], "each picture of fold 1's val is in fold 2's train"
    name = seen["model"]
    remark = f"val is not new to all models: {name}: {seen['found']}. Nothing is fitted on it"
    assert f"{remark}, but on cal" in said
    alone = [next(tmp_path.rglob(f"*{name}/results/metrics_test.json")) for name in results]
    assert all(json.loads(path.read_text())["holdout"][0] == "PASS" for path in alone)
