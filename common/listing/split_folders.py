"""Which folder of a dataset is which split."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.listing.walking import holds_pictures, is_folder, leads_nowhere, list_folder
from common.system.errors import InputError

SPLITS = ("train", "val", "cal", "test")
LEARNED_FROM = ("train", "val")  # by training: to fit weights, and to choose the epoch
CHOSEN_ON = ("val", "cal")  # everything else that is fitted or chosen; test never is
ALL = "all"  # the one split of a dataset without split folders
# what a split's folder may be called; in any case, also with "set" behind it and with - _ or space
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "cal": ("cal", "calib", "calibration"),
    "test": ("test", "testing"),
}


def split_folders(root: Path, is_class: Callable[[str], bool]) -> dict[str, Path]:
    """Find the folder of each split; raises InputError for two of one.

    A folder that is called `calibration` may also hold what a camera was calibrated with: it is the
    split cal only if there are pictures in a class folder of it, which is called as one of another
    split or of which `is_class` tells so by its name.
    """
    entries = list_folder(root)
    others = [entry for entry in entries if split_of(entry.name) not in ("", "cal")]
    classes = {part.name for entry in others if is_folder(entry) for part in _parts_of(entry)}
    found: dict[str, Path] = {}
    for entry in entries:
        name = split_of(entry.name)
        if name == "cal" and is_folder(entry):
            parts = [p for p in _parts_of(entry) if p.name in classes or is_class(p.name)]
            if not any(leads_nowhere(part) or holds_pictures(part.path) for part in parts):
                continue
        if name and leads_nowhere(entry):
            raise InputError(f"{entry.path}: the link leads nowhere; remove or mend it")
        if name and is_folder(entry):
            if name in found:
                raise InputError(
                    f"expected one folder for {name} in {root}, found {found[name].name} and "
                    f"{entry.name}; move one away"
                )
            found[name] = Path(entry.path)
    return {name: found[name] for name in SPLITS if name in found}


def _parts_of(folder: os.DirEntry) -> list[os.DirEntry]:
    """List the folders in a folder, and the links that may have led to one."""
    with suppress(InputError):  # said where the split is asked for
        return [part for part in list_folder(folder.path) if is_folder(part) or leads_nowhere(part)]
    return []


def split_of(name: str) -> str:
    """Tell which split a folder of this name is, "" for none."""
    plain = re.sub(r"[ _-]", "", name.casefold()).removesuffix("set")
    return next((split for split, names in SPLIT_NAMES.items() if plain in names), "")
