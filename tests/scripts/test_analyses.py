"""The three scripts that read stored predictions."""

import json
import shutil

import cv2
import numpy as np
import pytest
from helpers import GRADES, flags
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, recall_score

import analyze_ensemble_diversity
import analyze_per_class_strengths
import compare_models
import evaluate_ensemble
from common.evaluation.evaluate import evaluate
from common.metrics.intervals import BootstrapConfig
from common.prediction.voting import ClassPredictions

SCRIPTS = {
    "compare": (compare_models.main, "model_comparison"),
    "diversity": (analyze_ensemble_diversity.main, "diversity_analysis"),
    "per_class": (analyze_per_class_strengths.main, "per_class_analysis"),
}


@pytest.fixture(scope="session")
def evaluated(make_once, quick_train, demo, shared_cache, trained, trained_swin):
    """Two evaluated directories, and one of a softmax head under v2.5-model-dr."""

    def make(root):
        shutil.copytree(trained, root / "demo_convnext_5class_results")
        shutil.copytree(trained_swin, root / "demo_swinv2_5class_results")
        softmax = root / "v2.5-model-dr" / "demo_convnext_softmax_5class_results"
        assert quick_train(softmax, head="softmax") == 0
        folders = sorted(path.parent for path in root.rglob("config.json"))
        images = {"dataset_path": demo, "cache_dir": shared_cache, "device": "cpu"}
        images |= {"resamples": 20, "evidence_maps": 0, "figure_format": "none"}
        for split in ("val", "test"):
            words = flags(results_dirs=folders, split=split, output_dir=root / "super", **images)
            assert evaluate_ensemble.main(words) == 0

    return make_once("evaluated", make)


@pytest.fixture(scope="module")
def place(evaluated, tmp_path_factory):
    """A copy of them in which the scripts run."""
    return shutil.copytree(evaluated, tmp_path_factory.mktemp("place") / "here")


def run(name, place, monkeypatch, **values):
    monkeypatch.chdir(place)
    main, folder = SCRIPTS[name]
    status = main(flags(resamples=50, **values))
    return status, place / folder / "results"


def predicted(place, folder):
    with np.load(place / folder / "results" / "predictions_test.npz", allow_pickle=False) as file:
        return file["targets"], file["predictions"]


@pytest.mark.usefixtures("drawn_figures")
def test_both_places_are_searched_and_figures_are_true(place, monkeypatch, capsys):
    status, output = run("compare", place, monkeypatch)
    assert status == 0
    content = json.loads((output / "comparison.json").read_text())
    names = {"demo_convnext", "demo_swinv2", "demo_convnext softmax"}
    assert set(content["models"]) == names and len(content["pairs"]) == 3 * 4
    assert all(row["low"] < row["high"] for row in content["pairs"] if row["low"] is not None)
    assert all(row["critical"] == (row["p_holm"] < 0.05) for row in content["pairs"])
    targets, predictions = predicted(place, "demo_swinv2_5class_results")
    found = content["models"]["demo_swinv2"]
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(targets, predictions))
    kappa = cohen_kappa_score(targets, predictions, weights="quadratic")
    assert found["kappa"]["value"] == pytest.approx(kappa)
    costs = content["costs"]
    assert costs["demo_convnext"]["gflops"] > costs["demo_convnext softmax"]["gflops"] > 0
    for picture in ("metrics", "roc_referable", "accuracy_vs_cost"):
        assert cv2.imread(str(output / f"{picture}.png")).std() > 5
        assert (output / f"{picture}.svg").is_file()
    validation = json.loads((output / "validation.json").read_text())
    assert sum(gate["kind"] == "single" for gate in validation["gates"]) == 3
    said = capsys.readouterr().out
    assert "plain mean" in validation["ensemble"] and validation["ensemble"] in said
    assert "rating: none" in said and "corrected for all 12 tests" in said
    assert "fewer than 20 images of" in said and content["few_images"] in said
    assert "of 12 comparisons tell models apart; --verbose shows all" in said
    assert run("compare", place, monkeypatch, require=None, verbose=None)[0] == 1
    long = capsys.readouterr().out
    assert long.count("demo_convnext - demo_swinv2") == 4 and "lower bound" in long


def test_another_split_than_test_has_files_of_its_own(place, monkeypatch):
    _, output = run("per_class", place, monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    run("per_class", place, monkeypatch, split="val")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert json.loads((output / "per_class_val.json").read_text())["split"] == "val"
    names = {path.name.replace("_val", "") for path in set(output.iterdir()) - before.keys()}
    assert names == {path.name for path in before}


def test_models_are_aliases_and_what_is_missing_is_named(place, monkeypatch, capsys):
    models = ["demo_swinv2", "densenet121"]
    status, output = run("compare", place, monkeypatch, models=models)
    assert status == 0
    assert set(json.loads((output / "comparison.json").read_text())["models"]) == {"demo_swinv2"}
    said = capsys.readouterr()
    assert "missing: densenet121" in said.err and "plain mean" not in said.out
    (place / "empty_5class_results").mkdir()
    try:
        assert run("per_class", place, monkeypatch)[0] == 0
        assert (
            "missing: empty_5class_results: no usable predictions on test"
            in capsys.readouterr().err
        )
    finally:
        (place / "empty_5class_results").rmdir()


def test_a_softmax_head_can_be_chosen_alone(place, monkeypatch):
    for models, found in (
        ("demo_convnext_softmax", {"demo_convnext softmax"}),
        ("demo_convnext", {"demo_convnext"}),
        (
            ["demo_convnext", "demo_convnext_softmax"],
            {"demo_convnext", "demo_convnext softmax"},
        ),
    ):
        _, output = run("compare", place, monkeypatch, models=models)
        assert set(json.loads((output / "comparison.json").read_text())["models"]) == found


def test_a_link_and_its_directory_are_one(place, monkeypatch):
    link = place / "v2.5-model-dr" / "demo_swinv2_5class_results"
    link.symlink_to(place / "demo_swinv2_5class_results")
    try:
        status, output = run("compare", place, monkeypatch)
    finally:
        link.unlink()
    assert status == 0
    assert len(json.loads((output / "comparison.json").read_text())["models"]) == 3


def test_the_hold_out_is_that_of_the_evaluations(place, monkeypatch):
    _, output = run("compare", place, monkeypatch)
    gate = json.loads((output / "validation.json").read_text())["gates"][-1]
    assert gate["kind"] == "holdout" and gate["status"] == "PASS"
    path = place / "demo_swinv2_5class_results" / "results" / "metrics_test.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(before), "holdout": ["FAIL", "a copy"]}))
        run("compare", place, monkeypatch)
        gate = json.loads((output / "validation.json").read_text())["gates"][-1]
        assert gate["status"] == "FAIL" and gate["remark"] == "a copy"
        path.write_text(before[: len(before) // 2])
        assert run("compare", place, monkeypatch)[0] == 0
        gate = json.loads((output / "validation.json").read_text())["gates"][-1]
        assert gate["status"] == "NOT MEASURED" and "metrics_test.json" in gate["remark"]
        path.unlink()
        run("compare", place, monkeypatch)
        gate = json.loads((output / "validation.json").read_text())["gates"][-1]
        assert gate["status"] == "NOT MEASURED"
    finally:
        path.write_text(before)


def leaders_of(targets, predicted):
    """Who has the highest value where, of models that predict these grades."""
    models = {n: ClassPredictions(np.eye(5)[each], each) for n, each in predicted.items()}
    bootstrap = BootstrapConfig(50)
    results = {n: evaluate(targets, m, bootstrap, GRADES).metrics for n, m in models.items()}
    names = list("01234")
    found = analyze_per_class_strengths.find_leaders(results, targets, models, bootstrap, names)
    return {(row.grade, row.metric): row for row in found}


def test_who_leads_is_tested_and_equals_are_named():
    targets = np.arange(300) % 5
    good = np.where(np.arange(300) % 10 < 9, targets, 4 - targets)
    poor = np.where(np.arange(300) % 3 > 0, targets, (targets + 1) % 5)
    poor = np.where(targets == 3, 4, poor)
    found = leaders_of(targets, {"one": good, "two": good.copy(), "three": poor})
    row = found["3", "recall"]
    assert (row.model, row.not_told_apart) == ("one", ["two"]), "three is behind, two is not"
    alone = leaders_of(targets, {"one": good, "three": poor})["3", "recall"]
    assert (alone.model, alone.not_told_apart) == ("one", [])
    never = np.where(good == 3, 4, good)
    precision = leaders_of(targets, {"one": good, "two": never})["3", "precision"]
    assert (precision.model, precision.undefined) == ("one", ["two"]), "nothing to be better than"
    noise = leaders_of(targets[:25], {"one": good[:25], "three": np.roll(good[:25], 5)})
    assert all(r.not_told_apart or r.undefined for r in noise.values() if r.model)


def test_nobody_leads_where_all_fail():
    targets = np.arange(60) % 5
    never = np.where(targets == 2, 3, targets)
    row = leaders_of(targets, {"one": never, "two": never})["2", "recall"]
    assert (row.model, row.not_told_apart) == ("", [])


@pytest.mark.usefixtures("drawn_figures")
def test_diversity_counts_who_errs_where(place, monkeypatch, capsys):
    status, output = run("diversity", place, monkeypatch, figure_format="none")
    assert status == 0
    content = json.loads((output / "diversity.json").read_text())
    correct = {}
    for name in ("demo_convnext", "demo_swinv2"):
        targets, predictions = predicted(place, f"{name}_5class_results")
        correct[name] = targets == predictions
    row = next(r for r in content["pairs"] if {r["model"], r["other"]} == set(correct))
    assert row["disagreement"] == pytest.approx(np.mean(np.not_equal(*correct.values())))
    gains = content["gains"]
    assert set(gains["leave_one_out"]) == set(content["models"])
    tested = [gains["gain_over_mean"], gains["gain_over_best"], *gains["leave_one_out"].values()]
    assert all(gain["low"] < gain["high"] and gain["p"] <= gain["p_holm"] <= 1 for gain in tested)
    assert gains["gain_over_mean"]["value"] == pytest.approx(
        gains["ensemble_accuracy"] - gains["mean_accuracy"]
    )
    assert content["criteria"]["families_status"] == "FAIL", "two families"
    for picture in ("diversity", "dendrogram"):
        assert cv2.imread(str(output / f"{picture}.png")).std() > 5
        assert not (output / f"{picture}.svg").exists()
    said = capsys.readouterr().out
    assert "architecture families: 2" in said and "not told apart" in said
    assert "fewer than 20 images of" in said and content["few_images"] in said


def test_the_diversity_of_one_model_is_refused(place, monkeypatch, capsys):
    assert run("diversity", place, monkeypatch, models=["demo_swinv2"])[0] == 2
    assert "two or more models" in capsys.readouterr().err


@pytest.mark.usefixtures("drawn_figures")
def test_per_class_strengths_are_true(place, monkeypatch, capsys):
    status, output = run("per_class", place, monkeypatch, figure_format="pdf")
    assert status == 0 and not (output / "per_class.svg").exists()
    assert (output / "per_class.pdf").read_bytes().startswith(b"%PDF")
    content = json.loads((output / "per_class.json").read_text())
    recall = {}
    for name in ("demo_convnext", "demo_swinv2"):
        targets, predictions = predicted(place, f"{name}_5class_results")
        recall[name] = recall_score(targets, predictions, average=None, zero_division=0)
        for k in range(5):
            found = content["models"][name][f"recall_{k}"]["value"]
            assert found == pytest.approx(recall[name][k])
    leader = next(r for r in content["leaders"] if (r["grade"], r["metric"]) == ("2", "recall"))
    others = [found["recall_2"]["value"] for found in content["models"].values()]
    if max(others) > 0:
        assert leader["value"] == pytest.approx(max(others))
    else:
        assert leader["leader"] == "" and leader["value"] is None
    assert {row["model"] for row in content["pairs"]} == {"demo_convnext", "demo_swinv2"}
    assert all(row["low"] <= row["balanced_accuracy"] <= row["high"] for row in content["pairs"])
    for row in content["pairs"]:
        own = [other for other in content["pairs"] if other["model"] == row["model"]]
        assert row["below"] == sum(row["high"] < other["low"] for other in own)
    with np.load(place / "demo_swinv2_5class_results/results/predictions_val.npz") as file:
        f1 = f1_score(file["targets"], file["predictions"], average=None, zero_division=0)
    weights = content["suggested_weights"]
    assert all(sum(w[k] for w in weights.values()) == pytest.approx(1) for k in range(5))
    assert all(
        (weights["demo_swinv2"][k] == 0) == (f1[k] == 0)
        for k in range(5)
        if sum(w[k] > 0 for w in weights.values()) not in (0, 3)
    )
    assert cv2.imread(str(output / "per_class.png")).std() > 5
    assert "suggested weight" in capsys.readouterr().out


def test_models_of_other_images_are_left_out(place, monkeypatch, tmp_path, capsys):
    copied = shutil.copytree(place / "demo_swinv2_5class_results", tmp_path / "other")
    path = copied / "results" / "predictions_test.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    arrays["ids"] = np.char.add(arrays["ids"], "x")
    np.savez_compressed(path, **arrays)
    convnext = place / "demo_convnext_5class_results"
    assert run("compare", place, monkeypatch, results_dirs=[convnext, convnext])[0] == 2
    assert "given twice" in capsys.readouterr().err
    folders = [convnext, copied]
    status, output = run("compare", place, monkeypatch, results_dirs=folders)
    assert status == 0 and "was evaluated on other images or classes" in capsys.readouterr().err
    assert len(json.loads((output / "comparison.json").read_text())["models"]) == 1


def test_a_name_with_a_seed_is_that_of_its_directory(place, monkeypatch, tmp_path, capsys):
    for seed in (1, 12):
        own = tmp_path / f"demo_convnext_seed{seed}_5class_results"
        shutil.copytree(place / "demo_convnext_5class_results", own)
    status, output = run("compare", tmp_path, monkeypatch, models=["demo_convnext_seed1"])
    assert status == 0
    assert len(json.loads((output / "comparison.json").read_text())["models"]) == 1
    assert run("compare", tmp_path, monkeypatch, models=["demo_convnext"])[0] == 0
    assert len(json.loads((output / "comparison.json").read_text())["models"]) == 2
    assert run("compare", tmp_path, monkeypatch, models=["demo_convnext_seed2"])[0] == 2
    assert "missing: demo_convnext_seed2: no evaluated result" in capsys.readouterr().err
    softmax = place / "v2.5-model-dr" / "demo_convnext_softmax_5class_results"
    for seed in (0, 1):
        shutil.copytree(softmax, tmp_path / f"demo_convnext_softmax_seed{seed}_5class_results")
    assert run("compare", tmp_path, monkeypatch, models=["demo_convnext_softmax_seed1"])[0] == 0
    assert len(json.loads((output / "comparison.json").read_text())["models"]) == 1
    assert "missing" not in capsys.readouterr().err


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_to_analyse_is_one_line(name, tmp_path, monkeypatch, capsys):
    assert run(name, tmp_path, monkeypatch)[0] == 2
    error = capsys.readouterr().err
    assert "found no evaluated result directory" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert run(name, tmp_path, monkeypatch, models=["no_such"])[0] == 2
    assert "unknown model" in capsys.readouterr().err
