"""The pixel cache: what preprocessing makes, each image decoded once, mended where damaged."""

import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from common.data.folders import scan_split
from common.pixels import pixel_cache
from common.pixels.pixel_cache import open_cache
from common.pixels.preprocessing import Preprocessing, load_picture, load_pixels
from common.system.errors import InputError

SETTINGS = Preprocessing(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def images(demo, tmp_path):
    """A copy of the demo dataset that a test may spoil."""
    return shutil.copytree(demo, tmp_path / "images")


def test_the_cache_holds_what_preprocessing_makes(demo, tmp_path):
    split = scan_split(demo, "val")
    cache = open_cache(split, SETTINGS, tmp_path, 2)
    pixels = cache.read(np.array([3, 0, 19]))
    expected = [load_pixels(split.paths[i], SETTINGS) for i in (3, 0, 19)]
    assert np.array_equal(pixels, np.stack(expected))


def test_each_image_is_decoded_once_ever(images, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        pixel_cache, "load_picture", lambda path, s: calls.append(path) or load_picture(path, s)
    )
    for _ in range(3):
        open_cache(scan_split(images, "val"), SETTINGS, tmp_path / "c", 2).read(np.arange(20))
    assert len(calls) == 20
    Image.new("RGB", (70, 70), "red").save(images / "val" / "1" / "new.png")
    open_cache(scan_split(images, "val"), SETTINGS, tmp_path / "c", 2)
    assert [path.name for path in calls[20:]] == ["new.png"]


def test_a_changed_or_removed_image_is_noticed(images, tmp_path):
    split = scan_split(images, "val")
    open_cache(split, SETTINGS, tmp_path / "c", 2)
    split.paths[0].write_bytes(split.paths[-1].read_bytes())
    split.paths[1].unlink()
    changed = scan_split(images, "val")
    assert changed.fingerprint() != split.fingerprint()
    cache = open_cache(changed, SETTINGS, tmp_path / "c", 2)
    assert len(cache) == 19
    expected = [load_pixels(path, SETTINGS) for path in changed.paths]
    assert np.array_equal(cache.read(np.arange(19)), np.stack(expected))


def test_unreadable_images_are_named_and_the_rest_is_kept(images, tmp_path):
    split = scan_split(images, "val")
    split.paths[2].write_bytes(b"")
    split.paths[5].write_bytes(b"nothing")
    with pytest.raises(InputError, match="2 of 20 images of val cannot be used") as error:
        open_cache(scan_split(images, "val"), SETTINGS, tmp_path / "c", 2)
    assert split.paths[2].name in str(error.value) and "empty file" in str(error.value)
    index = json.loads(next((tmp_path / "c").rglob("index.json")).read_text())
    assert len(index) == 18


def test_a_damaged_row_is_decoded_again(demo, tmp_path, capsys):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))
    file = next(tmp_path.rglob("pixels.u8"))
    content = bytearray(file.read_bytes())
    content[7 * 48 * 48 * 3 + 100] ^= 0xFF
    file.write_bytes(content[: 19 * 48 * 48 * 3 + 5])  # the last row is cut short, too
    after = open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))
    assert np.array_equal(before, after)
    assert capsys.readouterr().out.count("damaged row") == 2
    open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))
    assert "damaged row" not in capsys.readouterr().out, "the row was mended"


def test_a_broken_index_is_made_anew(demo, tmp_path):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))
    next(tmp_path.rglob("index.json")).write_text('{"half')
    assert np.array_equal(open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20)), before)


def test_filling_goes_on_after_being_killed_half_way(demo, tmp_path, monkeypatch):
    split, calls = scan_split(demo, "val"), []

    def dies(path, preprocessing):
        if len(calls) == 9:
            raise KeyboardInterrupt
        calls.append(path)
        return load_picture(path, preprocessing)

    monkeypatch.setattr(pixel_cache, "_SAVE_EVERY", 4)
    monkeypatch.setattr(pixel_cache, "load_picture", dies)
    with pytest.raises(KeyboardInterrupt):
        open_cache(split, SETTINGS, tmp_path, 1)
    monkeypatch.setattr(pixel_cache, "load_picture", load_picture)
    cache = open_cache(split, SETTINGS, tmp_path, 2)
    expected = [load_pixels(path, SETTINGS) for path in split.paths]
    assert np.array_equal(cache.read(np.arange(20)), np.stack(expected))


def _fill(root, folder):
    cache = open_cache(scan_split(root, "train"), SETTINGS, folder, 2)
    os._exit(0 if cache.read(np.arange(len(cache))).any() else 1)


def test_two_processes_may_fill_the_same_cache(demo, tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(demo, tmp_path)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    split = scan_split(demo, "train")
    expected = [load_pixels(path, SETTINGS) for path in split.paths]
    found = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(len(split)))
    assert np.array_equal(found, np.stack(expected))
    size = next(tmp_path.rglob("pixels.u8")).stat().st_size
    assert size == len(split) * 48 * 48 * 3, "no image was decoded twice"


def test_names_need_not_be_utf_8(demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "images")
    odd = os.fsdecode(os.fsencode(root / "val" / "1") + b"/\xff.jpg")
    shutil.copy(next((root / "val" / "1").iterdir()), odd)
    split = scan_split(root, "val")
    assert len(split) == 21 and len(split.fingerprint()) == 16
    assert open_cache(split, SETTINGS, tmp_path / "c", 1).read(np.arange(21)).any((1, 2, 3)).all()


@pytest.mark.parametrize("text", ['{"a": "b"}', '{"a": null}', '{"a": ["z", 1]}', "[]", "{"])
def test_a_damaged_index_is_built_again(demo, tmp_path, text):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
    (tmp_path / SETTINGS.cache_key() / "index.json").write_text(text)
    assert np.array_equal(open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20)), before)


def test_lost_pixels_are_built_again(demo, tmp_path):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
    (tmp_path / SETTINGS.cache_key() / "pixels.u8").unlink()
    assert np.array_equal(open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20)), before)
