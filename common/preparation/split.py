"""Split a dataset into train, val, cal and test; no patient and no picture is in two of them.

N images, F folds, K grades.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from common.audit.dataset import Audit
from common.data.metadata import METADATA, Metadata
from common.listing.split_folders import SPLITS
from common.preparation.new_dataset import MANIFEST, free_name, new_dataset, put_file, write_rows
from common.preparation.shares import Shares, uneven_parts
from common.system.errors import InputError
from common.system.random_streams import random_generator

_FOLDS = 20  # shares are met to about a twentieth
_TRIES = 2000
_PARTS = ("train", "val", "test", "cal")  # in the order of their numbers in `_assign_folds`


@dataclass(frozen=True)
class Plan:
    """Where each file of an audited dataset goes: a part, or "" and why it is left out."""

    places: list[str]  # (N,) of SPLITS; of several folds, the one in whose val it is, cal or test
    reasons: list[str]  # (N,)
    uneven: tuple[str, ...] = ()  # where it differs from what was asked for, and why


@dataclass(frozen=True)
class ManifestRow:
    """What became of one file of the source; the fields are the columns of manifest.csv."""

    file: str  # in the new dataset, "" if it was left out
    source: str  # in the audited dataset
    grade: int
    split: str
    group: int  # files of one group are in one split
    sha256: str
    left_out_because: str


@dataclass(frozen=True)
class Usable:
    """The M of N audited files that can be in a split, and why the others cannot.

    A picture that has two grades is left out with all its copies: neither grade can be trusted, and
    no part should contain either. Photographs of one eye may have two grades.
    """

    reasons: list[str]  # (N,) why it is left out, "" if it is not
    labels: np.ndarray  # (M,) grades
    groups: np.ndarray  # (M,) what has to stay together
    titles: tuple[str, ...]  # what the grades are called

    @classmethod
    def of(cls, audit: Audit) -> "Usable":
        """Sort out what cannot be used; raises InputError if nothing is left."""
        labels = np.array([entry.label for entry in audit.entries])
        reasons = _reasons(audit, labels)
        kept = np.array([i for i, reason in enumerate(reasons) if not reason], dtype=np.int64)
        if not len(kept):
            raise InputError("no image is left to split; prepare_dataset.py audit says why")
        return cls(reasons, labels[kept], audit.related.units[kept], audit.dataset.titles)

    def plan(self, chosen: Sequence[str], shares: dict[str, float]) -> Plan:
        """Make a plan of the part (M,) that was chosen for each; shares: part -> what was asked."""
        parts = iter(chosen)
        places = ["" if reason else next(parts) for reason in self.reasons]
        uneven = uneven_parts(chosen, self.labels, self.groups, shares, self.titles)
        return Plan(places, self.reasons, tuple(uneven))


def plan_split(audit: Audit, shares: Shares, seed: int) -> Plan:
    """Assign the usable images of an audit to train, val, cal and test, whole groups together.

    Raises InputError for shares that leave nothing.
    """
    shares.check()
    usable = Usable.of(audit)
    chosen = assign(usable.labels, usable.groups, shares, seed)
    return usable.plan(chosen.tolist(), shares.of_parts())


def write_split(audit: Audit, plan: Plan, target: Path, way: str) -> Counter[tuple[str, int]]:
    """Build the split dataset beside `target` and move it there whole.

    way: "copy", "hardlink" or "symlink". Writes manifest.csv, too. Returns the number of images per
    split and grade. Raises InputError if `target` holds anything; on any other error nothing is
    left behind.
    """
    with new_dataset(target) as folder:
        fill_dataset(audit, plan, file_names(audit, plan.places), folder, way)
    return count_parts(audit, plan)


def count_parts(audit: Audit, plan: Plan) -> Counter[tuple[str, int]]:
    """Count the images of each part and grade."""
    return Counter((name, entry.label) for name, entry in zip(plan.places, audit.entries) if name)


def fill_dataset(audit: Audit, plan: Plan, names: Sequence[str], folder: Path, way: str) -> None:
    """Put the files of a plan into a folder, under names (N,) below their splits.

    Writes the manifest and, if anything is known, the metadata.
    """
    rows = _put_files(audit, plan, names, folder, way)
    columns = [column.name for column in fields(ManifestRow)]
    write_rows(folder / MANIFEST, columns, (astuple(row) for row in rows))
    if audit.metadata is not None:
        write_rows(folder / METADATA, *_metadata(audit.metadata, rows))


def file_names(audit: Audit, places: Sequence[str]) -> list[str]:
    """Name each file (N,) as class/name, so that no two of one place (N,) have the same name."""
    folders = _class_folders(audit)
    taken: set[str] = set()
    return [
        free_name(f"{place}/{folders[entry.label]}", entry.path.name, taken).removeprefix(
            f"{place}/"
        )
        for place, entry in zip(places, audit.entries)
    ]


def _class_folders(audit: Audit) -> dict[int, str]:
    """Name the folder of each grade; the first split's name for it serves all."""
    names: dict[int, str] = {}
    for entry in audit.entries:
        names.setdefault(entry.label, entry.class_folder)
    return names


def _metadata(metadata: Metadata, rows: list[ManifestRow]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the new dataset's metadata: what was known of its images."""
    kept = [row for row in rows if row.file and row.source in metadata.rows]
    known = [[row.file, *metadata.rows[row.source]] for row in kept]
    return ["image", *metadata.columns], known


def _reasons(audit: Audit, labels: np.ndarray) -> list[str]:
    """Say of each file (N,) why it is left out, "" if it is not."""
    grades: dict[int, set[int]] = {}
    for picture, label, record in zip(audit.related.pictures, labels, audit.records):
        if record.usable:
            grades.setdefault(picture, set()).add(int(label))
    reasons = []
    for picture, record in zip(audit.related.pictures, audit.records):
        if not record.usable:
            reasons.append(record.faults[0])
        elif len(grades[picture]) > 1:
            several = " and ".join(map(str, sorted(grades[picture])))
            reasons.append(f"one picture with grades {several}")
        else:
            reasons.append("")
    return reasons


def assign(labels: np.ndarray, groups: np.ndarray, shares: Shares, seed: int) -> np.ndarray:
    """Name the split of each image (N,), from the folds of scikit-learn's group splitter.

    Of many random assignments of folds to splits, takes the one that meets the shares best in every
    grade.
    """
    count = min(_FOLDS, len(np.unique(groups)), int(np.bincount(labels).max()))
    if count < 2:
        raise InputError("expected two groups of images or more, found one; nothing to split")
    folds = np.zeros(len(labels), dtype=np.int64)
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a grade may have fewer images than there are folds
        for number, (_, part) in enumerate(splitter.split(labels, labels, groups)):
            folds[part] = number
    classes = np.unique(labels)
    table = np.array(
        [[np.sum((folds == f) & (labels == k)) for k in classes] for f in range(count)]
    )  # (F, K)
    return np.array(_PARTS)[_assign_folds(table, shares, seed)[folds]]


def _assign_folds(table: np.ndarray, shares: Shares, seed: int) -> np.ndarray:
    """Assign each fold to a part, by its number in _PARTS, as (F,).

    table (F, K): images of each fold and grade.
    """
    count, generator = len(table), random_generator("split", seed)
    asked = [shares.val, shares.test, *([shares.cal] if shares.cal else [])]
    wanted = np.array([1 - sum(asked), *asked])
    sizes = [max(1, round(share * count)) if share else 0 for share in asked]
    best, best_error = np.zeros(count, dtype=np.int64), np.inf
    for _ in range(_TRIES):
        # a fold is large where a patient has many images, so the numbers vary, too
        taken = [max(1, size + int(generator.integers(-1, 2))) if size else 0 for size in sizes]
        if sum(taken) >= count:  # one for each part, as far as they go
            taken = np.diff(np.minimum(np.cumsum([0, *np.minimum(sizes, 1)]), count - 1)).tolist()
        numbers = np.repeat(np.arange(1, len(taken) + 1), taken)
        places = np.zeros(count, dtype=np.int64)
        places[generator.permutation(count)[: len(numbers)]] = numbers
        got = np.stack([table[places == part].sum(axis=0) for part in range(len(wanted))])
        got = got / table.sum(axis=0)
        # a part without a grade is worse than any share
        error = np.square(got - wanted[:, None]).sum() + (got[wanted > 0] == 0).sum()
        if error < best_error:
            best, best_error = places, error
    return best


def _put_files(
    audit: Audit, plan: Plan, names: Sequence[str], folder: Path, way: str
) -> list[ManifestRow]:
    """Put the files of a plan into a folder; returns the rows of its manifest."""
    folders = _class_folders(audit).values()
    for split in (s for s in SPLITS if s in plan.places):
        for name in folders:
            (folder / split / name).mkdir(parents=True)
    rows = []
    for i, entry in enumerate(audit.entries):
        file = f"{plan.places[i]}/{names[i]}" if plan.places[i] else ""
        if file:
            put_file(entry.path, folder / file, way)
        row = ManifestRow(
            file=file,
            source=entry.id,
            grade=entry.label,
            split=plan.places[i] or "left out",
            group=int(audit.related.units[i]),
            sha256=audit.records[i].sha256,
            left_out_because=plan.reasons[i],
        )
        rows.append(row)
    return rows
