"""One process at a time where results are written."""

import contextlib
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from common.system.errors import InputError
from common.system.log import log


@contextlib.contextmanager
def lock_directory(
    root: Path, lock: Path, what: str = "", flag: str = "--output_dir"
) -> Iterator[None]:
    """Keep other processes out of a result directory; InputError naming the one that is in it.

    lock: the file in `root` that is locked. The kernel lets go of it when its process dies, however
    it dies. what: is being done there, in words, if it is no training; flag: names another place.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = _open_locked(lock, what or _training_in(root), flag)
    try:
        before = _holder(os.pread(handle, 4096, 0))
        if before:
            log(f"{lock}: left by {before}, which has ended; taken over")
        os.ftruncate(handle, 0)
        me = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.pwrite(handle, json.dumps(me).encode(), 0)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)
        os.close(handle)


def require_writable(root: Path, lock: Path) -> None:
    """Raise InputError where `lock_directory` would fail; changes nothing on the disk."""
    there = next(place for place in (root, *root.absolute().parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=there):  # without a name, where the file system can
            pass
    except OSError as error:
        raise InputError(f"{root} cannot be written ({there}: {error.strerror})") from error
    with contextlib.suppress(OSError), lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(lock, file.fileno(), _training_in(root)) from None


def _training_in(root: Path) -> str:
    return f"{root} is being trained"


def _taken(lock: Path, handle: int, what: str, flag: str = "--output_dir") -> InputError:
    holder = _holder(os.pread(handle, 4096, 0)) or "another process"
    return InputError(
        f"{what} by {holder}; wait for it, stop it, or choose another {flag} (lock: {lock})"
    )


def _open_locked(lock: Path, what: str, flag: str) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken = _taken(lock, handle, what, flag)
            os.close(handle)
            raise taken from None
        except OSError as error:  # some network file systems cannot lock
            log(f"note: {lock} cannot be locked ({error.strerror}); start no second one here")
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle
        os.close(handle)  # its holder has just removed it: lock the new one


def _holder(text: bytes) -> str:
    """Describe who wrote a lock file; "" if it says nothing that can be read."""
    try:
        found = json.loads(text)
        return f"process {int(found['pid'])} on {str(found['host'])[:80]!r} since " + str(
            datetime.fromisoformat(found["since"]).strftime("%Y-%m-%d %H:%M:%SZ")
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
