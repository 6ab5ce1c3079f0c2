"""The file that by being there keeps others out, where the kernel's lock may not do.

It is filelock's, which takes over that of a process that it knows to be gone. But filelock makes
the file first and says in it afterwards whose it is: a process that is killed in between leaves one
that is empty, which nobody could ever call anybody's. So it is written under another name and then
linked; and one that says of nobody, and stays so, is removed.
"""

import contextlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLock

from common.system.log import log

_WRITING = 10.0  # seconds; who has made the file has long written it by then
_POLL = 0.05


@dataclass(frozen=True)
class Marker:
    """The file, made by this process."""

    path: Path
    _text: bytes

    def release(self) -> None:
        """Remove it, unless it is another process's meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.read_bytes() == self._text:
                self.path.unlink()


def take_marker(path: Path) -> Marker | SoftFileLock:
    """Make the file; raises filelock's Timeout where another process has.

    One that says of nobody is looked at for some seconds first.
    """
    if _says_of_nobody(_look(path)):
        _remove_unless_it_changes(path)
    return _make(path)


def said_in(path: Path) -> str:
    """Name the process whose file it is; "" where there is none, or it says of nobody."""
    found = _look(path)
    if found is None or _says_of_nobody(found):
        return ""
    pid, host = found.text.decode(errors="replace").split("\n")[:2]
    return f"process {int(pid)} on {host[:80]!r}"


def files_of(path: Path) -> list[Path]:
    """List the file, and the one that is there while it is removed, if it is."""
    guard = _guard(path)
    return [path, guard] if guard.exists() else [path]


@dataclass(frozen=True)
class _Look:
    """What is seen of a file; that of another one, or of one that was written, differs."""

    inode: int
    written: int
    changed: int
    text: bytes


def _look(path: Path) -> _Look | None:
    """Look at a file; None where there is none that could be read."""
    try:
        with path.open("rb") as file:
            told = os.fstat(file.fileno())
            return _Look(told.st_ino, told.st_mtime_ns, told.st_ctime_ns, file.read(4096))
    except OSError:
        return None


def _says_of_nobody(found: _Look | None) -> bool:
    """Tell whether a file is there that does not name a process; a last line may be half one."""
    if found is None:
        return False
    lines = found.text.split(b"\n")
    return not (len(lines) > 2 and lines[0].isdigit() and len(lines[0]) < 11 and lines[1])


def _guard(path: Path) -> Path:
    return path.with_name(f"{path.name}.removal")


def _remove_unless_it_changes(path: Path) -> None:
    """Remove a file that says of nobody, when it has stayed so for longer than writing takes.

    Only one process does so at once: a second one might remove what the first has made since.
    """
    before, started = _look(path), time.monotonic()
    log(f"{path}: names no process; looking for {_WRITING:.0f} s whether somebody writes it")
    while time.monotonic() - started < _WRITING:
        time.sleep(_POLL)
        if _look(path) != before:
            return
    guard = _make(_guard(path))
    try:
        if _look(path) == before:
            path.unlink()
            log(f"{path}: left by a process that was killed when it took the lock; taken over")
    finally:
        guard.release()


def _make(path: Path) -> Marker | SoftFileLock:
    made = _link_whole(path)
    if made is not None:
        # who is about to link one of these finds the lock taken, whether it is there or not
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink(missing_ok=True)
        return made
    soft = SoftFileLock(str(path))
    soft.acquire(timeout=0)
    return soft


def _link_whole(path: Path) -> Marker | None:
    """Write the file under another name and link it; None where it is there, or links are not."""
    other = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    writing = SoftFileLock(str(other))
    writing.acquire(timeout=0)
    try:
        with other.open("rb") as file:
            text = file.read()
            os.fsync(file.fileno())  # for other machines to see
        try:
            os.link(other, path)
        except FileExistsError:
            if other.stat().st_nlink < 2:  # else it was done, and the answer was lost on its way
                return None
        return Marker(path, text)
    except OSError:
        return None
    finally:
        writing.release()
