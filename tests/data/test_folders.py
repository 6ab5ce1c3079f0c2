"""Graded folders: which images and labels are listed, and what is refused."""

import shutil

import numpy as np
import pytest
from PIL import Image

from common.data.folders import scan_split
from common.pixels import pixel_cache
from common.system.errors import InputError


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
    monkeypatch.setattr(pixel_cache, "load_picture", fail)
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


def test_labels_are_part_of_the_fingerprint(images):
    rename(images, list("edcba"))
    one = scan_split(images, "val", 5, tuple("edcba"))
    other = scan_split(images, "val", 5, tuple("abcde"))
    assert one.ids == other.ids and one.fingerprint() != other.fingerprint()
