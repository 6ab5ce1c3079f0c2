"""The kernel's locks (flock): whether those of a folder keep processes apart, on all machines.

Some network file systems have none, have some that exclude nobody, or keep them within a machine.
"""

import fcntl
import functools
import os
import re
import tempfile
from pathlib import Path

WITHOUT = "OVO_WITHOUT_FLOCK"  # in the environment: as on a file system that has no such locks
# of one machine's own disks: who finds a lock free there knows that its holder is gone
_LOCAL = "bcachefs btrfs exfat ext2 ext3 ext4 f2fs ntfs3 overlay ramfs rootfs tmpfs vfat xfs zfs"


def lock_now(handle: int, kind: int) -> None:
    """Lock an open file, LOCK_EX or LOCK_SH, without waiting.

    Raises BlockingIOError where another process has it, other OSErrors where nothing can be locked.
    """
    if os.environ.get(WITHOUT):
        raise OSError(f"switched off by {WITHOUT}")
    fcntl.flock(handle, kind | fcntl.LOCK_NB)


def lock_note(folder: Path) -> str:
    """Say in a line of the log that lock files are used in a folder; "" where they need not be."""
    doubts = doubts_about(folder)
    return f"note: kernel locks in {folder}: {doubts}; lock files are used, too" if doubts else ""


def doubts_about(folder: Path) -> str:
    """Say why the kernel's locks in a folder may not keep processes apart; "" where they do."""
    if os.environ.get(WITHOUT):
        return f"they are switched off ({WITHOUT})"
    return _doubts(os.path.realpath(folder), os.stat(folder).st_dev)


@functools.cache
def _doubts(folder: str, device: int) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".lock_test.") as first:
            second = os.open(first.name, os.O_RDWR)
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            except OSError as error:
                return f"there are none ({error.strerror})"
            else:
                return "they let two in at once"
            finally:
                os.close(second)
    except FileNotFoundError:  # a name that is not there a moment after it was
        return "its files are not seen at once"
    kind = _file_system(folder)
    return "" if kind in _LOCAL.split() else f"{kind} may keep them within each machine"


def _file_system(folder: str) -> str:
    """Name the kind of file system that a folder lies on, such as "ext4" or "nfs4"."""
    best, kind = "", "an unknown file system"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return kind
    for line in lines:
        before, _, after = line.partition(" - ")
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        inside = folder == place or folder.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):  # of two at one place the later one is seen
            best, kind = place, after.split()[0]
    return kind
