"""--skip_unreadable: going on without files that hold no picture, and saying so everywhere."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import MODEL

import evaluate_ensemble
import prepare_dataset
from common.data.folders import scan_split
from common.pixel_store import filling
from common.pixels.decoding import UnreadableError


@pytest.fixture
def damaged(demo, tmp_path):
    """A dataset in which one training image and one test image are no pictures."""
    root = Path(shutil.copytree(demo, tmp_path / "images"))
    lost = [scan_split(root, split).images[index] for split, index in (("train", 3), ("test", 5))]
    for image in lost:
        image.path.write_bytes(b"no picture")
    return root, [image.id for image in lost]


def evaluate(output, root, cache, *flags):
    places = ["--results_dirs", output, "--dataset_path", root, "--cache_dir", cache]
    words = [*places, "--device", "cpu", "--precision", "fp32", "--resamples", 20, *flags]
    return evaluate_ensemble.main([str(word) for word in words])


def test_a_run_goes_on_without_unreadable_images_and_records_them(
    damaged, quick_train, tmp_path, capsys
):
    root, (in_train, in_test) = damaged
    values = {"dataset_path": root, "cache_dir": tmp_path / "c"}
    output = tmp_path / "r"
    assert quick_train(output, **values) == 2
    assert in_train in capsys.readouterr().err
    assert quick_train(output, skip_unreadable=None, **values) == 0
    assert f"leaves 1 of 47 images of train out: {in_train}" in capsys.readouterr().out
    config = json.loads((output / "config.json").read_text())
    assert config["skipped"] == {"train": [in_train]} and config["config"]["skip_unreadable"]
    assert quick_train(output, resume=None, skip_unreadable=None, **values) == 0

    assert evaluate(output, root, tmp_path / "c") == 2
    assert in_test in capsys.readouterr().err
    assert evaluate(output, root, tmp_path / "c", "--skip_unreadable") == 0
    assert f"left out by --skip_unreadable: 1 images, {in_test}" in capsys.readouterr().out
    metrics = json.loads((output / "results" / "metrics_test.json").read_text())
    assert metrics["skipped"] == {"test": [in_test]}
    assert metrics["holdout"][0] == "PASS", "the training images are recognised all the same"
    assert in_test in (output / "results" / "report.html").read_text()


def test_a_repaired_image_is_noticed_by_resume_and_named(damaged, quick_train, tmp_path, capsys):
    root, (in_train, _) = damaged
    values = {"dataset_path": root, "cache_dir": tmp_path / "c", "skip_unreadable": None}
    assert quick_train(tmp_path / "r", **values) == 0
    shutil.copy(scan_split(root, "train").paths[0], root / in_train)
    capsys.readouterr()
    assert quick_train(tmp_path / "r", resume=None, **values) == 2
    error = capsys.readouterr().err
    assert f"skipped: {{'train': ['{in_train}']}} -> {{}}" in error


def test_an_image_that_this_machine_cannot_open_is_not_skipped(
    demo, quick_train, tmp_path, monkeypatch, capsys
):
    def fails(path, preprocessing):
        raise UnreadableError(f"{path}: cannot be read (Permission denied)")

    monkeypatch.setattr(filling, "load_picture", fails)
    values = {"cache_dir": tmp_path / "c", "skip_unreadable": None}
    assert quick_train(tmp_path / "r", **values) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_filling_the_cache_goes_on_without_unreadable_images(damaged, tmp_path, capsys):
    root, lost = damaged
    command = ["cache", str(root), "--cache_dir", str(tmp_path / "c"), "--base_models", MODEL]
    assert prepare_dataset.main([*command, "--skip_unreadable"]) == 0
    out = capsys.readouterr().out
    assert all(id_ in out for id_ in lost)
    assert "test is cached, 19 images" in out


def test_nothing_is_trained_where_no_image_can_be_read(demo, quick_train, tmp_path, capsys):
    root = Path(shutil.copytree(demo, tmp_path / "images"))
    for path in scan_split(root, "val").paths:
        path.write_bytes(b"")
    values = {"dataset_path": root, "cache_dir": tmp_path / "c", "skip_unreadable": None}
    assert quick_train(tmp_path / "r", **values) == 2
    error = capsys.readouterr().err
    assert "20 of 20 images of val cannot be used" in error and "all of them in" in error
    names = (tmp_path / "c" / "unreadable_val.txt").read_text().splitlines()
    assert len(names) == 20 and all("empty file" in line for line in names)
