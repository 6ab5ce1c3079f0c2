"""Split a dataset into train, val and test so that no patient and no picture is in two of them.

N images, F folds, K grades.
"""

import csv
import io
import os
import shutil
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from common.audit.dataset import Audit
from common.data.folders import SPLITS
from common.system.errors import InputError
from common.system.files import umask, write_text
from common.system.random_streams import random_generator

_FOLDS = 20  # shares are met to about a twentieth


_TRIES = 2000


_WAYS = {"copy": shutil.copyfile, "hardlink": os.link, "symlink": os.symlink}


WAYS = tuple(_WAYS)


@dataclass(frozen=True)
class Plan:
    """Where each file of an audited dataset goes: a split, or "" and why it is left out."""

    places: list[str]  # (N,)
    reasons: list[str]  # (N,)


def plan_split(audit: Audit, val: float, test: float, seed: int) -> Plan:
    """Assign the usable images of an audit to train, val and test, whole groups together.

    A picture that stands under two grades is left out with all its copies: neither grade can be
    trusted, and no split should hold either. Raises InputError for shares that leave nothing.
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
    chosen = _assign(labels[kept], audit.units[kept], (val, test), seed)
    places = [""] * len(labels)
    for i, name in zip(kept, chosen):
        places[i] = name
    return Plan(places, reasons)


def write_split(audit: Audit, plan: Plan, target: Path, way: str) -> Counter:
    """Build the split dataset beside `target` and move it there whole; returns images per split.

    way: "copy", "hardlink" or "symlink". Writes manifest.csv, too. Raises InputError if `target`
    holds anything; on any other error nothing is left behind.
    """
    target = target.absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise InputError(f"{target} is not empty; choose another folder for the split")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        rows = _fill(audit, plan, folder, way)
        write_text(folder / "manifest.csv", _manifest(rows))
        folder.chmod(0o777 & ~umask())
        os.replace(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Counter((name, audit.entries[i].label) for i, name in enumerate(plan.places) if name)


def _reasons(audit: Audit, labels: np.ndarray) -> list[str]:
    grades: dict[int, set[int]] = {}
    for picture, label, fact in zip(audit.pictures, labels, audit.facts):
        if fact.usable:
            grades.setdefault(picture, set()).add(int(label))
    reasons = []
    for picture, fact in zip(audit.pictures, audit.facts):
        if not fact.usable:
            reasons.append(next(iter(fact.faults)))
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

    Of many ways to hand the folds out, takes the one that meets the shares best in every grade.
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
    return np.array(("train", "val", "test"))[_hand_out(table, shares, seed)[folds]]


def _hand_out(table: np.ndarray, shares: tuple[float, float], seed: int) -> np.ndarray:
    """Give each fold (F, K) to train 0, val 1 or test 2, as (F,)."""
    count, generator = len(table), random_generator("split", seed)
    wanted = np.array([1 - sum(shares), *shares])
    sizes = [max(1, round(share * count)) if share else 0 for share in shares]
    best, best_error = None, np.inf
    for _ in range(_TRIES):
        # a fold is large where a patient has many images, so the numbers vary, too
        val, test = (max(s > 0, s + generator.integers(-1, 2)) if s else 0 for s in sizes)
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


def _fill(audit: Audit, plan: Plan, folder: Path, way: str) -> list[list]:
    names: dict[int, str] = {}
    for entry in audit.entries:  # the first split's name for a grade serves all
        names.setdefault(entry.label, entry.path.parent.name)
    wanted = [s for s in SPLITS if s in set(plan.places)]
    for split in wanted:
        for name in names.values():
            (folder / split / name).mkdir(parents=True)
    taken: set[str] = set()
    rows = []
    for i, entry in enumerate(audit.entries):
        file = ""
        if plan.places[i]:
            place = f"{plan.places[i]}/{names[entry.label]}"
            file = _free_name(place, entry.path, taken)
            try:
                _WAYS[way](os.path.realpath(entry.path), folder / file)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(folder / file)) from error
        rows.append(
            [
                file,
                entry.id,
                entry.label,
                plan.places[i] or "left out",
                int(audit.units[i]),
                audit.facts[i].sha256,
                plan.reasons[i],
            ]
        )
    return rows


def _free_name(place: str, path: Path, taken: set[str]) -> str:
    """Keep a file's name; where two splits had one of that name, number the second."""
    name, number = f"{place}/{path.name}", 1
    while name in taken:
        number += 1
        name = f"{place}/{path.stem}~{number}{path.suffix}"
    taken.add(name)
    return name


def _manifest(rows: list[list]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(["file", "source", "grade", "split", "group", "sha256", "left_out_because"])
    table.writerows(rows)
    return buffer.getvalue()
