import numpy as np
import pytest

from common.data.copies import PATIENT_REGEX, patient_groups
from common.evaluation.evaluate import (
    TEMPERED,
    BootstrapConfig,
    compare_to_best,
    evaluate_classes,
    evaluate_model,
)
from common.evaluation.prevalence import parse_prevalence, restate_graders
from common.prediction.voting import SKLEARN_VOTE, VOTES, combine_pairs
from common.system.errors import InputError

RNG = np.random.default_rng(0)
TARGETS, PAIRS = RNG.integers(0, 5, 80), RNG.random((80, 10))


def test_all_votes_are_measured_on_the_same_images():
    found = evaluate_model(TARGETS, PAIRS, np.linspace(0.5, 1, 10), 5, "soft", BootstrapConfig(50))
    assert set(found["votes"]) == {*VOTES, SKLEARN_VOTE}
    assert found["metrics"] == found["votes"]["soft"]
    matrix = np.array(found["confusion_matrix"])
    assert matrix.sum() == found["images"] == 80
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.trace(matrix) / 80)
    assert found["images_per_grade"] == np.bincount(TARGETS, minlength=5).tolist()
    assert 0 < found["consistency"]["tied_images"] < 80


def test_tempered_pairs_are_one_more_vote():
    arguments = (TARGETS, PAIRS, np.ones(10), 5, "coupling", BootstrapConfig(20))
    same = evaluate_model(*arguments, np.ones(10))["votes"]
    assert same[TEMPERED]["nll"] == pytest.approx(same["coupling"]["nll"], abs=1e-6)
    cooler = evaluate_model(*arguments, np.full(10, 4.0))["votes"]
    assert cooler[TEMPERED]["nll"]["value"] < same["coupling"]["nll"]["value"]


def test_both_eyes_are_one_patient():
    ids = ["test/0/10_left.jpeg", "test/1/10_right.jpeg", "test/0/11_left.jpeg", "test/0/x.jpg"]
    groups = patient_groups(ids, PATIENT_REGEX)
    assert groups[0] == groups[1] and len(set(groups)) == 3
    assert patient_groups(ids[1:], PATIENT_REGEX) is None
    assert patient_groups(["a/10.jpg", "b/1.jpg", "c/2.jpg"], r"(1)").tolist() == [1, 1, 0]
    assert patient_groups(ids, "(x)?left") is None, "an empty group names nobody"
    for pattern in ("(", "left", "(j)"):
        with pytest.raises(InputError, match="--patient_regex"):
            patient_groups(ids, pattern)


def test_the_interval_names_its_units():
    scores = np.full((80, 5), 0.2)
    found = evaluate_classes(TARGETS, scores, TARGETS, BootstrapConfig(20, 0, np.arange(80) // 2))
    assert found["bootstrap"]["units"] == "40 patients"
    assert evaluate_classes(TARGETS, scores, TARGETS, BootstrapConfig(20))["bootstrap"][
        "units"
    ] == ("80 images")
    for wrong in ({"resamples": 0}, {"seed": -1}, {"resamples": 10**20}):
        with pytest.raises(InputError):
            BootstrapConfig(**wrong)


def test_differences_to_the_best():
    graders = {"a": combine_pairs(PAIRS, 5), "b": (np.eye(5)[TARGETS] * 0.6 + 0.08, TARGETS)}
    found = compare_to_best(TARGETS, graders, "b", BootstrapConfig(100))
    assert set(found) == {"a"} and found["a"]["accuracy"]["high"] < 0
    assert found["a"]["mcnemar"]["only_first"] == 0 and found["a"]["mcnemar"]["p"] < 0.001


def test_prevalence_by_hand():
    # every grade is graded right, but half of grade 0 is called 2
    targets = np.repeat(np.arange(5), 10)
    predicted = targets.copy()
    predicted[:5] = 2
    mix = np.array([0.8, 0.1, 0.06, 0.03, 0.01])
    found = restate_graders(targets, {"m": (None, predicted)}, BootstrapConfig(50, 0, None, mix))
    found = {name: entry["value"] for name, entry in found["prevalence"]["m"].items()}
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["referrals_per_1000"] == pytest.approx(500)
    assert found["ppv"] == pytest.approx(0.1 / 0.5) and found["npv"] == pytest.approx(1)
    assert restate_graders(targets, {"m": (None, predicted)}, BootstrapConfig(50)) == {}


def test_at_the_set_s_own_mix_nothing_changes():
    mix = np.bincount(TARGETS, minlength=5) / 80
    scores, predicted = combine_pairs(PAIRS, 5)
    plain = evaluate_classes(TARGETS, scores, predicted, BootstrapConfig(20))["metrics"]
    restated = restate_graders(
        TARGETS, {"m": (scores, predicted)}, BootstrapConfig(20, 0, None, mix)
    )
    for name in ("accuracy", "kappa"):
        found = restated["prevalence"]["m"][name]["value"]
        assert found == pytest.approx(plain[name]["value"])


def test_prevalence_from_shares_or_a_labels_file(tmp_path):
    assert parse_prevalence("0.735,0.07,0.15,0.025,0.02", 5).sum() == pytest.approx(1)
    labels = tmp_path / "labels.csv"
    labels.write_text("image,level\na,0\nb,0\nc,2\nd,4\n")
    assert parse_prevalence(str(labels), 5).tolist() == [0.5, 0, 0.25, 0, 0.25]
    labels.write_text("name,Retinopathy grade,Risk of macular edema \na,1,0\nb,3,0\n")
    assert parse_prevalence(str(labels), 5).tolist() == [0, 0.5, 0, 0.5, 0]
    for text in ("0.5,0.5", "1,1,1,1,1", "a,b", "", "-0.1,0.5,0.2,0.2,0.2", "nan,1,0,0,0"):
        with pytest.raises(InputError, match="--prevalence"):
            parse_prevalence(text, 5)
    for content in ("image,level\na,7\n", "", "image\nx\n"):
        labels.write_text(content)
        with pytest.raises(InputError, match="expected a column of grades"):
            parse_prevalence(str(labels), 5)
