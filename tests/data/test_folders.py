"""Graded folders: which images and labels are listed, and what is refused."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.folders import scan_dataset, scan_split
from common.listing.picture_files import IMAGE_SUFFIXES
from common.pixel_store import filling
from common.prediction.classes import SetMatcher
from common.system.errors import InputError
from common.system.random_streams import random_generator


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
    monkeypatch.setattr(filling, "load_picture", fail)
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
    with pytest.raises(InputError, match=r"found none; rename them .*; check --dataset_path"):
        scan_split(tmp_path, "train")
    for grade in range(5):
        (tmp_path / "train" / str(grade)).mkdir(parents=True)
    with pytest.raises(InputError, match="found none; there is no other file, either"):
        scan_split(tmp_path, "train")
    with pytest.raises(InputError, match=r"folder val or valid or .*found the folder train; check"):
        scan_split(tmp_path, "val")


def test_graded_folders_without_splits_are_a_test_set(images):
    assert len(scan_split(images / "val", "test")) == 20
    with pytest.raises(InputError, match=r"folder train .* 0 1 2 3 4; prepare_dataset.py split"):
        scan_split(images / "val", "train")


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


# -- the usual names of splits -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "folder"),
    [
        ("train", "Train"),
        ("train", "TRAINING"),
        ("train", "Training Set"),
        ("val", "Val"),
        ("val", "valid"),
        ("val", "Validation"),
        ("val", "dev"),
        ("val", "validation_set"),
        ("cal", "Cal"),
        ("cal", "calib"),
        ("cal", "Calibration Set"),
        ("test", "TEST"),
        ("test", "testing"),
        ("test", "Test-Set"),
        ("test", "testset"),
    ],
)
def test_the_usual_names_of_splits_are_known(images, split, folder):
    if split == "cal":
        (images / "val").rename(images / "cal")
    before = scan_split(images, split)
    (images / split).rename(images / folder)
    found = scan_split(images, split)
    assert found.name == split and {image.split for image in found.images} == {split}
    assert found.ids == tuple(f"{folder}/{id_.partition('/')[2]}" for id_ in before.ids)
    assert np.array_equal(found.labels, before.labels) and not scan_dataset(images).unused


@pytest.mark.parametrize("folder", ["calibration", "calib", "cal"])
@pytest.mark.parametrize("file", ["camera.json", "board.png", "camera_1/board.png", "2/lens.txt"])
def test_a_folder_of_calibration_files_is_no_split_and_said_to_be_unused(images, folder, file):
    (images / folder / file).parent.mkdir(parents=True)
    (images / folder / file).write_bytes(b"x")
    dataset = scan_dataset(images)
    assert not dataset.has("cal") and set(dataset.splits) == {"train", "val", "test"}
    assert [unused.id for unused in dataset.unused] == [f"{folder}/{file}"]
    assert f"in {folder}/: no class folder with pictures, so not the split cal" in (
        "\n".join(dataset.remarks())
    )


def test_cal_beside_calibration_files_is_the_split(images):
    shutil.copytree(images / "val", images / "cal")
    (images / "calibration").mkdir()
    (images / "calibration" / "board.png").write_bytes(b"x")
    dataset = scan_dataset(images)
    assert len(dataset.split("cal")) == len(dataset.split("val")) and len(dataset.unused) == 1
    shutil.copytree(images / "val", images / "calibration", dirs_exist_ok=True)
    with pytest.raises(InputError, match="found cal and calibration;"):
        scan_dataset(images)


@pytest.mark.parametrize("names", [("No_DR", "Mild"), ("0",), ("class_0",)])
def test_a_cal_whose_class_folders_are_not_all_there_is_refused_where_it_is_asked_for(
    images, names
):
    for name in names:
        shutil.copytree(images / "val" / "0", images / "cal" / name)
    with pytest.raises(InputError, match="cal"):
        scan_dataset(images).split("cal")


def test_two_folders_for_one_split_are_refused(images):
    shutil.copytree(images / "val", images / "Valid")
    with pytest.raises(InputError, match=f"one folder for val in {images}, found Valid and val;"):
        scan_split(images, "train")


def test_ids_and_fingerprint_of_a_plain_dataset_are_as_they_ever_were(tmp_path):
    for grade in range(5):
        (tmp_path / "train" / str(grade)).mkdir(parents=True)
    (tmp_path / "train" / "3" / "b.jpg").write_bytes(b"12345")
    (tmp_path / "train" / "0" / "a b.PNG").write_bytes(b"123")
    split = scan_split(tmp_path, "train")
    lines = b"train/0/a b.PNG 0 3\ntrain/3/b.jpg 3 5"
    assert split.ids == ("train/0/a b.PNG", "train/3/b.jpg")
    assert split.fingerprint() == hashlib.sha256(lines).hexdigest()[:16]


# -- what is read ------------------------------------------------------------------------------


def test_every_ending_that_the_decoder_reads_is_listed_in_any_case(images):
    before = len(scan_split(images, "val"))
    for suffix in IMAGE_SUFFIXES:
        for number, spelled in enumerate((suffix, suffix.upper(), suffix.title())):
            (images / "val" / "2" / f"{number}{spelled}").write_bytes(b"x")
    assert len(scan_split(images, "val")) == before + 3 * len(IMAGE_SUFFIXES) > before + 50
    assert not scan_dataset(images).unused


def test_pictures_in_subfolders_of_a_class_are_read_and_said(images):
    inner = images / "val" / "1" / "clinic é" / "left"
    inner.mkdir(parents=True)
    moved = next((images / "val" / "1").glob("*.jpg")).rename(inner / "a.jpg")
    dataset = scan_dataset(images)
    split = dataset.split("val")
    assert len(split) == 20 and split.counts(5) == [4] * 5
    [image] = [image for image in split.images if image.path == moved]
    assert (image.id, image.label) == ("val/1/clinic é/left/a.jpg", 1)
    assert image.class_folder == "1" and not dataset.unused
    [line] = dataset.remarks()
    assert line.startswith("note: 1 picture in subfolders of class folders, used with the grade")


@pytest.mark.parametrize("name", ["2", "train", "Valid", "Severe NPDR"])
def test_a_subfolder_that_is_called_like_a_class_or_a_split_is_refused(images, name):
    inner = images / "val" / "1" / "more" / name
    inner.mkdir(parents=True)
    assert len(scan_split(images, "val")) == 20, "an empty one does no harm"
    next((images / "val" / "1").glob("*.jpg")).rename(inner / "a.jpg")
    with pytest.raises(InputError, match=f"is its grade that of 1 or of {name}, or is {name} a"):
        scan_split(images, "val")


def test_a_class_folder_unpacked_into_itself_is_no_doubt(images):
    (images / "val" / "1" / "1").mkdir()
    next((images / "val" / "1").glob("*.jpg")).rename(images / "val" / "1" / "1" / "a.jpg")
    assert scan_split(images, "val").counts(5) == [4] * 5


def test_class_folders_and_pictures_may_be_links(images, tmp_path):
    before = scan_split(images, "val")
    (images / "val" / "1").rename(tmp_path / "elsewhere")
    (images / "val" / "1").symlink_to(tmp_path / "elsewhere")
    (images / "val" / "2").rename(tmp_path / "pictures")
    (images / "val" / "2").mkdir()
    for path in (tmp_path / "pictures").iterdir():
        (images / "val" / "2" / path.name).symlink_to(path)
    assert scan_split(images, "val").fingerprint() == before.fingerprint()


def test_links_in_a_circle_end(images):
    before = scan_dataset(images)
    (images / "val" / "1" / "up").symlink_to(images / "val")
    (images / "val" / "1" / "self").symlink_to("self")
    (images / "extra").mkdir()
    (images / "extra" / "round").symlink_to(images)
    (images / "more").symlink_to(images)
    (images / "val" / "here").symlink_to(images / "val")
    dataset = scan_dataset(images)
    assert dataset.splits == before.splits
    assert [file.id for file in dataset.unused] == ["val/1/self"]
    assert "links that lead nowhere" in dataset.remarks()[0] and dataset.unused_pictures == 1


def test_all_links_that_lead_nowhere_are_counted(images):
    for name in ("a.jpg", "b.jpg"):
        (images / "val" / "1" / name).symlink_to("nowhere")
    (images / "val" / "1" / "c.jpg").symlink_to("c.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: the link leads nowhere.* \(3 such links\)"):
        scan_split(images, "val")
    assert len(scan_split(images, "test")) == 20, "another split does not suffer"


# -- what is passed over, and what is named ----------------------------------------------------


def test_what_systems_leave_behind_is_passed_over(images):
    for folder in (images, images / "val", images / "val" / "1"):
        for name in (
            ".DS_Store",
            "Thumbs.db",
            "desktop.ini",
            "._eye.jpg",
            "eye.jpg:Zone.Identifier",
        ):
            (folder / name).write_bytes(b"x")
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN"):
            (folder / name).mkdir()
            (folder / name / "eye.jpg").write_bytes(b"x")
    for name in ("manifest.csv", "metadata.csv"):
        (images / name).write_text("x")
    dataset = scan_dataset(images)
    assert len(dataset.split("val")) == 20 and not dataset.unused and not dataset.remarks()


def test_results_of_this_software_in_a_dataset_are_passed_over(images):
    for marks in (
        "audit.json findings.csv",
        "config.json models/x.pth",
        "pixels.u8 index.json",
        "cache/signatures-1/a.records cache/unreadable_val.txt",
        "store/48/settings.json store/48/shard-1.rows store/notes.json",
        "pixels/48/pixels.u8 pixels/48/index.json pixels/notes.json",
        "external_results/a/results/predictions_test.npz",
    ):
        folder = images / marks.partition(".")[0].partition("/")[0]
        marks = marks.replace(f"{folder.name}/", "")
        for mark in marks.split():
            (folder / mark).parent.mkdir(parents=True, exist_ok=True)
            (folder / mark).write_bytes(b"x")
            Image.new("RGB", (8, 8)).save((folder / mark).parent / "sheet.png")
    assert not scan_dataset(images).unused
    shutil.move(images / "audit", images / "val")
    assert len(scan_split(images, "val")) == 20


def test_a_folder_with_some_config_is_not_taken_for_ours(images):
    (images / "extra").mkdir()
    (images / "extra" / "config.json").write_text("{}")
    Image.new("RGB", (8, 8)).save(images / "extra" / "eye.png")
    assert scan_dataset(images).unused_pictures == 1


def test_everything_else_is_counted_and_named(images):
    def put(name, content=b"x"):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    jpeg = next((images / "val" / "1").glob("*.jpg")).read_bytes()
    for name in ("extra/0/a.jpg", "extra/0/b.jpg", "extra/notes.txt", "loose.jpg", "val/loose.JPG"):
        put(name)
    put("val/1/eye", jpeg)  # a picture without an ending
    put("val/1/eye.jpg_original", jpeg)
    put("val/1/eye.heic", b"\0\0\0\x18ftypheic")
    for name in ("val/1/notes.txt", "val/2/list.csv", "val/more/readme.md", "archive.zip"):
        put(name)
    dataset = scan_dataset(images)
    assert len(dataset.split("val")) == 20 and len(dataset.all_images()) == 87
    assert dataset.unused_pictures == 7 and len(dataset.unused) == 12
    said = "\n".join(dataset.remarks())
    for line in (
        "not used: 3 pictures (1 no ending, 1 .heic, 1 .jpg_original) in the class folders of "
        "val/: pictures under an ending that is not read; convert or rename them, such as val/1/",
        "not used: 2 pictures and 1 other file (2 .jpg, 1 .txt) in extra/: no split has that name, "
        "such as extra/0/a.jpg, extra/0/b.jpg",
        "not used: 1 picture (1 .jpg) in val/: in no class folder, such as val/loose.JPG",
        "not used: 1 picture (1 .jpg) in the dataset's own folder: in no class folder, such as "
        "loose.jpg",
        "not used: 2 files (1 .txt, 1 .csv) in the class folders of val/: no pictures, going by "
        "their endings, such as val/1/notes.txt, val/2/list.csv",
        "not used: 1 file (1 .md) in val/more/: no class has that name, such as val/more/readme.md",
        "not used: 1 file (1 .zip) in the dataset's own folder: no pictures, going by their ending",
    ):
        assert line in said


def test_many_places_are_cut_short_with_a_count(images):
    for number in range(11):
        (images / f"extra{number}").mkdir()
        (images / f"extra{number}" / "a.jpg").write_bytes(b"x")
    lines = scan_dataset(images).remarks()
    assert len(lines) == 10 and lines[8] == "not used: 3 pictures (3 .jpg) in 3 more places"
    assert "audit.json" in lines[9]


def test_strange_names_reach_no_terminal(images):
    (images / "extra\x1b[31m\n").mkdir()
    (images / "extra\x1b[31m\n" / "a\udcff.jpg").write_bytes(b"x")
    [line] = scan_dataset(images).remarks()
    assert "extra\\x1b[31m\\n/" in line and "a\\udcff.jpg" in line and line.isprintable()


# -- what cannot be listed ---------------------------------------------------------------------


def test_a_split_that_cannot_be_listed_does_not_stop_the_others(images):
    for path in (images / "test").glob("*/*.jpg"):  # as competitions give it: without grades
        path.rename(images / "test" / path.name)
    for grade in range(5):
        (images / "test" / str(grade)).rmdir()
    dataset = scan_dataset(images)
    assert len(dataset.split("train")) == 47 and dataset.has("test")
    with pytest.raises(InputError, match=r"the class folders .* 20 files \(20 \.jpg\)"):
        dataset.split("test")
    with pytest.raises(InputError, match="expected the class folders"):
        dataset.all_images()
    assert (
        dataset.unused_pictures == 20 and "20 pictures (20 .jpg) in test/" in dataset.remarks()[0]
    )


def test_found_none_says_what_was_found(tmp_path):
    for name in ("DR", "NoDR", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "labels.csv").write_text("x")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        scan_dataset(tmp_path)
    said = str(caught.value)
    assert said.startswith(
        f"no split folders (train, val, cal, test) in {tmp_path}; expected the class"
    )
    assert "found DR NoDR other; rename" in said and "holds 2 files (1 .jpg, 1 .csv)" in said
    assert "if labels.csv holds the grades, make class folders of it: python prepare_" in said


@pytest.mark.parametrize("inside", ["", "val"], ids=["splits", "classes"])
def test_a_dataset_further_down_is_named(images, tmp_path, inside):
    deep = tmp_path / "data" / "v2"
    deep.mkdir(parents=True)
    (images / inside).rename(deep / "eyes")
    shutil.rmtree(images, ignore_errors=True)
    with pytest.raises(InputError, match=f"a dataset seems to lie in {deep / 'eyes'}: pass that"):
        scan_split(tmp_path, "train")


def test_class_folders_without_a_picture_say_what_lies_there(images):
    for path in (images / "val").glob("*/*.jpg"):
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(InputError, match=r"found none; not used: 20 .*\(20 \.txt\)"):
        scan_split(images, "val")


def test_a_path_that_is_no_folder_is_named(images, monkeypatch):
    with pytest.raises(InputError, match=r"found the file .*prepare_dataset.py import"):
        scan_dataset(next((images / "val" / "1").glob("*.jpg")))
    with pytest.raises(InputError, match=r"images ', found no such folder.* the folder images;"):
        scan_dataset(images.with_name("images "))
    monkeypatch.setenv("HOME", str(images.parent))
    with pytest.raises(InputError, match=rf"expected a dataset in ~/images.*write {images}"):
        scan_dataset(Path("~/images"))
    with pytest.raises(
        InputError, match="expected a dataset in '~nobody-of-this-name/d', found no"
    ):
        scan_dataset(Path("~nobody-of-this-name/d"))


def test_a_folder_that_cannot_be_read_is_named(images, monkeypatch):
    def refuse(folder):
        if str(folder).endswith("val/1") or str(folder).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    (images / "secret").mkdir()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refuse)
    dataset = scan_dataset(images)
    with pytest.raises(InputError, match=r"val/1: the folder cannot be listed \(Permission"):
        dataset.split("val")
    assert any("secret: the folder cannot be listed" in line for line in dataset.remarks())


def test_class_folders_that_differ_in_case_alone_are_refused(images):
    rename(images, ["No_DR", "Mild", "Moderate", "Severe", "PDR"])
    shutil.copytree(images / "val" / "Mild", images / "val" / "mild")
    with pytest.raises(InputError, match=r"expected the class folders.* (Mild|mild)"):
        scan_split(images, "val")
    names = ("No_DR", "Mild", "Moderate", "Severe", "PDR")
    with pytest.raises(InputError, match="found images in mild, too"):
        scan_split(images, "val", 5, names)


def test_hidden_and_odd_folders_above_a_dataset_do_not_matter(images, tmp_path, monkeypatch):
    root = tmp_path / ".hidden" / "__MACOSX" / "a [b] é"
    root.mkdir(parents=True)
    moved = images.rename(root / "test")
    assert len(scan_split(moved, "train")) == 47
    monkeypatch.chdir(moved)
    (moved / "loose.jpg").write_bytes(b"x")
    dataset = scan_dataset(Path())
    assert dataset.split("train").ids == scan_split(moved, "train").ids
    assert [file.id for file in dataset.unused] == ["loose.jpg"]


def test_a_split_unpacked_into_itself_is_named(images):
    (images / "val" / "val").mkdir()
    for grade in range(5):
        (images / "val" / str(grade)).rename(images / "val" / "val" / str(grade))
    with pytest.raises(InputError, match=f"a dataset seems to lie in {images / 'val'}: pass that"):
        scan_split(images, "val")


def test_folders_may_lie_very_deep(images):
    deep = images / "val" / "1"
    for _ in range(1200):
        deep = deep / "a"
        deep.mkdir()
    try:
        shutil.copy(next((images / "val" / "2").glob("*.jpg")), deep / "a.jpg")
        assert scan_split(images, "val").counts(5) == [4, 5, 4, 4, 4]
    finally:  # too deep for what cleans up after tests
        subprocess.run(["rm", "-rf", str(images / "val" / "1" / "a")], check=True)


def test_each_file_of_any_tree_is_used_named_or_passed_over(tmp_path):
    generator = random_generator("trees", 3)
    folders = ["train", "Valid", "test", "0", "1", "2", "3", "4", "extra", "a b", ".hidden", "PDR"]
    files = ["a.jpg", "b.PNG", "notes.txt", "Thumbs.db", "noending", ".hidden.jpg", "labels.csv"]
    listed = 0
    for number in range(150):
        root = tmp_path / str(number)
        for split in ["train", "Valid", "."][: generator.integers(1, 4)]:
            for grade in range(5):
                (root / split / str(grade)).mkdir(parents=True, exist_ok=True)
        for _ in range(12):
            place = root.joinpath(*generator.choice(folders, generator.integers(0, 4)))
            place.mkdir(parents=True, exist_ok=True)
            (place / str(generator.choice(files))).write_bytes(b"x")
        try:
            dataset = scan_dataset(root)
        except InputError:
            continue
        if not dataset.splits:
            continue
        listed += 1
        images = [image.id for split in dataset.splits.values() for image in split.images]
        unused = [file.id for file in dataset.unused]
        passed = {"Thumbs.db", ".hidden", ".hidden.jpg"}
        there = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
        expected = [path.as_posix() for path in there if not passed & set(path.parts)]
        assert sorted(images + unused) == sorted(expected), number
    assert listed > 50


def test_folders_of_splits_and_classes_that_are_links_to_nowhere_are_named(images, tmp_path):
    shutil.rmtree(images / "val" / "3")
    (images / "val" / "3").symlink_to(tmp_path / "disk")
    for matcher in (None, SetMatcher(tuple("01234"))):  # evaluation can do without a folder
        with pytest.raises(InputError, match="val/3: the link leads nowhere; remove or mend it"):
            scan_split(images, "val", matcher=matcher)
    shutil.rmtree(images / "test")
    (images / "test").symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="test: the link leads nowhere; remove or mend it"):
        scan_dataset(images)


def test_many_folders_without_a_dataset_are_not_all_looked_at(tmp_path, monkeypatch):
    for number in range(700):
        (tmp_path / f"patient{number:03d}" / "visit").mkdir(parents=True)
    seen = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: seen.append(folder) or scandir(folder))
    with pytest.raises(InputError, match=r"found patient000 .* and 688 more; rename"):
        scan_dataset(tmp_path)
    assert len(seen) < 1100
