"""One process at a time where results are written."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common.locks.file_lock import FileLock, Taken, take
from common.locks.kernel_locks import lock_note
from common.system.errors import InputError
from common.system.log import log

_POLL = 0.05  # seconds between two looks at a lock
_SAY_AFTER = 5.0  # seconds until a log line says who is waited for
_LONGEST = 600.0  # seconds that a lock of a moment is waited for


class LockedError(InputError):
    """Another process has a lock for longer than anybody should."""


@contextlib.contextmanager
def lock_directory(root: Path, lock: Path, what: str, flag: str = "--output_dir") -> Iterator[None]:
    """Keep other processes out of a directory; InputError naming the one that is in it.

    lock: the file in `root` that is locked. The kernel lets go of it when its process dies, however
    it dies. what: is being done there, in words; flag: names another place.
    """
    require_writable(root, flag)
    root.mkdir(parents=True, exist_ok=True)
    try:
        held = take(lock)
    except Taken as taken:
        raise InputError(
            f"{what} by {taken.holder}; wait for it, stop it, or choose another {flag} "
            f"(lock: {lock}{taken.advice})"
        ) from None
    try:
        if note := lock_note(root):
            log(note)
        yield
    finally:
        held.release()


@contextlib.contextmanager
def lock_for_a_moment(lock: Path, patience: float = _LONGEST) -> Iterator[None]:
    """Wait for a lock that is never held for long; LockedError after `patience` seconds."""
    held = _wait_for(lock, patience)
    try:
        yield
    finally:
        held.release()


def _wait_for(lock: Path, patience: float) -> FileLock:
    started, said = time.monotonic(), False
    while True:
        try:
            return take(lock)
        except Taken as taken:
            waited = time.monotonic() - started
            if waited > patience:
                raise LockedError(
                    f"{lock} has been held by {taken.holder} for {waited:.0f} s, and is meant for "
                    f"moments; stop that process{taken.advice}"
                ) from None
            if waited > _SAY_AFTER and not said:
                log(f"waiting for {taken.holder}, which holds {lock}{taken.advice}")
                said = True
        time.sleep(_POLL)


def require_writable(root: Path, flag: str = "--output_dir") -> None:
    """Raise InputError where nothing can be written to a directory; changes nothing on the disk.

    flag: names another place.
    """
    there = next(place for place in (root, *root.absolute().parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=there):  # without a name, where the file system can
            pass
    except OSError as error:
        raise InputError(
            f"{flag}: {root} cannot be written ({there}: {error.strerror}); choose another one, or "
            "let this user write there"
        ) from error
