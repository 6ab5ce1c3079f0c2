#!/usr/bin/env python3
"""Kill a training at random moments, resume it each time, and compare the outcome bit for bit.

    python stress/kill_training.py --kills 50

Trains a small network on synthetic images twice: once in peace, once killed by SIGKILL. Exit
status 0 if every tensor of both is the same.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from common.artifacts import load_pair_content  # noqa: E402
from common.synthetic import write_dataset  # noqa: E402

PAIRS = ("0-1", "2-4")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="(default 50)")
    parser.add_argument("--epochs", type=int, default=0, help="(default kills / 2, at least 6)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--folder", type=Path, default=None, help="(default a temporary one)")
    return parser.parse_args(argv)


def command(folder: Path, name: str, epochs: int) -> list[str]:
    """Write the training's command line."""
    return [sys.executable, "-u", str(ROOT / "train_ovo.py"), "--base_models", "demo_convnext",
            "--no_pretrained", "--freeze_weights", "false", "--epochs", str(epochs), "--patience",
            str(epochs), "--device", "cpu", "--pairs", *PAIRS, "--dataset_path",
            str(folder / "images"), "--cache_dir", str(folder / f"cache_{name}"), "--output_dir",
            str(folder / name), "--resume"]  # fmt: skip


def run_and_kill(words: list[str], log: Path, moment: float) -> tuple[bool, int]:
    """Start the training and kill it `moment` seconds after it has found its checkpoints.

    Returns whether it had already ended, and
    its status.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=file, text=True)
        for line in process.stdout:
            file.write(line.encode())
            if "classifiers: " in line:
                break
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        file.write(process.stdout.read().encode())
        process.stdout.close()
        return process.wait() != -9, process.returncode


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a result directory's classifiers."""
    found = {}
    for path in sorted((folder / "models").glob("best_*.pth")):
        content = load_pair_content(path)
        for part in ("trunk", "top", "classifier"):
            found |= {f"{path.name} {part} {k}": v for k, v in content[part].items()}
    return found


def campaign(folder: Path, kills: int, epochs: int, seed: int) -> tuple[int, bool]:
    """Run both trainings; returns how often the second was killed and whether they agree."""
    write_dataset(folder / "images", {"train": 10, "val": 4}, seed=1, size=96)
    log = folder / "log.txt"
    started = time.monotonic()
    _, status = run_and_kill(command(folder, "whole", epochs), log, 1e6)
    if status:
        raise SystemExit(f"the training in peace failed, see {log}")
    print(f"in peace: {time.monotonic() - started:.0f} s, {epochs} epochs", flush=True)
    moments, done, longest = random.Random(seed), 0, 1.0
    while done < kills:
        before = history(folder / "killed")
        ended, status = run_and_kill(command(folder, "killed", epochs), log,
                                     moments.uniform(0, longest))  # fmt: skip
        if ended:
            print(f"it ended with status {status} after {done} kills", flush=True)
            break
        done += 1
        # a machine that got slower needs longer for an epoch, a finished epoch needs no more
        longest = max(0.3, longest * (1.3 if history(folder / "killed") == before else 0.7))
        print(f"kill {done}: {history(folder / 'killed')} rows of {2 * epochs}", flush=True)
    run_and_kill(command(folder, "killed", epochs), log, 1e6)
    whole, killed = tensors(folder / "whole"), tensors(folder / "killed")
    same = whole.keys() == killed.keys() and all(torch.equal(whole[k], killed[k]) for k in whole)
    left = [path for path in (folder / "killed").rglob("*") if path.name.endswith(".part")]
    return done, bool(whole) and same and not left


def history(folder: Path) -> int:
    """Count the rows of history.csv."""
    path = folder / "logs" / "history.csv"
    return path.read_text().count("\n") - 1 if path.is_file() else 0


def main(argv: list[str] | None = None) -> int:
    """Run the campaign and say how it went."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        epochs = args.epochs or max(6, args.kills // 2)
        done, same = campaign(folder, args.kills, epochs, args.seed)
    print(f"{done} kills; bit-identical: {'yes' if same else 'NO'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
