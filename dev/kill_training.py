#!/usr/bin/env python3
"""Kill a training at random moments, resume it each time, and compare the outcome bit for bit.

    python -m dev.kill_training --kills 50

Trains a small network on synthetic images: once in peace, then killed by SIGKILL, over and over
until there were enough kills. Exit status 0 if every tensor is the same each time.
"""

from common.cli import Parser, guarded

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from common.data.synthetic import write_dataset
from common.models.checkpoint_file import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PAIRS = ("0-1", "2-4")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="(default 50)")
    parser.add_argument("--epochs", type=int, default=24, help="(default 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--folder", type=Path, default=None, help="(default a temporary one)")
    return parser.parse_args(argv)


def command(folder: Path, name: str, epochs: int) -> list[str]:
    """Write the training's command line."""
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
    return [sys.executable, "-u", str(ROOT / "train_ovo.py"), *flags.split(), *PAIRS, *words]


def run_and_kill(words: list[str], log: Path, moment: float) -> tuple[bool, int]:
    """Start the training and kill it `moment` seconds after it has found its checkpoints.

    Returns whether it had already ended, and its status.
    """
    with (
        log.open("ab") as file,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=file) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if b"classifiers: " in line:
                break
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        file.write(process.stdout.read())
        return process.wait() != -signal.SIGKILL, process.returncode


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a result directory's classifiers."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted((folder / "models").glob("best_*.pth")):
        content = load_checkpoint(path)
        for part in ("trunk", "top", "classifier"):
            found |= {f"{path.name} {part} {k}": v for k, v in content[part].items()}
    return found


def campaign(folder: Path, kills: int, epochs: int, seed: int) -> tuple[int, bool]:
    """Kill trainings until there were that many kills; returns how many, and whether all agree."""
    write_dataset(folder / "images", {"train": 10, "val": 4}, seed=1, size=96)
    started = time.monotonic()
    run_and_kill(command(folder, "whole", epochs), folder / "log.txt", 1e6)
    whole = tensors(folder / "whole")
    print(f"in peace: {time.monotonic() - started:.0f} s, {epochs} epochs", flush=True)
    moments, done, number, agree = random.Random(seed), 0, 0, len(whole) > 0
    while done < kills:
        number += 1
        name = f"killed_{number}"
        done += killed_until_done(folder, name, epochs, kills - done, moments)
        found = tensors(folder / name)
        same = found.keys() == whole.keys() and all(torch.equal(found[k], whole[k]) for k in whole)
        left = list((folder / name).rglob("*.part"))
        print(
            f"training {number}: {done} kills in all, same bits: {same}, left over: {len(left)}",
            flush=True,
        )
        agree &= same and not left
    return done, agree


def killed_until_done(
    folder: Path, name: str, epochs: int, most: int, moments: random.Random
) -> int:
    """Kill and resume one training up to `most` times, then let it end; returns the kills."""
    done, longest, log = 0, 1.0, folder / "log.txt"
    while True:
        before = history(folder / name)
        moment = moments.uniform(0, longest) if done < most else 1e6
        ended, status = run_and_kill(command(folder, name, epochs), log, moment)
        if ended:
            if status:
                raise SystemExit(f"a resumed training failed with status {status}, see {log}")
            return done
        done += 1
        # wait longer where no epoch was finished, shorter where one was
        longest = max(0.3, longest * (1.3 if history(folder / name) == before else 0.7))
        print(f"kill {done}: {history(folder / name)} rows of {2 * epochs}", flush=True)


def history(folder: Path) -> int:
    """Count the rows of history.csv."""
    path = folder / "logs" / "history.csv"
    return path.read_text().count("\n") - 1 if path.is_file() else 0


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the campaign and say how it went."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        done, same = campaign(folder, args.kills, args.epochs, args.seed)
    print(f"{done} kills; bit-identical: {'yes' if same else 'NO'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
