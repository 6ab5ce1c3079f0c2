"""What model_analyzer.py says of good, bad and odd files."""

import csv
import dataclasses
import json
import math
import os
import shutil

import cv2
import pytest
import torch

import model_analyzer
from common.history import Validation
from common.models import checkpoint_file
from common.models.checkpoint import load_pair
from common.pairs import heads_of_model


def analysis(folder):
    return json.loads((folder / "model_analysis.json").read_text())["classifiers"]


def outputs_of(pair, count, value=0.0):
    """A classifier with so many outputs on the features of a pair's."""
    features = pair.classifier["weight"].shape[1]
    return {"weight": torch.full((count, features), value), "bias": torch.zeros(count)}


def test_reads_folders_files_and_result_directories_alike(trained_copy, capsys):
    files = [str(path) for path in sorted((trained_copy / "models").glob("*.pth"))]
    results = []
    for words in (files, [str(trained_copy / "models")], [str(trained_copy)]):
        assert model_analyzer.main(["--model", *words]) == 0
        results.append(analysis(trained_copy / "results"))
    assert len(results[0]) == 10
    assert [[r["pair"] for r in rows] for rows in results] == [[r["pair"] for r in results[0]]] * 3
    with (trained_copy / "results" / "model_analysis.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10


@pytest.mark.parametrize("name", ["best_demo_convnext (1).pth", "best_demo_convnext_1_0.pth"])
@pytest.mark.parametrize("place", [".", "../models", "models", "models/../models", "link"])
def test_a_copy_of_a_classifier_is_no_other_one(trained_copy, monkeypatch, capsys, name, place):
    models = trained_copy / "models"
    shutil.copy(models / "best_demo_convnext_0_1.pth", models / name)
    (trained_copy / "link").symlink_to("models")
    monkeypatch.chdir(models if place.startswith(".") else trained_copy)
    assert model_analyzer.main(["--model", place, "--output_dir", "out"]) == 0
    said = capsys.readouterr()
    assert f"{name}: no evaluation of this run reads" in said.err
    assert "of 10 classifiers" in said.out
    assert model_analyzer.main(["--model", str(models / name), "--output_dir", "out"]) == 0
    assert "of 1 classifiers" in capsys.readouterr().out, "unless it is asked for"


def test_a_run_that_holds_nothing_but_a_copy_is_refused(trained_copy, capsys):
    models = trained_copy / "models"
    for path in list(models.iterdir()):
        path.rename(models / f"copy of {path.name}")
    assert model_analyzer.main(["--model", str(trained_copy)]) == 2
    assert "expected best_demo_convnext_0_1.pth or another" in capsys.readouterr().err


@pytest.mark.parametrize("config", [None, "{}", '{"config": {"num_classes": 1e300, "model": 3}}'])
def test_where_nothing_says_what_a_run_has_all_files_are_analysed(trained_copy, capsys, config):
    models = trained_copy / "models"
    (models / "best_demo_convnext_0_1.pth").rename(models / "mine.pth")
    (trained_copy / "config.json").unlink()
    if config:
        (trained_copy / "config.json").write_text(config)
    assert model_analyzer.main(["--model", str(models)]) == 0
    assert "of 10 classifiers" in capsys.readouterr().out


def test_a_file_counts_once_however_its_folder_is_written(trained_copy, tmp_path, capsys):
    (tmp_path / "again").symlink_to(trained_copy)
    places = [trained_copy, trained_copy / ".." / trained_copy.name, tmp_path / "again"]
    assert model_analyzer.main(["--model", *map(str, places)]) == 0
    assert "of 10 classifiers" in capsys.readouterr().out


def test_linked_classifiers_are_analysed_beside_their_links(trained_copy, tmp_path, capsys):
    linked = tmp_path / "linked" / "models"
    linked.mkdir(parents=True)
    for path in (trained_copy / "models").iterdir():
        (linked / path.name).symlink_to(path)
    assert model_analyzer.main(["--model", str(linked.parent)]) == 0
    assert len(analysis(linked.parent / "results")) == 10
    assert not (trained_copy / "results" / "model_analysis.json").exists()


@pytest.mark.parametrize(("kind", "rows"), [("shared", 11), ("softmax", 1)])
def test_one_network_for_all_pairs_has_a_row_for_each_of_them(trained_copy, capsys, kind, rows):
    pair = load_pair(trained_copy / "models" / "best_demo_convnext_0_1.pth")
    (head,) = heads_of_model(5, kind)
    scores = Validation(0.5, 0.6, 0.6, 0.8, pair_accuracies=(0.95, *[0.7] * 9))
    checkpoint = dataclasses.replace(
        pair,
        head=head,
        best=dataclasses.replace(pair.best, head=kind, validation=scores),
        classifier=outputs_of(pair, head.outputs),
    )
    path = trained_copy / "one" / f"best_demo_convnext_{kind}.pth"
    path.parent.mkdir()
    checkpoint_file.save_checkpoint(path, checkpoint.to_dict())
    words = ["--output_dir", str(trained_copy / "analysis")]
    assert model_analyzer.main(["--model", str(path), *words]) == 0
    found = analysis(trained_copy / "analysis")
    assert len(found) == rows and (found[0]["pair"], found[0]["status"]) == (kind, "")
    said = capsys.readouterr().out
    if kind == "shared":
        assert found[1]["pair"] == "shared 0-1 (0 vs 1)" and found[1]["val_accuracy"] == 0.95
        assert [row["status"] for row in found[1:]] == ["PASS", *["FAIL"] * 9]
        assert "1 of 10 classifiers of pairs are above 90 % on validation" in said
        assert "records no more of a pair than its accuracy" in said and found[1]["note"]
    else:
        assert "n/a" in said.splitlines()[2]


@pytest.mark.usefixtures("drawn_figures")
def test_curves_are_drawn(trained_copy):
    file = trained_copy / "models" / "best_demo_convnext_0_1.pth"
    assert model_analyzer.main(["--model", str(file), "--figure_format", "pdf"]) == 0
    assert cv2.imread(str(trained_copy / "results" / "training_curves.png")).std() > 5
    vectors = {path.name for path in (trained_copy / "results").glob("training_curves.*")}
    assert vectors == {"training_curves.png", "training_curves.pdf"}


def test_two_runs_of_one_model_are_told_apart(trained_copy, tmp_path, capsys):
    other = shutil.copytree(trained_copy, tmp_path / "other")
    words = ["--output_dir", str(tmp_path / "analysis")]
    assert model_analyzer.main(["--model", str(trained_copy), str(other), *words]) == 0
    said = capsys.readouterr().out
    assert f"demo_convnext in {trained_copy}" in said and f"demo_convnext in {other}" in said
    assert {row["model"] for row in analysis(tmp_path / "analysis")} == {"demo_convnext"}


def test_says_what_the_history_says(trained_copy):
    assert model_analyzer.main(["--model", str(trained_copy / "models")]) == 0
    with (trained_copy / "logs" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    for found in analysis(trained_copy / "results"):
        pair = found["head"]
        assert found["pair"].startswith(f"{pair} (")
        best = next(r for r in rows if r["pair"] == pair and int(r["epoch"]) == found["best_epoch"])
        assert found["val_accuracy"] == float(best["val_accuracy"])
        gap = float(best["train_accuracy"]) - float(best["val_accuracy"])
        assert found["overfitting_gap"] == pytest.approx(gap)
        assert found["epochs_run"] == 2 and found["complete"]
        assert found["status"] == ("PASS" if found["val_accuracy"] > 0.9 else "FAIL")
        assert found["frozen"] > 0 and found["trainable"] > 0


def test_bad_files_get_a_line_and_the_rest_goes_on(trained_copy, capsys):
    models = trained_copy / "models"
    good = (models / "best_demo_convnext_0_1.pth").read_bytes()
    (models / "best_demo_convnext_0_2.pth").write_bytes(good[:5000])
    torch.save({"weights": 1}, models / "foreign.pth")
    content = torch.load(models / "best_demo_convnext_0_3.pth", weights_only=True)
    del content["metrics"]["val_auc"], content["checksum"]
    torch.save(content, models / "best_demo_convnext_0_3.pth")
    assert model_analyzer.main(["--model", str(models), str(models / "gone.pth")]) == 0
    said = capsys.readouterr()
    skipped = [line for line in said.err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 4
    for name in (
        "_0_2.pth: unreadable",
        "foreign.pth: no evaluation of this run reads",
        "_0_3.pth: incomplete",
        "gone.pth: no such file",
    ):
        assert any(name in line for line in skipped)
    assert "of 8 classifiers of pairs" in said.out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pair: {"classifier": outputs_of(pair, 11)}, "not a usable pair checkpoint"),
        (lambda pair: {"classifier": outputs_of(pair, 1, math.nan)}, "weights that are not finite"),
        (lambda pair: {"class_names": pair.class_names[::-1]}, "config.json says"),
    ],
    ids=["outputs", "NaN", "names"],
)
def test_what_an_evaluation_would_refuse_is_not_analysed(trained_copy, capsys, change, reason):
    path = trained_copy / "models" / "best_demo_convnext_0_3.pth"
    pair = load_pair(path)
    checkpoint_file.save_checkpoint(path, dataclasses.replace(pair, **change(pair)).to_dict())
    assert model_analyzer.main(["--model", str(trained_copy)]) == 0
    said = capsys.readouterr()
    assert (
        reason in said.err and said.err.count("skipped: ") == 1 and "of 9 classifiers" in said.out
    )


@pytest.mark.parametrize(
    "history", [[1], [{}], [{"epoch": "x"}], "ab", [{"epoch": 1, "val_loss": []}]]
)
def test_an_odd_history_is_no_traceback(trained_copy, capsys, history):
    path = trained_copy / "models" / "best_demo_convnext_0_3.pth"
    checkpoint_file.save_checkpoint(
        path, {**checkpoint_file.load_checkpoint(path), "history": history}
    )
    assert model_analyzer.main(["--model", str(trained_copy / "models")]) == 0
    assert "_0_3.pth: incomplete" in capsys.readouterr().err


def test_nothing_to_analyse_is_status_2(tmp_path, capsys):
    assert model_analyzer.main(["--model", str(tmp_path)]) == 2
    assert "expected *.pth files" in capsys.readouterr().err
    assert model_analyzer.main(["--model", str(tmp_path / "no*.pth")]) == 2
    said = capsys.readouterr().err
    assert "no*.pth: no such file" in said and len(said.splitlines()) == 1
    assert model_analyzer.main(["--model", os.devnull]) == 2
    assert f"{os.devnull}: expected a file, found none" in capsys.readouterr().err
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"")
    assert model_analyzer.main(["--model", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("skipped: ") == 2 and "none of 2 files could be analysed" in said
    with pytest.raises(SystemExit) as stop:
        model_analyzer.main(["--model", ""])
    assert stop.value.code == 2 and "--model: expected a folder" in capsys.readouterr().err
