"""Divide a dataset for cross-validation: F datasets of the same pictures, each with another val.

Test and cal are the same in all. N images, G groups, K grades.
"""

from collections import Counter
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np

from common.audit.dataset import Audit
from common.preparation.new_dataset import MANIFEST, new_dataset, write_rows
from common.preparation.shares import Shares
from common.preparation.split import Plan, Usable, assign, count_parts, file_names, fill_dataset
from common.system.errors import InputError
from common.system.random_streams import random_generator

_FOLD = "fold_"


@dataclass(frozen=True)
class FoldRow:
    """Where one file of the source is in the folds; the fields are the columns of manifest.csv."""

    file: str  # below its split, the same in every fold; "" if it was left out
    source: str  # in the audited dataset
    grade: int
    part: str  # "fold_2": in val of fold_2, in train of the others; test and cal are so in all
    group: int  # files of one group are in one part
    sha256: str
    left_out_because: str


def fold_names(count: int) -> list[str]:
    """Name the folders of the folds."""
    return [f"{_FOLD}{number + 1}" for number in range(count)]


def check_folds(count: int, shares: Shares) -> None:
    """Raise InputError for fewer than two folds, or shares that leave nothing for them."""
    if count < 2:
        raise InputError(f"expected --folds of 2 or more, found {count}")
    asked = (shares.test, shares.cal)
    if not (all(0 <= share < 1 for share in asked) and sum(asked) < 1):
        raise InputError(
            "expected --test and --cal of 0 or more, together below 1, found "
            f"{shares.test:g} and {shares.cal:g}"
        )


def plan_folds(audit: Audit, count: int, shares: Shares, seed: int) -> Plan:
    """Assign the usable images of an audit to test, cal and the val of one fold each.

    Whole groups stay together, and every part gets its share of each grade as far as they allow.
    The share of val is left aside. Raises InputError for more folds than groups.
    """
    check_folds(count, shares)
    usable = Usable.of(audit)
    parts = np.full(len(usable.labels), "train", dtype=object)
    if shares.test or shares.cal:
        parts[:] = assign(usable.labels, usable.groups, replace(shares, val=0.0), seed)
    rest = parts == "train"
    groups = len(np.unique(usable.groups[rest]))
    if count > groups:
        raise InputError(
            f"expected --folds of at most {groups}, the number of groups of pictures that belong "
            f"together (one patient, one eye, copies) outside test and cal, found {count}"
        )
    names = fold_names(count)
    generator = random_generator("folds", seed)
    dealt = _deal(usable.labels[rest], usable.groups[rest], count, generator)
    parts[rest] = np.array(names, dtype=object)[dealt]
    left = 1 - shares.test - shares.cal
    wanted = dict.fromkeys(names, left / count) | {"cal": shares.cal, "test": shares.test}
    return usable.plan(parts.tolist(), wanted)


def write_folds(
    audit: Audit, plan: Plan, count: int, target: Path, way: str
) -> Counter[tuple[str, int]]:
    """Build one dataset for each fold beside `target` and move all there at once.

    A picture has the same name in each. way: "copy", "hardlink" or "symlink". Writes a manifest
    into each and one above them. Returns the number of images per part and grade. Raises InputError
    if `target` holds anything; on any other error nothing is left behind.
    """
    names = file_names(audit, ["" for _ in plan.places])
    with new_dataset(target) as folder:
        for fold in fold_names(count):
            (folder / fold).mkdir()
            fill_dataset(audit, _of_fold(plan, fold), names, folder / fold, way)
        columns = [column.name for column in fields(FoldRow)]
        rows = (astuple(row) for row in _rows(audit, plan, names))
        write_rows(folder / MANIFEST, columns, rows)
    return count_parts(audit, plan)


def _deal(
    labels: np.ndarray, groups: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Deal whole groups of images (N,) to folds; returns the number of each image's fold (N,).

    The largest groups come first, each to the fold that holds least of its grades, the rarer the
    weightier, then fewest images: no fold stays empty, and one lacks a grade only where a group
    holds too much of it.
    """
    _, grade = np.unique(labels, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    table = np.zeros((group.max() + 1, grade.max() + 1))  # (G, K)
    np.add.at(table, (group, grade), 1)
    weight = 1 / np.square(table.sum(axis=0))
    held = np.zeros((count, table.shape[1]))
    fold = np.zeros(len(table), dtype=np.int64)
    order = generator.permutation(len(table))
    for number in order[np.argsort(-table[order].sum(axis=1), kind="stable")]:
        crowd = held @ (table[number] * weight)
        fold[number] = np.lexsort((held.sum(axis=1), crowd))[0]
        held[fold[number]] += table[number]
    return fold[group]


def _of_fold(plan: Plan, fold: str) -> Plan:
    """Say what is train and what is val in one fold."""
    places = [
        ("val" if place == fold else "train") if place.startswith(_FOLD) else place
        for place in plan.places
    ]
    return Plan(places, plan.reasons)


def _rows(audit: Audit, plan: Plan, names: list[str]) -> list[FoldRow]:
    return [
        FoldRow(
            file=names[i] if part else "",
            source=entry.id,
            grade=entry.label,
            part=part or "left out",
            group=int(audit.related.units[i]),
            sha256=audit.records[i].sha256,
            left_out_because=plan.reasons[i],
        )
        for i, (entry, part) in enumerate(zip(audit.entries, plan.places))
    ]
