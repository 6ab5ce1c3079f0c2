"""Evaluations of class predictions, comparisons with the best model, other grade mixes."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import GRADES, member
from sklearn.metrics import cohen_kappa_score

from common.evaluation.evaluate import evaluate
from common.evaluation.findings import compare_with_best
from common.fitting.ensemble import build_ensemble
from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import BootstrapConfig
from common.prediction.voting import ClassPredictions, combine_pairs
from common.reporting.tables import differences_table, gain_text
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


def compared(models):
    ensemble = build_ensemble(models, ["uniform"], False)
    classes = {m.label: m.classes for m in models} | ensemble.means
    return compare_with_best(models, classes, BootstrapConfig(50), ensemble.final)


def test_a_gain_over_the_best_member_is_proven_or_said_not_to_be():
    models = [member(1.0, seed) for seed in range(5)]
    found, mean = compared(models), build_ensemble(models, ["uniform"], False).classes
    best = next(m for m in models if found.best.startswith(m.label))
    assert "chosen on val, 200 images" in found.best
    kappas = [
        cohen_kappa_score(best.targets, each.predicted, weights="quadratic")
        for each in (mean, best.classes)
    ]
    assert found.gain["kappa"].value == pytest.approx(kappas[0] - kappas[1])
    assert set(found.gains) == {"accuracy", "kappa", "macro_auc"} and not found.losses
    assert all(gain.low > 0 for gain in found.gain.values())
    assert "a gain of accuracy and a gain of kappa and a gain of macro AUC is proven" in gain_text(
        found
    )
    assert found.to_json()["gain_is_proven_in"] == ["accuracy", "kappa", "macro_auc"]
    copies = [models[0], replace(models[0], label="copy")]
    same = compared(copies)
    assert not same.gains and "accuracy 0.000 [-0.0" in gain_text(same)
    assert "no gain is proven (Holm's correction for 3 tests)" in gain_text(same)
    worse = compared([member(3.0, 0), *(member(0.0, seed) for seed in (1, 2, 3, 4))])
    assert "a loss of accuracy" in gain_text(worse) and not worse.gains


def test_a_best_model_that_was_chosen_on_these_images_is_said_to_lead_by_luck():
    models = [member(3.0, 0, val=False), member(0.5, 1, val=False)]
    found = compared(models)
    assert found.best == "m0 (chosen on these same images)"
    assert set(found.differences) == {"m1", "mean"}
    said = "\n".join(found.notes)
    assert "m0 was chosen on these same images: it leads by luck" in said
    assert "corrected for 12 tests, those of all pairs of models" in said
    assert "proven (Holm's correction for 6 tests)" in gain_text(found), "for both models"
    assert "fewer than 20 images" not in said, "40 of each grade"
    table = differences_table(found).to_text()
    assert "p (Holm)" in table and "it leads by luck" in table
