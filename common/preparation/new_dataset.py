"""A dataset that is written whole or not at all: built in a hidden folder, then moved.

The files that it needs are copies, or links to those of the source. Its manifest says of each file
what became of it.
"""

import csv
import errno
import fcntl
import glob
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from common.system.errors import InputError
from common.system.files import umask, write_text
from common.system.log import log

_WAYS: dict[str, Callable[[str, Path], object]] = {
    "copy": shutil.copyfile,
    "hardlink": os.link,
    "symlink": os.symlink,
}
WAYS = tuple(_WAYS)
MANIFEST = "manifest.csv"
# in the hidden folder; says what the folder is, and for which destination
_MARKER = ".unfinished_dataset.json"
_NO_HARD_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_RANDOM_PART = "?" * 8  # of the names that mkdtemp makes


def require_empty(target: Path) -> None:
    """Refuse a destination that holds anything, or is a link."""
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise InputError(f"{target} is not empty; choose another folder")


def require_apart(source: Path, target: Path) -> None:
    """Refuse a destination that lies in the source, or around it."""
    one, other = source.resolve(), target.resolve()
    if other == one or one in other.parents or other in one.parents:
        raise InputError(f"{target} and {source} lie in each other; choose another folder")


@contextmanager
def new_dataset(target: Path) -> Iterator[Path]:
    """Give a hidden folder beside `target` to fill, and move it there when the body has ended.

    Raises InputError if `target` holds anything; on any other error nothing is left behind.
    """
    target = target.absolute()
    require_empty(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished_folder(target) as folder:
        yield folder
        folder.chmod(0o777 & ~umask())
        os.replace(folder, target)


def put_file(source: Path, file: Path, way: str) -> None:
    """Copy a file or link to it; way: "copy", "hardlink" or "symlink".

    Raises InputError where hard links cannot be; another OSError names `file`.
    """
    try:
        _WAYS[way](os.path.realpath(source), file)
    except OSError as error:
        if way == "hardlink" and error.errno in _NO_HARD_LINK:
            raise InputError(
                f"{source} cannot be hard-linked to the new place ({error.strerror}: another disk, "
                "another user's file, or a file system without hard links); add --files symlink or "
                "--files copy"
            ) from error
        raise OSError(error.errno, error.strerror, str(file)) from error


def free_name(place: str, name: str, taken: set[str]) -> str:
    """Keep a file's name below `place`; number the second one of that name. Adds it to `taken`."""
    path, number = Path(name), 1
    chosen = f"{place}/{name}"
    while chosen in taken:
        number += 1
        chosen = f"{place}/{path.stem}~{number}{path.suffix}"
    taken.add(chosen)
    return chosen


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV table, whole or not at all."""
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(columns)
    table.writerows(rows)
    write_text(path, buffer.getvalue())


def remove_leftovers(target: Path) -> None:
    """Remove the hidden folders in which `target` was being built when that was killed.

    A folder is removed only if no living process holds it, and the marker in it names `target` or
    it is empty: the process was killed before it wrote the marker.
    """
    target = target.absolute()
    for folder in sorted(target.parent.glob(f".{glob.escape(target.name)}.{_RANDOM_PART}.part")):
        marked = _is_unfinished(target, folder)
        if not marked and not _is_empty(folder):
            continue
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if marked:
                shutil.rmtree(folder)
            else:
                folder.rmdir()
            log(f"removed {folder}, left by a command that was killed")
        except BlockingIOError:
            log(f"note: another process is writing {target}")
        except OSError as error:
            log(f"note: {folder} was left by a killed command; it stays ({error.strerror})")
        finally:
            os.close(handle)


@contextmanager
def _unfinished_folder(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside `target`, marked and locked while this process lives.

    The body moves it to `target`; if it raises, the folder is removed.
    """
    folder, handle = _locked_folder(target)
    try:
        write_text(folder / _MARKER, json.dumps({"for": str(target)}))  # once it is locked
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


def _is_unfinished(target: Path, folder: Path) -> bool:
    """Tell whether a folder is one that `_unfinished_folder` has made for `target`."""
    if folder.is_symlink():
        return False
    try:
        return json.loads((folder / _MARKER).read_text()) == {"for": str(target)}
    except (OSError, ValueError, RecursionError):
        return False


def _is_empty(folder: Path) -> bool:
    """Tell whether this is a folder, not a link to one, that can be read and holds nothing."""
    try:
        return not folder.is_symlink() and not any(folder.iterdir())
    except OSError:
        return False
