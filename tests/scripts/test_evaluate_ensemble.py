"""evaluate_ensemble.py from its flags to the files it writes."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from helpers import FEW_FILES, flags
from sklearn.metrics import accuracy_score, cohen_kappa_score

import compare_models
import evaluate_ensemble
from common.grading.finding import given_grader
from common.models import checkpoint_file
from common.pairs import pair_head
from common.prediction.predictions import load_predictions
from common.result_dir.paths import ResultDir


@pytest.fixture
def second(trained_swin, tmp_path):
    """A result directory of another backbone."""
    return shutil.copytree(trained_swin, tmp_path / "swin_5class_results")


@pytest.fixture(scope="module")
def evaluate(demo, shared_cache):
    def run(**changes):
        values = {"dataset_path": demo, "cache_dir": shared_cache, "device": "cpu", "resamples": 50}
        values |= FEW_FILES
        return evaluate_ensemble.main(flags(**{**values, **changes}))

    return run


def test_a_copy_of_a_model_is_not_taken_for_another_one(evaluate, trained_copy, tmp_path, capsys):
    copied = shutil.copytree(trained_copy, tmp_path / "copied")
    values = {"results_dirs": [trained_copy, copied], "output_dir": tmp_path / "o"}
    assert evaluate(**values, holdout_check="names") == 2
    error = capsys.readouterr().err
    assert f"{copied} holds the same classifiers as {trained_copy}" in error
    assert error.count("\n") == 1 and not (tmp_path / "o").exists()
    path = ResultDir(copied).best("demo_convnext", pair_head((0, 1)))
    content = checkpoint_file.load_checkpoint(path)
    content["config"]["output_dir"] = str(copied)  # one training in two places: other bytes
    checkpoint_file.save_checkpoint(path, content)
    assert evaluate(**values, holdout_check="names") == 2
    assert f"{copied} holds the same classifiers as {trained_copy}" in capsys.readouterr().err


def test_a_model_that_is_not_trained_to_its_end_is_named_wherever_its_figures_are(
    evaluate, trained_copy, capsys
):
    directory = ResultDir(trained_copy)
    last = directory.last("demo_convnext", pair_head((0, 1)))
    last.parent.mkdir()
    last.touch()
    for _ in range(2):  # the predictions are reused then
        assert evaluate(results_dirs=trained_copy, holdout_check="names") == 0
        said = f"{trained_copy}: 1 of 10 classifiers are unfinished"
        assert said in " ".join(capsys.readouterr().out.split())
    assert said in directory.report("test").read_text()
    assert metrics(trained_copy)["unfinished"][0].startswith(said)
    assert "the training was not ended when this was written" in directory.model_card.read_text()


@pytest.mark.usefixtures("drawn_figures")
def test_where_the_training_images_are_not_at_hand_only_what_is_not_asked_for_is_fitted_on_val(
    evaluate, trained_copy, demo, tmp_path, capsys
):
    """The summary says so; --calibrate is refused until the model's own val is known."""
    moved = shutil.copytree(demo, tmp_path / "alone" / "d")
    next((moved / "train" / "0").iterdir()).unlink()
    config = trained_copy / "config.json"
    config.write_text(config.read_text().replace(str(demo), "/nowhere/at/all"))
    values = {"results_dirs": trained_copy, "dataset_path": moved, "output_dir": tmp_path / "o"}
    values |= {"holdout_check": "names", "figure_format": "none"}
    assert evaluate(**values) == 0
    said = capsys.readouterr().out
    summary = " ".join(said[said.index("chosen on:") :].split())
    assert "chosen on: val (not known whether demo_convnext learned from it), 20 images" in summary
    assert "note: whether demo_convnext learned from val is not known" in summary
    assert evaluate(**values, calibrate=None) == 2
    error = capsys.readouterr().err
    assert "--calibrate is fitted on cal or val, and there is none for it: whether" in error
    assert "no predictions on it are stored" in error and error.count("\n") == 1


def metrics(folder, split="test"):
    return json.loads((folder / "results" / f"metrics_{split}.json").read_text())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.usefixtures("drawn_figures")
def test_writes_numbers_predictions_and_figures(evaluate, trained_copy, split, capsys):
    stale = trained_copy / "results" / f"subgroups_{split}.png"
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"of an evaluation that knew of subgroups")
    vector = {"val": "none", "test": "svg"}[split]
    values = {"results_dirs": trained_copy, "split": split, "figure_format": vector}
    values["evidence_maps"] = {"val": 0, "test": 2}[split]
    assert evaluate(**values, verbose=None) == 0
    content = metrics(trained_copy, split)
    with np.load(trained_copy / "results" / f"predictions_{split}.npz", allow_pickle=False) as file:
        targets, predicted = file["targets"], file["predictions"]
        assert np.allclose(file["class_probabilities"].sum(1), 1)
    found = content["metrics"]
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(targets, predicted))
    kappa = cohen_kappa_score(targets, predicted, weights="quadratic")
    assert found["kappa"]["value"] == pytest.approx(kappa)
    assert found["accuracy"]["low"] <= found["accuracy"]["value"] <= found["accuracy"]["high"]
    assert ("raw" in content) == (split == "test"), "val is judged: nothing is fitted on it"
    assert (content["temperature"] != 1) == (split == "test")
    wanted = [
        "balanced_accuracy",
        "macro_auc",
        "referable_sensitivity",
        "referable_specificity",
        "referable_auc",
        "ece",
        "brier",
        "recall_1",
        "precision_4",
        "f1_0",
        "auc_3",
    ]
    assert set(wanted) <= set(found)
    assert {"coupling", "soft", "hard", "weighted", "votes + confidence"} <= set(content["votes"])
    assert "coupling," in (trained_copy / "results" / f"votes_{split}.csv").read_text()
    for name in ("confusion", "roc", "reliability"):
        assert cv2.imread(str(trained_copy / "results" / f"{name}_{split}.png")).std() > 5
    assert (trained_copy / "results" / f"roc_{split}.svg").is_file() == (vector == "svg")
    assert not stale.exists()
    names = {path.name for path in (trained_copy / "results").iterdir()}
    own, other = ("", "_val") if split == "test" else ("_val", "")
    for name, ending in (("report", "html"), ("checklist", "md"), ("validation", "json")):
        assert f"{name}{own}.{ending}" in names and f"{name}{other}.{ending}" not in names
    card = (trained_copy / "MODEL_CARD.md").read_text()
    report = ResultDir(trained_copy).report(split).read_text()
    shown = split == "test"
    assert ResultDir(trained_copy).mistakes(split).is_file() == shown
    assert ("](results/mistakes_test.jpg)" in card) == shown
    scores = re.findall(r"score [+-]\d", report)  # below a picture, and read out for it
    assert len(scores) == (2 * 2 if shown else 0)
    assert ("evidence_maps 0 was given" in report) != shown
    assert f"split {split} of demo" in card and "| demo | train | 47 | 7 | 10 |" in card
    assert f"| Accuracy | {100 * found['accuracy']['value']:.1f} % |" in card
    said = capsys.readouterr().out
    assert all(vote in said for vote in ("coupling", "soft", "hard", "weighted"))


def test_tables_are_csv_files_and_long_only_when_asked_for(evaluate, trained_copy, capsys):
    tables = trained_copy / "results" / "tables"
    tables.mkdir(parents=True)
    (tables / "prevalence_test.csv").write_text("of an earlier evaluation\n")
    assert evaluate(results_dirs=trained_copy) == 0
    short = capsys.readouterr().out
    assert "By grade" not in short and "rating: none" in short and "--verbose" in short
    assert evaluate(results_dirs=trained_copy, verbose=None) == 0
    assert "By grade" in capsys.readouterr().out
    written = {path.stem for path in tables.iterdir()}
    assert {"per_class_test", "confusion_test", "gates_test"} <= written
    assert "prevalence_test" not in written, "what was not asked for again is gone"
    header = (tables / "per_class_test.csv").read_text().splitlines()[0]
    assert "recall,recall_low,recall_high" in header


def test_the_vote_decides_the_result(evaluate, trained_copy):
    chosen = {}
    for vote in ("coupling", "hard"):
        assert evaluate(results_dirs=trained_copy, vote=vote, calibrate="off") == 0
        content = metrics(trained_copy)
        assert content["vote"] == vote and content["metrics"] == content["votes"][vote]
        chosen[vote] = content["metrics"]["brier"]["value"]
    assert chosen["coupling"] != chosen["hard"]


def test_the_guide_s_form_evaluates_the_output_directory(
    evaluate, trained_copy, tmp_path, monkeypatch
):
    assert evaluate(base_models="demo_convnext", output_dir=trained_copy) == 0
    assert metrics(trained_copy)["model"] == "demo_convnext"
    monkeypatch.chdir(tmp_path)
    assert evaluate(base_models="demo_convnext", split="val") == 0
    assert metrics(trained_copy, "val")["split"] == "val"


def test_several_directories_make_a_mean_ensemble(
    evaluate, trained_copy, second, demo, tmp_path, capsys
):
    output = tmp_path / "super"
    both = {"results_dirs": [trained_copy, second], "output_dir": output}
    own = ResultDir(trained_copy)
    for path in (own.report("test"), own.review_sheet("test")):
        path.parent.mkdir(exist_ok=True)
        path.write_text("of an evaluation of this model alone, with reviews")
    assert evaluate(**both, calibrate="off") == 0
    assert "with reviews" in own.review_sheet("test").read_text()
    parts = []
    for folder in (trained_copy, second, output):
        with np.load(folder / "results" / "predictions_test.npz", allow_pickle=False) as file:
            parts.append(file["class_probabilities"])
    assert np.allclose(parts[2], (parts[0] + parts[1]) / 2)
    assert metrics(output)["members"] == ["demo_convnext", "demo_swinv2"]
    said = capsys.readouterr().out
    assert "ensemble of 2 models" in said
    assert f"note: {own.report('test')} and what belongs to it are of an earlier" in said
    assert said.count("evaluate it alone for a new one") == 1, "the second has no report"
    of_one, of_both = ((folder / "MODEL_CARD.md").read_text() for folder in (second, output))
    assert "An ensemble of:" in of_both and "| demo\\_convnext, demo\\_swinv2 |" in of_both
    assert of_one.count("- `demo_swinv2`: ") == 1 and "- `demo_convnext`: " not in of_one
    for card in (of_one, of_both):
        assert "| Accuracy | " in card and "| argmax | 20 | - | 12 |" in card
    outside, kept = shutil.copytree(demo / "test", tmp_path / "hospital"), contents(output)
    assert evaluate(**both, dataset_path=outside) == 2
    error = capsys.readouterr().err
    assert f"{output}: results on {demo} lie there" in error and contents(output) == kept
    for word, status in (("one", 0), ("two", 2)):
        place = outside if word == "one" else shutil.copytree(outside, tmp_path / word)
        values = {"results_dirs": second, "output_dir": tmp_path / "out", "dataset_path": place}
        assert evaluate(**values) == status, "of a single model alike"


@pytest.mark.usefixtures("planned_figures")
def test_external_images_need_no_splits(evaluate, trained_copy, demo, tmp_path):
    outside = shutil.copytree(demo / "test", tmp_path / "hospital")
    shutil.rmtree(outside / "4")
    (outside / "4").mkdir()
    assert evaluate(results_dirs=trained_copy) == 0
    kept = contents(trained_copy / "results")
    assert (
        evaluate(results_dirs=trained_copy, dataset_path=outside, output_dir=tmp_path / "out") == 0
    )
    assert contents(trained_copy / "results") == kept
    [place] = (tmp_path / "out").iterdir()
    content = metrics(place)
    assert content["images"] == 16 and content["metrics"]["recall_4"]["value"] is None
    assert "no image of grade 4" in content["undefined"]["recall_4"]
    assert (
        f"predict.py --results_dirs ./{place.name} --images"
        in (place / "MODEL_CARD.md").read_text()
    )
    (member,) = given_grader(None, [place]).grader.members
    assert member.directory.resolve() == trained_copy.resolve()


def test_a_moved_dataset_is_still_the_model_s_own(evaluate, trained_copy, demo, tmp_path, capsys):
    moved = shutil.copytree(demo, tmp_path / "moved")
    assert evaluate(results_dirs=trained_copy, dataset_path=moved, output_dir=tmp_path / "out") == 0
    assert metrics(trained_copy)["dataset_path"] == str(moved) and not (tmp_path / "out").exists()
    assert "not into --output_dir" in capsys.readouterr().out
    next((moved / "train" / "2").iterdir()).unlink()
    assert evaluate(results_dirs=trained_copy, dataset_path=moved, output_dir=tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 1, "other training images: another dataset"


def test_a_directory_that_cannot_be_used_ends_in_one_line(
    evaluate, trained_copy, second, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    cases = [
        ({"results_dirs": tmp_path / "nope"}, "expected a result directory"),
        ({"results_dirs": tmp_path / "empty"}, "found none; train with"),
        ({"results_dirs": [trained_copy, trained_copy]}, "given twice"),
        ({"base_models": "demo_swinv2", "output_dir": trained_copy}, "holds demo_convnext"),
        ({"results_dirs": [second, trained_copy], "output_dir": second}, "would take their place"),
        ({"base_models": "demo_convnext", "results_dirs": trained_copy}, "either"),
        ({}, "either"),
        ({"results_dirs": trained_copy, "dataset_path": "/nope"}, "check --dataset_path"),
        ({"results_dirs": trained_copy, "resamples": 0}, "--resamples"),
        ({"use_amp": "false", "precision": "bf16"}, "--use_amp false has no effect with"),
    ]
    for change, said in cases:
        assert evaluate(**change) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    (trained_copy / "models" / "best_demo_convnext_1_3.pth").unlink()
    assert evaluate(results_dirs=trained_copy) == 2
    assert "missing 1-3" in capsys.readouterr().err
    (trained_copy / "models" / "best_demo_convnext_1_3.pth").write_bytes(b"half")
    assert evaluate(results_dirs=trained_copy) == 2
    assert "best_demo_convnext_1_3.pth: unreadable" in capsys.readouterr().err


def test_grades_in_another_order_change_no_figure(evaluate, trained_copy, capsys):
    assert evaluate(results_dirs=trained_copy) == 0
    first = (trained_copy / "results" / "metrics_test.json").read_bytes()
    assert evaluate(results_dirs=trained_copy, class_names=list("43210")) == 2
    assert "pass --class_names 0 1 2 3 4" in capsys.readouterr().err
    assert evaluate(results_dirs=trained_copy, class_names=list("01234")) == 0
    assert (trained_copy / "results" / "metrics_test.json").read_bytes() == first


def test_a_classifier_of_nan_is_named(evaluate, trained_copy, capsys):
    from common.models import checkpoint_file

    path = trained_copy / "models" / "best_demo_convnext_1_3.pth"
    content = checkpoint_file.load_checkpoint(path)
    content["classifier"]["bias"][:] = float("nan")
    checkpoint_file.save_checkpoint(path, content)
    assert evaluate(results_dirs=trained_copy) == 2
    assert "1_3.pth: gives values that are not finite" in capsys.readouterr().err
    assert not (trained_copy / "results" / "metrics_test.json").exists()


def test_an_ensemble_is_weighted_calibrated_restated_rated_and_reported(
    evaluate, trained_copy, second, tmp_path, capsys
):
    output = tmp_path / "super"
    values = {
        "results_dirs": [trained_copy, second],
        "output_dir": output,
        "weights": "optimized",
        "calibrate": None,
        "prevalence": "0.735,0.07,0.15,0.025,0.02",
    }
    assert evaluate(**values) == 0
    content = metrics(output)
    assert sum(content["weights"]) == pytest.approx(1)
    assert {"demo_convnext", "demo_swinv2", "mean"} <= set(content["graders"])
    assert set(content["prevalence"]) == set(content["graders"])
    assert len(content["differences"]) == len(content["graders"]) - 1
    assert content["synthetic"] and "SYNTHETIC" in capsys.readouterr().out
    validation = json.loads((output / "results" / "validation.json").read_text())
    assert validation["grade"] == "none"
    assert {gate["kind"] for gate in validation["gates"]} == {
        "single",
        "binary",
        "ensemble",
        "diversity",
        "holdout",
    }
    report = (output / "results" / "report.html").read_text()
    assert "<script" not in report and "http" not in report
    assert report.count("data:image/png") >= 3 and "data:image/jpeg" in report
    assert (output / "results" / "graders_test.csv").read_text().count("\n") >= 4
    assert evaluate(**values, require=None) == 1, "a gate has failed"
    assert content["calibration"].endswith("wrong)") and content["raw"]["ece"]
    assert "optimized on val, 20 images" in content["weights_fitted_on"]
    assert evaluate(**values, verify=None) == 0


def test_weights_change_the_ensemble(evaluate, trained_copy, second, tmp_path):
    found = []
    for weights in (["1", "0"], ["0", "1"], ["uniform"]):
        output = tmp_path / weights[0]
        both = {"results_dirs": [trained_copy, second], "output_dir": output}
        assert evaluate(**both, weights=weights, calibrate="off") == 0
        with np.load(output / "results" / "predictions_test.npz", allow_pickle=False) as file:
            found.append(file["class_probabilities"])
    assert np.allclose((found[0] + found[1]) / 2, found[2]) and not np.allclose(*found[:2])


def forget_the_dataset(folder):
    """Let a directory's training data be gone, with what is stored of it."""
    config = folder / "config.json"
    content = json.loads(config.read_text())
    content["config"]["dataset_path"] = "/nowhere"
    config.write_text(json.dumps(content))
    (folder / "results" / "predictions_val.npz").unlink(missing_ok=True)


@pytest.mark.usefixtures("planned_figures")
def test_what_is_fitted_needs_images_for_it(evaluate, trained_copy, second, demo, tmp_path, capsys):
    outside = shutil.copytree(demo / "test", tmp_path / "hospital")
    for folder in (trained_copy, second):
        forget_the_dataset(folder)
    both = {"results_dirs": [trained_copy, second], "output_dir": tmp_path / "super"}
    for asked in ({"weights": "optimized"}, {"weights": "val_accuracy"}, {"calibrate": None}):
        assert evaluate(**both, dataset_path=outside, **asked) == 2
        error = capsys.readouterr().err
        assert "demo_convnext's own val is not at hand" in error and error.count("\n") == 1
    assert evaluate(results_dirs=both["results_dirs"], split="val", output_dir=tmp_path / "v") == 0
    values = {**both, "dataset_path": outside, "weights": "optimized", "calibrate": None}
    assert evaluate(**values) == 0, "the stored val predictions serve the external set"
    assert "fitted on val as it is stored" in capsys.readouterr().out
    gates = json.loads((tmp_path / "super/results/validation.json").read_text())["gates"]
    assert gates[-1]["kind"] == "holdout"


def test_a_model_s_own_val_serves_an_external_set(evaluate, trained_copy, demo, tmp_path, capsys):
    outside = shutil.copytree(demo / "test", tmp_path / "hospital")
    one = {"results_dirs": trained_copy, "output_dir": tmp_path / "out"}
    assert evaluate(**one, dataset_path=outside, calibrate=None) == 0
    said = capsys.readouterr().out
    assert "fitted on val of the training's dataset, 20 images" in said
    assert "calibrated: temperature" in said and "log loss" in said
    [place] = (tmp_path / "out").iterdir()
    assert metrics(place)["raw"]["ece"]["value"] != metrics(place)["metrics"]["ece"]["value"]


def test_images_that_were_learned_from_are_named_and_not_fitted_on(
    evaluate, trained_copy, demo, tmp_path, capsys
):
    root = shutil.copytree(demo, tmp_path / "leaky")
    learned = sorted((demo / "train" / "2").iterdir())[0]
    (root / "val" / "2" / "renamed.jpg").hardlink_to(learned)
    forget_the_dataset(trained_copy)
    one = {"results_dirs": trained_copy, "dataset_path": root, "calibrate": None}
    assert evaluate(**one) == 0
    said = capsys.readouterr().out
    assert "fitted on val of the training's dataset, 20 images (demo_convnext has learned" in said
    assert "1 of 21 images of val, such as" in said and "renamed.jpg = " in said
    shutil.rmtree(root / "val")
    (trained_copy / "results" / "predictions_val.npz").unlink()
    shutil.copytree(root / "train", root / "cal")
    assert evaluate(**one) == 2
    error = capsys.readouterr().err
    assert "demo_convnext has learned from 47 of 47 images of cal" in error
    assert "split --cal" in error and error.count("\n") == 1
    assert evaluate(**one | {"calibrate": "auto"}) == 0
    assert "nothing is fitted: demo_convnext has learned from 47" in capsys.readouterr().out
    assert metrics(trained_copy)["temperature"] == 1


def test_cal_is_fitted_on_where_there_is_one(evaluate, trained_copy, demo, tmp_path, capsys):
    root = shutil.copytree(demo, tmp_path / "with_cal")
    shutil.move(root / "val", root / "cal")
    assert evaluate(results_dirs=trained_copy, dataset_path=root, calibrate=None) == 0
    assert "fitted on cal, 20 images" in capsys.readouterr().out


def test_images_of_a_patient_are_one_unit_of_the_bootstrap(evaluate, trained_copy):
    assert evaluate(results_dirs=trained_copy, patient_regex=r"(\d)\.jpg") == 0
    assert "patients" in metrics(trained_copy)["bootstrap"]["units"]
    assert evaluate(results_dirs=trained_copy, patient_regex="(") == 2


@pytest.fixture(scope="module")
def evaluated(make_once, evaluate, trained):
    """A result directory that has been evaluated, to be read only."""

    def make(folder):
        shutil.copytree(trained, folder / "r")
        assert evaluate(results_dirs=folder / "r") == 0

    return make_once("evaluated_alone", make) / "r"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("targets", lambda a: a + 7),
        ("pair_probabilities", lambda a: a * np.nan),
        ("pair_probabilities", lambda a: a[:5]),
        ("pair_probabilities", lambda a: a[:, :6]),
        ("ids", lambda a: a[:0]),
    ],
)
def test_odd_stored_predictions_are_computed_again(evaluate, evaluated, tmp_path, name, change):
    folder = shutil.copytree(evaluated, tmp_path / "r")
    path = folder / "results" / "predictions_test.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{**arrays, name: change(arrays[name])})
    assert evaluate(results_dirs=folder) == 0
    assert metrics(folder)["metrics"] == metrics(evaluated)["metrics"]
    with np.load(path, allow_pickle=False) as file:
        assert np.array_equal(file[name], arrays[name])


def test_test_time_augmentation_is_of_all_that_is_predicted_and_is_said(
    evaluate, trained_copy, second, tmp_path, capsys
):
    config = second / "config.json"
    config.write_text(config.read_text().replace('"tta": "none"', '"tta": "flips"'))
    both = {"results_dirs": [trained_copy, second], "output_dir": tmp_path / "o"}
    short = {"holdout_check": "names", "figure_format": "none", "resamples": 20}
    assert evaluate(**both, **short) == 0, "what each was trained to be used with"
    first, other = (metrics(folder) for folder in both["results_dirs"])
    assert (
        metrics(tmp_path / "o")["tta"]
        == ["none", "flips"]
        == [each["origin"]["tta"] for each in (first, other)]
    )
    val = load_predictions(ResultDir(second).predictions("val"))
    assert val.origin.tta == "flips", "temperatures are fitted on the same views"
    report = (tmp_path / "o" / "results" / "report.html").read_text()
    said = capsys.readouterr().out + report
    assert " ".join(said.split()).count("demo_swinv2 4 (tta flips)") == 2
    assert "val accuracies are of single views, probabilities of 4 (tta flips)" in report
    compared = {"results_dirs": both["results_dirs"], "output_dir": tmp_path / "c"}
    assert compare_models.main(flags(**compared, resamples=20, figure_format="none")) == 0
    assert "demo_swinv2 4 (tta flips)" in capsys.readouterr().out
    assert evaluate(**both, verify=None) == 0
    assert evaluate(**both, verify=None, tta="flips") == 2
    error = capsys.readouterr().err
    assert "demo_convnext was predicted with --tta none; leave the flag out" in error
    assert evaluate(results_dirs=trained_copy, tta="d4", **short) == 0
    assert "8 views of each image (tta d4)" in " ".join(capsys.readouterr().out.split())
    turned = metrics(trained_copy)
    assert turned["raw"] != first["raw"] and turned["temperature"] != first["temperature"]
    assert turned["cost"]["gflops"] == pytest.approx(8 * first["cost"]["gflops"])
