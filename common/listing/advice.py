"""What to say where there is no dataset: what was found instead, and where one may be."""

import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.listing.picture_files import ending
from common.listing.split_folders import split_of
from common.listing.unused import MADE_BY_US
from common.listing.walking import describe, holds_pictures, is_folder, list_folder
from common.system.errors import InputError
from common.system.log import printable

_TABLES = (".csv", ".tsv", ".txt", ".xlsx")  # endings of what may hold the grades
_DEPTH = 3  # folders below which a dataset is looked for


def require_folder(root: Path) -> None:
    """Raise InputError where a dataset's folder is none."""
    if root.is_dir():
        return
    if root.exists():
        raise InputError(
            f"expected the folder of a dataset, found the file {root} (a table of grades is read "
            "by prepare_dataset.py import)"
        )
    if root.expanduser().is_dir():
        raise InputError(f"expected a dataset in {root}, found none; write {root.expanduser()}")
    above = next((folder for folder in root.absolute().parents if folder.is_dir()), Path("/"))
    raise InputError(
        f"expected a dataset in {str(root)!r}, found no such folder; {above} holds "
        f"{describe(above)}; check --dataset_path (or DATASET_PATH)"
    )


def what_instead(folder: Path, are_classes: Callable[[list[str]], bool]) -> str:
    """Say what lies in a folder in place of class folders, and what can be done.

    are_classes: tells whether folders of these names are class folders.
    """
    below = "".join(
        f"; a dataset seems to lie in {printable(str(place))}: pass that"
        for place in _datasets_below(folder, are_classes, _DEPTH)[:3]
    )
    return (
        f"{folder} holds {describe(folder)}{below}{_table_hint(folder)}; check --dataset_path (or "
        "DATASET_PATH)"
    )


def _datasets_below(
    folder: Path, are_classes: Callable[[list[str]], bool], depth: int
) -> list[Path]:
    """Find folders that hold splits or class folders, a few folders further down."""
    found = []
    with suppress(InputError):
        for entry in filter(is_folder, list_folder(folder)):
            place = Path(entry.path)
            inside = [part.name for part in list_folder(place) if is_folder(part)]
            if are_classes(inside):
                found.append(folder if split_of(place.name) else place)
            elif any(map(split_of, inside)):
                found.append(place)
            elif depth > 1:
                found += _datasets_below(place, are_classes, depth - 1)
    return list(dict.fromkeys(found))


def _table_hint(folder: Path) -> str:
    """Say how to make class folders of a table and pictures that lie here; "" for no table."""
    places = (folder, folder.resolve().parent) if split_of(folder.resolve().name) else (folder,)
    for place in places:
        names = [entry.name for entry in list_folder(place) if not is_folder(entry)]
        tables = [name for name in names if ending(name) in _TABLES and name not in MADE_BY_US]
        if tables and holds_pictures(place):
            paths = [str(place / tables[0]), str(place), f"{place.resolve()}_graded"]
            more = f" (or {printable(' or '.join(tables[1:4]))})" if tables[1:] else ""
            return (
                f"; if {printable(tables[0])}{more} holds the grades, make class folders of it: "
                f"python prepare_dataset.py import {printable(shlex.join(paths))}"
            )
    return ""
