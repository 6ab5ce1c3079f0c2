"""Split a dataset into train, val and test so that no patient and no picture is in two of them.

N images, F folds, K grades.
"""

import warnings
from collections import Counter
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from common.audit.dataset import Audit
from common.data.metadata import METADATA, Metadata
from common.listing.split_folders import SPLITS
from common.preparation.new_dataset import MANIFEST, free_name, new_dataset, put_file, write_rows
from common.preparation.shares import uneven_parts
from common.system.errors import InputError
from common.system.random_streams import random_generator

_FOLDS = 20  # shares are met to about a twentieth
_TRIES = 2000


@dataclass(frozen=True)
class Plan:
    """Where each file of an audited dataset goes: a split, or "" and why it is left out."""

    places: list[str]  # (N,)
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


def plan_split(audit: Audit, val: float, test: float, seed: int) -> Plan:
    """Assign the usable images of an audit to train, val and test, whole groups together.

    A picture that has two grades is left out with all its copies: neither grade can be trusted, and
    no split should contain either. Photographs of one eye may have two grades. Raises InputError
    for shares that leave nothing.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1 and val + test > 0):
        raise InputError(
            f"expected --val and --test of 0 or more, together between 0 and 1, found "
            f"{val} and {test}"
        )
    labels = np.array([entry.label for entry in audit.entries])
    reasons = _reasons(audit, labels)
    kept = np.array([i for i, reason in enumerate(reasons) if not reason], dtype=np.int64)
    if not len(kept):
        raise InputError("no image is left to split; prepare_dataset.py audit says why")
    chosen = _assign(labels[kept], audit.related.units[kept], (val, test), seed)
    places = [""] * len(labels)
    for i, name in zip(kept, chosen):
        places[i] = name
    shares = {"train": 1 - val - test, "val": val, "test": test}
    uneven = uneven_parts(
        chosen.tolist(), labels[kept], audit.related.units[kept], shares, audit.dataset.titles
    )
    return Plan(places, reasons, tuple(uneven))


def write_split(audit: Audit, plan: Plan, target: Path, way: str) -> Counter[tuple[str, int]]:
    """Build the split dataset beside `target` and move it there whole.

    way: "copy", "hardlink" or "symlink". Writes manifest.csv, too. Returns the number of images per
    split and grade. Raises InputError if `target` holds anything; on any other error nothing is
    left behind.
    """
    with new_dataset(target) as folder:
        rows = _fill(audit, plan, folder, way)
        columns = [column.name for column in fields(ManifestRow)]
        write_rows(folder / MANIFEST, columns, (astuple(row) for row in rows))
        if audit.metadata is not None:
            write_rows(folder / METADATA, *_metadata(audit.metadata, rows))
    return Counter((name, entry.label) for name, entry in zip(plan.places, audit.entries) if name)


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


def _assign(
    labels: np.ndarray, groups: np.ndarray, shares: tuple[float, float], seed: int
) -> np.ndarray:
    """Name the split of each image (N,), from the folds of scikit-learn's group splitter.

    Of many random assignments of folds to splits, takes the one that meets the shares best in every
    grade.
    """
    count = min(_FOLDS, len(np.unique(groups)), int(np.bincount(labels).max()))
    if count < 2:
        raise InputError("expected two groups of images or more, found one; nothing to split")
    folds = np.zeros(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a grade may have fewer images than there are folds
        for number, (_, part) in enumerate(splitter.split(labels, labels, groups)):
            folds[part] = number
    classes = np.unique(labels)
    table = np.array(
        [[np.sum((folds == f) & (labels == k)) for k in classes] for f in range(count)]
    )  # (F, K)
    return np.array(("train", "val", "test"))[_assign_folds(table, shares, seed)[folds]]


def _assign_folds(table: np.ndarray, shares: tuple[float, float], seed: int) -> np.ndarray:
    """Assign each fold to train 0, val 1 or test 2, as (F,).

    table (F, K): images of each fold and grade; shares of val and test.
    """
    count, generator = len(table), random_generator("split", seed)
    wanted = np.array([1 - sum(shares), *shares])
    sizes = [max(1, round(share * count)) if share else 0 for share in shares]
    best, best_error = np.zeros(count, dtype=np.int64), np.inf
    for _ in range(_TRIES):
        # a fold is large where a patient has many images, so the numbers vary, too
        val, test = (max(1, size + int(generator.integers(-1, 2))) if size else 0 for size in sizes)
        if val + test >= count:
            val, test = min(sizes[0], 1), min(sizes[1], 1) if count > 2 else 0
        places = np.zeros(count, dtype=np.int64)
        order = generator.permutation(count)
        places[order[:val]], places[order[val : val + test]] = 1, 2
        got = np.stack([table[places == s].sum(axis=0) for s in range(3)]) / table.sum(axis=0)
        error = np.square(got - wanted[:, None]).sum()
        if error < best_error:
            best, best_error = places, error
    return best


def _fill(audit: Audit, plan: Plan, folder: Path, way: str) -> list[ManifestRow]:
    """Put the files of a plan into a folder; returns the rows of its manifest."""
    names: dict[int, str] = {}
    for entry in audit.entries:  # the first split's name for a grade serves all
        names.setdefault(entry.label, entry.class_folder)
    for split in (s for s in SPLITS if s in plan.places):
        for name in names.values():
            (folder / split / name).mkdir(parents=True)
    taken: set[str] = set()
    rows = []
    for i, entry in enumerate(audit.entries):
        file = ""
        if plan.places[i]:
            file = free_name(f"{plan.places[i]}/{names[entry.label]}", entry.path.name, taken)
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
