"""Evaluations of class predictions, comparisons with the best model, other grade mixes."""

import numpy as np
import pytest
from helpers import GRADES, member

from common.evaluation.evaluate import evaluate
from common.evaluation.findings import compare_with_best
from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import BootstrapConfig
from common.prediction.voting import ClassPredictions, combine_pairs
from common.reporting.tables import differences_table
from common.screening.prevalence import restate_models
from common.system.errors import InputError

RNG = np.random.default_rng(0)
TARGETS, PAIRS = RNG.integers(0, 5, 80), RNG.random((80, 10))


def test_the_counts_are_those_of_the_confusion_matrix():
    found = evaluate(TARGETS, combine_pairs(PAIRS, 5, "soft"), BootstrapConfig(50), GRADES)
    matrix = np.array(found.confusion_matrix)
    assert matrix.sum() == found.images == 80
    assert found.metrics["accuracy"].value == pytest.approx(np.trace(matrix) / 80)
    assert found.images_per_grade == np.bincount(TARGETS, minlength=5).tolist()


def test_the_interval_names_its_units():
    classes = ClassPredictions(np.full((80, 5), 0.2), TARGETS)
    patients = evaluate(TARGETS, classes, BootstrapConfig(20, 0, np.arange(80) // 2), GRADES)
    assert patients.units == patients.to_json()["bootstrap"]["units"] == "40 patients"
    assert evaluate(TARGETS, classes, BootstrapConfig(20), GRADES).units == "80 images"
    for wrong in ({"resamples": 0}, {"seed": -1}, {"resamples": 10**20}):
        with pytest.raises(InputError):
            BootstrapConfig(**wrong)


def test_results_at_another_grade_mix_agree_with_a_count_by_hand():
    # every grade is graded right, but half of grade 0 is called 2
    targets = np.repeat(np.arange(5), 10)
    predicted = targets.copy()
    predicted[:5] = 2
    mix = np.array([0.8, 0.1, 0.06, 0.03, 0.01])
    classes = ClassPredictions(np.eye(5)[predicted], predicted)
    restated = restate_models(
        targets, {"m": classes}, GradeMix(mix, "x"), BootstrapConfig(50), GRADES
    )
    found = {name: entry.value for name, entry in restated.prevalence["m"].items()}
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["referrals_per_1000"] == pytest.approx(500)
    assert found["ppv"] == pytest.approx(0.1 / 0.5) and found["npv"] == pytest.approx(1)


def test_at_the_grade_mix_of_the_images_nothing_changes():
    mix = np.bincount(TARGETS, minlength=5) / 80
    classes, bootstrap = combine_pairs(PAIRS, 5), BootstrapConfig(20)
    plain = evaluate(TARGETS, classes, bootstrap, GRADES).metrics
    restated = restate_models(
        TARGETS, {"m": classes}, GradeMix(mix, "x"), bootstrap, GRADES
    ).prevalence["m"]
    for name in ("accuracy", "kappa"):
        assert restated[name].value == pytest.approx(plain[name].value)


def test_a_best_model_that_was_chosen_on_these_images_is_said_to_lead_by_luck():
    models = [member(3.0, 0, val=False), member(0.5, 1, val=False)]
    found = compare_with_best(models, {m.label: m.classes for m in models}, BootstrapConfig(50))
    assert found.best == "m0 (chosen on these same images)" and set(found.differences) == {"m1"}
    said = "\n".join(found.notes)
    assert "m0 was chosen on these same images: it leads by luck" in said
    assert "corrected for all 4 tests" in said
    assert "fewer than 20 images" not in said, "40 of each grade"
    table = differences_table(found).to_text()
    assert "p (Holm)" in table and "it leads by luck" in table
