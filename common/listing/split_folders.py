"""Which folder of a dataset is which split."""

import re
from pathlib import Path

from common.listing.walking import is_folder, leads_nowhere, list_folder
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


def split_folders(root: Path) -> dict[str, Path]:
    """Find the folder of each split; raises InputError for two of one."""
    found: dict[str, Path] = {}
    for entry in list_folder(root):
        name = split_of(entry.name)
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


def split_of(name: str) -> str:
    """Tell which split a folder of this name is, "" for none."""
    plain = re.sub(r"[ _-]", "", name.casefold()).removesuffix("set")
    return next((split for split, names in SPLIT_NAMES.items() if plain in names), "")
