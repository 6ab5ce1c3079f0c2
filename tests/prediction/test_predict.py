"""Predicting with the classifiers of a result directory, and using again what is stored."""

import json
import shutil
import time

import numpy as np
import pytest
import torch

from common.data.folders import scan_split
from common.models import checkpoint_file
from common.pairs import class_pairs, pair_head
from common.prediction import predict
from common.prediction.predict import PredictionConfig, predict_run
from common.prediction.predictions import save_predictions
from common.prediction.voting import ClassPredictions
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run

CPU = torch.device("cpu")


@pytest.fixture
def copy(trained, tmp_path):
    return ResultDir(shutil.copytree(trained, tmp_path / "r"))


def predictions_of(directory, demo, cache, split="test", precision="fp32", tta=""):
    images = scan_split(demo, split)
    config = PredictionConfig(cache, 2, CPU, precision, tta)
    return predict_run(find_run(directory), images, config, directory.predictions(split))


def test_the_clock_runs_only_when_the_images_are_decoded(copy, demo, tmp_path, monkeypatch):
    calls, open_cache, now = [], predict.open_cache, time.perf_counter
    monkeypatch.setattr(
        predict, "open_cache", lambda *given: (calls.append("decode"), open_cache(*given))[1]
    )
    monkeypatch.setattr(time, "perf_counter", lambda: (calls.append("clock"), now())[1])
    found = predictions_of(copy, demo, tmp_path)
    assert calls[0] == "decode" and calls[-1] == "clock" and found.cost.images_per_second > 0


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
