"""How many threads compute: as many as asked for, or as find a core to themselves.

Threads of one matrix product wait for each other. Where another program takes a core from one of
them, all are as slow as that one: on shared cores two threads are slower than one, measured in
docs/performance.md. So pieces of work that do not depend on each other are better done side by
side, each with a part of the threads, than one after the other with all of them.
"""

import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.system.environment import control_groups, set_malloc
from common.system.errors import InputError
from common.system.log import log

AUTO = "auto"
_VARIABLE = "OMP_NUM_THREADS"
_MOST = 1024
_LOOKS, _BETWEEN = 5, 0.05  # how often, and seconds apart, other programs are looked for
_PROBE_SECONDS = 2.0
_GAIN = 0.9  # more threads must take at most this share of the time
# of its own speed that a thread loses for each other one in the same product; measured on 2 cores
_LOSS = 0.12
_M_ARENA_MAX = -8  # of mallopt(3)
_WORKER = "side_by_side"  # what the threads of workers are called
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ThreadChoice:
    """How many threads compute, and why."""

    count: int
    reason: str

    @property
    def line(self) -> str:
        """Say it for the log."""
        return f"threads: {self.count} ({self.reason})"


def use_threads(asked: str, speak: bool = True, probe: bool = True) -> ThreadChoice:
    """Let as many threads compute as asked for, or as is best here, and say so in a line.

    asked: "auto" or a number. probe: PyTorch computes, and may be asked how fast; without, whatever
    computes reads the environment. Raises InputError for anything else.
    """
    choice = choose_threads(asked, _measure if probe else None)
    if probe:
        import torch  # its own reading of the environment knows other limits

        torch.set_num_threads(choice.count)
    else:
        os.environ[_VARIABLE] = str(choice.count)
    if speak:
        log(choice.line)
    return choice


def require_threads(asked: str) -> None:
    """Raise InputError for what is neither "auto" nor a number of threads."""
    if asked != AUTO and _number(asked) is None:
        raise InputError(f"--threads: expected auto or a number from 1 to {_MOST}, found {asked!r}")


def _number(text: str) -> int | None:
    """Read a number of threads; None for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST))):
        return None
    return int(text) if 1 <= int(text) <= _MOST else None


def allocate_in_one_heap() -> None:
    """Let all threads take memory from one heap of glibc's, where these come before they do.

    A heap of a thread's own gives back what is larger than 64 MB each time, so that the system
    clears new pages for it each time. Measured on 2 cores: views of 16 pictures of 320 px, two at a
    time, take 1.4 to 1.5 times as long so. Training, which frees memory in other threads, takes 15
    % more time with one heap. Does nothing with another C library.
    """
    set_malloc(_M_ARENA_MAX, 1)


def choose_threads(
    asked: str, measure: Callable[[list[int]], dict[int, float]] | None
) -> ThreadChoice:
    """Choose by the flag, then by the environment, then by what else the cores are doing.

    measure: returns the seconds that a piece of work takes with each number of threads; None: that
    cannot be measured.
    """
    cores = len(os.sched_getaffinity(0))
    require_threads(asked)
    if asked != AUTO:
        return ThreadChoice(int(asked), f"as --threads says; cores: {cores}")
    text = os.environ.get(_VARIABLE, "")
    given = _number(text.split(",")[0].strip())
    if given is not None:
        reason = f"as {_VARIABLE}={text} says" + (", on the cores there are" * (given > cores))
        return ThreadChoice(min(given, cores), f"{reason}; --threads would overrule it")
    limit, quota = cores, cpu_quota()
    of = f"of {cores} {'core' if cores == 1 else 'cores'}"
    if quota is not None and quota < cores:
        limit = max(1, int(quota))
        of += f", of which a quota grants {quota:g}"
    if text.strip():
        of += f"; {_VARIABLE}={text[:40]!r} is no number of threads"
    others = busy_others()
    if limit == 1 or limit + others <= cores:
        return ThreadChoice(limit, f"{of}; nothing else keeps them busy" if limit > 1 else of)
    found = f"{of}, where {others} other {'thread computes' if others == 1 else 'threads compute'}"
    if measure is None:
        return ThreadChoice(max(1, min(limit, cores - others)), found)
    seconds = measure([limit >> place for place in range(limit.bit_length())])
    best = min(seconds, key=lambda count: seconds[count] / (1 if count == 1 else _GAIN))
    measured = ", ".join(f"{1000 * took:.1f} ms with {count}" for count, took in seconds.items())
    return ThreadChoice(best, f"{found}: a matrix product takes {measured}")


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many cores' time the control groups grant this process; None: no limit."""
    found = map(_quota_of, control_groups("cpu", root))
    return min((quota for quota in found if quota is not None), default=None)


def _quota_of(folder: Path) -> float | None:
    """Read version 2's cpu.max, or version 1's two files."""
    try:
        if (folder / "cpu.max").is_file():
            granted, period = (folder / "cpu.max").read_text().split()
        else:
            granted, period = (
                (folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        return int(granted) / int(period) if int(granted) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None


def busy_others(proc: Path = Path("/proc")) -> int:
    """Count the threads of other processes that compute on this process's cores, in the median.

    Looks at those that are visible from here: a container does not see its neighbours.
    """
    counts = []
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN)
        counts.append(_running_others(proc))
    return sorted(counts)[_LOOKS // 2]


def _running_others(proc: Path) -> int:
    cores, found = os.sched_getaffinity(0), 0
    for process in proc.iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            if process.joinpath("stat").read_text().rpartition(")")[2].split()[17] != "1":
                stats = [task / "stat" for task in process.joinpath("task").iterdir()]
            else:  # a single thread
                stats = [process / "stat"]
            for stat in stats:
                fields = stat.read_text().rpartition(")")[2].split()
                found += fields[0] == "R" and int(fields[36]) in cores
        except (OSError, ValueError, IndexError):  # it has ended meanwhile
            continue
    return found


def _measure(counts: list[int]) -> dict[int, float]:
    """Return the mean seconds of a matrix product with so many threads, in two seconds for all."""
    import torch

    matrix = torch.ones(512, 512)
    spent, done = dict.fromkeys(counts, 0.0), dict.fromkeys(counts, 0)
    started = time.monotonic()
    while not all(done.values()) or time.monotonic() - started < _PROBE_SECONDS:
        for count in counts:
            torch.set_num_threads(count)
            _ = matrix @ matrix
            for _ in range(5):
                before = time.monotonic()
                _ = matrix @ matrix
                spent[count] += time.monotonic() - before
                done[count] += 1
    return {count: spent[count] / done[count] for count in counts}


def workers_for(pieces: int, threads: int, most: int | None = None) -> int:
    """Choose how many pieces of work of one size to do at once: each gets threads // workers.

    most: how many may be at work at once, where that is less than all.
    """
    limit = min(pieces if most is None else most, threads)

    def time_taken(workers: int) -> float:
        of_each = threads // workers
        return -(-pieces // workers) / of_each * (1 + _LOSS * (of_each - 1))

    return min(range(1, max(1, limit) + 1), key=time_taken)


def side_by_side(
    work: Callable[[_Item], _Result], items: Sequence[_Item], workers: int = 0
) -> list[_Result]:
    """Do a piece of work for each item, several at once; returns the results in their order.

    workers: how many at most, each with threads // workers of PyTorch's threads however many items
    there are; 0: as is best for these. A worker itself does all that is asked of it. Gradients are
    tracked there or not as here, but autocast is not on. All are done, or have failed, before the
    first error is raised; where this thread is interrupted, those that have not begun are left.
    """
    import torch

    threads = torch.get_num_threads()
    workers = workers or workers_for(len(items), threads)
    if workers == 1 or threading.current_thread().name.startswith(_WORKER):
        return [work(item) for item in items]
    inference, tracked = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run(item: _Item) -> _Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(tracked):
            return work(item)

    pool = _workers(workers, threads // workers)
    pieces = [pool.submit(run, item) for item in items]
    try:
        wait(pieces)
    except BaseException:  # Ctrl-C, or a signal
        for piece in pieces:
            piece.cancel()
        raise
    return [piece.result() for piece in pieces]


@functools.cache
def _workers(count: int, threads_of_each: int) -> ThreadPoolExecutor:
    """Start workers that compute with so many threads each."""
    import torch

    own = torch.get_num_threads()
    pool, all_there = ThreadPoolExecutor(count, _WORKER), threading.Barrier(count)

    def start(_: int) -> None:
        torch.get_num_threads()  # at first a thread takes the number of the whole process
        torch.set_num_threads(threads_of_each)
        all_there.wait()  # so that each worker comes here once

    try:
        list(pool.map(start, range(count)))
    except (RuntimeError, threading.BrokenBarrierError) as error:
        all_there.abort()  # those that are there already would wait forever
        pool.shutdown(wait=False)
        raise InputError(
            f"{count} threads cannot be started ({error}); raise the limit of processes "
            "(ulimit -u), or take --threads 1"
        ) from error
    torch.set_num_threads(own)  # a worker's number has become that of new threads, too
    return pool


os.register_at_fork(after_in_child=_workers.cache_clear)  # a forked process has no threads of it
