"""From pairs to classes, from models to an ensemble, and the independence of the test images."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers import TARGETS, member, predictions

from common.fitting.ensemble import (
    TEMPERED,
    apply_vote,
    average_models,
    best_single,
    build_ensemble,
    check_weights,
    combine_by_every_vote,
    ensemble_weights,
    grade_again,
    rule_of,
)
from common.fitting.images import fitting_images, pool
from common.metrics.calibration_error import negative_log_likelihood
from common.prediction.labels import label_runs, unique_labels
from common.prediction.predictions import PairPredictions, require_same_images
from common.prediction.voting import SKLEARN_VOTE, VOTES, combine_pairs
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run
from common.system.errors import InputError
from common.trained_networks.outputs import pair_probabilities

RNG = np.random.default_rng(0)


def test_the_coupling_gives_a_softmax_head_s_probabilities_back():
    logits = RNG.normal(0, 2, (50, 5)).astype(np.float32)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = predictions(0, 0)
    soft = PairPredictions(
        **{
            **vars(found),
            "head": "softmax",
            "ids": found.ids[:50],
            "pair_probabilities": pair_probabilities(logits, "softmax"),
        }
    )
    voted = apply_vote("s", soft, "hard")
    assert voted.vote == "coupling" and np.allclose(
        voted.classes.probabilities, expected, atol=1e-5
    )


def test_every_vote_is_taken_of_the_same_pairs():
    found = combine_by_every_vote(apply_vote("m", predictions(2.0, 0), "soft"))
    assert set(found) == {*VOTES, SKLEARN_VOTE}, "no temperatures without val"
    pairs = predictions(2.0, 0).pair_probabilities
    assert np.array_equal(found["hard"].predicted, combine_pairs(pairs, 5, "hard").predicted)
    with_val = combine_by_every_vote(member(2.0, 0))
    assert TEMPERED in with_val
    chosen = {vote: classes.probabilities.max(1).mean() for vote, classes in with_val.items()}
    assert chosen[TEMPERED] != chosen["coupling"]


@pytest.mark.parametrize("wrong", [np.nan, 0.0])
def test_the_weighted_vote_needs_the_pairs_accuracies(wrong):
    accuracies = np.full(10, wrong)
    found = dataclasses.replace(predictions(1.0, 0), pair_accuracies=accuracies)
    with pytest.raises(InputError, match="--vote weighted weighs the pairs of m by"):
        apply_vote("m", found, "weighted")
    votes = combine_by_every_vote(apply_vote("m", found, "coupling"))
    assert set(votes) == {*VOTES, SKLEARN_VOTE} - {"weighted"}


def test_weights_are_given_or_fitted_on_val_alone():
    members = [member(3.0, 0), member(0.1, 1)]
    assert ensemble_weights(["uniform"], members).values.tolist() == [0.5, 0.5]
    assert ensemble_weights(["3", "1"], members).values.tolist() == [0.75, 0.25]
    fitted = ensemble_weights(["optimized"], members)
    by_accuracy = ensemble_weights(["val_accuracy"], members)
    assert fitted.values[0] > by_accuracy.values[0] > 0.5
    assert fitted.values.sum() == pytest.approx(1)
    assert fitted.description == "optimized on val, 200 images"
    flipped = [apply_vote(m.label, predictions(0, 9), "coupling", m.fitted.images) for m in members]
    again = ensemble_weights(["optimized"], flipped)
    assert np.array_equal(again.values, fitted.values), "test has no say"
    with pytest.raises(InputError, match="there is none for it: no images"):
        ensemble_weights(["optimized"], [members[0], member(1.0, 2, val=False)])


@pytest.mark.parametrize(
    "words", [["x"], ["0.5"], ["1", "-1"], ["0", "0"], ["nan", "1"], ["uniform", "uniform"]]
)
def test_wrong_weights_are_refused(words):
    with pytest.raises(InputError, match="--weights"):
        check_weights(words, 2)


def test_the_mean_is_the_mean_and_calibration_lowers_the_loss_on_val():
    members = [member(3.0, 0), member(2.0, 1)]
    mean = average_models(members, np.array([0.5, 0.5]), False)
    first, second = (member.classes.probabilities for member in members)
    assert np.allclose(mean.classes.probabilities, (first + second) / 2)
    assert not mean.temperature.fitted
    assert np.array_equal(mean.classes.predicted, mean.classes.probabilities.argmax(1))

    def loss(classes):
        return -np.log(classes.probabilities[np.arange(200), TARGETS]).mean()

    plain, calibrated = member(3.0, 3), member(3.0, 3, calibrate=True)
    assert loss(calibrated.fitted.classes) < loss(plain.fitted.classes)
    assert np.array_equal(plain.classes.predicted, calibrated.classes.predicted)


def test_calibration_changes_no_grade_of_a_mean_either():
    raw = [member(2.0, seed) for seed in range(3)]
    calibrated = [member(2.0, seed, calibrate=True) for seed in range(3)]
    plain = build_ensemble(raw, ["optimized"], False)
    tempered = build_ensemble(calibrated, ["optimized"], True)
    assert tempered.temperature.fitted and np.array_equal(plain.weights, tempered.weights)
    assert np.array_equal(plain.classes.predicted, tempered.classes.predicted)
    assert np.array_equal(plain.classes.probabilities, tempered.raw.probabilities)


def test_the_best_is_chosen_on_val_where_there_is_one():
    members = [
        apply_vote(label, predictions(skill, 0), "coupling", fitting_images(on_val, "val"))
        for label, skill, on_val in (("a", 0.1, predictions(3, 1)), ("b", 3, predictions(0.1, 3)))
    ]
    assert str(best_single(members)) == "a (chosen on val, 200 images)"
    members[0] = dataclasses.replace(members[0], fitted=None)
    assert str(best_single(members)) == "b (chosen on these same images)"


def test_models_of_other_images_are_refused():
    one, other = predictions(1, 0), predictions(1, 1)
    require_same_images([one, other])
    other.ids[3] = "x"
    with pytest.raises(InputError, match="grade different images"):
        require_same_images([one, other])


def test_names_are_short_and_different():
    def run(place, model, head="ovo"):
        return Run(ResultDir(Path(place)), model, head, 5, (), "", "", ())

    runs = [
        run("a", "coatnet_0_rw_224"),
        run("b", "coatnet_0_rw_224", "softmax"),
        run("c", "resnet50"),
        run("d", "resnet50"),
    ]
    assert label_runs(runs) == ["coatnet", "coatnet softmax", "c", "d"]


@pytest.mark.parametrize(
    ("places", "labels"),
    [
        (("runs/a/x_5class_results", "runs/b/x_5class_results"), ["a/x", "b/x"]),
        (("runs/x_5class_results", "runs/x"), ["x_5class_results", "x"]),
        (("runs/x", "runs/x/again"), ["x", "x/again"]),
        (("/one/x_5class_results", "/two/x_5class_results"), ["one/x", "two/x"]),
        (("x", "./x"), ["x", "x"]),
    ],
)
def test_two_of_one_model_are_named_by_what_their_folders_differ_in(places, labels):
    names = unique_labels(
        ["swinv2", "resnet50", "resnet50"],
        [ResultDir(Path("runs/swinv2_5class_results")), *(ResultDir(Path(p)) for p in places)],
    )
    assert names == ["swinv2", *labels]


@pytest.mark.parametrize("calibrate", [False, True])
def test_the_same_pictures_are_graded_as_before_with_all_that_was_chosen(calibrate):
    models = [member(2.0, 1, calibrate=calibrate), member(1.0, 2, calibrate=calibrate)]
    ensemble = build_ensemble(models, ["0.7", "0.3"], calibrate)
    pairs, rule = [m.pairs.pair_probabilities for m in models], rule_of(models, ensemble)
    for expected, found in (
        (ensemble.classes, grade_again(rule, pairs).classes),
        (models[0].classes, grade_again(rule_of(models[:1], None), pairs[:1]).classes),
    ):
        assert np.allclose(found.probabilities, expected.probabilities)
        assert np.array_equal(found.predicted, expected.predicted)
    alone = [model.classes.probabilities for model in models]
    assert np.allclose(grade_again(rule, pairs).members, alone)
    swapped = grade_again(rule, pairs[::-1]).classes
    assert not np.allclose(swapped.probabilities, ensemble.classes.probabilities)


@pytest.mark.parametrize("sharp, applied", [(0.4, True), (2.0, False)])
def test_a_mean_of_folds_is_calibrated_by_no_temperature_above_1(sharp, applied):
    """The mean of models is softer than each, whose answers out of fold are all there is."""
    rng = np.random.default_rng(0)
    targets, easy = rng.integers(0, 5, 1500), rng.normal(size=(1500, 5))

    def say(rows):
        logits = 2.4 * np.eye(5)[targets[rows]] + easy[rows] + rng.normal(size=(len(rows), 5))
        pairs = pair_probabilities(sharp * logits, "softmax")
        ids = rows.astype(str)
        return dataclasses.replace(
            predictions(1.0, 0), ids=ids, targets=targets[rows], pair_probabilities=pairs
        )

    val, test = np.arange(500), np.arange(500, 1500)
    parts = [fitting_images(say(val[fold::4]), "val") for fold in range(4)]
    images = pool(parts, "val of 4 folds, out of fold", "folds 0")
    models = [apply_vote(f"m{fold}", say(test), "coupling", images, True) for fold in range(4)]
    assert (models[0].temperature.value < 1) == applied and models[0].temperature.fitted
    ensemble = build_ensemble(models, ["uniform"], True)
    assert ensemble.temperature.fitted == applied
    if not applied:
        assert ensemble.temperature.value == 1 and ensemble.classes is ensemble.means["mean"]
        assert ensemble.calibration.startswith("not applied: T ")
        assert "above 1, was fitted on the answers of single models" in ensemble.calibration
    raw, found = (
        negative_log_likelihood(each.probabilities, targets[test])
        for each in (ensemble.raw, ensemble.classes)
    )
    assert found < raw - 0.3 if applied else found == raw
    alone = build_ensemble(models, ["1", "0", "0", "0"], True)
    assert alone.temperature == models[0].temperature, "a single model keeps its own"
