"""New pictures are compared with training pictures by what networks make of them."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
import torch
from helpers import flags
from sklearn.neighbors import NearestNeighbors

import evaluate_ensemble
from common.data.folders import scan_split
from common.doubts import training_pictures
from common.doubts.known_doubts import EVALUATE, KnownDoubts, load_doubts
from common.doubts.references import (
    FEWEST_OF_VAL,
    NEIGHBOUR,
    choose_neighbourhood,
    distances,
    load_reference,
    normalised,
)
from common.doubts.training_pictures import keep_reference
from common.fitting.sources import Trained
from common.grading.networks import Said
from common.prediction.predict import PredictionConfig
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError

CPU = torch.device("cpu")
GENERATOR = np.random.default_rng(0)
TRAIN, VAL = (GENERATOR.normal(1, 0.2, (n, 16)).astype(np.float32) for n in (300, 400))
FAR = GENERATOR.normal(-1, 0.2, (7, 16)).astype(np.float32)


def said(*features):
    return Said(tuple(np.zeros((len(f), 10)) for f in features), features)


def test_distances_are_those_of_scikit_learn_whatever_the_length_of_features():
    known = normalised(TRAIN)
    expected, _ = NearestNeighbors(n_neighbors=NEIGHBOUR).fit(known).kneighbors(normalised(VAL))
    assert distances(known, VAL) == pytest.approx(expected[:, -1], abs=1e-3)
    assert distances(known, 7 * VAL) == pytest.approx(distances(known, VAL), abs=1e-3)
    assert distances(known, np.zeros((1, 16))) == pytest.approx(np.sqrt(2))


def test_nearly_all_of_val_lies_within_the_threshold_and_other_pictures_beyond():
    found = choose_neighbourhood(TRAIN, VAL)
    beyond = distances(found.features, VAL) > found.threshold
    assert 0 < beyond.sum() <= 4 and found.chosen_on == 400
    assert (distances(found.features, FAR) > found.threshold).all()
    few = choose_neighbourhood(TRAIN, VAL[: FEWEST_OF_VAL - 1])
    assert np.isnan(few.threshold) and f"{FEWEST_OF_VAL - 1} of val" in few.why_none


@pytest.fixture
def own(trained_copy, demo):
    """A model's directory with its dataset."""
    run = find_run(ResultDir(trained_copy))
    run.directory.reference.unlink()
    return Trained("demo", run, scan_split(demo, "train"), scan_split(demo, "val"))


@pytest.fixture
def config(shared_cache):
    return PredictionConfig(shared_cache, 2, CPU, "fp32")


def test_what_is_kept_is_made_once_for_a_model_and_again_for_another_one(own, config, monkeypatch):
    path, looks = own.run.directory.reference, []
    real = training_pictures._look
    monkeypatch.setattr(
        training_pictures, "_look", lambda *a: (looks.append(len(a[1])), real(*a))[1]
    )
    assert keep_reference(own, "one", config, 500) == "" and looks == [47, 20]
    kept = load_reference(path)
    assert kept.neighbourhood.chosen_on == 20 and kept.limits.pictures == 47
    assert kept.neighbourhood.features.shape[0] == 47
    assert keep_reference(own, "one", config, 500) == "" and len(looks) == 2
    assert keep_reference(own, "other", config, 30) == "" and looks[2:] == [30, 20]
    gone = dataclasses.replace(own, train=None)
    assert keep_reference(gone, "other", config, 500) == "", "as it was made before"
    assert "not at hand" in keep_reference(gone, "third", config, 500)
    assert "--reference_pictures 0" in keep_reference(own, "third", config, 0)
    assert len(looks) == 4


def test_training_images_that_cannot_be_read_do_not_end_the_evaluation(own, config, tmp_path):
    for grade in "01234":
        (tmp_path / "train" / grade).mkdir(parents=True)
    (tmp_path / "train" / "0" / "a.jpg").write_text("no picture")
    broken = dataclasses.replace(own, train=scan_split(tmp_path, "train"))
    assert "a.jpg" in keep_reference(broken, "one", config, 500)
    assert not own.run.directory.reference.exists()


@pytest.fixture
def doubtful(own, config):
    keep_reference(own, "one", config, 500)
    return own.run.directory


def test_pictures_are_doubted_where_most_models_know_nothing_like_them(doubtful, tmp_path):
    reference = dataclasses.replace(
        load_reference(doubtful.reference), neighbourhood=choose_neighbourhood(TRAIN, VAL)
    )
    doubts = KnownDoubts((reference, None, reference, reference))
    assert doubts.tells_unlike and not KnownDoubts((None, None)).tells_unlike
    assert not KnownDoubts((None, None)).tells_ungradable
    near, far = TRAIN[:2], np.stack([TRAIN[0], FAR[0]])
    assert doubts.unlike(said(near, near, far, near)) == ["", ""]
    assert doubts.unlike(said(near, near, far, far)) == ["", ""], "two of four are not most"
    nothing, something = doubts.unlike(said(far, near, far, far))
    assert not nothing and "distance" in something
    assert not KnownDoubts((reference, None)).tells_unlike, "one of two can never be most"
    assert KnownDoubts((None,)).unlike(said(far)) == ["", ""]
    assert doubts.unlike(Said((np.zeros((2, 10)),))) == ["", ""], "without features"
    assert doubts.fingerprint != KnownDoubts((reference,)).fingerprint


def test_what_is_not_known_is_said(doubtful, tmp_path):
    found = load_doubts([doubtful.reference], ["one"])
    assert found.why_not_known == ""
    black = np.zeros((48, 48, 3), np.uint8)
    assert "black" in found.ungradable(found.look([black]))
    other = load_doubts([doubtful.reference], ["other"])
    assert "of earlier classifiers" in other.why_not_known
    assert other.look([black]) is None and other.ungradable(None) == ""
    nowhere = load_doubts([ResultDir(tmp_path).reference], ["one"])
    assert "is not there" in nowhere.why_not_known
    assert load_doubts([ResultDir(tmp_path).reference], ["one"], "copy it").why_not_known.endswith(
        "; copy it"
    )


def test_a_model_of_an_ensemble_that_cannot_tell_is_said(doubtful, tmp_path):
    here, nowhere = doubtful.reference, ResultDir(tmp_path).reference
    three = load_doubts([here, nowhere, here], ["one"] * 3)
    assert three.tells_unlike and three.why_not_known == (
        "told by 2 of 3 models alone whether pictures can be graded; whether pictures are unlike "
        "the training's (more than half of 3 models must say so, and 1 cannot): "
        f"{nowhere} is not there; {EVALUATE}"
    )
    two = load_doubts([here, nowhere], ["one"] * 2)
    assert not two.tells_unlike and two.tells_ungradable
    assert "not known whether pictures are unlike the training's" in two.why_not_known
    assert "not known whether pictures can be graded" not in two.why_not_known


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.full((9, 3), np.nan, np.float32)},
        {"features": np.zeros(9, np.float32)},
        {"low": np.zeros(2)},
    ],
)
def test_a_damaged_reference_ends_in_one_line(doubtful, change):
    with np.load(doubtful.reference, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(doubtful.reference, **(arrays | change))
    with pytest.raises(InputError, match=r"expected what evaluate_ensemble\.py keeps"):
        load_doubts([doubtful.reference], ["one"])
    doubtful.reference.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"pictures \(File is not a zip file\); remove it and ev"):
        load_doubts([doubtful.reference], ["one"])


def test_an_evaluation_keeps_it_beside_the_model_unless_told_not_to(
    trained_copy, demo, shared_cache, tmp_path, capsys
):
    directory = ResultDir(trained_copy)
    values = {"results_dirs": trained_copy, "dataset_path": demo, "cache_dir": shared_cache}
    values |= {"device": "cpu", "resamples": 20, "holdout_check": "names", "figure_format": "none"}
    directory.reference.unlink()
    assert evaluate_ensemble.main(flags(**values, reference_pictures=0)) == 0
    assert "training pictures: --reference_pictures 0" in capsys.readouterr().out
    assert not directory.reference.exists()
    assert evaluate_ensemble.main(flags(**values, reference_pictures=25)) == 0
    said = capsys.readouterr().out  # both take minutes where there is much to look at
    assert "looks once at 25 pictures of train, to compare new ones with" in said
    assert re.search(r"evidence for the \d worst mistakes: model 1 of 1", said)
    kept = load_reference(directory.reference)
    assert kept.limits.pictures == 25 and not kept.neighbourhood.why_none
    assert load_doubts([directory.reference], [kept.checkpoints]).why_not_known == ""
    moved = shutil.move(trained_copy, tmp_path / "moved")
    assert load_reference(ResultDir(moved).reference).checkpoints == kept.checkpoints
