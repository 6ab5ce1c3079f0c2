"""The short check before training: what names and bytes tell about copies and patients."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from common.audit.leakage import training_warnings
from common.config import TrainConfig
from common.data.folders import scan_dataset


def test_training_is_warned_in_a_few_lines(demo, tmp_path):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    picture = next((root / "train" / "1").iterdir())
    shutil.copy(picture, root / "test" / "1" / "7_left.jpg")
    shutil.copy(picture, root / "train" / "2" / "7_right.jpg")
    said = "\n".join(training_warnings(TrainConfig(), scan_dataset(root)))
    assert "1 patient has images in two splits" in said
    assert "byte-identical files in two splits" in said and "with different grades" in said
    shutil.rmtree(root / "test" / "0")
    assert "not looked for" in "\n".join(training_warnings(TrainConfig(), scan_dataset(root)))
    clean = scan_dataset(demo)
    assert training_warnings(TrainConfig(), clean) == [
        "data check: grades balanced, no copies by name or bytes",
        "data check: looked at names, sizes and bytes, not at pictures; no patient recognised in "
        "87 names; eyes of one patient may lie in two splits",
    ]
    assert np.ptp([len(split) for split in clean.splits.values()]) > 0


def test_names_like_copies_are_called_that_and_numbers_are_not(demo, tmp_path):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    for split in ("train", "val", "test"):
        for n, path in enumerate(sorted((root / split / "1").iterdir())):
            path.rename(path.with_name(f"Mild ({100 * len(split) + n}).jpg"))
    said = "\n".join(training_warnings(TrainConfig(), scan_dataset(root)))
    assert "grades balanced, no copies" in said, "as Windows numbers pictures"
    first = next((root / "train" / "1").iterdir())
    first.rename(first.with_name("Mild.jpg"))
    said = "\n".join(training_warnings(TrainConfig(), scan_dataset(root)))
    assert "data check: 1 group of names like copies in two splits" in said


@pytest.mark.parametrize("other", ["train", "val", "test"])
def test_copies_in_cal_are_named_before_training(demo, tmp_path, other):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    for grade in range(5):
        (root / "cal" / str(grade)).mkdir(parents=True)
    twin = next((root / other / "2").iterdir())
    shutil.copy(twin, root / "cal" / "2" / "again.jpg")
    said = "\n".join(training_warnings(TrainConfig(), scan_dataset(root)))
    names = sorted((f"{other}/2/{twin.name}", "cal/2/again.jpg"))
    assert "1 groups of byte-identical files in two splits, such as" in said
    assert all(name in said for name in names)
