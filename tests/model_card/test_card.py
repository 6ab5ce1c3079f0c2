"""Model cards say what was measured, of which images, and what is not known."""

import dataclasses

import pytest
from huggingface_hub import ModelCard

from common.data.folders import scan_split
from common.evaluation.gates import FAIL, PASS, Gate
from common.evaluation.questions import Answers
from common.metrics.intervals import UNKNOWN
from common.model_card.card import card_of_evaluation, card_of_training
from common.model_card.card_file import write_card
from common.model_card.sections import what_is_known
from common.reporting.summary import Part
from common.reporting.table import make_table
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run

CONTENT = {
    "config": {"epochs": 3, "img_size": 48, "weights": "/home/me/secret/w.pth", "monitor": "last"},
    "data": {"train": "aaaa", "val": "bbbb"},
    "images": {"train": [1, 2, 3, 4, 5], "val": "damaged"},
    "versions": {"torch": "2.9", "timm": "1.0"},
    "precision": "fp32",
}


def run_in(folder, **changes):
    values = {"dataset_path": "/data/of/patients/eyes", "train_fingerprint": "aaaa", "files": ()}
    run = Run(ResultDir(folder), "coatnet", "ovo", 5, (), **values)
    return dataclasses.replace(run, **changes)


def gates(status):
    """Make a gate on accuracy that fails, and one on the hold-out of this status."""
    names = ("accuracy", "ensemble"), ("holdout", "holdout")
    passed = FAIL, status
    return [
        Gate(key, kind, key, "", UNKNOWN, each, each, "looked at")
        for (key, kind), each in zip(names, passed)
    ]


@pytest.fixture
def card_of(demo, report_on, tmp_path):
    """Make the card of a model that grades each image of the demo's test set `shift` too high."""

    def make(shift=0, models=1, why_no_maps="nobody asked", **changes):
        report = report_on(scan_split(demo, "test"), shift, **{"gates": gates(PASS)} | changes)
        known = [what_is_known(f"m{k}", run_in(tmp_path / f"m{k}"), CONTENT) for k in range(models)]
        return card_of_evaluation(ResultDir(tmp_path / "here"), report, known, why_no_maps)

    return make


def test_figures_come_with_interval_number_of_images_and_data(card_of):
    body = card_of(1).body
    assert "| Accuracy | 0.0 % | \\[0.0, 16.8\\] | 0 of 20 images" in body
    assert "| eyes | train | 15 | 1 | 2 | 3 | 4 | 5 | aaaa |" in body
    assert "| eyes | val | - | - | - | - | - | - | bbbb |" in body, "damaged counts are not known"
    assert "Chosen on: nothing was chosen: there is no val." in body
    assert "10 binary classifiers, one for each pair; 48 x 48 pixels" in body
    assert "epochs 3" in body and "weights w.pth" in body and "fp32" in body
    assert "/home/me" not in body and "/data/of" not in body, (
        "places on a disk are nobody's business"
    )
    assert "By grade" in body and "No evidence maps of mistakes were made: nobody asked." in body
    assert "](results/mistakes_test.jpg)" in card_of(why_no_maps="").body


def test_the_head_holds_figures_of_a_test_set_that_is_not_known_to_leak(card_of):
    index = card_of().head["model-index"][0]
    assert index["name"] == "here"
    (result,) = index["results"]
    assert result["dataset"]["type"] == "imagefolder" and result["dataset"]["split"] == "test"
    values = {metric["type"]: metric for metric in result["metrics"]}
    assert values["accuracy"]["value"] == 1 and "20 images" in values["accuracy"]["name"]
    assert card_of().head["metrics"] == sorted(values)
    assert "model-index" not in card_of(gates=gates(FAIL)).head


def test_the_hub_s_own_library_reads_the_head(card_of, tmp_path):
    write_card(tmp_path / "MODEL_CARD.md", card_of(1))
    read = ModelCard.load(tmp_path / "MODEL_CARD.md")
    assert read.data.model_name == "here" and read.data.pipeline_tag == "image-classification"
    values = {result.metric_type: result for result in read.data.eval_results}
    assert values["accuracy"].metric_value == 0 and values["accuracy"].dataset_split == "test"
    assert "20 images" in values["cohen_kappa"].metric_name


def test_figures_of_val_stay_out_of_the_head(demo, report_on, tmp_path):
    report = report_on(scan_split(demo, "val"), 0)
    card = card_of_evaluation(
        ResultDir(tmp_path), report, [what_is_known("m", run_in(tmp_path), CONTENT)], ""
    )
    assert card.subject == "val" and "model-index" not in card.head
    assert "Images: split val" in card.body


def test_an_ensemble_lists_its_models_and_equal_data_once(card_of, tmp_path):
    body = card_of(models=2).body
    assert body.count("- `coatnet`: ") == 2 and body.count("| eyes | train |") == 1
    assert "| aaaa | m0, m1 |" in body
    assert "predict.py --results_dirs ./here --images" in body, "where all that was chosen lies"
    assert "--results_dirs ./m0 ./m1 --grader ./here/results/grader.json" in body
    earlier = what_is_known("old", run_in(tmp_path, dataset_path="", train_fingerprint=""), {})
    assert "Settings of old are not known" in card_of_training(earlier).body


def test_answers_are_shown_and_those_that_are_missing_say_why(card_of):
    table = make_table("subgroups", "By camera", ["by", "accuracy"], [["a|b", 0.5]])
    assert (
        "### By camera\n\n| by | accuracy |\n| --- | ---: |\n| a\\|b | 0.500 |"
        in card_of(questions=Part("Questions", [table])).body
    )
    answers = Answers(unanswered={"subgroups": "nobody [knows]", "robustness": "not asked"})
    body = card_of(answers=answers).body
    assert "Not measured: nobody \\[knows\\]." in body and "not asked" not in body


def test_a_model_that_was_only_trained_says_so(tmp_path):
    card = card_of_training(what_is_known("m", run_in(tmp_path / "it's"), CONTENT))
    assert "**Not evaluated**" in card.body and "--results_dirs './it'\"'\"'s' " in card.body
    assert card.subject == "training" and set(card.head) == {"library_name", "pipeline_tag"}
