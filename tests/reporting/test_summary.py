"""The short summary: about a screen, with what was tested, intervals, rating and what to mind."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import grader_of, probabilities_of, sample_of

from common.data.folders import scan_split
from common.evaluation.gates import FAIL, NOT_MEASURED, PASS, Gate
from common.evaluation.questions import Asked, ask
from common.fitting.threshold import parse_rule
from common.metrics.intervals import UNKNOWN, Interval
from common.prediction.classes import classes_of
from common.reporting.checklist import items
from common.reporting.summary import headlines, population, summary_text

HOLDOUT = Gate("holdout", "holdout", "independent hold-out", "given", UNKNOWN, PASS, NOT_MEASURED)


@pytest.fixture
def split(demo):
    return scan_split(demo, "test")


def test_the_summary_names_models_images_intervals_and_failed_gates(split, report_on):
    text = summary_text(report_on(split, 1))
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 120
    assert "tested: coatnet" in text and "20 images (4 of grade 0" in text
    assert "8 of 12 images that are referable" in text and "66.7 % [" in text
    assert "FAIL: accuracy 0.500 [0.400, 0.600]" in text and "rating: none" in text
    assert "fewer than 20 images" in text and "there is no val" in text and "a remark" in text


def test_headline_figures_follow_the_predictions(split, report_on):
    right, wrong = headlines(report_on(split, 0)), headlines(report_on(split, 1))
    assert right[0].shown.value == "100.0 %" and wrong[0].shown.value == "66.7 %"
    assert right[1].meaning == "8 of 8 images that are not"
    assert wrong[3].meaning == "0 of 20 images got the grade of their label"


def test_the_headline_names_its_decision_and_shows_the_point_that_was_asked_for(split, report_on):
    labels = split.labels
    judged = sample_of(labels, probabilities_of(labels, 0.7, seed=1))
    chosen = sample_of(np.tile(np.arange(5), 40), probabilities_of(list(range(5)) * 40, 0.7), "val")
    rules = (parse_rule("sensitivity=0.9"), parse_rule("youden"))
    answers = ask(grader_of(judged, chosen), Asked(rules))
    points = answers.operating_points.detections[0].points
    assert [str(point.rule) for point in points] == ["argmax", "sensitivity=0.9", "youden"]
    report = report_on(split, 1, answers=answers)
    found = {each.name: each for each in headlines(report)}
    at = "Sensitivity, referable DR (at sensitivity=0.9)"
    assert list(found)[2] == at and "Sensitivity, referable DR (highest probability)" in found
    rates = points[1].judged
    shown = f"{100 * rates.sensitivity.value:.1f} %"
    assert found[at].shown.value == shown
    threshold = f"threshold {points[1].threshold.value:.3f}"
    assert f" of {rates.positives} images that are referable; {threshold}" in found[at].meaning
    assert found[at].meaning.endswith("chosen on val")
    assert f" {threshold}, chosen on val\n" in summary_text(report), "broken once, not twice"
    checklist = {item.topic: item.found for item in items(report)}
    assert checklist[at].startswith(shown)
    assert f"sensitivity=0.9 ({threshold}), youden (" in checklist["output and thresholds"]
    assert at in summary_text(report)


def test_a_point_that_cannot_be_reached_is_said_among_the_first_figures(split, report_on):
    grader = grader_of(sample_of(split.labels, probabilities_of(split.labels)))
    report = report_on(split, 1, answers=ask(grader, Asked((parse_rule("youden"),))))
    asked = next(each for each in headlines(report) if "youden" in each.name)
    assert asked.shown.value == "n/a"
    assert asked.meaning == "no threshold: no images to choose on"
    assert "youden has no threshold" in summary_text(report)


def test_a_figure_that_is_undefined_says_why(split, report_on):
    unnamed = classes_of(("a", "b", "c", "d", "e"))
    found = headlines(report_on(split, 1, classes=unnamed))
    assert found[0].shown.value == "n/a" and "do not say how severe" in found[0].meaning


def test_a_holdout_that_was_not_given_is_pointed_out(split, report_on):
    failed = replace(HOLDOUT, status=FAIL, remark="not looked for")
    other = replace(HOLDOUT, key="accuracy", name="accuracy", status=FAIL)
    assert "hold-out" not in summary_text(report_on(split, 0, gates=[other, HOLDOUT]))
    said = summary_text(report_on(split, 0, gates=[other, failed]))
    assert "hold-out FAIL: not looked for" in said


def test_gates_of_many_models_are_counted_not_listed(split, report_on):
    def gate(place):
        measured = Interval(0.5 + place / 10, math.nan, math.nan)
        return Gate("single", "single", f"model {place}", "> 98 %", measured, FAIL, FAIL)

    few = summary_text(report_on(split, 0, gates=[*map(gate, range(2)), HOLDOUT]))
    assert "model 0 0.500; model 1 0.600" in few
    many = summary_text(report_on(split, 0, gates=[*map(gate, range(5)), HOLDOUT]))
    assert "FAIL: accuracy alone of 5 models (0.500 to 0.900)" in many and "model 0" not in many


def test_metadata_tells_who_was_photographed_with_what(split, report_on):
    cameras = ["Canon"] * 15 + [""] * 5
    names = [f"n{k}" for k in range(20)]
    columns = {"camera": cameras, "note": names * 2}
    assert population(report_on(split, 0, columns={"camera": cameras})) == [
        "camera: Canon 15, not known 5"
    ]
    sexes = ["F"] * 11 + ["f"] * 4 + ["unknown"] * 2 + [""] * 3
    columns_of = {"sex": sexes, "age": [str(40 + k) for k in range(20)]}
    assert population(report_on(split, 0, columns=columns_of)) == [
        "sex: F 15, not known 5",
        "age: 40-49 10, 50-59 10",
    ]
    assert len(population(report_on(split, 0, columns=columns))) == 2


def test_no_name_can_send_commands_to_the_terminal(split, report_on):
    text = summary_text(report_on(split, 0, models=["\x1b[31m"], dataset_path="a\nb"))
    assert "\x1b" not in text and "\\x1b" in text and "a\\nb" in text
