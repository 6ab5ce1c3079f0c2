"""predict.py from its flags to the files it writes."""

import csv
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import FEW_FILES, flags
from PIL import Image

import evaluate_ensemble
import predict
from common.models import checkpoint_file
from common.pairs import class_pairs, pair_head
from common.result_dir.paths import ResultDir


@pytest.fixture(scope="module")
def evaluated(trained, trained_swin, quick_train, make_once, demo, shared_cache):
    """Two evaluated models of different sizes and their ensemble, to be read only."""

    def make(folder):
        assert quick_train(folder / "one", img_size=40, tta="d4") == 0
        shutil.copytree(trained_swin, folder / "two")
        values = {"dataset_path": demo, "cache_dir": shared_cache, "device": "cpu"}
        values |= {"precision": "fp32", "resamples": 20, **FEW_FILES}
        words = {"results_dirs": [folder / "one", folder / "two"], "weights": [0.3, 0.7]}
        words |= {"operating_point": ["youden", "argmax"], "output_dir": folder / "both"}
        assert evaluate_ensemble.main(flags(**values, **words)) == 0

    return make_once("evaluated_for_predict", make)


@pytest.fixture
def grade(tmp_path, monkeypatch):
    """Run predict.py in an empty folder: grade(images, **flags) -> exit status."""
    monkeypatch.chdir(tmp_path)

    def run(images, **values):
        quick = {"device": "cpu", "precision": "fp32", "num_workers": 2, "images": images}
        return predict.main(flags(**{**quick, **values}))

    return run


def table(path="predictions.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def probabilities(rows):
    return np.array([[float(row[f"p_{k}"]) for k in range(5)] for row in rows])


@pytest.mark.parametrize("which", ["one", "two", "both"])
def test_predictions_are_those_of_the_evaluation_to_the_last_bit(grade, evaluated, demo, which):
    """Of a model and of an ensemble of different sizes and views; the last chunk is not full."""
    assert grade(demo / "test", results_dirs=evaluated / which) == 0
    rows = table()
    stored = np.load(ResultDir(evaluated / which).predictions("test"))
    assert [f"test/{row['image'].split('/test/')[1]}" for row in rows] == stored["ids"].tolist()
    assert np.array_equal(probabilities(rows), stored["class_probabilities"])
    assert [int(row["grade"]) for row in rows] == stored["predictions"].tolist()
    grader = json.loads(ResultDir(evaluated / which).grader.read_text())
    assert {row["model"] for row in rows} == {grader["fingerprint"]}
    assert {row["operating_point"] for row in rows} <= {"youden", "argmax"}


def test_an_ensemble_is_found_by_its_models_in_any_order(grade, evaluated, demo, tmp_path):
    shutil.copytree(evaluated / "both", tmp_path / "super_ensemble_results")
    dirs = [evaluated / "two", evaluated / "one"]
    assert grade(demo / "test" / "0", results_dirs=dirs, csv="a.csv") == 0
    assert grade(demo / "test" / "0", results_dirs=evaluated / "both", csv="b.csv") == 0
    file = ResultDir(evaluated / "both").grader
    assert grade(demo / "test" / "0", results_dirs=dirs, grader=file, csv="c.csv") == 0
    assert grade(demo / "test" / "0", grader=file, csv="d.csv") == 0
    first = probabilities(table("a.csv"))
    assert all(np.array_equal(first, probabilities(table(f"{name}.csv"))) for name in "bcd")
    shutil.rmtree(tmp_path / "super_ensemble_results")
    assert grade(demo / "test" / "0", results_dirs=dirs, csv="e.csv") == 0
    assert not np.array_equal(first, probabilities(table("e.csv"))), "equal weights, uncalibrated"
    assert "not known to have been evaluated together" in table("e.csv")[0]["remarks"]


@pytest.mark.parametrize("which", ["one", "both"])
def test_the_commands_of_a_model_card_grade_as_what_it_describes(
    grade, evaluated, demo, tmp_path, which
):
    for place in evaluated.iterdir():
        (tmp_path / place.name).symlink_to(place)
    (tmp_path / "photographs").symlink_to(demo / "test" / "0")
    assert grade("photographs", grader=ResultDir(evaluated / which).grader, csv="a.csv") == 0
    card = ResultDir(evaluated / which).model_card.read_text()
    (command,) = [line for line in card.splitlines() if line.startswith("python predict.py")]
    assert predict.main([*shlex.split(command)[2:], "--device", "cpu", "--precision", "fp32"]) == 0
    assert np.array_equal(probabilities(table("grades.csv")), probabilities(table("a.csv")))
    assert table("grades.csv")[0]["operating_point"] == table("a.csv")[0]["operating_point"]


def test_a_run_goes_on_with_equal_flags_and_refuses_others(grade, evaluated, demo, capsys):
    values = {"images": demo / "test", "results_dirs": evaluated / "one"}
    assert grade(**values) == 0
    before = table()
    capsys.readouterr()
    assert grade(**values, num_workers=1) == 0
    assert "20 rows are there, 0 to be made" in capsys.readouterr().out
    assert table() == before
    for name, value in {"tta": "none", "operating_point": "argmax", "review_share": 0.2}.items():
        assert grade(**values, **{name: value}) == 2
        error = capsys.readouterr().err
        assert f"{name.replace('_', ' ')} was" in error and error.count("\n") == 1
    assert grade(**{**values, "results_dirs": evaluated / "two"}) == 2
    assert "model was" in capsys.readouterr().err
    assert table() == before
    assert grade(**values, tta="none", overwrite=None) == 0
    assert not np.array_equal(probabilities(table()), probabilities(before))


def test_a_model_that_was_trained_again_after_its_evaluation_is_not_taken_for_the_old_one(
    grade, evaluated, demo, tmp_path, capsys
):
    copy = ResultDir(shutil.copytree(evaluated / "one", tmp_path / "one"))
    path = copy.best("demo_convnext", pair_head(class_pairs(5)[0]))
    checkpoint_file.save_checkpoint(path, checkpoint_file.load_checkpoint(path) | {"epoch": 99})
    assert grade(demo / "test" / "0", results_dirs=copy.root) == 0
    assert "not known to have been evaluated as they are now" in table()[0]["remarks"]
    capsys.readouterr()
    assert grade(demo / "test" / "0", results_dirs=copy.root, grader=copy.grader, csv="b.csv") == 2
    assert "was chosen for other classifiers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": "nothing"}, "--images nothing: expected a folder"),
        ({"results_dirs": False}, "expected either --results_dirs or --base_models"),
        ({"operating_point": "sensitivity=0.9"}, "expected one that was chosen by the evaluation"),
        ({"csv": "a.jsonl"}, "--csv a.jsonl: expected the name of a CSV file"),
        ({"report": "predictions.csv"}, "--report predictions.csv: expected a file of its own"),
        ({"grader": "none.json"}, "none.json: expected a readable JSON file"),
        (
            {"review_share": 0.15},
            "--review_share 0.15: expected one that was chosen, 0.05, 0.1",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(
    grade, evaluated, demo, changes, said, tmp_path, capsys
):
    values = {"images": demo / "test" / "0", "results_dirs": evaluated / "one"}
    assert grade(**{**values, **changes}) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"report": "photos/1_left.jpg"}, "--report writes photos/1_left.jpg"),
        ({"csv": "photos/1_left.jpg"}, "--csv writes photos/1_left.jpg"),
        ({"csv": "link.csv"}, "found a picture"),
        ({"csv": "other.bin"}, "found a picture"),
        ({"report": "photos/new.png"}, "pictures are never written over"),
        ({"csv": "photos/metadata.csv"}, "as tables about pictures are called"),
        ({"csv": "labels.csv"}, "as tables about pictures are called"),
        ({"csv": "fifo"}, "something that is no file"),
        ({"report": "g.json", "grader": "g.json"}, "a file that this command reads"),
        ({"report": "no_model/results/grader.json"}, "a file that this command reads"),
        ({"report": "x_reference.npz", "onnx": "x.onnx", "results_dirs": False}, "command reads"),
        ({"report": "mine.html"}, "--report mine.html is there and predict.py has not"),
        ({"report": "report.html"}, "--report report.html is there and predict.py has not"),
        ({"csv": "mine.csv"}, "mine.csv is there and mine.run.json"),
        ({"csv": "my"}, "my_patients.csv is there and predict.py has not"),
        ({"csv": "b"}, "b is there and predict.py has not"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_over_that_another_has_made_and_a_picture_never(
    grade, tmp_path, values, said, overwrite, capsys
):
    """Before any model is looked for: there is none."""
    Image.new("RGB", (64, 48)).save(tmp_path / "other.bin", "PNG")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "1_left.jpg")
    (tmp_path / "link.csv").symlink_to("photos/1_left.jpg")
    os.mkfifo(tmp_path / "fifo")
    for name in ("mine.html", "mine.csv", "my_patients.csv", "b", "b.run.json", "g.json"):
        (tmp_path / name).write_text("mine\n")
    (tmp_path / "x_reference.npz").write_text("mine")
    (tmp_path / "no_model" / "results").mkdir(parents=True)
    (tmp_path / "no_model" / "results" / "grader.json").write_text("mine")
    title = "<title>Diabetic-retinopathy grading: some model on test</title>"
    (tmp_path / "report.html").write_text(title)  # of an evaluation
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    flag = {"overwrite": None} if overwrite else {}
    assert grade("photos", **{"results_dirs": "no_model", **values, **flag}) == 2
    error = capsys.readouterr().err
    forgiven = overwrite and ("is there and" in said)
    assert (said in error) != forgiven and error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_patients_and_the_page_are_written_with_bad_pictures_among_the_others(
    grade, evaluated, demo, tmp_path
):
    folder = tmp_path / "photos"
    folder.mkdir()
    pictures = sorted((demo / "test" / "3").iterdir())
    for number, path in enumerate(pictures):
        shutil.copy(path, folder / f"{number // 2}_{'left' if number % 2 else 'right'}.jpg")
    (folder / "9_left.jpg").write_bytes(pictures[0].read_bytes()[:900])
    (folder / "<b>9_right.jpg").write_bytes(b"")
    values = {"results_dirs": evaluated / "both", "report": tmp_path / "page.html"}
    assert grade(folder, **values) == 0
    rows = table()
    assert [row["outcome"] for row in rows].count("unreadable") == 2 and len(rows) == 6
    lines = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [row["image"] for row in rows]
    patients = {row["patient"]: row for row in table("predictions_patients.csv")}
    assert list(patients) == ["0", "1", "9", "<b>9"] and patients["9"]["review"] == "yes"
    assert grade(folder, **values) == 0, "its own files are written again"
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "&lt;b&gt;9_right" in page
    assert "http://" not in page and "https://" not in page


def test_pictures_none_of_which_can_be_read_end_with_status_2_and_their_rows(
    grade, evaluated, demo, tmp_path, capsys
):
    folder = tmp_path / "photos"
    folder.mkdir()
    good = next((demo / "test" / "3").iterdir())
    (folder / "a.jpg").write_bytes(good.read_bytes()[:900])
    (folder / "b.jpg").write_bytes(b"")
    values = {"results_dirs": evaluated / "one", "report": tmp_path / "page.html"}
    assert grade(folder, **values) == 2
    assert "found none among 2; predictions.csv has the reason" in capsys.readouterr().err
    assert all(row["outcome"] == "unreadable" and row["reason"] for row in table())
    assert (tmp_path / "page.html").is_file()
    shutil.copy(good, folder / "c.jpg")
    assert grade(folder, **values) == 0 and len(table()) == 3


def test_a_picture_that_nobody_could_grade_has_an_outcome_of_its_own(
    grade, evaluated, demo, tmp_path
):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(next((demo / "val" / "2").iterdir()), folder / "a.jpg")
    Image.new("RGB", (96, 96)).save(folder / "black.png")
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    for which in ("one", "both"):
        assert grade(folder, results_dirs=evaluated / which, csv=f"{which}.csv") == 0
        rows = table(f"{which}.csv")
        assert [row["outcome"] for row in rows] == ["graded", "ungradable", "ungradable"]
        assert "black or much too dark" in rows[1]["reason"] and "no disc" in rows[2]["reason"]
        assert {(row["grade"], row["referable"], row["set"]) for row in rows[1:]} == {("",) * 3}
        assert all(row["review"] == "yes" and row["p_0"] for row in rows[1:])
    bare = ResultDir(shutil.copytree(evaluated / "one", tmp_path / "bare"))
    bare.reference.unlink()
    assert grade(folder, results_dirs=bare.root, csv="without.csv") == 0
    rows = table("without.csv")
    assert [row["outcome"] for row in rows] == ["graded"] * 3
    assert all("not known whether pictures can be graded" in row["remarks"] for row in rows)
