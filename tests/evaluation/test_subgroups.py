"""The main figures within subgroups: by value, by bands of age, with the reason where undefined."""

import numpy as np
import pytest

from common.evaluation.evaluate import evaluate
from common.evaluation.findings import Findings
from common.evaluation.subgroups import FIGURES, measure_subgroups
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.reporting.tables import evaluation_tables, subgroups_table

GRADES = classes_of(("0", "1", "2", "3", "4"))
TARGETS = np.tile(np.arange(5), 12)  # (60,)
PREDICTED = np.where(np.arange(60) < 30, TARGETS, (TARGETS + 1) % 5)
CLASSES = ClassPredictions(np.eye(5)[PREDICTED], PREDICTED)
BOOTSTRAP = BootstrapConfig(40, 0, np.arange(60) // 2)
CAMERAS = ["Canon"] * 30 + ["Nikon"] * 25 + [""] * 5


def measured(**columns):
    return measure_subgroups(TARGETS, CLASSES, BOOTSTRAP, GRADES, columns)


def test_each_value_is_measured_by_itself():
    groups = measured(camera=CAMERAS).groups
    assert [(g.value, g.images, g.patients) for g in groups] == [
        ("Canon", 30, 15),
        ("Nikon", 25, 13),
        ("", 5, 3),
    ]
    assert groups[0].metrics["accuracy"].value == 1 and groups[1].metrics["accuracy"].value == 0
    part = ClassPredictions(CLASSES.probabilities[:30], PREDICTED[:30])
    own = BootstrapConfig(40, 0, BOOTSTRAP.groups[:30])
    alone = evaluate(TARGETS[:30], part, own, GRADES).metrics
    assert all(
        groups[0].metrics[name] == pytest.approx(alone[name], nan_ok=True) for name in FIGURES
    )
    assert [group.too_few for group in groups] == [False, False, True]


def test_ages_are_put_into_bands_of_ten_and_other_numbers_into_quarters():
    ages = ["9", "61", "069Y", "70.5", "", *["65"] * 55]
    groups = measured(age=ages).groups
    assert [(g.value, g.images) for g in groups] == [
        ("0-9", 1),
        ("60-69", 57),
        ("70-79", 1),
        ("", 1),
    ]
    groups = measured(pressure=[str(100 + k) for k in range(60)]).groups
    assert [(group.value, group.images) for group in groups] == [
        ("100 to 114.75", 15),
        ("114.75 to 129.5", 15),
        ("129.5 to 144.25", 15),
        ("144.25 to 159", 15),
    ]
    assert [group.value for group in measured(sex=["1", "2"] * 30).groups] == ["1", "2"]


def test_columns_that_make_no_subgroups_are_named():
    found = measured(note=[f"n{k}" for k in range(60)], site=["A"] * 60)
    assert found.groups == [] and found.notes == [
        "no subgroups by note: it has 60 values",
        "no subgroups by site: all images have A",
    ]


def test_what_is_undefined_has_a_reason():
    grades = ["low" if target < 2 else "high" for target in TARGETS]
    found = measured(end=grades)
    high, low = found.groups
    assert np.isnan(low.metrics["referable_sensitivity"].value)
    assert low.undefined["referable_sensitivity"] and high.undefined["referable_specificity"]
    assert low.row()["undefined_because"]
    assert "n/a because" in subgroups_table(found).to_text()


def test_the_table_shows_images_patients_intervals_and_marks_few():
    found = measured(camera=CAMERAS)
    evaluation = evaluate(TARGETS, CLASSES, BOOTSTRAP, GRADES)
    tables = evaluation_tables(Findings(evaluation, {}, subgroups=found), "vote")
    said = "\n".join(table.to_text() for table in tables)
    assert "camera Canon" in said and "camera (not known) *" in said
    assert "* fewer than 10 images" in said
