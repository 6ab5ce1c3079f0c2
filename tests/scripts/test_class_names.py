"""Training and evaluation match classes by their names, from the folders to every table."""

import json
import shutil

import numpy as np
import pytest
from helpers import FEW_FILES, flags
from sklearn.metrics import recall_score, roc_auc_score

import analyze_per_class_strengths
import compare_models
import evaluate_ensemble
from common.models import checkpoint_file

pytestmark = pytest.mark.usefixtures("planned_figures")

NAMES = ["No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"]


@pytest.fixture
def evaluate(demo, shared_cache, tmp_path):
    def run(**changes):
        values = {
            "dataset_path": demo,
            "cache_dir": shared_cache,
            "device": "cpu",
            "resamples": 50,
            **FEW_FILES,
            "output_dir": tmp_path / "out",
        }
        return evaluate_ensemble.main(flags(**{**values, **changes}))

    return run


@pytest.fixture
def regrade(demo, tmp_path):
    """Put demo's images into other class folders: grade -> folder, for splits or a root alone."""

    def make(folders, splits=("test",), name="regraded"):
        root = tmp_path / name
        for split in splits:
            for grade, folder in enumerate(folders):
                place = root / split / folder if len(splits) > 1 else root / folder
                if folder:
                    shutil.copytree(demo / split / str(grade), place, dirs_exist_ok=True)
        return root

    return make


def metrics(folder):
    [path] = folder.rglob("metrics_test.json")
    return json.loads(path.read_text())


def predictions(folder):
    [path] = folder.rglob("predictions_test.npz")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_renamed_folders_give_the_same_figures(evaluate, regrade, trained_copy, tmp_path):
    assert evaluate(results_dirs=trained_copy) == 0
    expected = metrics(trained_copy)
    for number, change in enumerate(({}, {"class_names": NAMES})):
        out = tmp_path / f"out{number}"
        root = regrade(NAMES, name=f"renamed{number}")
        assert evaluate(results_dirs=trained_copy, dataset_path=root, output_dir=out, **change) == 0
        found = metrics(out)
        for key in ("confusion_matrix", "images_per_grade", "class_names", "undefined"):
            assert found[key] == expected[key]
        for name, entry in expected["metrics"].items():
            assert found["metrics"][name]["value"] == pytest.approx(entry["value"], abs=1e-12), name


def test_names_that_cannot_be_matched_are_refused_with_both_lists(
    evaluate, regrade, trained_copy, tmp_path, capsys
):
    root = regrade(["keine", "leicht", "mittel", "schwer", "proliferativ"])
    assert evaluate(results_dirs=trained_copy, dataset_path=root) == 2
    said = capsys.readouterr().err
    assert "0 1 2 3 4" in said and "keine" in said and "--class_map" in said
    mapped = ["keine=0", "leicht=1", "mittel=2", "schwer=3", "proliferativ=4"]
    assert evaluate(results_dirs=trained_copy, dataset_path=root, class_map=mapped) == 0
    assert evaluate(results_dirs=trained_copy) == 0
    own = metrics(trained_copy)["confusion_matrix"]
    assert metrics(tmp_path / "out")["confusion_matrix"] == own


def test_a_set_that_knows_only_referable_or_not_is_scored(
    evaluate, regrade, trained_copy, tmp_path, capsys
):
    root = regrade(["non_referable", "non_referable", "referable", "referable", "referable"])
    assert evaluate(results_dirs=trained_copy, dataset_path=root) == 0
    said = capsys.readouterr().out
    content, stored = metrics(tmp_path / "out"), predictions(tmp_path / "out")
    targets, scores = stored["targets"], stored["class_probabilities"][:, 2:].sum(1)
    assert content["images_per_grade"] == [8, 12]
    found = {name: entry["value"] for name, entry in content["metrics"].items()}
    predicted = stored["predictions"] == 1
    assert found["referable_sensitivity"] == pytest.approx(recall_score(targets, predicted))
    assert found["referable_specificity"] == pytest.approx(recall_score(targets == 0, ~predicted))
    assert found["referable_auc"] == pytest.approx(roc_auc_score(targets, scores))
    assert content["class_names"] == list("01234") and content["of_model"] == [0, 0, 1, 1, 1]
    assert content["scored_classes"] == ["non_referable", "referable"]
    assert "referable is the class 'referable'" in " ".join(said.split())
    [path] = (tmp_path / "out").rglob("validation.json")
    gates = {gate["name"]: gate for gate in json.loads(path.read_text())["gates"]}
    assert gates["demo_convnext alone, accuracy"]["status"] == "NOT MEASURED"
    assert "non_referable, referable only" in gates["demo_convnext alone, accuracy"]["remark"]
    assert evaluate(results_dirs=trained_copy) == 0
    fine = metrics(trained_copy)["metrics"]
    for name in ("referable_sensitivity", "referable_specificity", "referable_auc"):
        assert found[name] == pytest.approx(fine[name]["value"]), "as with five grades"


def test_the_analyses_say_what_a_coarser_set_cannot_show(
    evaluate, regrade, trained_copy, trained_swin, tmp_path, capsys
):
    root = regrade(["No_DR", "DR", "DR", "DR", "DR"])
    other = shutil.copytree(trained_swin, tmp_path / "swin")
    assert evaluate(results_dirs=[trained_copy, other], dataset_path=root) == 0
    folders = [path.parents[1] for path in (tmp_path / "out").rglob("predictions_test.npz")]
    folders = [folder for folder in folders if folder != tmp_path / "out"]
    assert len(folders) == 2
    words = {"results_dirs": folders, "resamples": 20}
    assert compare_models.main(flags(**words, output_dir=tmp_path / "c")) == 0
    assert "graded as No_DR, DR only" in capsys.readouterr().out
    assert analyze_per_class_strengths.main(flags(**words, output_dir=tmp_path / "p")) == 0
    assert "need images that are graded in the models' classes" in capsys.readouterr().out
    content = json.loads((tmp_path / "c" / "results" / "comparison.json").read_text())
    assert content["referable"] == "the class 'DR'"
    verified = {"results_dirs": [trained_copy, other], "dataset_path": root, "verify": None}
    assert evaluate(**verified) == 0


def test_a_coarser_val_is_not_fitted_on(evaluate, regrade, trained_copy, tmp_path, capsys):
    splits = ("train", "val", "test")
    root = regrade(["no_dr", "dr", "dr", "dr", "dr"], splits)
    both = {"results_dirs": trained_copy, "dataset_path": root, "calibrate": None}
    assert evaluate(**both, split="val") == 2, "all that could be fitted on is judged"
    assert "val is judged here" in capsys.readouterr().err
    assert evaluate(**both, split="test") == 0, "its own val serves"
    assert "val of the training's dataset" in capsys.readouterr().out
    assert metrics(tmp_path / "out")["temperature"] != 1


def test_folders_0_and_1_alone_are_asked_about(evaluate, regrade, trained_copy, tmp_path, capsys):
    root = regrade(["0", "0", "1", "1", "1"])
    assert evaluate(results_dirs=trained_copy, dataset_path=root) == 2
    assert "--class_map 0=0..1 1=2..4" in capsys.readouterr().err
    mapped = {"dataset_path": root, "class_map": ["0=0..1", "1=2..4"]}
    assert evaluate(results_dirs=trained_copy, **mapped) == 0
    first = metrics(tmp_path / "out")
    assert first["of_model"] == [0, 0, 1, 1, 1] and first["referable"] == "class 1"
    mapped["class_map"] = ["0=0", "1=1..4"]
    assert evaluate(results_dirs=trained_copy, **mapped) == 0
    assert metrics(tmp_path / "out")["of_model"] == [0, 1, 1, 1, 1], "not answered from the store"


def test_a_set_without_a_class_folder_is_as_one_with_an_empty_folder(
    evaluate, regrade, trained_copy, tmp_path, capsys
):
    root = regrade(["0", "1", "2", "3", ""])
    assert evaluate(results_dirs=trained_copy, dataset_path=root) == 0
    said, first = capsys.readouterr().out, metrics(tmp_path / "out")
    assert "no folder holds grade 4" in said
    assert first["undefined"]["recall_4"] == "there is no image of grade 4"
    (root / "4").mkdir()
    assert evaluate(results_dirs=trained_copy, dataset_path=root) == 0
    assert metrics(tmp_path / "out")["metrics"] == first["metrics"]


def test_a_number_of_classes_that_is_not_the_model_s_is_refused(evaluate, trained_copy, capsys):
    assert evaluate(results_dirs=trained_copy, num_classes=3) == 2
    assert "trained on 5 classes" in capsys.readouterr().err
    assert evaluate(results_dirs=trained_copy, num_classes=5) == 0


def rename_classes(folder, names):
    """Let a trained model's classes be called otherwise, as if it had been trained so."""
    config = json.loads((folder / "config.json").read_text())
    config["config"]["class_names"] = list(names)
    (folder / "config.json").write_text(json.dumps(config))
    for path in (folder / "models").glob("*.pth"):
        content = checkpoint_file.load_checkpoint(path)
        content["class_names"] = list(names)
        checkpoint_file.save_checkpoint(path, content)


def test_an_ensemble_combines_spellings_and_refuses_other_classes(
    evaluate, trained_copy, trained_swin, tmp_path, capsys
):
    other = shutil.copytree(trained_swin, tmp_path / "swin")
    both = {"results_dirs": [trained_copy, other]}
    assert evaluate(**both) == 0
    expected = metrics(tmp_path / "out")["metrics"]
    rename_classes(other, NAMES)
    assert evaluate(**both) == 0
    assert metrics(tmp_path / "out")["metrics"] == expected
    rename_classes(other, "abcde")
    capsys.readouterr()
    assert evaluate(**both) == 2
    said = capsys.readouterr().err
    assert "0 1 2 3 4" in said and "a b c d e" in said and "the same classes" in said


def test_a_model_of_an_earlier_training_in_alphabetical_order_is_read_by_its_names(
    evaluate, regrade, trained_copy, tmp_path, capsys
):
    rename_classes(trained_copy, sorted(NAMES))  # its class 2 is No_DR
    root = regrade([sorted(NAMES)[k] for k in range(5)])
    assert evaluate(results_dirs=trained_copy, dataset_path=root) == 0
    assert "results are in the order of their grades" in capsys.readouterr().out
    found, order = metrics(tmp_path / "out"), [2, 0, 1, 4, 3]
    rename_classes(trained_copy, [])
    config = json.loads((trained_copy / "config.json").read_text())
    config["config"]["class_names"] = []
    (trained_copy / "config.json").write_text(json.dumps(config))
    rename_classes(trained_copy, "01234")
    assert evaluate(results_dirs=trained_copy) == 0
    plain = np.array(metrics(trained_copy)["confusion_matrix"])
    assert found["class_names"] == NAMES
    assert found["confusion_matrix"] == plain[np.ix_(order, order)].tolist()


def test_names_in_every_table_are_those_of_the_model(
    evaluate, regrade, trained_copy, tmp_path, capsys
):
    rename_classes(trained_copy, NAMES)
    root = regrade(["0", "1", "2", "3", ""])
    assert evaluate(results_dirs=trained_copy, dataset_path=root, vote="hard", verbose=None) == 0
    said = " ".join(capsys.readouterr().out.split())
    undefined = metrics(tmp_path / "out")["undefined"]
    assert undefined["recall_4"] == "there is no image of Proliferate_DR"
    assert "ensemble, recall of Mild" in said and "0-1 (No_DR vs Mild)" in said
    assert "grade 0" not in said and "grade 4" not in said
    assert "referable (ref.): Moderate or worse" in said
    assert "12 of Moderate" not in said
    [report] = (tmp_path / "out").rglob("report.html")
    assert "4 of Moderate" in report.read_text() and "grade 2" not in report.read_text()


def test_remarks_and_gates_call_the_classes_1_to_5_by_their_names(
    evaluate, regrade, trained_copy, tmp_path, capsys
):
    rename_classes(trained_copy, "12345")
    root = regrade(["1", "2", "3", "4", ""])
    assert evaluate(results_dirs=trained_copy, dataset_path=root, vote="hard", verbose=None) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "n/a because" in said and "recall of class 5" in said
    assert "ensemble, recall of class 2" in said and "class-1" not in said
    assert "recall_" not in said and "precision_4" not in said
    assert "class 3 or worse (the classes 1 to 5 are taken for the grades 0 to 4)" in said
    [path] = (tmp_path / "out").rglob("validation.json")
    rule = json.loads(path.read_text())["rule"]
    assert "and recall of class 2 is above 98 %" in rule and "class-1" not in rule
    assert metrics(tmp_path / "out")["undefined"]["recall_4"] == "there is no image of class 5"


def test_class_names_leave_other_folders_out_and_name_them(
    evaluate, regrade, demo, trained_copy, tmp_path, capsys
):
    root = regrade(list("01234"))
    shutil.copytree(demo / "test" / "2", root / "ungradable")
    words = {"results_dirs": trained_copy, "dataset_path": root}
    assert evaluate(**words) == 2
    said = capsys.readouterr().err
    assert "images in ungradable, too; move them away, or name the folders to read" in said
    assert evaluate(**words, class_names=list("01234")) == 0
    said = capsys.readouterr().out
    assert "not used: 4 pictures (4 .jpg) in ungradable/: not named by --class_names" in said
    assert metrics(tmp_path / "out")["images_per_grade"] == [4, 4, 4, 4, 4]


def test_an_empty_dataset_is_not_asked_what_its_folders_hold(
    evaluate, trained_copy, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    assert evaluate(results_dirs=trained_copy, dataset_path=tmp_path / "empty") == 2
    said = capsys.readouterr().err
    assert "found none" in said and "check --dataset_path" in said and "class_map" not in said


def test_training_calls_pairs_by_the_classes_names(quick_train, regrade, tmp_path, capsys):
    root = regrade(list("12345"), ("train", "val"))
    words = {"dataset_path": root, "class_names": list("12345"), "epochs": 1}
    assert quick_train(tmp_path / "r", **words, pairs="2-3", dry_run=None) == 0
    assert "pair 1-2 (2 vs 3): " in capsys.readouterr().out
    assert quick_train(tmp_path / "r", **words, pairs=["4-5", "2-3"]) == 0
    said = capsys.readouterr().out
    assert "classifiers: 1-2 (2 vs 3), 3-4 (4 vs 5)" in said
    assert "pair 3-4 (4 vs 5)  epoch " in said and "pair 3-4 (4 vs 5): best epoch" in said
    assert [*(tmp_path / "r" / "models").glob("best_*_3_4.pth")], "files are called by places"
    assert "pair 1-2 (2 vs 3)" not in (tmp_path / "r" / "logs" / "history.csv").read_text()
    assert quick_train(tmp_path / "r", **words, pairs="0-1") == 2
    assert "such as 1-2, found 0-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folders", "cut"),
    [
        (["No_DR", "DR", "DR", "DR", "DR"], "the class 'DR'"),
        (["No_DR", "NPDR", "NPDR", "NPDR", "PDR"], None),
        (["NoDR", "Mild", "Moderate", "Severe", ""], "Moderate or worse"),
    ],
)
def test_sets_of_two_to_four_classes_train_and_evaluate(
    quick_train, evaluate, regrade, tmp_path, folders, cut
):
    root = regrade(folders, ("train", "val", "test"))
    count, run = len(set(folders) - {""}), tmp_path / "run"
    words = {"dataset_path": root, "num_classes": count, "epochs": 1}
    assert quick_train(run, **words) == 0
    names = json.loads((run / "config.json").read_text())["config"]["class_names"]
    assert names == [name for name in dict.fromkeys(folders) if name]
    assert quick_train(run, **words, resume=None) == 0, "the names found are those of before"
    assert evaluate(results_dirs=run, dataset_path=root) == 0
    content = metrics(run)
    value = content["metrics"]["referable_sensitivity"]["value"]
    if cut is None:
        assert value is None and "NPDR holds" in content["undefined"]["referable_sensitivity"]
        assert evaluate(results_dirs=run, dataset_path=root, prevalence="0.7,0.2,0.1") == 0
        undefined = (run / "results" / "tables" / "undefined_test.csv").read_text()
        assert "referable_auc, PPV, NPV, referrals" in undefined
        assert evaluate(results_dirs=run, dataset_path=root, referable_from="NPDR") == 0
        assert metrics(run)["metrics"]["referable_sensitivity"]["value"] is not None
        assert evaluate(results_dirs=run, dataset_path=root, referable_from="x") == 2
    else:
        assert value is not None and content["referable"] == cut


def test_a_softmax_head_s_history_has_the_referable_figures_of_its_classes(
    quick_train, regrade, tmp_path
):
    root = regrade(["No_DR", "NPDR", "NPDR", "NPDR", "PDR"], ("train", "val"))
    words = {"dataset_path": root, "num_classes": 3, "epochs": 1, "head": "softmax"}
    for name, cut, filled in (("a", False, False), ("b", "NPDR", True), ("c", "2", True)):
        assert quick_train(tmp_path / name, **words, referable_from=cut) == 0
        rows = (tmp_path / name / "logs" / "history.csv").read_text().splitlines()
        row = dict(zip(rows[0].split(","), rows[1].split(",")))
        assert bool(row["val_referable_sensitivity"]) == filled
        assert bool(row["val_referable_specificity"]) == filled


def test_training_refuses_the_alphabetical_order_and_a_class_without_folder(
    quick_train, regrade, tmp_path, capsys
):
    root = regrade(NAMES, ("train", "val"))
    words = {"dataset_path": root, "pairs": "0-1", "epochs": 1}
    assert quick_train(tmp_path / "r", **words, class_names=sorted(NAMES)) == 2
    assert f"pass --class_names {' '.join(NAMES)}" in capsys.readouterr().err
    assert quick_train(tmp_path / "r", **words, referable_from="x") == 2
    assert "--referable_from" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    shutil.rmtree(root / "train" / "Severe")
    assert quick_train(tmp_path / "r", **words) == 2
    assert "expected the class folders" in capsys.readouterr().err
