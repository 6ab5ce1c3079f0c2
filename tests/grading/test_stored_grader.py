"""What an evaluation chose is stored, and new pictures are graded by it, to the last bit."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import member, predictions

from common.data.class_names import SetClasses
from common.fitting.ensemble import apply_vote, build_ensemble
from common.fitting.grader import ensemble_grader, model_grader
from common.fitting.images import fitting_images
from common.fitting.threshold import parse_rule
from common.grading.grader_file import keep_grader, load_grader, save_grader
from common.grading.stored_grader import (
    ChosenOn,
    StoredGrader,
    grade,
    grader_to_store,
    rules_of,
    unevaluated,
)
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import classes_of
from common.screening.abstention import MEASURES
from common.screening.conformal import measure_conformal_sets
from common.screening.operating_point import find_operating_points, refers, score_of
from common.system.errors import InputError

FEW = BootstrapConfig(resamples=20, seed=0)
RULES = tuple(map(parse_rule, ("sensitivity=0.9", "specificity=0.8", "youden")))
REFERABLE = SetClasses(("not", "referable"), (0, 0, 1, 1, 1))


def result(
    skill: float, seed: int, head: str = "ovo", vote: str = "coupling", coarse: bool = False
):
    """A calibrated model, with what it says of val."""
    found, val = (predictions(skill, s, head=head) for s in (seed, seed + 100))
    accuracies = np.linspace(0.5, 1, 10)
    origin = dataclasses.replace(found.origin, checkpoints=f"{seed}")
    found = dataclasses.replace(found, pair_accuracies=accuracies, origin=origin)
    if coarse:
        scored = classes_of(REFERABLE.names)
        found = dataclasses.replace(
            found, scored=scored, set_classes=REFERABLE, targets=found.targets // 2 % 2
        )
    return apply_vote(f"m{seed}", found, vote, fitting_images(val, "val"), calibrate=True)


def graders(models, weights=("uniform",)):
    """Return the grader that was judged, the ensemble if any, and what is stored of both."""
    ensemble = build_ensemble(models, weights, calibrate=True) if len(models) > 1 else None
    if ensemble is None:
        judged = model_grader(models[0], "test", FEW, lambda ids: None)
    else:
        judged = ensemble_grader("together", ensemble, models, "test", FEW, lambda ids: None)
    folders = [Path(f"/r/{model.label}") for model in models]
    return judged, grader_to_store(judged, models, folders, ensemble, RULES, "data")


KINDS = {
    "one": [result(2.0, 0)],
    "softmax": [result(2.0, 0, head="softmax")],
    "weighted": [result(2.0, 0, vote="weighted")],
    "coarse": [result(2.0, 0, coarse=True), result(1.5, 1, coarse=True)],
    "several": [result(2.0, 0), result(1.5, 1, head="shared"), result(1.0, 2, head="softmax")],
}


def alike(one: StoredGrader, two: StoredGrader) -> bool:
    """Compare all that two graders hold, arrays and NaN included."""
    return repr(one) == repr(two)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_graded_as_the_evaluation_has_graded_them_to_the_last_bit(kind, tmp_path):
    models = KINDS[kind]
    weights = ("optimized",) if len(models) > 1 else ("uniform",)
    judged, stored = graders(models, weights)
    path = tmp_path / "a" / "results" / "grader.json"
    save_grader(path, stored)
    loaded = load_grader(path)
    assert alike(loaded, stored)
    sample, points = judged.judged_on, find_operating_points(judged, ())
    pairs = [model.pairs.pair_probabilities for model in models]
    for rows in (slice(None), slice(3, 4), slice(7, 30)):
        found = grade(loaded, [p[rows] for p in pairs])
        assert np.array_equal(found.classes.probabilities, sample.classes.probabilities[rows])
        assert np.array_equal(found.classes.predicted, sample.classes.predicted[rows])
        assert np.array_equal(found.members, sample.members[:, rows])
        for name, (measure, _) in MEASURES.items():
            expected = measure(sample)
            assert (expected is None) == (name not in found.uncertainty)
            assert expected is None or np.array_equal(found.uncertainty[name], expected[rows])
        for detection in points.detections:
            score = score_of(sample, detection.cut)
            assert np.array_equal(found.scores[detection.name], score[rows])
        for rule in RULES:
            of_rule = find_operating_points(judged, (rule,)).detections
            for point, detection in zip(loaded.points_of(rule), of_rule, strict=True):
                value, cut = detection.points[0].threshold.value, detection.cut
                expected = refers(cut, value, score_of(sample, cut), sample.classes.predicted)
                decided = found.referred[loaded.points.index(point)]
                assert np.array_equal(decided, expected[rows])
        assert np.array_equal(found.sets, measure_conformal_sets(judged).sets[rows])
        shares = [unsure.mean() for unsure in found.unsure]
        assert len(shares) == 3 and shares == sorted(shares)


def test_a_grader_says_what_it_was_chosen_on_and_where_its_models_are(tmp_path):
    _, stored = graders(KINDS["several"])
    save_grader(tmp_path / "o" / "results" / "grader.json", stored)
    content = json.loads((tmp_path / "o" / "results" / "grader.json").read_text())
    assert content["chosen_on"]["images"] == 200 and content["chosen_on"]["name"] == "val"
    assert content["members"][0]["directory"].startswith("../")
    moved = tmp_path / "elsewhere"
    (tmp_path / "o").rename(moved)
    found = load_grader(moved / "results" / "grader.json")
    assert [member.directory for member in found.members] == [Path(f"/r/m{k}") for k in range(3)]
    assert len(found.fingerprint) == 16 != stored.members[0].checkpoints
    assert graders(KINDS["one"])[1].fingerprint == "0"


def test_where_nothing_could_be_chosen_the_reason_is_kept_and_an_earlier_choice_stays(tmp_path):
    path, chosen = tmp_path / "grader.json", graders(KINDS["one"])[1]
    model = KINDS["one"][0]
    bare = apply_vote("m0", model.pairs, "coupling", why_not="val is judged here")
    _, nothing = graders([bare])
    assert keep_grader(path, nothing)
    found = load_grader(path)
    assert found.chosen_on.why_none == found.review.why_none == "val is judged here"
    graded = grade(found, [bare.pairs.pair_probabilities])
    by_rule = {p.rule: r for p, r in zip(found.points, graded.referred)}
    assert by_rule["argmax"] is not None and by_rule["youden"] is None
    assert graded.sets is None and graded.unsure == ()
    assert keep_grader(path, chosen) and not keep_grader(path, nothing)
    assert alike(load_grader(path), chosen)
    assert rules_of(load_grader(path)) == list(RULES)
    other = member(2.0, 5, val=False)
    assert keep_grader(path, graders([other])[1]), "of other networks"


def test_what_was_chosen_for_test_is_not_replaced_by_a_look_at_val(tmp_path):
    path, chosen = tmp_path / "grader.json", graders(KINDS["several"])[1]
    of_val = replace(chosen, split="val", label="of val")
    assert keep_grader(path, of_val) and load_grader(path).split == "val"
    assert keep_grader(path, replace(of_val, label="again")) and keep_grader(path, chosen)
    assert not keep_grader(path, of_val) and load_grader(path).label == chosen.label
    assert keep_grader(path, replace(chosen, label="a later test"))
    content = json.loads(path.read_text())
    assert content.pop("split") == "test"
    path.write_text(json.dumps(content))
    assert not keep_grader(path, of_val), "of an earlier release, which did not say"
    other = [replace(m, checkpoints=f"{m.checkpoints}1") for m in chosen.members]
    assert keep_grader(path, replace(of_val, members=tuple(other))), "of other networks"


def test_a_choice_for_the_same_models_stays_whatever_their_order(tmp_path):
    path, models = tmp_path / "grader.json", KINDS["several"]
    chosen = graders(models)[1]
    assert keep_grader(path, chosen)
    nothing = replace(
        chosen, members=chosen.members[::-1], chosen_on=ChosenOn("", why_none="val is judged here")
    )
    assert not keep_grader(path, nothing) and alike(load_grader(path), chosen)
    path.write_text("{")
    assert keep_grader(path, nothing), "what cannot be read is replaced"


def test_models_that_were_not_evaluated_together_have_equal_weights_and_no_thresholds():
    members = graders(KINDS["several"])[1].members
    grader = unevaluated(members, classes_of("01234"), "they were not evaluated together")
    assert not grader.evaluated and np.array_equal(grader.weights, np.full(3, 1 / 3))
    found = grade(grader, [m.pairs.pair_probabilities for m in KINDS["several"]])
    voted = [model.voted.probabilities for model in KINDS["several"]]
    assert np.allclose(found.classes.probabilities, np.mean(voted, axis=0), atol=1e-12)
    assert [point.rule for point in grader.points] == ["argmax", "argmax"]
    assert found.sets is None and "not evaluated together" in grader.sets.why_none


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 2),
        (("weights",), [0, 0, 0]),
        (("weights",), [1]),
        (("of_model",), [0, 1, 2, 3, 9]),
        (("class_names",), ["4", "3", "2", "1", "0"]),
        (("temperature",), None),
        (("temperature", "value"), -1),
        (("members", 0, "vote"), "loud"),
        (("members", 0, "tta"), "many"),
        (("members", 0, "pair_accuracies"), [1]),
        (("members",), []),
        (("points", 1, "threshold"), None),
        (("points", 1, "rule"), "best"),
        (("points", 1, "from_class"), 7),
        (("sets", "thresholds"), [0.1]),
        (("review", "measure"), "mood"),
        (("label",), 3),
    ],
)
def test_a_damaged_grader_ends_in_one_line(tmp_path, place, value):
    path = tmp_path / "grader.json"
    save_grader(path, graders(KINDS["several"])[1])
    content = inner = json.loads(path.read_text())
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"expected what evaluate_ensemble\.py stores of a grader"):
        load_grader(path)
