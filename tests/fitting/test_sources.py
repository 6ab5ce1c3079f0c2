"""Which images things are fitted on, and that nobody is asked about what it has learned from."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import predictions

from common.data.folders import scan_dataset
from common.fitting import sources
from common.fitting.collect import Member, collect
from common.fitting.ensemble import (
    apply_vote,
    average_models,
    best_single,
    build_ensemble,
    ensemble_weights,
)
from common.fitting.grader import ensemble_grader
from common.fitting.sources import Seen, find_training, plan_fitting
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import SetMatcher
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run

NAMES = tuple("01234")
FOLDS = 4


def scan(root):
    return scan_dataset(root, matcher=SetMatcher(NAMES))


def run_of(root, model="resnet50", name="a"):
    fingerprint = scan(root).split("train").fingerprint()
    directory = ResultDir(root.parent / f"{name}_results")
    return Run(directory, model, "ovo", 5, NAMES, str(root), fingerprint, ())


@pytest.fixture
def photographs(tmp_path):
    """40 different files, 8 of each grade."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.jpg").write_bytes(os.urandom(3) + bytes([number]) * 60)
    return folder


@pytest.fixture
def folds(photographs, tmp_path):
    """Four folds of 32 of them under other names; test is the same in all."""
    roots = []
    for fold in range(FOLDS):
        root = tmp_path / f"fold_{fold}"
        for number in range(40):
            split = "test" if number >= 32 else "val" if number % FOLDS == fold else "train"
            path = root / split / str(number % 5) / f"{number}_{fold}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            source = photographs / f"{number}.jpg"
            if number % 2:
                path.hardlink_to(source)
            else:
                shutil.copy(source, path)
        for split in ("train", "val", "test"):
            for grade in NAMES:
                (root / split / grade).mkdir(exist_ok=True)
        roots.append(root)
    return roots


def plan(root, runs, judged="test", **more):
    dataset = scan(root)
    trained = find_training([(f"m{i}", run) for i, run in enumerate(runs)], dataset)
    return trained, plan_fitting(dataset, dataset.split(judged), trained, **more)


def test_val_of_the_dataset_is_taken_where_nobody_has_learned_from_it(folds):
    _, found = plan(folds[0], [run_of(folds[0])])
    assert found.name == "val" and len(found.split) == 8 and not found.remarks


def test_cal_comes_before_val(folds):
    shutil.copytree(folds[0] / "val", folds[0] / "cal")
    _, found = plan(folds[0], [run_of(folds[0])])
    assert found.name == "cal"
    _, found = plan(folds[0], [run_of(folds[0])], judged="cal")
    assert found.name == "val", "what is judged is not fitted on"


def test_an_unknown_training_set_is_said_and_no_refusal(folds):
    runs = [dataclasses.replace(run_of(folds[0]), train_fingerprint="gone")] * 5
    _, found = plan(folds[0], runs)
    assert found.name == "val (not known whether m0, m1, m2 and 2 more learned from it)"
    assert "m2 and 2 more learned from val is not known" in found.remarks[0]


def test_what_is_asked_for_is_not_fitted_on_a_val_that_may_have_been_learned_but_on_cal(folds):
    run = dataclasses.replace(run_of(folds[0]), train_fingerprint="")  # of the earlier trainer
    _, found = plan(folds[0], [run], insists=True)
    assert found.split is None and "whether m0 learned from val is not known" in found.why_not
    assert plan(folds[0], [run_of(folds[0])], insists=True)[1].name == "val"
    shutil.copytree(folds[0] / "val", folds[0] / "cal")
    _, found = plan(folds[0], [run], insists=True)
    assert found.name == "cal (not known whether m0 learned from it)"


def test_folds_that_were_moved_together_are_found_beside_each_other(folds, tmp_path):
    runs = [run_of(root) for root in folds]
    moved = tmp_path / "moved"
    moved.mkdir()
    for root in folds:
        root.rename(moved / root.name)
    trained, found = plan(moved / "fold_0", runs)
    assert found.name == f"val of {FOLDS} folds, out of fold"
    assert trained[2].train.images[0].path.is_relative_to(moved / "fold_2")
    (moved / "fold_2").rename(moved / "third")
    assert plan(moved / "fold_0", runs)[1].name == f"val of {FOLDS} folds, out of fold"


def test_what_was_learned_in_other_files_is_not_fitted_on(folds):
    val = scan(folds[0]).split("val")
    few = Seen("val", "m0", frozenset(val.ids[:2]), "2 of 8 images are edited from ...")
    _, found = plan(folds[0], [run_of(folds[0])], seen=[few])
    assert found.split is None and found.name == "val of the training's dataset"
    assert found.why_not.startswith("m0 has learned from 2 of 8 images of val: 2 of 8 images are")
    assert set(found.own[0].names) == set(val.ids[2:])


def test_the_models_of_folds_are_asked_about_their_own_val_each(folds):
    _, found = plan(folds[0], [run_of(root) for root in folds])
    assert found.split is None and found.name == f"val of {FOLDS} folds, out of fold"
    assert "m1 has learned from 8 of 8 images of val, such as val/" in found.why_not
    assert str(folds[0].parent) not in found.why_not, "it goes with an export, to strangers"
    assert {own.group for own in found.own} == {0}
    assert [len(own.names) for own in found.own] == [8] * FOLDS


def test_what_is_judged_is_left_out_of_the_own_val(folds):
    _, found = plan(folds[0], [run_of(root) for root in folds], judged="val")
    assert [len(own.names) for own in found.own] == [0, 8, 8, 8]


def test_models_of_other_backbones_or_of_unrelated_data_are_no_folds_of_one(folds, tmp_path):
    runs = [run_of(folds[0]), run_of(folds[1], "densenet121")]
    assert [own.group for own in plan(folds[2], runs)[1].own] == [0, 1]
    other = tmp_path / "elsewhere"
    shutil.copytree(folds[0], other)
    for path in other.rglob("*.jpg"):
        path.unlink()
        path.write_bytes(os.urandom(50))
    runs = [run_of(folds[1]), run_of(other)]
    found = plan(folds[0], runs)[1]
    assert [own.group for own in found.own] == [0, 1]


def out_of_fold(folds, runs, skill_on_own=1.0, tta=("none",) * 8):
    """Results of models that know by heart what they have learned, and else are of that skill."""
    trained, found = plan(folds[0], runs)
    learned = [
        {path.read_bytes() for path in each.train.paths} if each.train else set()
        for each in trained
    ]

    def predict(member, split, path):
        place = trained.index(member.trained)
        base = predictions(skill_on_own, 7 + place)
        rows = np.arange(len(split))
        by_heart = predictions(9.0, 3)
        known = np.array([p.read_bytes() in learned[place] for p in split.paths])
        same = [np.flatnonzero(base.targets == label)[i] for i, label in enumerate(split.labels)]
        pairs = np.where(
            known[:, None], by_heart.pair_probabilities[same], base.pair_probabilities[same]
        )
        return dataclasses.replace(
            base,
            ids=np.array(split.ids),
            targets=split.labels,
            pair_probabilities=pairs[rows],
            origin=dataclasses.replace(base.origin, tta=tta[place]),
        )

    judged = scan(folds[0]).split("test")
    members = []
    for each in trained:
        member = Member(each, predictions(1.0, 0), ResultDir(Path("/nowhere")))
        members.append(dataclasses.replace(member, pairs=predict(member, judged, Path())))
    collected = collect(found, members, predict)
    return [
        apply_vote(f"m{i}", m.pairs, "coupling", images, True, reason)
        for i, (m, images, reason) in enumerate(
            zip(members, collected.images, collected.reasons, strict=True)
        )
    ]


def test_models_of_folds_share_what_each_says_of_its_own_val(folds):
    models = out_of_fold(folds, [run_of(root) for root in folds])
    assert all(len(model.fitted.images) == 32 for model in models)
    assert len({model.temperature.value for model in models}) == 1
    assert models[0].calibration.endswith("wrong)") and "out of fold" in models[0].calibration
    assert 0.2 < models[0].fitted.accuracy() < 0.9, "by heart it would be 1"
    weights = ensemble_weights(["optimized"], models)
    assert np.allclose(weights.values, 1 / FOLDS) and "equal" in weights.description
    assert best_single(models).label == "m0" and "4 folds: the first" in best_single(models).chosen
    assert "out of fold, 32 images" in best_single(models).chosen


def test_models_of_folds_that_average_other_views_are_not_fitted_together(folds):
    """A temperature of single views is too high for the mean of several, or the reverse."""
    runs = [run_of(root, model) for model in ("resnet50", "densenet121") for root in folds]
    models = out_of_fold(folds, runs, tta=["none", "none", "d4", "none", *["flips"] * 4])
    assert [model.fitted is None for model in models] == [True] * 4 + [False] * 4
    assert "folds differ in test-time augmentation (d4, none)" in models[0].calibration


def test_a_model_that_learned_val_by_heart_does_not_get_all_the_weight(folds):
    """The first is of the dataset that is evaluated, the second has learned its val by heart."""
    runs = [run_of(folds[0]), run_of(folds[1])]
    models = out_of_fold(folds, runs)
    weights = ensemble_weights(["optimized"], models).values
    assert np.allclose(weights, 0.5), "on val of the first, these were 0.000 and 1.000"


def test_two_backbones_of_folds_are_weighed_between_each_other(folds):
    runs = [run_of(root, model) for model in ("resnet50", "densenet121") for root in folds]
    models = out_of_fold(folds, runs)
    assert [m.fitted.images.group for m in models] == ["folds 0"] * FOLDS + ["folds 1"] * FOLDS
    weights = ensemble_weights(["optimized"], models).values
    assert np.ptp(weights[:FOLDS]) == np.ptp(weights[FOLDS:]) == 0
    mean = average_models(models, weights, True)
    assert mean.temperature.images == 32 and len(mean.fitted.predicted) == 32
    ensemble = build_ensemble(models, ["optimized"], True)
    grader = ensemble_grader("e", ensemble, models, "test", BootstrapConfig(50), lambda ids: None)
    assert grader.judged_on.members.shape == (8, 8, 5)
    assert grader.chosen_on.members.shape == (2, 32, 5)


def test_models_without_common_images_are_calibrated_alone(folds):
    runs = [run_of(folds[0]), run_of(folds[1], "densenet121")]
    models = out_of_fold(folds, runs)
    assert all(len(model.fitted.images) == 8 for model in models)
    mean = average_models(models, np.array([0.5, 0.5]), True)
    assert not mean.temperature.fitted and "no images in common" in mean.calibration
    assert "m1 has learned from 8 of 8 images of val, such as" in mean.calibration


def test_a_val_that_cannot_be_listed_and_links_to_nowhere_are_no_obstacle(folds):
    for path in (folds[0] / "val").rglob("*.jpg"):
        path.unlink()
    (folds[0] / "train" / "0" / "lost.jpg").symlink_to("/nowhere/at/all.jpg")
    _, found = plan(folds[0], [run_of(folds[1])])
    assert found.split is None and len(found.own[0].names) == 8
    assert "expected images" in found.why_not


def test_files_of_a_size_that_nobody_asked_about_are_not_opened(folds, monkeypatch):
    opened = []
    number = sources.number_files
    monkeypatch.setattr(
        sources, "number_files", lambda images: opened.extend(images) or number(images)
    )
    for path in sorted((folds[0] / "train" / "0").iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content * 2)
    plan(folds[0], [run_of(folds[0])])
    assert all(image.size == 63 for image in opened)
    assert {image.split for image in opened} == {"train", "val", "test"}
