"""What evaluate_ensemble.py answers of a screening programme's questions."""

import json
import math

import pytest
from helpers import FEW_FILES, flags

import evaluate_ensemble
from common.grading.grader_file import load_grader
from common.result_dir.paths import ResultDir

pytestmark = pytest.mark.usefixtures("planned_figures")


@pytest.fixture
def answers_of(demo, shared_cache, trained_copy):
    """Evaluate a trained model with these flags; returns the answers and the tables as CSV."""

    def run(**changes):
        values = {
            "dataset_path": demo,
            "cache_dir": shared_cache,
            "device": "cpu",
            "resamples": 20,
            **FEW_FILES,
        }
        values |= {"results_dirs": trained_copy, "verbose": None}
        assert evaluate_ensemble.main(flags(**{**values, **changes})) == 0
        results = trained_copy / "results"
        content = json.loads((results / "metrics_test.json").read_text())
        return content["screening"], {
            path.stem: path.read_text() for path in results.rglob("*.csv")
        }

    return run


def test_operating_points_and_the_rule_for_patients_change_what_is_answered(
    answers_of, trained_copy, capsys
):
    rules = ["argmax", "youden", "sensitivity=0.9"]
    digit = {"patient_regex": r"(\d)\.jpg"}
    worst, tables = answers_of(operating_point=rules, **digit)
    said = capsys.readouterr().out
    points = worst["operating_points"]["referable"]["operating_points"]
    assert [point["rule"] for point in points] == rules
    assert worst["operating_points"]["chosen_on"] == "val"
    assert all(rule in tables["operating_points_referable_test"] for rule in rules)
    stored = load_grader(ResultDir(trained_copy).grader)
    kept = [point for point in stored.points if point.detection == "referable"]
    assert [point.rule for point in kept] == rules
    assert [p["threshold"] or math.nan for p in points] == pytest.approx(
        [point.decision.threshold for point in kept], nan_ok=True
    )
    assert stored.members[0].directory == trained_copy.resolve()
    assert "Abramoff" in said and "nothing tells which eye" in said
    assert [each["unit"] for each in worst["patients"]["results"]] == ["image", "patient"]
    assert "\npatient," in tables["patients_test"]
    mean, _ = answers_of(patient_rule="mean", **digit)
    said = capsys.readouterr().out
    assert mean["operating_points"] == worst["operating_points"], "rules of before are kept"
    assert load_grader(ResultDir(trained_copy).grader).points == stored.points
    assert "--operating_point youden, sensitivity=0.9 were chosen again, too; unless told" in said
    assert mean["patients"]["results"][1] != worst["patients"]["results"][1]


def test_an_operating_point_that_is_none_ends_in_one_line(demo, trained_copy, capsys):
    words = flags(results_dirs=trained_copy, dataset_path=demo, operating_point="best")
    assert evaluate_ensemble.main(words) == 2
    assert "--operating_point: expected sensitivity=0.90" in capsys.readouterr().err


def test_without_flags_the_grades_decide_and_likely_label_errors_are_listed(
    answers_of, trained_copy, capsys
):
    found, tables = answers_of()
    points = found["operating_points"]["referable"]["operating_points"]
    assert [point["rule"] for point in points] == ["argmax"]
    assert "no patient recognised" in found["patients"]["not_answered"]
    assert "--robustness" in found["robustness"]["not_answered"]
    header, *listed = tables["label_errors_test"].splitlines()
    assert header.startswith("rank,file,label,suggested_grade,")
    assert header.endswith(",listed,reviewed_grade,comment")
    assert not (trained_copy / "results" / "tables" / "label_errors_test.csv").exists()
    said = found["label_errors"]
    assert said["images"] == 20 and said["likely_label_errors"] == len(listed) > 0
    assert (trained_copy / "results" / "label_errors_test.png").stat().st_size > 1000
    assert "Likely label errors" in capsys.readouterr().out


def test_robustness_predicts_the_alterations_that_are_asked_for(answers_of, capsys):
    one, tables = answers_of(robustness="darker", operating_point=["argmax", "youden"])
    assert list(one["robustness"]["alterations"]) == ["darker"]
    assert "darker: gamma 1.5" in tables["robustness_test"]
    assert "robustness_referral_youden_test" in tables
    assert "robustness: 1 alteration of 20 images, 1 model: about" in capsys.readouterr().out
    two, _ = answers_of(robustness=["darker", "blur"])
    assert list(two["robustness"]["alterations"]) == ["blur", "darker"]


def test_an_alteration_that_is_none_ends_in_one_line(demo, trained_copy, capsys):
    words = flags(results_dirs=trained_copy, dataset_path=demo, robustness="fog")
    assert evaluate_ensemble.main(words) == 2
    assert "--robustness: expected some of jpeg, blur" in capsys.readouterr().err
