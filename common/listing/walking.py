"""Walk through folders: what lies in them, but for what systems and this software have made."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from common.listing.picture_files import ending, is_picture
from common.system.errors import InputError
from common.system.log import printable

_MADE_BY_SYSTEMS = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "network trash folder",
    "temporary items",
    "icon\r",
    "picasa.ini",
    "__pycache__",
}
# what tells that an audit, a training, an evaluation, an analysis, evidence or decoded pixels lie
# in a folder
_OUR_RESULTS = (
    ("audit.json", "findings.csv"),
    ("config.json", "models"),
    ("results/validation*.json",),
    ("results/predictions_*.npz",),
    ("model_analysis.json",),
    ("evidence.run.json",),
    ("maps/[0-9][0-9][0-9][0-9][0-9]_*.npz", "pictures/[0-9][0-9][0-9][0-9][0-9]_*.jpg"),
    ("pixels.u8", "index.json"),
    ("*/pixels.u8", "*/index.json"),
    ("settings.json", "shard-*.rows"),
    ("*/settings.json", "*/shard-*.rows"),
    ("signatures-*/*.records",),
)
_SHOWN = 12  # folders in a message


def list_folder(folder: str | Path) -> list[os.DirEntry]:
    """List a folder by names, but for what is hidden or made by a system. Raises InputError."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not _is_passed_over(entry.name)]
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be listed ({error.strerror})") from error
    return sorted(entries, key=lambda entry: entry.name)


def _is_passed_over(name: str) -> bool:
    return (
        name.startswith(".")
        or name.startswith("~$")  # of a document that is open in Office
        or name.lower() in _MADE_BY_SYSTEMS
        or "zone.identifier" in name.lower()  # that Windows keeps with what was downloaded
    )


def list_tree(
    folder: str | Path, above: Sequence[str | Path] = (), past_our_results: bool = False
) -> Iterator[os.DirEntry]:
    """List the files in a folder, however deep, a folder at a time. Raises InputError.

    Links to folders are followed, except to those that they lie in: to `folder` or those `above`.
    """
    stack = [(iter(list_folder(folder)), (*above, folder))]  # no recursion: folders may lie deep
    while stack:
        entries, within = stack[-1]
        for entry in entries:
            if not is_folder(entry):
                yield entry
            elif leads_up(entry, within):
                continue
            elif not (past_our_results and holds_our_results(entry.path)):
                stack.append((iter(list_folder(entry.path)), (*within, entry.path)))
                break
        else:
            stack.pop()


def is_folder(entry: os.DirEntry) -> bool:
    """Tell whether this is a folder or a link to one; a link to itself is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def leads_nowhere(entry: os.DirEntry) -> bool:
    """Tell whether this is a link to nothing."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def leads_up(entry: os.DirEntry, above: Sequence[str | Path]) -> bool:
    """Tell whether this is a link to a folder that it lies in, of those above."""
    return entry.is_symlink() and any(os.path.samefile(entry.path, folder) for folder in above)


def holds_our_results(folder: str | Path) -> bool:
    """Tell whether this software has written its results into a folder."""
    place = glob.escape(str(folder))
    return any(
        all(any(glob.iglob(os.path.join(place, name))) for name in names) for names in _OUR_RESULTS
    )


def holds_pictures(folder: str | Path, most: int | None = None) -> bool:
    """Tell whether pictures, by their endings, lie in a folder, however deep.

    most: how many files to look at.
    """
    return not holds_our_results(folder) and any(
        is_picture(entry.name) for entry in islice(list_tree(folder, past_our_results=True), most)
    )


def describe(folder: Path, with_folders: bool = True) -> str:
    """Say in short what lies in a folder: its folders by name, its files by their endings."""
    folders: list[str] = []
    files: list[str] = []
    lost: list[str] = []
    for entry in list_folder(folder):
        names = folders if is_folder(entry) else lost if leads_nowhere(entry) else files
        names.append(entry.name)
    parts = []
    if folders and with_folders:
        more = f" and {len(folders) - _SHOWN} more" if len(folders) > _SHOWN else ""
        kind = "folder" if len(folders) == 1 else "folders"
        parts.append(f"the {kind} {' '.join(map(printable, folders[:_SHOWN]))}{more}")
    if files:
        parts.append(f"{count_of(len(files), 'file')} ({by_ending(files)})")
    if lost:
        shown = " ".join(map(printable, lost[:_SHOWN]))
        parts.append(f"{count_of(len(lost), 'link')} to nowhere ({shown})")
    return " and ".join(parts) or ("nothing" if with_folders else "")


def by_ending(names: Sequence[str]) -> str:
    """Count names by their endings, such as "3 .csv, 1 no ending"."""
    endings = Counter(map(ending, names))
    most = endings.most_common(6)
    more = ", ..." if len(endings) > len(most) else ""
    return ", ".join(f"{count} {printable(name) or 'no ending'}" for name, count in most) + more


def count_of(number: int, what: str) -> str:
    """Write a number of things: "1 file", "2 files"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
