"""The names and formats of everything in a result directory; no other module knows them.

N images, K classes, P pairs.
"""

import csv
import io
import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.pairs import Pair, class_pairs, pair_name
from common.runtime import InputError, atomic_write, read_json, write_json, write_text

HISTORY_COLUMNS = (
    "pair", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "val_balanced_accuracy", "val_auc", "val_sensitivity", "val_specificity", "learning_rate",
    "images_per_second", "seconds",
)  # fmt: skip
_PAIR_FILE = re.compile(r"best_(?P<model>.+)_(?P<a>\d+)_(?P<b>\d+)\.pth")


class CheckpointError(InputError):
    """A checkpoint file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class ResultDir:
    """The paths inside one result directory."""

    root: Path

    @property
    def models(self) -> Path:
        """Folder of the best classifiers."""
        return self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """Folder of what resuming needs."""
        return self.root / "checkpoints"

    @property
    def results(self) -> Path:
        """Folder of numbers and figures."""
        return self.root / "results"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.root / "logs" / "tensorboard"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.json"

    @property
    def history(self) -> Path:
        """One row per pair and epoch."""
        return self.root / "logs" / "history.csv"

    def best(self, model: str, pair: Pair) -> Path:
        """The best classifier of a pair."""
        return self.models / f"best_{model}_{pair[0]}_{pair[1]}.pth"

    def last(self, model: str, pair: Pair) -> Path:
        """The state after a pair's last epoch, for resuming."""
        return self.checkpoints / f"last_{model}_{pair[0]}_{pair[1]}.pth"

    def metrics(self, split: str) -> Path:
        """Numbers of an evaluation."""
        return self.results / f"metrics_{split}.json"

    def predictions(self, split: str) -> Path:
        """Probabilities of an evaluation, image by image."""
        return self.results / f"predictions_{split}.npz"

    def figure(self, name: str) -> Path:
        """A picture."""
        return self.results / f"{name}.png"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain types, whole or not at all."""
    with atomic_write(path) as file:
        torch.save(content, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code in it; raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError,
            IndexError, pickle.UnpicklingError, zipfile.BadZipFile) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{path}: unreadable checkpoint ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a checkpoint, found a {type(content).__name__}")
    return content


def load_pair_content(path: Path) -> dict[str, Any]:
    """Read a pair's file; raises CheckpointError for an unreadable or foreign one."""
    content = load_checkpoint(path)
    needed = ("model", "pair", "preprocessing", "trunk", "top", "classifier", "parameters")
    missing = [key for key in needed if key not in content]
    if content.get("format") != "ovo-pair-1" or missing:
        keys = " ".join(str(key) for key in list(content)[:6])
        raise CheckpointError(f"{path}: not a pair classifier of this tool (holds: {keys or '-'})")
    return content


def pair_files(directory: ResultDir, num_classes: int) -> list[Path]:
    """List the files of all pairs of the one model in a result directory, in pair order.

    Raises InputError when pairs are missing or there is more than one model.
    """
    found: dict[str, dict[Pair, Path]] = {}
    for path in sorted(directory.models.glob("best_*.pth")):
        match = _PAIR_FILE.fullmatch(path.name)
        if match:
            pair = (int(match["a"]), int(match["b"]))
            found.setdefault(match["model"], {})[pair] = path
    pairs = class_pairs(num_classes)
    if len(found) != 1:
        names = f"those of {', '.join(found)}" if found else "none"
        raise InputError(
            f"expected {len(pairs)} pair checkpoints of one model in {directory.models}, "
            f"found {names}; train with train_ovo.py --output_dir {directory.root}"
        )
    files = next(iter(found.values()))
    missing = [pair_name(pair) for pair in pairs if pair not in files]
    if missing:
        raise InputError(
            f"expected {len(pairs)} pair checkpoints in {directory.models}, found "
            f"{len(pairs) - len(missing)} (missing {' '.join(missing)}); "
            f"run train_ovo.py --resume --pairs {' '.join(missing)}"
        )
    return [files[pair] for pair in pairs]


def write_history(path: Path, rows: list[dict[str, Any]], pairs: list[Pair]) -> None:
    """Replace the rows of `pairs` in history.csv, keeping those of other pairs."""
    names = {pair_name(pair) for pair in pairs}
    kept = [row for row in read_history(path) if row["pair"] not in names]
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*kept, *rows], key=lambda row: (row["pair"], int(row["epoch"]))))
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[dict[str, str]]:
    """Read history.csv as rows of strings; an absent file has none."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("epoch", "").isdigit()]


def read_config(directory: ResultDir) -> dict[str, Any]:
    """Read config.json; raises InputError if it is missing or broken."""
    content = read_json(directory.config)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise InputError(f"{directory.config}: expected a configuration written by train_ovo.py")
    return content


def write_predictions(path: Path, arrays: dict[str, np.ndarray], details: dict[str, Any]) -> None:
    """Write predictions as arrays without pickles, and `details` as JSON among them."""
    with atomic_write(path) as file:
        np.savez_compressed(file, details=np.array(json.dumps(details)), **arrays)


def read_predictions(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_predictions` wrote; raises InputError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        details = json.loads(str(arrays.pop("details")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected predictions of this tool ({error})") from error
    return arrays, details


def write_metrics(path: Path, content: dict[str, Any]) -> None:
    """Write an evaluation's numbers."""
    write_json(path, content)
