#!/usr/bin/env python3
"""Kill processes of a torchrun at random moments, and compare the outcome with that of one process.

    python -m dev.kill_ranks --kills 20 --ranks 2

Trains a small network on synthetic images: once in one process and in peace, then in several, one
of which is killed by SIGKILL, over and over until there were enough kills. torchrun starts all of
them again each time. Exit status 0 if every tensor is the same.
"""

from common.cli import Parser, guarded

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common.data.synthetic import write_dataset
from dev.kill_training import ROOT, command, history, same_tensors, tensors

PAIRS = ("0-1", "0-2", "1-3", "2-4")
_AT_WORK = "classifiers: "  # in the line of a process that has found its checkpoints


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="(default 20)")
    parser.add_argument("--ranks", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--epochs", type=int, default=24, help="(default 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--folder", type=Path, default=None, help="(default a temporary one)")
    return parser.parse_args(argv)


def children_of(process: int) -> list[int]:
    """List the processes that another one has started and that run."""
    try:
        return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))
    except OSError:
        return []


def at_work(log: Path) -> int:
    """Count how often a process has said that it begins or goes on with its pairs."""
    return log.read_text(errors="replace").count(_AT_WORK) if log.is_file() else 0


def train_in_peace(folder: Path, epochs: int) -> None:
    """Train in one process."""
    words = command(folder, "whole", epochs, PAIRS)
    with open(folder / "whole.txt", "ab") as log:
        subprocess.run(
            [sys.executable, "train_ovo.py", *words], cwd=ROOT, stdout=log, stderr=log, check=True
        )


def train_and_kill(
    folder: Path, name: str, args: argparse.Namespace, most: int, moments: random.Random
) -> int:
    """Train in several processes, of which up to `most` are killed; returns how many were."""
    words = command(folder, name, args.epochs, PAIRS)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={args.ranks}"]
    torchrun += [f"--max_restarts={most}", "--monitor_interval=0.2", "train_ovo.py"]
    log, done, longest = folder / f"{name}.txt", 0, 3.0
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, *torchrun, *words], cwd=ROOT, stdout=file, stderr=file
        )
        begun = 0  # lines of earlier starts
        while process.poll() is None:
            time.sleep(0.02)
            if done == most or at_work(log) < begun + args.ranks:
                continue
            before = history(folder / name)
            time.sleep(moments.uniform(0, longest))
            begun, workers = at_work(log), children_of(process.pid)
            if len(workers) < args.ranks:
                continue  # one has come to its end already
            victim = moments.choice(workers)
            os.kill(victim, signal.SIGKILL)
            done += 1
            while victim in children_of(process.pid) and process.poll() is None:
                time.sleep(0.02)
            longest = max(0.3, longest * (1.3 if history(folder / name) == before else 0.7))
            whole = len(PAIRS) * args.epochs
            print(f"kill {done}: {history(folder / name)} rows of {whole}", flush=True)
    if process.returncode:
        raise SystemExit(f"torchrun ended with status {process.returncode}, see {log}")
    return done


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the campaign and say how it went."""
    args = parse_args(argv)
    moments, agree, done, number = random.Random(args.seed), True, 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        write_dataset(folder / "images", {"train": 10, "val": 4}, seed=1, size=96)
        train_in_peace(folder, args.epochs)
        whole = tensors(folder / "whole")
        while done < args.kills:
            number += 1
            name = f"killed_{number}"
            done += train_and_kill(folder, name, args, args.kills - done, moments)
            found = tensors(folder / name)
            same = same_tensors(found, whole)
            left = [path for path in (folder / name).rglob(".*") if path.is_file()]
            print(f"training {number}: {done} kills in all, same bits: {same}, left over: {left}")
            agree &= same and not left and bool(whole)
    print(f"{done} kills of {args.ranks} processes; bit-identical: {'yes' if agree else 'NO'}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
