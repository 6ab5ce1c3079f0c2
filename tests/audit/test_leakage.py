"""The short check before training: what names and bytes tell about copies and patients."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from common.audit.leakage import training_warnings
from common.data.copies import copy_groups, patients, source_name
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


def test_patients_without_a_match_are_their_own():
    groups = patients(["a/1_left.jpg", "b/1_right.jpg", "b/x.jpg"], r"(\d+)_(left|right)")
    assert groups[0] == groups[1] != groups[2]
    assert patients(["x.jpg", "y.jpg"], r"(\d+)_(left|right)").tolist() == [0, 1]


def test_training_is_warned_in_a_few_lines(demo, tmp_path):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    picture = next((root / "train" / "1").iterdir())
    shutil.copy(picture, root / "test" / "1" / "7_left.jpg")
    shutil.copy(picture, root / "train" / "2" / "7_right.jpg")
    splits = [scan_split(root, name) for name in ("train", "val")]
    said = "\n".join(training_warnings(root, splits, (), 5))
    assert "1 patients have images in two splits" in said
    assert "byte-identical files in two splits" in said and "with different grades" in said
    shutil.rmtree(root / "test" / "0")
    assert "not looked for" in "\n".join(training_warnings(root, splits, (), 5))
    clean = [scan_split(demo, name) for name in ("train", "val")]
    assert training_warnings(demo, clean, (), 5) == [
        "data check: grades balanced, no copies by name or bytes"
    ]
    assert np.ptp([len(split) for split in clean]) > 0
