"""Split a dataset into train, val and test so that no patient and no picture is in two of them.

N images, F folds, K grades.
"""

import csv
import fcntl
import glob
import io
import json
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from common.audit.dataset import Audit
from common.data.folders import SPLITS, Entry
from common.system.errors import InputError
from common.system.files import umask, write_text
from common.system.log import log
from common.system.random_streams import random_generator

_FOLDS = 20  # shares are met to about a twentieth
_TRIES = 2000
_WAYS: dict[str, Callable[[str, Path], object]] = {
    "copy": shutil.copyfile,
    "hardlink": os.link,
    "symlink": os.symlink,
}
WAYS = tuple(_WAYS)
# in the hidden folder that a split is built in; says what the folder is, and for which destination
_MARKER = ".unfinished_split.json"


_RANDOM_PART = "?" * 8  # of the names that mkdtemp makes


@dataclass(frozen=True)
class Plan:
    """Where each file of an audited dataset goes: a split, or "" and why it is left out."""

    places: list[str]  # (N,)
    reasons: list[str]  # (N,)


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
    no split should contain either. Raises InputError for shares that leave nothing.
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


def write_split(audit: Audit, plan: Plan, target: Path, way: str) -> Counter[tuple[str, int]]:
    """Build the split dataset beside `target` and move it there whole.

    way: "copy", "hardlink" or "symlink". Writes manifest.csv, too. Returns the number of images per
    split and grade. Raises InputError if `target` holds anything; on any other error nothing is
    left behind.
    """
    target = target.absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise InputError(f"{target} is not empty; choose another folder for the split")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished_folder(target) as folder:
        rows = _fill(audit, plan, folder, way)
        write_text(folder / "manifest.csv", _manifest(rows))
        folder.chmod(0o777 & ~umask())
        os.replace(folder, target)
    return Counter((name, entry.label) for name, entry in zip(plan.places, audit.entries) if name)


def remove_leftovers(target: Path) -> None:
    """Remove the hidden folders in which a split to `target` was being built when it was killed.

    A folder is removed only if no living process holds it, and the marker in it names `target` or
    it is empty: its split was killed before it wrote the marker.
    """
    target = target.absolute()
    for folder in sorted(target.parent.glob(f".{glob.escape(target.name)}.{_RANDOM_PART}.part")):
        marked = _is_unfinished_split_of(target, folder)
        if not marked and not _is_empty(folder):
            continue
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if marked:
                shutil.rmtree(folder)
            else:
                folder.rmdir()
            log(f"removed {folder}, left by a split that was killed")
        except BlockingIOError:
            log(f"note: another process is writing a split to {target}")
        except OSError as error:
            log(f"note: {folder} was left by a split that was killed; it stays ({error.strerror})")
        finally:
            os.close(handle)


@contextmanager
def _unfinished_folder(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside `target`, marked and locked while this process lives.

    The body moves it to `target`; if it raises, the folder is removed.
    """
    folder, handle = _locked_folder(target)
    try:
        write_text(folder / _MARKER, json.dumps({"split_of": str(target)}))  # once it is locked
        yield folder
        (target / _MARKER).unlink()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def _locked_folder(target: Path) -> tuple[Path, int]:
    """Make a hidden folder beside `target` and lock it; returns it and the handle of the lock.

    As long as it is not locked, another process may take it for a leftover and remove it; then the
    next one is made.
    """
    while True:
        name = tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        with suppress(FileNotFoundError):
            handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system that cannot lock keeps its leftovers
                fcntl.flock(handle, fcntl.LOCK_EX)  # waits for one that is about to remove it
            if os.path.isdir(name):
                return Path(name), handle
            os.close(handle)


def _is_unfinished_split_of(target: Path, folder: Path) -> bool:
    """Tell whether a folder is one that `_unfinished_folder` has made for `target`."""
    if folder.is_symlink():
        return False
    try:
        return json.loads((folder / _MARKER).read_text()) == {"split_of": str(target)}
    except (OSError, ValueError, RecursionError):
        return False


def _is_empty(folder: Path) -> bool:
    """Tell whether this is a folder, not a link to one, that can be read and holds nothing."""
    try:
        return not folder.is_symlink() and not any(folder.iterdir())
    except OSError:
        return False


def _reasons(audit: Audit, labels: np.ndarray) -> list[str]:
    """Say of each file (N,) why it is left out, "" if it is not."""
    grades: dict[int, set[int]] = {}
    for picture, label, record in zip(audit.pictures, labels, audit.records):
        if record.usable:
            grades.setdefault(picture, set()).add(int(label))
    reasons = []
    for picture, record in zip(audit.pictures, audit.records):
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
        names.setdefault(entry.label, entry.path.parent.name)
    for split in (s for s in SPLITS if s in plan.places):
        for name in names.values():
            (folder / split / name).mkdir(parents=True)
    taken: set[str] = set()
    rows = []
    for i, entry in enumerate(audit.entries):
        file = ""
        if plan.places[i]:
            file = _free_name(f"{plan.places[i]}/{names[entry.label]}", entry.path, taken)
            _put(entry, folder / file, way)
        row = ManifestRow(
            file=file,
            source=entry.id,
            grade=entry.label,
            split=plan.places[i] or "left out",
            group=int(audit.units[i]),
            sha256=audit.records[i].sha256,
            left_out_because=plan.reasons[i],
        )
        rows.append(row)
    return rows


def _put(entry: Entry, file: Path, way: str) -> None:
    try:
        _WAYS[way](os.path.realpath(entry.path), file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def _free_name(place: str, path: Path, taken: set[str]) -> str:
    """Keep a file's name; where two splits had one of that name, number the second."""
    name, number = f"{place}/{path.name}", 1
    while name in taken:
        number += 1
        name = f"{place}/{path.stem}~{number}{path.suffix}"
    taken.add(name)
    return name


def _manifest(rows: list[ManifestRow]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow([column.name for column in fields(ManifestRow)])
    table.writerows(astuple(row) for row in rows)
    return buffer.getvalue()
