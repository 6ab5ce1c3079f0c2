#!/usr/bin/env python3
"""Kill a training at random moments, resume it each time, and compare the outcome bit for bit.

    python -m dev.kill_training --kills 50
    python -m dev.kill_training --kills 20 --processes 2 --hosts

Trains a small network on synthetic images: once in peace, then killed by SIGKILL, over and over
until there were enough kills. With two processes, both train into one directory, and each is
killed. Exit status 0 if every tensor is the same each time.
"""

from common.cli import Parser, guarded

import argparse
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from common.data.synthetic import write_dataset
from common.locks.kernel_locks import WITHOUT
from common.system.errors import InputError

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    import torch

ROOT = Path(__file__).resolve().parents[1]
PAIRS = ("0-1", "2-4")
TWO = (("0-1", "2-4"), ("2-4", "0-3"))  # of two processes: one pair is wanted by both


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="(default 50)")
    parser.add_argument("--epochs", type=int, default=24, help="(default 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1, help="(default 1)")
    parser.add_argument(
        "--hosts",
        action="store_true",
        help="each process on a host of its own (by name), on a file system without locks",
    )
    parser.add_argument("--folder", type=Path, default=None, help="(default a temporary one)")
    return parser.parse_args(argv)


def command(folder: Path, name: str, epochs: int, pairs: Sequence[str] = PAIRS) -> list[str]:
    """Write the training's flags."""
    flags = (
        f"--base_models demo_convnext --no_pretrained --freeze_weights false --epochs {epochs} "
        f"--patience {epochs} --device cpu --resume --pairs"
    )
    places = {
        "--dataset_path": folder / "images",
        "--cache_dir": folder / f"cache_{name}",
        "--output_dir": folder / name,
    }
    words = [str(word) for place in places.items() for word in place]
    return [*flags.split(), *pairs, *words]


class Trainer:
    """Trains in processes of their own that need not import anything: they are forked.

    To import PyTorch takes longer than such a small training.
    """

    def __init__(self, host: str = "") -> None:
        """host: has this name, and no locks of the kernel; "": this machine as it is."""
        named = ["unshare", "--uts", "sh", "-c", f'hostname {host} && exec "$@"', "-"]
        self._server = subprocess.Popen(
            [*(named if host else []), sys.executable, "-u", "-c", _SERVER],
            cwd=ROOT,
            env=os.environ | ({WITHOUT: "1"} if host else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what is read here is no longer waited for
        )

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()  # the end of its input is its end

    def run(self, words: list[str], log: Path, mark: str = "", seconds: float = 0.0) -> int:
        """Train with some flags, and append to a log what is said; returns the exit status.

        mark: a regular expression; `seconds` after a line has it the process is killed.
        """
        assert self._server.stdin is not None and self._server.stdout is not None
        start = log.stat().st_size if log.is_file() else 0
        self._server.stdin.write(json.dumps([words, str(log)]).encode() + b"\n")
        process, marked = int(self._server.stdout.readline()), None
        while mark and not select.select([self._server.stdout], [], [], 0.005)[0]:
            if marked is None and re.search(
                mark, log.read_bytes()[start:].decode(errors="replace")
            ):
                marked = time.monotonic()
            if marked is not None and time.monotonic() - marked >= seconds:
                os.kill(process, signal.SIGKILL)
                break
        return int(self._server.stdout.readline())


# runs one training after another: reads flags and log, says the process and then its exit status
_SERVER = """
import json, os, sys
import train_ovo
import common.audit.leakage, common.model_card.card, common.training.loop  # what it puts off
for line in sys.stdin:
    words, log = json.loads(line)
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(log, stream)
        os._exit(train_ovo.main(words))
    os.close(log)
    print(child)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def tensors(folder: Path) -> dict[str, "torch.Tensor"]:
    """Read every tensor of a result directory's classifiers."""
    from common.models.checkpoint_file import load_checkpoint

    found: dict[str, torch.Tensor] = {}
    for path in sorted((folder / "models").glob("best_*.pth")):
        content = load_checkpoint(path)
        for part in ("trunk", "top", "classifier"):
            found |= {f"{path.name} {part} {k}": v for k, v in content[part].items()}
    return found


def same_tensors(one: dict[str, "torch.Tensor"], other: dict[str, "torch.Tensor"]) -> bool:
    """Tell whether two trainings gave the same, to the last bit."""
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def joint_campaign(
    folder: Path, kills: int, epochs: int, seed: int, hosts: bool
) -> tuple[int, bool]:
    """Let two processes train into one directory, and kill each of them `kills` / 2 times."""
    write_dataset(folder / "images", {"train": 10, "val": 4}, seed=1, size=96)
    every = sorted({pair for pairs in TWO for pair in pairs})
    with ExitStack() as stack:
        trainers = [stack.enter_context(Trainer(f"node{n}" if hosts else "")) for n in (1, 2)]
        trainers[0].run(command(folder, "whole", epochs, every), folder / "log.txt")

        def work(number: int) -> int:
            return killed_until_done(
                trainers[number],
                folder,
                "joint",
                epochs,
                (kills + number) // 2,
                random.Random(seed + number),
                TWO[number],
            )

        with ThreadPoolExecutor() as pool:
            done = sum(pool.map(work, (0, 1)))
    whole, found = tensors(folder / "whole"), tensors(folder / "joint")
    same = same_tensors(found, whole)
    left = [*(folder / "joint").rglob("*.part"), *(folder / "joint").glob(".lock*")]
    rows = [history(folder / name) for name in ("joint", "whole")]
    print(f"{done} kills, same bits: {same}, rows {rows}, left over: {len(left)}", flush=True)
    return done, same and len(whole) > 0 and not left and rows[0] == rows[1]


def campaign(folder: Path, kills: int, epochs: int, seed: int) -> tuple[int, bool]:
    """Kill trainings until there were that many kills; returns how many, and whether all agree."""
    write_dataset(folder / "images", {"train": 10, "val": 4}, seed=1, size=96)
    with Trainer() as trainer:
        return _campaign(trainer, folder, kills, epochs, random.Random(seed))


def _campaign(
    trainer: Trainer, folder: Path, kills: int, epochs: int, moments: random.Random
) -> tuple[int, bool]:
    started = time.monotonic()
    trainer.run(command(folder, "whole", epochs), folder / "log.txt")
    whole = tensors(folder / "whole")
    print(f"in peace: {time.monotonic() - started:.0f} s, {epochs} epochs", flush=True)
    done, number, agree = 0, 0, len(whole) > 0
    while done < kills:
        number += 1
        name = f"killed_{number}"
        done += killed_until_done(trainer, folder, name, epochs, kills - done, moments)
        found = tensors(folder / name)
        same = same_tensors(found, whole)
        left = list((folder / name).rglob("*.part"))
        print(
            f"training {number}: {done} kills in all, same bits: {same}, left over: {len(left)}",
            flush=True,
        )
        agree &= same and not left
    return done, agree


def killed_until_done(
    trainer: Trainer,
    folder: Path,
    name: str,
    epochs: int,
    most: int,
    moments: random.Random,
    pairs: Sequence[str] = PAIRS,
) -> int:
    """Kill and resume one training up to `most` times, then let it end; returns the kills."""
    done, longest, log = 0, 1.0, folder / f"log_{pairs[0]}.txt"
    while True:
        before = history(folder / name)
        mark = "classifiers: " if done < most else ""  # it has found its checkpoints
        moment = moments.uniform(0, longest) if mark else 0.0
        status = trainer.run(command(folder, name, epochs, pairs), log, mark, moment)
        if status != -signal.SIGKILL:
            if status:
                raise SystemExit(f"a resumed training failed with status {status}, see {log}")
            return done
        done += 1
        # wait longer where no epoch was finished, shorter where one was
        longest = max(0.3, longest * (1.3 if history(folder / name) == before else 0.7))
        print(f"kill {done}: {history(folder / name)} rows", flush=True)


def history(folder: Path) -> int:
    """Count the rows of history.csv."""
    path = folder / "logs" / "history.csv"
    return path.read_text().count("\n") - 1 if path.is_file() else 0


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the campaign and say how it went."""
    args = parse_args(argv)
    if args.hosts and args.processes == 1:
        raise InputError("--hosts: expected --processes 2")
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        if args.processes == 1:
            done, same = campaign(folder, args.kills, args.epochs, args.seed)
        else:
            done, same = joint_campaign(folder, args.kills, args.epochs, args.seed, args.hosts)
    print(f"{done} kills; bit-identical: {'yes' if same else 'NO'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
