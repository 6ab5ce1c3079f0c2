"""One lock file: held by the kernel's lock, and by its mere being there where that may not do.

Lock files are removed when they are let go of. What a killed process leaves is taken over if that
process is surely gone; otherwise people are told who it was, and what to do.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLock, Timeout

from common.locks.holder import Holder, read_holder, this_process
from common.locks.kernel_locks import doubts_about, lock_now
from common.locks.marker import Marker, files_of, said_in, take_marker
from common.system.log import log, shell_path

_SOMEBODY = "another process"


class Taken(Exception):
    """Another process holds a lock."""

    def __init__(self, lock: Path, holder: Holder | None, known: str = _SOMEBODY) -> None:
        super().__init__(f"{lock} is held by {holder or known}")
        self.lock, self.holder, self._holder = lock, str(holder or known), holder
        self.elsewhere = holder is not None and holder.host != this_process().host

    @property
    def process(self) -> tuple[str | int, ...]:
        """What tells holders apart, and is the same in all locks of one."""
        return self._holder.process if self._holder else (self.holder,)

    @property
    def advice(self) -> str:
        """Say what a user can do if the holder has ended without letting go; "" if it cannot."""
        return advice_on([self])

    @property
    def said(self) -> str:
        """Name the holder, and say so if nobody here can tell whether it lives."""
        unknown = ", of which nobody here can tell whether it runs" if self.left_files else ""
        return self.holder + unknown

    @property
    def left_files(self) -> list[Path]:
        """The files to remove if the holder has ended without letting go; none if it cannot."""
        known_here = self._holder is not None and self._holder.is_of_this_machine
        if known_here or not (self.elsewhere or _marker(self.lock).exists()):
            return []
        return [self.lock, *files_of(_marker(self.lock))]


def by_process(locks: Iterable[Taken]) -> list[list[Taken]]:
    """Put the locks of each process together."""
    found: dict[tuple[str | int, ...], list[Taken]] = {}
    for taken in locks:
        found.setdefault(taken.process, []).append(taken)
    return list(found.values())


def advice_on(locks: Iterable[Taken]) -> str:
    """Say what a user can do if holders have ended without letting go, a command for each."""
    processes, said = by_process(locks), []
    for own in processes:
        if files := [shell_path(path) for taken in own for path in taken.left_files]:
            who = "that process" if len(processes) == 1 else own[0].holder
            said.append(f"; if {who} runs no more: rm -f {' '.join(files)}")
    return "".join(said)


@dataclass
class FileLock:
    """A lock file that this process holds."""

    path: Path
    _handle: int
    _soft: Marker | SoftFileLock | None  # held, too, where the kernel's lock may not do

    def release(self) -> None:
        """Let go of it and remove its files."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self._handle)
        if self._soft is not None:
            self._soft.release()


def take(path: Path) -> FileLock:
    """Take a lock if it is free; raises Taken, and OSError where the folder cannot be written."""
    # a server's own disk may be another machine's network disk, where this file is needed
    if not doubts_about(path.parent) and not _marker(path).exists():
        handle, excludes = _open_locked(path)
        before = read_holder(os.pread(handle, 4096, 0))
        if excludes:
            lock = _write_holder(path, handle, None, before)
            if not _marker(path).exists():  # such a machine looks into the lock after it made it
                return lock
            lock.release()
            raise Taken(path, None, said_in(_marker(path)) or _SOMEBODY)
        os.close(handle)
    soft = _take_soft(path)
    try:
        handle, excludes = _open_locked(path)
        before = read_holder(os.pread(handle, 4096, 0))
        if before and not _has_ended(before, excludes):
            os.close(handle)
            raise Taken(path, before)
        return _write_holder(path, handle, soft, before)
    except BaseException:
        soft.release()
        raise


def holder_of(path: Path) -> Taken | None:
    """Tell who holds a lock, without taking it; None if it is free."""
    holder = _holder_in(path)
    marked = said_in(_marker(path))  # "": not there, or nobody's, which is taken over
    if marked and not (holder and holder.is_gone()):
        return Taken(path, holder, marked)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        lock_now(handle, fcntl.LOCK_SH)
    except BlockingIOError:
        return Taken(path, holder)
    except OSError:
        return Taken(path, holder) if holder and not holder.is_gone() else None
    finally:
        os.close(handle)
    if holder is None or _has_ended(holder, True):
        return None
    try:
        return Taken(path, holder) if doubts_about(path.parent) else None
    except OSError:  # nothing can be tried in a place that is only read
        return Taken(path, holder)


def _has_ended(holder: Holder, lock_is_free: bool) -> bool:
    """Tell whether who left a lock file is gone, where the kernel's lock may hold here only.

    lock_is_free: the kernel's lock was found free, which proves it of a process of this machine.
    """
    here = this_process()
    on_this_machine = holder.host == here.host and holder.boot in ("", here.boot)
    return holder.is_gone() or (lock_is_free and on_this_machine)


def _marker(path: Path) -> Path:
    """The file that by being there keeps others out."""
    return path.with_name(f"{path.name}.soft")


def _take_soft(path: Path) -> Marker | SoftFileLock:
    """Make the file that is the lock; that of a process that is gone is taken over.

    filelock knows a machine by its name; so who is known better, and is not surely gone, is asked
    first.
    """
    marker, holder = _marker(path), _holder_in(path)
    if marker.exists() and holder is not None and not holder.is_gone():
        raise Taken(path, holder)
    try:
        return take_marker(marker)
    except Timeout:
        raise Taken(path, holder, said_in(marker) or _SOMEBODY) from None


def _holder_in(path: Path) -> Holder | None:
    try:
        return read_holder(path.read_bytes()[:4096])
    except OSError:
        return None


def _open_locked(path: Path) -> tuple[int, bool]:
    """Open and lock a lock file; raises Taken. Also tells whether the kernel could lock it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            lock_now(handle, fcntl.LOCK_EX)
        except BlockingIOError:
            holder = read_holder(os.pread(handle, 4096, 0))
            os.close(handle)
            raise Taken(path, holder) from None
        except OSError:
            return handle, False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle, True
        os.close(handle)  # its holder has just removed it: lock the new one


def _write_holder(
    path: Path, handle: int, soft: Marker | SoftFileLock | None, before: Holder | None
) -> FileLock:
    if before:
        log(f"{path}: left by {before}, which has ended; taken over")
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, this_process().to_bytes(), 0)
        if soft is not None:
            os.fsync(handle)  # for other machines to see
    except OSError as error:  # a full disk
        if soft is not None:
            os.close(handle)
            raise OSError(error.errno, error.strerror, str(path)) from error
    return FileLock(path, handle, soft)
