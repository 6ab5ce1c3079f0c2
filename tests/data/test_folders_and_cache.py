import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from common.data import copies, pixel_cache
from common.data.copies import identical_files
from common.data.folders import scan_split
from common.data.pixel_cache import open_cache
from common.data.preprocessing import Preprocessing, load_pixels
from common.system.errors import InputError

SETTINGS = Preprocessing(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def images(demo, tmp_path):
    """A copy of the demo dataset that a test may spoil."""
    return shutil.copytree(demo, tmp_path / "images")


def rename(root, names, split="val"):
    for grade, name in enumerate(names):
        (root / split / str(grade)).rename(root / split / name)


def test_lists_images_and_labels_without_opening_one(demo, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(pixel_cache, "load_pixels", fail)
    split = scan_split(demo, "train")
    assert split.counts(5) == [7, 10, 10, 10, 10]
    assert all(name.split("/")[1] == str(label) for name, label in zip(split.ids, split.labels))
    assert list(split.ids) == sorted(split.ids)


@pytest.mark.parametrize(
    "names",
    [
        ["No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"],
        ["no_dr", "MILD", "moderate", "Severe", "PDR"],
        ["Normal", "Mild NPDR", "Moderate NPDR", "Severe NPDR", "Proliferative DR"],
    ],
)
def test_knows_the_usual_class_names(images, names):
    before = scan_split(images, "val").labels
    rename(images, names)
    assert np.array_equal(np.sort(scan_split(images, "val").labels), np.sort(before))
    split = scan_split(images, "val")
    assert all(f"synthetic_val_{label}_" in name for name, label in zip(split.ids, split.labels))


def test_given_names_decide_the_order(images):
    rename(images, ["e", "d", "c", "b", "a"])
    split = scan_split(images, "val", 5, ("e", "d", "c", "b", "a"))
    assert all(f"synthetic_val_{label}_" in name for name, label in zip(split.ids, split.labels))
    with pytest.raises(InputError, match=r"expected the class folders 0\.\.4"):
        scan_split(images, "val")
    with pytest.raises(InputError, match="expected the class folders e d c b x"):
        scan_split(images, "val", 5, ("e", "d", "c", "b", "x"))


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="check --dataset_path"):
        scan_split(tmp_path, "train")
    for grade in range(5):
        (tmp_path / "train" / str(grade)).mkdir(parents=True)
    with pytest.raises(InputError, match="expected images"):
        scan_split(tmp_path, "train")


def test_graded_folders_without_splits_are_a_test_set(images):
    assert len(scan_split(images / "val", "test")) == 20


def test_other_files_are_left_alone(images):
    before = len(scan_split(images, "val"))
    (images / "val" / "0" / "Thumbs.db").write_bytes(b"x")
    (images / "val" / "0" / "._eye.jpg").write_bytes(b"x")
    (images / "val" / "0" / "folder.jpg").mkdir()
    Image.new("RGB", (64, 64), "red").save(images / "val" / "0" / "EYE.TIFF")
    assert len(scan_split(images, "val")) == before + 1


def test_the_cache_holds_what_preprocessing_makes(demo, tmp_path):
    split = scan_split(demo, "val")
    cache = open_cache(split, SETTINGS, tmp_path, 2)
    pixels = cache.read(np.array([3, 0, 19]))
    expected = [load_pixels(split.paths[i], SETTINGS) for i in (3, 0, 19)]
    assert np.array_equal(pixels, np.stack(expected))


def test_each_image_is_decoded_once_ever(images, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        pixel_cache, "load_pixels", lambda path, s: calls.append(path) or load_pixels(path, s)
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
    with pytest.raises(InputError, match="2 images cannot be used") as error:
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
        return load_pixels(path, preprocessing)

    monkeypatch.setattr(pixel_cache, "_SAVE_EVERY", 4)
    monkeypatch.setattr(pixel_cache, "load_pixels", dies)
    with pytest.raises(KeyboardInterrupt):
        open_cache(split, SETTINGS, tmp_path, 1)
    monkeypatch.setattr(pixel_cache, "load_pixels", load_pixels)
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


def test_folders_of_images_that_are_no_class_are_refused(demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "images")
    (root / "train" / "notes").mkdir()
    assert len(scan_split(root, "train")) == 47, "a folder without images does no harm"
    shutil.copytree(root / "train" / "4", root / "train" / "5")
    with pytest.raises(InputError, match="found images in 5, too"):
        scan_split(root, "train")
    with pytest.raises(InputError, match="found images in 3 4, too"):
        scan_split(root, "val", 3)
    with pytest.raises(InputError, match="names a class twice"):
        scan_split(root, "val", 5, ("0", "0", "1", "2", "3"))


def test_a_broken_link_is_named(demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "images")
    (root / "val" / "1" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match=r"gone\.jpg: the link leads nowhere"):
        scan_split(root, "val")


def test_names_need_not_be_utf_8(demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "images")
    odd = os.fsdecode(os.fsencode(root / "val" / "1") + b"/\xff.jpg")
    shutil.copy(next((root / "val" / "1").iterdir()), odd)
    split = scan_split(root, "val")
    assert len(split) == 21 and len(split.fingerprint()) == 16
    assert open_cache(split, SETTINGS, tmp_path / "c", 1).read(np.arange(21)).any((1, 2, 3)).all()


def test_labels_are_part_of_the_fingerprint(demo, tmp_path):
    names = ("4", "3", "2", "1", "0")
    one, other = scan_split(demo, "test"), scan_split(demo, "test", 5, names)
    assert one.ids == other.ids and one.fingerprint() != other.fingerprint()


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


def test_identical_files_are_found_and_only_what_must_be_is_read(tmp_path, monkeypatch):
    big = b"x" * 9000
    files = {
        "train/0/a.jpg": big,
        "val/1/b.jpg": big,
        "val/0/c.jpg": b"y" + big[1:],
        "train/1/d.jpg": b"z",
        "val/0/short.jpg": b"q" * 5,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    splits = [scan_split(tmp_path, name, 2, ("0", "1")) for name in ("train", "val")]
    read = []
    digest = copies._digest
    monkeypatch.setattr(copies, "_digest", lambda path: read.append(path.name) or digest(path))
    for path in (tmp_path / "train/1/d.jpg", tmp_path / "val/0/short.jpg"):
        path.unlink()  # of a size that no other has: never opened
    groups = identical_files(splits, 2)
    assert [[s.ids[i] for s, i in group] for group in groups] == [["train/0/a.jpg", "val/1/b.jpg"]]
    assert len(read) == 3, "c ends alike and is read whole"
