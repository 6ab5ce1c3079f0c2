"""Splitting a dataset: shares, whole groups, a true manifest, nothing half-written."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import QUICK_AUDIT, manifest_of

import prepare_dataset
from common.audit.dataset import audit, summarise
from common.data.folders import scan_split
from common.preparation import new_dataset
from common.preparation.shares import Shares
from common.preparation.split import assign, plan_split, write_split
from common.system.errors import InputError


def test_shares_and_grades_are_met_and_groups_stay_whole():
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 900, 1500)
    labels = generator.choice(5, 1500, p=[0.6, 0.1, 0.2, 0.06, 0.04])[groups]
    shares = Shares(val=0.15, test=0.25)
    chosen = assign(labels, groups, shares, 0)
    for grade in range(5):
        mine = chosen[labels == grade]
        assert abs(np.mean(mine == "val") - 0.15) < 0.05, grade
        assert abs(np.mean(mine == "test") - 0.25) < 0.05, grade
    assert all(len(set(chosen[groups == group])) == 1 for group in np.unique(groups))
    assert (chosen == assign(labels, groups, shares, 0)).all()
    assert (chosen != assign(labels, groups, shares, 1)).any()


def test_cal_gets_its_share_of_every_grade_and_leaves_a_split_without_it_as_it_was(audited):
    generator = np.random.default_rng(0)
    labels, groups = generator.integers(0, 5, 1000), np.arange(1000) // 2
    chosen = assign(labels, groups, Shares(0.15, 0.15, cal=0.1), 0)
    for grade in range(5):
        mine = chosen[labels == grade]
        assert (
            abs(np.mean(mine == "cal") - 0.1) < 0.05 and abs(np.mean(mine == "val") - 0.15) < 0.05
        )
    assert all(len(set(chosen[groups == group])) == 1 for group in np.unique(groups))
    assert plan_split(audited, Shares(0.2, 0.2), 0).places.count("cal") == 0


def test_a_cal_that_lacks_a_grade_is_refused_unless_it_is_wanted(demo, tmp_path, capsys):
    for grade in range(5):
        (tmp_path / "d" / str(grade)).mkdir(parents=True)
        for path in sorted((demo / "train" / str(grade)).iterdir())[: 3 if grade == 4 else 7]:
            shutil.copy(path, tmp_path / "d" / str(grade))
    words = ["split", str(tmp_path / "d"), str(tmp_path / "new"), "--cal", "0.2"]
    words += ["--val", "0.2", "--test", "0.2", "--cache_dir", str(tmp_path / "c")]
    assert prepare_dataset.main(words) == 2
    said = capsys.readouterr().err
    assert "has no picture of grade 4 (3 pictures of grade 4 are 3 independent groups)" in said
    assert prepare_dataset.main([*words, "--allow_uneven"]) == 0
    assert "\ncal: " not in capsys.readouterr().out.replace("Z  cal: ", ""), "once, with its counts"
    assert len(scan_split(tmp_path / "new", "cal")) >= 4


@pytest.mark.parametrize("way", ["copy", "hardlink", "symlink"])
def test_a_split_has_no_leak_and_its_manifest_is_true(audited, tmp_path, way):
    plan = plan_split(audited, Shares(0.2, 0.2), 0)
    counts = write_split(audited, plan, tmp_path / "new", way)
    found = audit(tmp_path / "new", QUICK_AUDIT)
    assert not found.leaks and sum(counts.values()) == len(found.entries)
    assert all(len(scan_split(tmp_path / "new", name)) for name in ("train", "val", "test"))
    rows = manifest_of(tmp_path / "new")
    assert len(rows) == len(audited.entries)
    left_out = {row["left_out_because"] for row in rows if row["split"] == "left out"}
    assert left_out == {"not_image", "one picture with grades 3 and 4"}
    for row in (row for row in rows if row["file"]):
        file = tmp_path / "new" / row["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        assert file.parent.name == row["grade"] and file.parts[-3] == row["split"]
        assert file.is_symlink() == (way == "symlink")
    group = {Path(row["source"]).name: row["group"] for row in rows}
    assert group["7_left.jpg"] == group["7_right.jpg"]


def test_nothing_half_written_is_left(audited, tmp_path, monkeypatch):
    plan = plan_split(audited, Shares(0.2, 0.2), 0)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(new_dataset._WAYS, "copy", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_split(audited, plan, tmp_path / "new", "copy")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        write_split(audited, plan, tmp_path / "old", "hardlink")
    assert (tmp_path / "old" / "file").read_text() == "x"


def split_slowly(words):
    """Split a dataset, a file every tenth of a second."""

    def copy(source, target):
        time.sleep(0.1)
        return shutil.copyfile(source, target)

    new_dataset._WAYS["copy"] = copy
    os._exit(prepare_dataset.main(words))


def wait_for_a_file(folder):
    """Wait until a split that is being written under a folder has its first picture."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for hidden in folder.glob(".new.*.part"):
            if next(hidden.rglob("*.jpg"), None):
                return hidden
        time.sleep(0.02)
    raise AssertionError("no picture was written")


def test_a_killed_split_leaves_nothing_that_the_next_one_does_not_remove(demo, tmp_path, capsys):
    words = ["split", str(demo / "val"), str(tmp_path / "new"), "--num_workers", "1"]
    words += ["--cache_dir", str(tmp_path / "c")]
    child = multiprocessing.get_context("fork").Process(target=split_slowly, args=(words,))
    child.start()
    hidden = wait_for_a_file(tmp_path)
    new_dataset.remove_leftovers(tmp_path / "new")
    assert hidden.is_dir() and child.is_alive(), "one that is being written is left alone"
    assert "another process is writing" in capsys.readouterr().out
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL and hidden.is_dir()
    of_another = tmp_path / ".new.12345678.part"
    of_another.mkdir()
    (of_another / "thesis.txt").write_text("x")
    assert prepare_dataset.main(words) == 0
    assert f"removed {hidden}, left by a command that was killed" in capsys.readouterr().out
    assert not hidden.exists() and (of_another / "thesis.txt").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [of_another.name, "c", "new"]
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["manifest.csv", "test", "train", "val"]


@pytest.mark.parametrize(
    "shares",
    [(0, 0), (0.5, 0.5), (-0.1, 0.2), (float("nan"), 0.1), (0.4, 0.4, 0.3), (0.1, 0.1, -0.1)],
)
def test_impossible_shares_are_refused(audited, shares):
    with pytest.raises(InputError, match="--val, --test and --cal"):
        plan_split(audited, Shares(*shares), 0)


def test_equal_names_of_two_splits_do_not_collide(demo, tmp_path):
    for split in ("train", "val"):
        for grade in range(5):
            folder = tmp_path / "d" / split / str(grade)
            folder.mkdir(parents=True)
            for number, path in enumerate(sorted((demo / split / str(grade)).iterdir())[:4]):
                shutil.copy(path, folder / f"{number}.jpg")
    found = audit(tmp_path / "d", QUICK_AUDIT)
    counts = write_split(found, plan_split(found, Shares(0.2, 0), 1), tmp_path / "new", "copy")
    assert sum(counts.values()) == 40 == len(list((tmp_path / "new").rglob("*.jpg")))
    assert not (tmp_path / "new" / "test").exists()


def renamed(demo, target, name):
    """Put the demo's val and test images, 8 of each grade, into graded folders under new names."""
    for grade in range(5):
        (target / str(grade)).mkdir(parents=True)
        pictures = [
            p for split in ("val", "test") for p in sorted((demo / split / str(grade)).iterdir())
        ]
        for n, path in enumerate(pictures):
            shutil.copy(path, target / str(grade) / name(grade, n))
    return audit(target, QUICK_AUDIT)


def test_pictures_that_windows_has_numbered_are_not_taken_for_copies(demo, tmp_path):
    words = ("No DR", "Mild", "Moderate", "Severe", "PDR")
    found = renamed(demo, tmp_path / "d", lambda grade, n: f"{words[grade]} ({n + 1}).jpg")
    assert len(set(found.related.units)) == 40 and "augmented_copies" not in summarise(found)
    assert found.notes[0].startswith("40 names look like those of copies, but the pictures differ")
    plan = plan_split(found, Shares(0.2, 0.2), 0)
    assert not plan.uneven
    counts = Counter(zip(plan.places, (entry.label for entry in found.entries)))
    assert all(counts[part, grade] for part in ("train", "val", "test") for grade in range(5))


@pytest.mark.parametrize("scheme", ["{n}_{eye}1.jpg", "{n:04}_{number}.jpg", "{n}.{number}.jpg"])
def test_patients_of_every_scheme_stay_in_one_part(demo, tmp_path, scheme):
    def name(grade, n):
        return scheme.format(n=4 * grade + n // 2, eye="lr"[n % 2], number=n % 2 + 1)

    found = renamed(demo, tmp_path / "d", name)
    assert found.related.patients.evidence.startswith("20 patients in 40 names by ")
    plan = plan_split(found, Shares(0.2, 0.2), 0)
    parts = {}
    for entry, part in zip(found.entries, plan.places):
        parts.setdefault(entry.path.name.replace(".", "_").split("_")[0], set()).add(part)
    assert len(parts) == 20 and all(len(part) == 1 for part in parts.values())
    assert set.union(*parts.values()) == {"train", "val", "test"}


def test_a_split_that_would_lack_a_grade_is_refused_unless_it_is_wanted(demo, tmp_path, capsys):
    for grade in range(5):
        (tmp_path / "d" / str(grade)).mkdir(parents=True)
        for n, path in enumerate(sorted((demo / "train" / str(grade)).iterdir())[:4]):
            name = f"patient{'9' if grade == 4 else f'{grade}{n}'}_{n}.jpg"
            shutil.copy(path, tmp_path / "d" / str(grade) / name)
    shutil.copy(tmp_path / "d/0/patient00_0.jpg", tmp_path / "d/0/patient00_1.jpg")
    words = [
        "split",
        str(tmp_path / "d"),
        str(tmp_path / "new"),
        "--cache_dir",
        str(tmp_path / "c"),
    ]
    assert prepare_dataset.main(words) == 2
    said = capsys.readouterr().err
    assert "has no picture of grade 4 (one group holds 4 of 4 pictures of grade 4)" in said
    assert "--allow_uneven" in said and not (tmp_path / "new").exists()
    assert prepare_dataset.main([*words, "--allow_uneven"]) == 0
    said = capsys.readouterr().out
    assert "WARNING: val has no picture of grade 4" in said or "WARNING: test has no" in said
    assert "17 patients in 21 names by 'patient n', each in one split" in said
