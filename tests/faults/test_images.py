"""Images that fail, change or vanish while they are read."""

import shutil

import numpy as np
import pytest
from helpers import FOUR_EPOCHS, MODEL, SMALL_PIXELS, at_step, same_weights

from common.data.folders import scan_split
from common.pixel_store import filling
from common.pixel_store.pixel_cache import open_cache
from common.pixels.preprocessing import load_picture
from common.system.errors import InputError


def test_a_worker_that_dies_keeps_what_the_others_have_done(demo, tmp_path, monkeypatch):
    def dies(path, preprocessing):
        if path.name.endswith("3_0002.jpg"):
            raise RuntimeError("worker died")
        return load_picture(path, preprocessing)

    split = scan_split(demo, "val")
    monkeypatch.setattr(filling, "load_picture", dies)
    with pytest.raises(InputError, match=r"1 of 20 images .*3_0002.jpg: RuntimeError: worker died"):
        open_cache(split, SMALL_PIXELS, tmp_path, 2)
    monkeypatch.setattr(filling, "load_picture", load_picture)
    assert len(open_cache(split, SMALL_PIXELS, tmp_path, 2).read(np.arange(20))) == 20


def test_an_image_replaced_while_it_is_decoded_is_named(demo, tmp_path, monkeypatch):
    root = shutil.copytree(demo, tmp_path / "images")
    split = scan_split(root, "val")

    def replaced(path, preprocessing):
        if path == split.paths[4]:
            path.write_bytes(split.paths[5].read_bytes())
        return load_picture(path, preprocessing)

    monkeypatch.setattr(filling, "load_picture", replaced)
    with pytest.raises(InputError, match="was changed while the images were read"):
        open_cache(split, SMALL_PIXELS, tmp_path / "c", 1)


def test_images_deleted_in_mid_run_are_not_missed_and_resume_notices(
    quick_train, undisturbed, demo, tmp_path, monkeypatch, capsys
):
    root = shutil.copytree(demo, tmp_path / "images")
    values = {**FOUR_EPOCHS, "dataset_path": root, "cache_dir": tmp_path / "c"}
    doomed = next((root / "train" / "1").iterdir())
    with monkeypatch.context() as patch:
        at_step(patch, 3, doomed.unlink)
        assert quick_train(tmp_path / "r", **values) == 0
    assert same_weights(tmp_path / "r", undisturbed), "training reads the cache"
    assert quick_train(tmp_path / "r", resume=None, **values) == 2
    assert "data: " in capsys.readouterr().err


def test_a_class_of_one_image_trains(quick_train, demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "images")
    for split in ("train", "val"):
        for path in sorted((root / split / "1").iterdir())[1:]:
            path.unlink()
    for model in (MODEL, "demo_coatnet"):
        values = {"dataset_path": root, "pairs": "0-1", "base_models": model}
        assert quick_train(tmp_path / model, **values) == 0
