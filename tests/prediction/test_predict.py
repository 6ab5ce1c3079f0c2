"""Predicting with the classifiers of a result directory, and using again what is stored."""

import json
import shutil

import numpy as np
import pytest
import torch

from common.data.folders import scan_split
from common.models import checkpoint_file
from common.models.checkpoint import load_pair, restore_pair
from common.models.ovo import trunk_features
from common.pairs import class_pairs, pair_head
from common.pixel_store.pixel_cache import open_cache
from common.prediction import predict
from common.prediction.altered import AlteredPixels
from common.prediction.predict import (
    PredictionConfig,
    load_model,
    predict_logits,
    predict_pixels,
    predict_run,
)
from common.prediction.predictions import save_predictions
from common.prediction.voting import ClassPredictions
from common.result_dir import ResultDir, find_run
from common.system.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def copy(trained, tmp_path):
    return ResultDir(shutil.copytree(trained, tmp_path / "r"))


def test_ten_files_share_one_trunk(trained):
    member = load_model(find_run(ResultDir(trained)))
    assert len(member.groups) == 1 and len(member.groups[0].branches) == 10
    assert [own.columns.start for own in member.groups[0].branches] == list(range(10))


def test_predictions_are_those_of_each_file_alone(trained, demo, shared_cache):
    directory, split = ResultDir(trained), scan_split(demo, "test")
    member = load_model(find_run(directory))
    cache = open_cache(split, member.preprocessing, shared_cache, 2)
    logits = predict_logits(member, cache, CPU, "fp32")
    for column, path in enumerate(find_run(directory).files):
        alone = restore_pair(load_pair(path), str(path))
        with torch.no_grad():
            for image in (0, 7, 19):
                features = trunk_features(
                    alone.trunk,
                    cache.read(np.array([image])),
                    alone.checkpoint.preprocessing,
                    CPU,
                    "fp32",
                )
                found = alone.branch(features).item()
                assert found == pytest.approx(float(logits[image, column]), abs=1e-5)


def test_unfinished_classifiers_are_noted(trained, tmp_path, capsys):
    copy = ResultDir(shutil.copytree(trained, tmp_path / "r"))
    load_model(find_run(copy))
    assert "unfinished" not in capsys.readouterr().out
    path = copy.best("demo_convnext", pair_head((0, 1)))
    checkpoint_file.save_checkpoint(
        path, {**checkpoint_file.load_checkpoint(path), "complete": False}
    )
    load_model(find_run(copy))
    assert "1 of 10 classifiers of demo_convnext are unfinished" in capsys.readouterr().out


def test_the_trunk_runs_once_per_image_for_all_pairs(trained, demo, shared_cache, monkeypatch):
    member = load_model(find_run(ResultDir(trained)))
    cache = open_cache(scan_split(demo, "test"), member.preprocessing, shared_cache, 2)
    seen = []
    monkeypatch.setattr(
        predict,
        "trunk_features",
        lambda trunk, pixels, *rest, **how: (
            seen.append(len(pixels)),
            trunk_features(trunk, pixels, *rest, **how),
        )[1],
    )
    predict_logits(member, cache, CPU, "fp32")
    assert sum(seen) == len(cache)


@pytest.mark.parametrize("name", ["trained", "trained_swin"])
def test_what_is_said_of_a_picture_is_the_same_to_the_last_bit_whatever_is_beside_it(
    name, request, demo, shared_cache
):
    member = load_model(find_run(ResultDir(request.getfixturevalue(name))))
    cache = open_cache(scan_split(demo, "test"), member.preprocessing, shared_cache, 2)
    expected = predict_logits(member, cache, CPU, "fp32")  # of a full chunk and the rest of one
    every = predict_pixels(member, cache.read(np.arange(16)), CPU, "fp32").features
    for rows in ([7], [19, 3], [*range(15, 4, -1)]):
        found = predict_pixels(member, cache.read(np.array(rows)), CPU, "fp32")
        assert np.array_equal(found.logits, expected[rows])
        known = [place for place, row in enumerate(rows) if row < len(every)]
        assert np.array_equal(found.features[known], every[[rows[place] for place in known]])


def test_pixels_of_another_configuration_are_refused(trained, demo, tmp_path):
    from dataclasses import replace

    member = load_model(find_run(ResultDir(trained)))
    other = replace(member.preprocessing, enable_clahe=False)
    cache = open_cache(scan_split(demo, "test"), other, tmp_path, 2)
    with pytest.raises(InputError, match="other pixels"):
        predict_logits(member, cache, CPU, "fp32")


def test_pairs_trained_on_different_pixels_do_not_mix(copy, tmp_path):
    path = copy.best("demo_convnext", pair_head((2, 3)))
    content = checkpoint_file.load_checkpoint(path)
    content["preprocessing"]["enable_clahe"] = False
    checkpoint_file.save_checkpoint(path, content)
    with pytest.raises(InputError, match="other pixels"):
        load_model(find_run(copy))


def test_a_renamed_pair_is_noticed(copy):
    copy.best("demo_convnext", pair_head((0, 1))).replace(
        copy.best("demo_convnext", pair_head((0, 2)))
    )
    copy.best("demo_convnext", pair_head((0, 3))).rename(
        copy.best("demo_convnext", pair_head((0, 1)))
    )
    copy.best("demo_convnext", pair_head((0, 4))).rename(
        copy.best("demo_convnext", pair_head((0, 3)))
    )
    copy.best("demo_convnext", pair_head((1, 2))).rename(
        copy.best("demo_convnext", pair_head((0, 4)))
    )
    with pytest.raises(InputError, match=r"missing 1-2"):
        load_model(find_run(copy))
    copy.best("demo_convnext", pair_head((0, 4))).rename(
        copy.best("demo_convnext", pair_head((1, 2)))
    )
    copy.best("demo_convnext", pair_head((0, 3))).rename(
        copy.best("demo_convnext", pair_head((0, 4)))
    )
    copy.best("demo_convnext", pair_head((0, 2))).rename(
        copy.best("demo_convnext", pair_head((0, 3)))
    )
    copy.best("demo_convnext", pair_head((0, 1))).rename(
        copy.best("demo_convnext", pair_head((0, 2)))
    )
    checkpoint_file.save_checkpoint(
        copy.best("demo_convnext", pair_head((0, 1))),
        checkpoint_file.load_checkpoint(copy.best("demo_convnext", pair_head((3, 4)))),
    )
    with pytest.raises(InputError, match="its name says another"):
        load_model(find_run(copy))


def test_views_are_averaged_as_if_each_were_a_dataset_of_its_own(trained, demo, shared_cache):
    member = load_model(find_run(ResultDir(trained)))
    cache = open_cache(scan_split(demo, "test"), member.preprocessing, shared_cache, 2)
    pixels = cache.read(np.arange(5))

    def logits(views, tta="none"):
        return predict_logits(member, AlteredPixels(views, member.preprocessing), CPU, "fp32", tta)

    turned = [np.rot90(pixels, quarters, (1, 2)).copy() for quarters in range(4)]
    every = [view for each in turned for view in (each, each[:, :, ::-1].copy())]
    alone = [logits(view) for view in every]
    found = logits(pixels, "d4")
    assert np.array_equal(found, sum(alone[1:], alone[0]) / 8)
    assert np.allclose(logits(every[5], "d4"), found, atol=1e-5), "however it is turned"
    of_flips = [alone[place] for place in (0, 1, 4, 5)]  # a half turn is both flips
    assert np.allclose(logits(pixels, "flips"), np.mean(of_flips, axis=0), atol=1e-5)
    assert np.abs(found - alone[0]).max() > 1e-3


def predictions_of(directory, demo, cache, split="test", precision="fp32", tta=""):
    images = scan_split(demo, split)
    config = PredictionConfig(cache, 2, CPU, precision, tta)
    return predict_run(find_run(directory), images, config, directory.predictions(split))


def test_stored_predictions_are_reused_only_while_nothing_changed(
    copy, demo, shared_cache, monkeypatch, tmp_path
):
    import shutil

    images = shutil.copytree(demo, tmp_path / "images")
    calls, predict_logits = [], predict.predict_logits
    monkeypatch.setattr(
        predict, "predict_logits", lambda *a: (calls.append(1), predict_logits(*a))[1]
    )

    def again(**options):
        found = predictions_of(copy, images, tmp_path / "c", **options)
        classes = ClassPredictions(np.full((len(found.ids), 5), 0.2), found.targets)
        save_predictions(copy.predictions("test"), found, classes, "coupling")
        return found

    first, second = again(), again()
    assert len(calls) == 1
    assert np.array_equal(first.pair_probabilities, second.pair_probabilities)
    assert np.array_equal(first.ids, second.ids) and np.array_equal(first.targets, second.targets)
    again(precision="bf16")
    assert len(calls) == 2, "another precision"
    content = json.loads(copy.config.read_text())
    content["config"]["tta"] = "flips"
    copy.config.write_text(json.dumps(content))
    turned = again(precision="bf16")
    assert len(calls) == 3 and turned.origin.tta == "flips", "other views, as trained"
    assert turned.cost.gflops == 4 * first.cost.gflops
    assert again(precision="bf16", tta="none").origin.tta == "none" and len(calls) == 4
    next((images / "test" / "0").iterdir()).unlink()
    assert len(again(precision="bf16").ids) == 19 and len(calls) == 5, "an image is gone"
    path = copy.best("demo_convnext", pair_head((0, 1)))
    content = checkpoint_file.load_checkpoint(path)
    content["classifier"]["bias"] += 1
    checkpoint_file.save_checkpoint(path, content)
    again(precision="bf16")
    assert len(calls) == 6, "another checkpoint"
    copy.predictions("test").write_bytes(b"damaged")
    again(precision="bf16")
    assert len(calls) == 7


def test_stored_predictions_say_what_they_are_of(copy, demo, shared_cache):
    found = predictions_of(copy, demo, shared_cache)
    classes = ClassPredictions(np.full((20, 5), 0.2), found.targets)
    save_predictions(copy.predictions("test"), found, classes, "coupling")
    with np.load(copy.predictions("test"), allow_pickle=False) as file:
        assert file["pairs"].tolist() == [list(pair) for pair in class_pairs(5)]
        assert file["pair_probabilities"].shape == (20, 10)
        assert file["ids"][0].startswith("test/0/")
        assert json.loads(str(file["details"]))["model"] == "demo_convnext"
