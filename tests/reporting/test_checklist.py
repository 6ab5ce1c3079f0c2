"""The reporting checklist: filled from what was measured, the rest left to the author, escaped."""

import re

import pytest

from common.data.folders import scan_split
from common.in_force import TrainedWith
from common.reporting.checklist import escaped, items, write_checklist

VALUES = {
    "epochs": 12,
    "learning_rate": 5e-5,
    "dataset_path": "training_set",
    "monitor": "val_kappa",
}
RECIPE = TrainedWith(VALUES)


@pytest.fixture
def split(demo):
    return scan_split(demo, "test")


def found(report):
    return {item.topic: item.found for item in items(report)}


def test_what_the_run_measured_is_filled_in_and_follows_the_run(split, report_on):
    right, wrong = found(report_on(split, 0)), found(report_on(split, 1))
    assert right["Sensitivity, referable DR (highest probability)"].startswith(
        "100.0 % (95 % interval "
    )
    assert "8 of 12 images" in wrong["Sensitivity, referable DR (highest probability)"]
    assert wrong["analysis of failures"].startswith("20 of 20 images")
    assert "seed 0" in right["measures and uncertainty"] and "20 resamples" in str(right)
    assert "there is no val" in right["output and thresholds"]


def test_settings_of_the_training_are_filled_in(split, report_on):
    one = found(report_on(split, 0, recipes={"a": RECIPE, "b": RECIPE}))
    assert one["training"] == "epochs 12, learning_rate 5e-05"
    assert one["internal or external test"] == "trained on training_set; judged on images"
    other = TrainedWith({**VALUES, "epochs": 3})
    two = found(report_on(split, 0, recipes={"a": RECIPE, "b": other}))
    assert "a: epochs 12" in two["training"] and "b: epochs 3" in two["training"]
    unknown = found(report_on(split, 0, recipes={"a": TrainedWith()}))
    assert unknown["training"] == unknown["internal or external test"] == ""


def test_a_setting_that_others_switched_off_is_left_out(split, report_on):
    off = {"enable_focal_loss": False, "focal_loss_gamma": 3.0, "monitor": "last", "patience": 28}
    said = found(report_on(split, 0, recipes={"a": TrainedWith(VALUES | off)}))
    assert said["imbalance of the classes"] == "enable_focal_loss False"
    assert said["choice of the final model"] == "monitor last"


def test_a_change_on_the_way_says_when_and_for_which_classifiers():
    entry = {
        "changes": [{"name": "epochs", "from": 4, "to": 12}],
        "after_epoch": {"0-1": 4, "0-2": 1, "1-2": 3},
        "finished": ["0-1"],
    }
    trained = TrainedWith.from_content({"config": VALUES, "overrides": [entry, "damaged"]})
    when = "changed after epochs 1 to 3 for all but 0-1, which had ended: 4 -> 12"
    assert trained.listed(["epochs"]) == f"epochs 12 ({when})"
    assert trained.changed == f"epochs {when}"
    from_the_start = {**entry, "after_epoch": {"0-1": 0}, "finished": []}
    assert not TrainedWith.from_content({"config": VALUES, "overrides": [from_the_start]}).changed


def test_what_was_not_measured_says_so(split, report_on):
    assert found(report_on(split, 0))["robustness"] == "not measured"


def test_what_only_the_author_knows_is_marked(split, report_on, directory):
    write_checklist(directory, report_on(split, 1, recipes={"coatnet": RECIPE}))
    text = directory.checklist("test").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows}) == 1, "every row has all cells"
    assert (
        text.count("**you**:") > 15 and "| funding, interests | 18a-b | 38, 39 | 44 | - |" in text
    )
    assert "BMJ 385:e078378" in text and "CLAIM" in text and "STARD-AI" in text


def test_names_are_no_markup(split, report_on, directory):
    evil = "a|b <script>*x*_y_\n[z](u)`"
    write_checklist(directory, report_on(split, 0, models=[evil], dataset_path=evil))
    text = directory.checklist("test").read_text()
    assert "<script" not in text and "a|b" not in text and "*x*" not in text.replace("\\*", "")
    assert escaped("a_b|c") == r"a\_b\|c"
