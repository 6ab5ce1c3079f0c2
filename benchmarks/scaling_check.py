"""Train something tiny in one, two and four processes, and hold what they take to the simulation.

What three runs of one process take (all pairs for many epochs, for few, and one pair for many)
gives the start, the trunk's cost and a sample's; the simulation then says what the processes of
shared runs take. All times are of the processor: they count neither waiting nor what else runs on
the machine, so that the longest of several processes is the wall time on as many idle cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.scaling_simulation import Costs, Troubles, shares, simulate
from common.data.synthetic import write_dataset
from common.system.errors import InputError
from common.system.log import log

ROOT = Path(__file__).parent.parent
_GRADES = 5


@dataclass(frozen=True)
class CheckPlan:
    """What is trained."""

    model: str = "demo_convnext"
    images: int = 24  # of each grade
    many: int = 12  # epochs
    few: int = 2
    sizes: tuple[int, ...] = (1, 2, 4)  # processes


@dataclass(frozen=True)
class Shared:
    """What a run of several processes took, in seconds of the processor of each."""

    measured: list[float]
    predicted: list[float]
    wall: float  # of the whole run on this machine, other programs beside it

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
        _train(root, plan, "warm", 1, plan.few)  # decodes
        found = {
            name: _train(root, plan, name, 1, epochs, pairs).measured[0]
            for name, epochs, pairs in (
                ("many", plan.many, ()),
                ("few", plan.few, ()),
                ("pair", plan.many, ("0-1",)),
            )
        }
        counts = [float(plan.images)] * _GRADES
        start, costs = fitted(plan, counts, found["many"], found["few"], found["pair"])
        trunk, sample = 1e3 * costs.trunk, 1e3 * costs.sample
        log(f"start {start:.1f} s, trunk {trunk:.2f} ms, sample {sample:.2f} ms")
        results = []
        for size in plan.sizes:
            run = _train(root, plan, f"of{size}", size, plan.many)
            processes = simulate(
                shares(1, counts, size), counts, [costs], plan.many, start, Troubles(), 0
            )
            found_here = Shared(run.measured, [p.end for p in processes], run.wall)
            results.append(found_here)
            longest = max(found_here.measured), max(found_here.predicted)
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


def _train(
    root: Path, plan: CheckPlan, name: str, size: int, epochs: int, pairs: Sequence[str] = ()
) -> Shared:
    """Train in `size` processes at once; returns what each of them took."""
    command = [
        *(sys.executable, "train_ovo.py", "--base_models", plan.model, "--no_pretrained"),
        *("--dataset_path", str(root / "images"), "--output_dir", str(root / name)),
        *("--cache_dir", str(root / "cache"), "--epochs", str(epochs), "--warmup_epochs", "1"),
        *("--patience", "1000", "--device", "cpu", "--precision", "fp32", "--num_workers", "1"),
        *(("--pairs", *pairs) if pairs else ()),
    ]
    started = time.monotonic()
    processes = []
    for rank in range(size):
        place = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
        own = {**os.environ, "OMP_NUM_THREADS": "1", **(place if size > 1 else {})}
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
    return Shared(measured, [], time.monotonic() - started)
