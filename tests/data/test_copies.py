"""Files that belong together: by their bytes, and by what their names say."""

import pytest

from common.data import copies
from common.data.copies import copy_groups, identical_files, source_name
from common.data.folders import scan_split


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("10_left.jpeg", "10_left"),
        ("10_left_aug1.jpeg", "10_left"),
        ("10_left_aug1_flip.png", "10_left"),
        ("10_left_rot90_bright_2.png", "10_left"),
        ("aug_3_10_left.png", "3_10_left"),
        ("IDRiD_001.jpg", "IDRiD_001"),
        ("photo (2).jpg", "photo"),
        ("photo - Copy.jpg", "photo"),
        ("aug1.jpg", "aug1"),
        ("_aug1.jpg", "_aug1"),
        ("macula.jpg", "macula"),
        ("Mild - Copy (2).jpg", "Mild"),
        ("Copy of Mild.jpg", "Mild"),
        ("Mild - Kopie.jpg", "Mild"),
        ("x_copy2.png", "x"),
        ("scan_rot_3.jpg", "scan"),
        ("scan_flip_h.jpg", "scan"),
        ("10_left_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "10_left"),
        ("1_original_7_left.jpeg_0a1b2c3d-0000-1111-2222-333344445555.jpeg", "7_left"),
        ("img_1.jpg", "img_1"),
        ("(1).jpg", "(1)"),
        ("rot.jpg", "rot"),
        ("carrot.jpg", "carrot"),
    ],
)
def test_a_copy_s_source_is_read_from_its_name(name, source):
    assert source_name(name) == source


def test_copies_are_grouped_with_their_source():
    ids = ["train/0/a.jpg", "test/0/a_aug1.jpg", "train/0/b.jpg", "val/1/b.png", "train/2/c.jpg"]
    groups = copy_groups(ids)
    assert groups[0] == groups[1] and len(set(groups)) == 4, "equal names alone are no copies"
    numbered = ["0/1.jpg", "1/1.jpg", "0/1_aug1.jpg", "1/1_aug1.jpg"]
    groups = copy_groups(numbered)
    assert groups[0] == groups[2] != groups[1] == groups[3]
    assert copy_groups([]).size == 0


def test_a_bare_number_marks_a_copy_where_there_is_a_file_without_it():
    of_1 = ["0/1.jpg", "0/1_1.jpg", "0/1 2.jpg", "0/1 (3).jpg", "0/1_1_aug2.jpg", "0/1 - Copy.jpg"]
    assert len(set(copy_groups([*of_1, "0/2_1.jpg", "0/3 2.jpg", "0/img_1.jpg"]))) == 4
    numbered = ["1/Mild (1).jpg", "1/Mild (2).jpg", "2/Mild (2).jpg"]
    assert len(set(copy_groups(numbered))) == 1, "they may be; the pictures tell"
    assert len(set(copy_groups(numbered, bare_numbers=False))) == 3, "names alone do not"
    assert len(set(copy_groups([*numbered, "1/Mild.jpg"], bare_numbers=False))) == 1


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
    assert [[image.id for image in group] for group in groups] == [["train/0/a.jpg", "val/1/b.jpg"]]
    assert len(read) == 3, "c ends alike and is read whole"
