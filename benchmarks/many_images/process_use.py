"""Say what a process took: time, and memory at most."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.system.errors import InputError

_WATCH_EVERY = 0.05  # seconds

# What a process is told to have used at most begins with the memory of the process that started it:
# hence one of 10 MB between. It writes what the system says of the command into a file.
_LAUNCHER = """
import json, os, sys
report, *command = sys.argv[1:]
_, status, used = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
with open(report, "w") as file:
    json.dump([status, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024], file)
"""


@dataclass(frozen=True)
class Used:
    """What a process used."""

    processor_seconds: float
    wall_seconds: float
    peak: int  # bytes in memory at most, with what it shares and with views of files


@dataclass
class Memory:
    """What a process has in memory at most, in bytes."""

    peak: int = 0  # with views of files, which the system may drop
    own: int = 0  # without


def run_command(words: Sequence[str | Path], folder: Path, expected: int = 0) -> Used:
    """Run Python with these words on one thread in a folder.

    Raises InputError unless it ends with the exit status that is expected.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as place:
        report, log = Path(place) / "report", Path(place) / "log"
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, report, sys.executable, *words]
        started = time.perf_counter()
        with open(log, "w") as out:
            subprocess.run(
                command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
            )
        seconds = time.perf_counter() - started
        killed = (9, 0, 0)  # where the one between has ended before it wrote
        status, processor, peak = json.loads(report.read_text()) if report.exists() else killed
        code = os.waitstatus_to_exitcode(status)
        if code != expected:
            last = log.read_text(errors="replace").strip()[-300:]
            name = Path(str(words[0])).name
            raise InputError(f"{name}: failed, exit status {code}: {last}")
    return Used(processor, seconds, peak)


@contextmanager
def watched_memory() -> Iterator[Memory]:
    """Watch this process's memory, which is known when that ends."""
    found, ended = Memory(), threading.Event()

    def watch() -> None:
        while True:
            found.own = max(found.own, memory_of_status("RssAnon"))
            if ended.wait(_WATCH_EVERY):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found.peak = memory_of_status("VmHWM")


def memory_of_status(name: str) -> int:
    """Read a number of bytes that Linux says of this process, such as RssAnon."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
