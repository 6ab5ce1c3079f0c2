"""Folds of a cross-validation: every picture once in val, a common test, nothing half-written."""

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import QUICK_AUDIT, manifest_of

import prepare_dataset
from common.audit.dataset import audit
from common.data.folders import scan_dataset
from common.data.metadata import Metadata, read_metadata
from common.preparation import new_dataset
from common.preparation.folds import _deal, fold_names, plan_folds, write_folds
from common.preparation.shares import Shares


@pytest.fixture(scope="module")
def folds(audited, tmp_path_factory):
    """Three folds with cal and test of that dataset."""
    target = tmp_path_factory.mktemp("folds") / "f"
    plan = plan_folds(audited, 3, Shares(test=0.2, cal=0.2), 0)
    assert not plan.uneven
    write_folds(audited, plan, 3, target, "hardlink")
    return target


def names_in(dataset, split):
    """Name the pictures of a split without the split's folder."""
    return {id_.partition("/")[2] for id_ in dataset.split(split).ids}


def test_each_picture_is_in_val_of_one_fold_and_in_train_of_the_others(folds):
    datasets = [scan_dataset(folds / name) for name in fold_names(3)]
    val = [names_in(dataset, "val") for dataset in datasets]
    everything = set.union(*val)
    assert sum(map(len, val)) == len(everything) > 40
    for dataset, mine in zip(datasets, val):
        assert names_in(dataset, "train") == everything - mine and not dataset.unused
        assert min(dataset.split("val").counts(5)) >= 2, "every grade"
    for common in ("cal", "test"):
        ids, sizes = zip(*((d.split(common).ids, d.split(common).fingerprint()) for d in datasets))
        assert len(set(ids)) == len(set(sizes)) == 1, "the same in all"
        assert min(datasets[0].split(common).counts(5)) >= 2
        assert not names_in(datasets[0], common) & everything


def test_a_fold_is_a_dataset_without_leaks_and_costs_no_space(folds, audited):
    found = audit(folds / "fold_2", QUICK_AUDIT)
    assert not found.leaks and set(found.counts) == {"train", "val", "cal", "test"}
    files = [{os.stat(path).st_ino for path in (folds / n).rglob("*.jpg")} for n in fold_names(3)]
    of_source = {os.stat(entry.path).st_ino for entry in audited.entries}
    assert files[0] == files[1] == files[2] < of_source, "links to the source's files"
    assert sorted(path.name for path in folds.iterdir()) == [*fold_names(3), "manifest.csv"]


def test_the_manifests_say_which_fold_s_val_a_picture_is_in(folds, audited):
    rows = manifest_of(folds)
    assert len(rows) == len(audited.entries)
    assert Counter(row["part"] for row in rows).keys() == {
        *("fold_1", "fold_2", "fold_3", "cal", "test", "left out")
    }
    for row in rows:
        assert bool(row["left_out_because"]) == (row["part"] == "left out") == (not row["file"])
        for name in fold_names(3) if row["file"] else ():
            split = row["part"] if row["part"] in ("cal", "test") else "train"
            split = "val" if row["part"] == name else split
            file = folds / name / split / row["file"]
            assert os.path.samefile(file, audited.dataset.root / row["source"])
    for number, name in enumerate(fold_names(3)):
        own = {row["source"]: row["split"] for row in manifest_of(folds / name)}
        assert [row["source"] for row in rows if row["part"] == name] == [
            source for source, split in own.items() if split == "val"
        ], number
    group = {Path(row["source"]).name: row["part"] for row in rows}
    assert group["7_left.jpg"] == group["7_right.jpg"], "one patient, one part"


def test_folds_hold_every_grade_and_no_group_is_cut():
    generator = np.random.default_rng(0)
    for count in (2, 3, 5, 10):
        for _ in range(20):
            patients = int(generator.integers(6 * count, 300))
            grade = generator.choice(5, patients, p=[0.5, 0.1, 0.2, 0.1, 0.1])
            grade[: 5 * count] = np.repeat(np.arange(5), count)  # as many as there are folds
            groups = np.repeat(np.arange(patients), generator.integers(1, 4, patients))
            labels = grade[groups]
            dealt = _deal(labels, groups, count, generator)
            assert len(np.unique(np.stack([groups, dealt]), axis=1).T) == patients
            table = np.zeros((count, 5))
            np.add.at(table, (dealt, labels), 1)
            assert table.min() >= 1 and np.ptp(table.sum(axis=1)) <= 6 + 0.1 * len(labels) / count


def test_no_fold_stays_empty_where_there_are_enough_groups():
    for count in (2, 5, 9):
        labels = np.array([0] * 30 + [1, 2, 2, 3, 4, 4, 4, 0])
        groups = np.array([0] * 30 + list(range(1, 9)))
        dealt = _deal(labels, groups, count, np.random.default_rng(count))
        assert set(dealt.tolist()) == set(range(count))


def test_the_seed_decides(audited):
    shares = Shares(test=0.2)
    first, again, other = (plan_folds(audited, 4, shares, seed).places for seed in (0, 0, 1))
    assert first == again != other
    assert "cal" not in first and set(first) == {*fold_names(4), "test", ""}
    everything = plan_folds(audited, 4, Shares(test=0.0), 0).places
    assert set(everything) == {*fold_names(4), ""}, "without a test set"


def test_nothing_half_written_is_left(audited, tmp_path, monkeypatch):
    plan, put, done = plan_folds(audited, 2, Shares(), 0), os.link, []

    def full_disk(*paths):
        done.append(paths)
        if len(done) == 100:  # in the second fold
            raise OSError(28, "No space left on device")
        put(*paths)

    monkeypatch.setitem(new_dataset._WAYS, "hardlink", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_folds(audited, plan, 2, tmp_path / "new", "hardlink")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def split(demo, tmp_path, capsys):
    """Split graded folders of few pictures: split(counts, *flags) -> status, output, errors."""

    def run(counts, *flags):
        root = tmp_path / "d"
        for grade, count in enumerate(counts):
            (root / str(grade)).mkdir(parents=True, exist_ok=True)
            for path in sorted((demo / "train" / str(grade)).iterdir())[:count]:
                shutil.copy(path, root / str(grade))
        words = ["split", str(root), str(tmp_path / "new"), "--cache_dir", str(tmp_path / "c")]
        status = prepare_dataset.main([*words, *map(str, flags)])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--folds", 3, "--val", 0.2), "--val 0.2 and --folds 3: each fold's val is its part of"),
        (("--folds", 1), "expected --folds of 2 or more, found 1"),
        (("--folds", 0), "expected --folds of 2 or more, found 0"),
        (("--folds", 3, "--test", 0.6, "--cal", 0.4), "expected --test and --cal of 0 or more"),
        (("--folds", 3, "--test", -0.1), "expected --test and --cal of 0 or more"),
    ],
)
def test_what_makes_no_folds_is_refused_before_a_picture_is_opened(
    split, tmp_path, monkeypatch, flags, said
):
    monkeypatch.setattr(prepare_dataset, "audit", None)
    status, _, errors = split([4] * 5, *flags)
    assert status == 2 and said in errors and errors.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_more_folds_than_groups_or_than_a_grade_has_are_refused(split, tmp_path):
    status, _, errors = split([4, 4, 4, 4, 2], "--folds", 3, "--test", 0)
    assert status == 2 and "has no picture of grade 4 (2 pictures of grade 4 are 2" in errors
    status, _, errors = split([4, 4, 4, 4, 2], "--folds", 19, "--test", 0, "--allow_uneven")
    assert status == 2 and "expected --folds of at most 18, the number of groups" in errors
    assert not (tmp_path / "new").exists()
    status, said, _ = split([4, 4, 4, 4, 2], "--folds", 3, "--test", 0, "--allow_uneven")
    assert status == 0 and "WARNING: fold_" in said and "has no picture of grade 4" in said


def test_the_command_shows_each_fold_and_how_to_go_on_and_the_audit_asks_for_one(
    split, tmp_path, capsys
):
    status, said, _ = split([7] * 5, "--folds", 2, "--test", 0.3)
    assert status == 0
    rows = {line.split("  ")[0]: line.split()[-7:] for line in said.splitlines() if ": " in line}
    assert [sum(map(int, rows[f"fold_{n}: val"][1:6])) for n in (1, 2)] == [
        int(rows[f"fold_{n}: val"][0]) for n in (1, 2)
    ]
    assert rows["fold_1: val"][0] == rows["fold_2: val"][-1], "one learns from the other's"
    assert "all folds: cal" not in rows and "all folds: test" in rows
    new = tmp_path / "new"
    assert f"--dataset_path {new}/fold_$fold" in said and "for fold in 1 2; do" in said
    assert prepare_dataset.main(["audit", str(new), "--output_dir", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: expected one dataset in {new}, found 2 folds of a cross-validation: each is a "
        "dataset of the same pictures, divided otherwise (what one learns from is val of another), "
        f"so that copies across them are no fault; pass one of them, such as {new}/fold_1"
    )


def test_metadata_follows_into_every_fold(audited, tmp_path):
    rows = {entry.id: (f"P{n}", "Canon") for n, entry in enumerate(audited.entries[::2])}
    known = replace(audited, metadata=Metadata(("patient", "camera"), rows))
    plan = plan_folds(known, 2, Shares(), 0)
    write_folds(known, plan, 2, tmp_path / "new", "symlink")
    used = [n for n, entry in enumerate(audited.entries[::2]) if plan.places[2 * n]]
    for name in fold_names(2):
        metadata = read_metadata(tmp_path / "new" / name)
        assert metadata.columns == ("patient", "camera")
        assert sorted(row[0] for row in metadata.rows.values()) == sorted(f"P{n}" for n in used)
        assert {id_.partition("/")[0] for id_ in metadata.rows} == {"train", "val", "test"}
