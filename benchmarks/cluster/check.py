"""Train something tiny in one, two and four processes, and hold what they take to the simulation.

What three runs of one process take (all pairs for many epochs, for few, and one pair for many)
gives the start, the trunk's cost and a sample's; the simulation then says what the processes of
shared runs take. Its times are of the processor: they count neither waiting nor what else runs on
the machine, so that the longest of several processes is the wall time on as many idle cores. The
time on the clock is measured beside them, also of one process with a thread for each core. Each run
is done some times in turn, and the fastest counts: what else a machine does only makes it slower.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.cluster.simulation import Costs, Troubles, shares, simulate
from common.data.synthetic import write_dataset
from common.system.errors import InputError
from common.system.log import log

ROOT = Path(__file__).parents[2]
_GRADES = 5


@dataclass(frozen=True)
class CheckPlan:
    """What is trained."""

    model: str = "demo_convnext"
    images: int = 24  # of each grade
    many: int = 40  # epochs
    few: int = 2
    sizes: tuple[int, ...] = (1, 2, 4)  # processes
    rounds: int = 3


@dataclass(frozen=True)
class Shared:
    """What a run of several processes took, in seconds of the processor of each."""

    measured: list[float]
    predicted: list[float]  # [] where threads, which the simulation does not know, share the work
    wall: float  # seconds of the whole run on this machine
    threads: int = 1  # of each process

    @property
    def error(self) -> float:
        """By how much the longest process is predicted too long, as a share."""
        return max(self.predicted) / max(self.measured) - 1


def check(plan: CheckPlan) -> list[Shared]:
    """Measure and predict runs of some numbers of processes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(
            root / "images", {"train": plan.images, "val": max(2, plan.images // 4)}, 0, 128
        )
        _train(root, plan, "warm", _Task(epochs=plan.few))  # decodes
        one = {
            "many": _Task(plan.many),
            "few": _Task(plan.few),
            "pair": _Task(plan.many, ("0-1",)),
        }
        cores = len(os.sched_getaffinity(0))
        threads = {"threads": _Task(plan.many, threads=cores)} if cores > 1 else {}
        together = {f"of{size}": _Task(plan.many, size=size) for size in plan.sizes}
        found = _fastest(root, plan, one | threads | together)
    counts = [float(plan.images)] * _GRADES
    start, costs = fitted(plan, counts, *(found[name].measured[0] for name in one))
    trunk, sample = 1e3 * costs.trunk, 1e3 * costs.sample
    log(f"start {start:.1f} s, trunk {trunk:.2f} ms, sample {sample:.2f} ms")
    results = [found[name] for name in threads]
    for name, size in zip(together, plan.sizes):
        processes = simulate(
            shares(1, counts, size), counts, [costs], plan.many, start, Troubles(), 0
        )
        results.append(replace(found[name], predicted=[p.end for p in processes]))
        longest = max(results[-1].measured), max(results[-1].predicted)
        log(f"{size} processes: {longest[0]:.1f} s measured, {longest[1]:.1f} s predicted")
    return results


def fitted(
    plan: CheckPlan, counts: Sequence[float], many: float, few: float, pair: float
) -> tuple[float, Costs]:
    """Solve for a process's start, the trunk's cost for an image and a sample's of a pair."""
    images, samples = sum(counts), sum(counts) * (_GRADES - 1)
    epoch = (many - few) / (plan.many - plan.few)
    start = many - plan.many * epoch
    of_pair = (pair - start) / plan.many
    two = counts[0] + counts[1]
    trunk, sample = np.linalg.solve([[images, samples], [two, two]], [epoch, of_pair]).tolist()
    return start, Costs(max(trunk, 0.0), max(sample, 0.0))


@dataclass(frozen=True)
class _Task:
    """What is trained, by how many processes of how many threads."""

    epochs: int
    pairs: tuple[str, ...] = ()
    size: int = 1
    threads: int = 1


def _fastest(root: Path, plan: CheckPlan, tasks: dict[str, _Task]) -> dict[str, Shared]:
    """Train each of the tasks in turn, some times; return the fastest training of each."""
    found: dict[str, Shared] = {}
    for number in range(plan.rounds):
        for name, task in tasks.items():
            run = _train(root, plan, f"{name}_{number}", task)
            if name not in found or run.wall < found[name].wall:
                found[name] = run
            log(f"round {number + 1}, {name}: {run.wall:.1f} s on the clock")
    return found


def _train(root: Path, plan: CheckPlan, name: str, task: _Task) -> Shared:
    """Do a task in a directory called `name`; returns what each process took."""
    command = [
        *(sys.executable, "train_ovo.py", "--base_models", plan.model, "--no_pretrained"),
        *("--dataset_path", str(root / "images"), "--output_dir", str(root / name)),
        *("--cache_dir", str(root / "cache"), "--epochs", str(task.epochs), "--warmup_epochs", "1"),
        *("--patience", "1000", "--device", "cpu", "--precision", "fp32", "--num_workers", "1"),
        *(("--pairs", *task.pairs) if task.pairs else ()),
    ]
    started = time.monotonic()
    processes = []
    for rank in range(task.size):
        place = {"RANK": str(rank), "WORLD_SIZE": str(task.size), "LOCAL_RANK": str(rank)}
        own = {**os.environ, "OMP_NUM_THREADS": str(task.threads)}
        own |= place if task.size > 1 else {}
        with open(root / f"{name}_{rank}.txt", "w") as out:
            processes.append(
                subprocess.Popen(command, cwd=ROOT, env=own, stdout=out, stderr=subprocess.STDOUT)
            )
    measured = []
    for rank, process in enumerate(processes):
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            last = (root / f"{name}_{rank}.txt").read_text()[-500:]
            raise InputError(f"a training of the check failed: {last}")
        measured.append(used.ru_utime + used.ru_stime)
    return Shared(measured, [], time.monotonic() - started, task.threads)
