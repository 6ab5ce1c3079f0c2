"""Who holds a lock: what lock files say of a process, and whether it is surely gone."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

_LONGEST = 80  # letters of a host's name in a message


@dataclass(frozen=True)
class Holder:
    """The process that wrote a lock file."""

    pid: int
    host: str
    since: str  # UTC, ISO 8601
    boot: str = ""  # of the host's kernel; another one after a restart. "": not known
    numbering: str = ""  # of processes; containers have their own. "": not known
    started: str = ""  # the process, as its kernel counts; "": not known

    def __str__(self) -> str:
        since = datetime.fromisoformat(self.since).strftime("%Y-%m-%d %H:%M:%SZ")
        return f"process {self.pid} on {self.host[:_LONGEST]!r} since {since}"

    def to_bytes(self) -> bytes:
        """Write what `read_holder` reads."""
        return json.dumps(asdict(self)).encode()

    def is_gone(self) -> bool:
        """Tell whether the process has surely ended; of other machines nobody here can tell.

        A host's name alone proves nothing, as machines made from one image may share it: the kernel
        must be the same, and so must the numbering of processes.
        """
        return self.is_of_this_machine and _start_of(self.pid) != self.started

    @property
    def process(self) -> tuple[str | int, ...]:
        """What tells processes apart, and is the same in all lock files of one."""
        return self.pid, self.host, self.boot, self.numbering, self.started

    @property
    def is_of_this_machine(self) -> bool:
        """Tell whether the process can be looked for here: it is there, or it has ended."""
        here = this_process()
        known = (self.host, self.boot, self.numbering)
        return all((*known, self.started)) and known == (here.host, here.boot, here.numbering)


def this_process() -> Holder:
    """Describe this process as the holder of a lock from now on."""
    return Holder(
        os.getpid(),
        socket.gethostname(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        _read(Path("/proc/sys/kernel/random/boot_id")),
        _numbering(),
        _start_of(os.getpid()),
    )


def read_holder(text: bytes) -> Holder | None:
    """Read what a lock file says of its holder; None if that is nothing that can be understood."""
    try:
        found = json.loads(text)
        datetime.fromisoformat(found["since"])
        later = [str(found.get(name, "")) for name in ("boot", "numbering", "started")]
        return Holder(int(found["pid"]), str(found["host"]), found["since"], *later)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _start_of(pid: int) -> str:
    """Tell when a process began, in ticks since the kernel did; "" if there is none."""
    # the name, in brackets, may hold blanks and brackets; field 22 is the 20th after it
    after_name = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return after_name[19] if len(after_name) > 19 else ""


def _numbering() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
