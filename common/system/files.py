"""Files that are whole or not there: written under another name, synced, then renamed."""

import contextlib
import dataclasses
import glob
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.system.errors import InputError


@contextlib.contextmanager
def atomic_write(path: Path, previous: Path | None = None) -> Iterator[io.BufferedWriter]:
    """Open a file that takes the place of `path` only when it is whole and on the disk.

    previous: the name that the file now at `path` keeps. On any error the file at `path` stays as
    it was and nothing is left beside it; an OSError names it.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~umask())
        if previous is not None and path.is_file():
            os.replace(path, previous)
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        if isinstance(error, OSError) and error.errno and error.filename in (None, name):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_folder(path.parent)


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove the half-written files that a process which was killed has left in a folder.

    names: of the files that nobody writes now; without any, all.
    """
    patterns = [f".{glob.escape(name)}.*.part" for name in names] or [".*.part"]
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        path.unlink(missing_ok=True)


def umask() -> int:
    """Return the permission bits that new files must not have."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all: dataclasses as objects; NaN, which JSON lacks, as null."""
    write_text(path, as_json(content))


def as_json(content: Any) -> str:
    """Turn content into the text that `write_json` writes."""
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read JSON; raises InputError naming the file if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a readable JSON file ({error})") from error
