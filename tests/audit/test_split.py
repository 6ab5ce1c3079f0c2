import csv
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.audit import split as split_module
from common.audit.dataset import Settings, audit
from common.audit.split import _assign, plan_split, write_split
from common.data.folders import scan_split
from common.system.errors import InputError

QUICK = Settings(num_workers=2, shortcuts=False)


@pytest.fixture(scope="module")
def source(demo, tmp_path_factory):
    """The demo dataset with a patient, a copy and a doubted grade."""
    root = Path(shutil.copytree(demo, tmp_path_factory.mktemp("source") / "d"))
    first, second, third = sorted((root / "train" / "1").iterdir())[:3]
    first.rename(first.with_name("7_left.jpg"))
    second.rename(root / "val" / "1" / "7_right.jpg")
    shutil.copy(third, root / "test" / "1" / "copy.jpg")
    shutil.copy(next((root / "train" / "3").iterdir()), root / "train" / "4" / "doubted.jpg")
    (root / "train" / "0" / "notes.txt").write_text("x")
    return audit(root, QUICK)


def manifest(folder):
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_shares_and_grades_are_met_and_groups_stay_whole():
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 900, 1500)
    labels = generator.choice(5, 1500, p=[0.6, 0.1, 0.2, 0.06, 0.04])[groups]
    chosen = _assign(labels, groups, (0.15, 0.25), 0)
    for grade in range(5):
        mine = chosen[labels == grade]
        assert abs(np.mean(mine == "val") - 0.15) < 0.05, grade
        assert abs(np.mean(mine == "test") - 0.25) < 0.05, grade
    assert all(len(set(chosen[groups == group])) == 1 for group in np.unique(groups))
    assert (chosen == _assign(labels, groups, (0.15, 0.25), 0)).all()
    assert (chosen != _assign(labels, groups, (0.15, 0.25), 1)).any()


@pytest.mark.parametrize("way", ["copy", "hardlink", "symlink"])
def test_a_split_has_no_leak_and_its_manifest_is_true(source, tmp_path, way):
    plan = plan_split(source, 0.2, 0.2, 0)
    counts = write_split(source, plan, tmp_path / "new", way)
    found = audit(tmp_path / "new", QUICK)
    assert not found.leaks and sum(counts.values()) == len(found.entries)
    assert all(len(scan_split(tmp_path / "new", name)) for name in ("train", "val", "test"))
    rows = manifest(tmp_path / "new")
    assert len(rows) == len(source.entries)
    left_out = {row["left_out_because"] for row in rows if row["split"] == "left out"}
    assert left_out == {"not_image", "one picture with grades 3 and 4"}
    for row in (row for row in rows if row["file"]):
        file = tmp_path / "new" / row["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        assert file.parent.name == row["grade"] and file.parts[-3] == row["split"]
        assert file.is_symlink() == (way == "symlink")
    group = {Path(row["source"]).name: row["group"] for row in rows}
    assert group["7_left.jpg"] == group["7_right.jpg"]


def test_nothing_half_written_is_left(source, tmp_path, monkeypatch):
    plan = plan_split(source, 0.2, 0.2, 0)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(split_module._WAYS, "copy", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_split(source, plan, tmp_path / "new", "copy")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        write_split(source, plan, tmp_path / "old", "hardlink")
    assert (tmp_path / "old" / "file").read_text() == "x"


@pytest.mark.parametrize("shares", [(0, 0), (0.5, 0.5), (-0.1, 0.2), (float("nan"), 0.1)])
def test_impossible_shares_are_refused(source, shares):
    with pytest.raises(InputError, match="--val and --test"):
        plan_split(source, *shares, 0)


def test_equal_names_of_two_splits_do_not_collide(demo, tmp_path):
    for split in ("train", "val"):
        for grade in range(5):
            folder = tmp_path / "d" / split / str(grade)
            folder.mkdir(parents=True)
            for number, path in enumerate(sorted((demo / split / str(grade)).iterdir())[:4]):
                shutil.copy(path, folder / f"{number}.jpg")
    found = audit(tmp_path / "d", QUICK)
    counts = write_split(found, plan_split(found, 0.2, 0, 1), tmp_path / "new", "copy")
    assert sum(counts.values()) == 40 == len(list((tmp_path / "new").rglob("*.jpg")))
    assert not (tmp_path / "new" / "test").exists()
