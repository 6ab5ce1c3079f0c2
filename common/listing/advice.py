"""What to say where there is no dataset: what was found instead, and where one may be."""

import os
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.listing.picture_files import ending
from common.listing.split_folders import split_of
from common.listing.unused import EXPECTED_FILES
from common.listing.walking import describe, holds_pictures, is_folder, list_folder
from common.system.errors import InputError
from common.system.log import printable

_TABLES = (".csv", ".tsv", ".txt", ".xlsx")  # endings of what may hold the grades
_FOLD = re.compile("fold[ _-]?[0-9]+", re.IGNORECASE)
_DEPTH = 3  # folders below which a dataset is looked for
_WIDTH = 500  # folders, or files, that are looked at for an advice


def require_folder(root: Path) -> None:
    """Raise InputError where a dataset's folder is none."""
    if root.is_dir():
        return
    if root.exists():
        raise InputError(
            f"expected the folder of a dataset, found the file {root} (a table of grades is read "
            "by prepare_dataset.py import)"
        )
    home = Path(os.path.expanduser(root))  # which leaves a user that is not known as it is
    if home.is_dir():
        raise InputError(f"expected a dataset in {root}, found none; write {home}")
    above = next((folder for folder in root.absolute().parents if folder.is_dir()), Path("/"))
    raise InputError(
        f"expected a dataset in {str(root)!r}, found no such folder; {above} holds "
        f"{describe(above)}; check --dataset_path (or DATASET_PATH)"
    )


def folds_in(root: Path) -> str:
    """Say of a folder that holds the folds of a cross-validation what they are, "" of another."""
    folds = [place for place in _folders_in(root) if _FOLD.fullmatch(place.name)]
    folds = [place for place in folds if any(split_of(part.name) for part in _folders_in(place))]
    if len(folds) < 2:
        return ""
    return (
        f"expected one dataset in {printable(str(root))}, found {len(folds)} folds of a "
        "cross-validation: each is a dataset of the same pictures, divided otherwise (what one "
        "learns from is val of another), so that copies across them are no fault; pass one of "
        f"them, such as {printable(str(folds[0]))}"
    )


def what_instead(folder: Path, are_classes: Callable[[list[str]], bool]) -> str:
    """Say what lies in a folder beside folders, in place of class folders, and what can be done.

    are_classes: tells whether folders of these names are class folders.
    """
    files = describe(folder, with_folders=False)
    below = [
        f"a dataset seems to lie in {printable(str(place))}: pass that"
        for place in _datasets_below(folder, are_classes)
    ]
    hints = [f"{folder} holds {files}"] if files else []
    hints += [*below[:3], *_table_hint(folder), "check --dataset_path (or DATASET_PATH)"]
    return "; ".join(hints)


def _datasets_below(folder: Path, are_classes: Callable[[list[str]], bool]) -> list[Path]:
    """Find folders that hold splits or class folders, a few folders further down."""
    found = []
    places = _folders_in(folder)
    for _ in range(_DEPTH):
        below: list[Path] = []
        for place in places[:_WIDTH]:
            inside = _folders_in(place)
            names = [part.name for part in inside]
            if are_classes(names):
                found.append(place.parent if split_of(place.name) else place)
            elif any(map(split_of, names)):
                found.append(place)
            else:
                below += inside
        places = below
    return list(dict.fromkeys(found))


def _folders_in(folder: Path) -> list[Path]:
    with suppress(InputError):
        return [Path(entry.path) for entry in list_folder(folder) if is_folder(entry)]
    return []


def _table_hint(folder: Path) -> list[str]:
    """Say how to make class folders of a table and pictures that lie here, if they do."""
    places = (folder, folder.resolve().parent) if split_of(folder.resolve().name) else (folder,)
    for place in places:
        names = [entry.name for entry in list_folder(place) if not is_folder(entry)]
        tables = [name for name in names if ending(name) in _TABLES and name not in EXPECTED_FILES]
        if tables and holds_pictures(place, _WIDTH):
            paths = [str(place / tables[0]), str(place), f"{place.resolve()}_graded"]
            more = f" (or {printable(' or '.join(tables[1:4]))})" if tables[1:] else ""
            return [
                f"if {printable(tables[0])}{more} holds the grades, make class folders of it: "
                f"python prepare_dataset.py import {printable(shlex.join(paths))}"
            ]
    return []
