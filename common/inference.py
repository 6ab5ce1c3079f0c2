"""Load the pair classifiers of a result directory and predict with them.

N images, P pairs, K classes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common import artifacts
from common.artifacts import ResultDir
from common.dataset import PixelCache, Split, open_cache
from common.ovo import CHUNK, PairTop, restore_pair, trunk_features, trunk_key
from common.pairs import class_pairs
from common.preprocessing import Preprocessing
from common.runtime import InputError, autocast, log, progress_bar


@dataclass(frozen=True)
class Predictions:
    """What the ten classifiers of one backbone say about a split."""

    model: str
    class_names: list[str]
    ids: np.ndarray  # (N,) str
    targets: np.ndarray  # (N,) int
    pair_probabilities: np.ndarray  # (N, P) float32, of the pair's higher class
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch
    parameters: dict[str, int]
    origin: dict[str, str]  # fingerprints of the checkpoints and the images, precision

    @property
    def num_classes(self) -> int:
        """Count the classes."""
        return len(self.class_names)


def save_predictions(path: Path, predictions: Predictions, class_probabilities: np.ndarray,
                     predicted: np.ndarray) -> None:  # fmt: skip
    """Write pair and class probabilities (N, K) and the predicted classes (N,)."""
    arrays = {
        "ids": predictions.ids,
        "targets": predictions.targets,
        "pairs": np.array(class_pairs(predictions.num_classes)),
        "pair_probabilities": predictions.pair_probabilities,
        "class_probabilities": class_probabilities,
        "predictions": predicted,
        "pair_val_accuracies": predictions.pair_accuracies,
    }
    details = {
        "model": predictions.model,
        "class_names": predictions.class_names,
        "parameters": predictions.parameters,
        "origin": predictions.origin,
    }
    artifacts.write_predictions(path, arrays, details)


def predict_directory(directory: ResultDir, split: Split, cache_dir: Path, num_workers: int,
                      device: torch.device, precision: str) -> Predictions:  # fmt: skip
    """Predict a split with a result directory's classifiers.

    Stored predictions are taken where checkpoints, images and precision are still the same.
    """
    num_classes = artifacts.read_config(directory)["config"].get("num_classes", 5)
    origin = {
        "checkpoints": fingerprint_files(artifacts.pair_files(directory, num_classes)),
        "data": split.fingerprint(with_times=True),
        "precision": precision,
    }
    stored = _stored_predictions(directory.predictions(split.name), origin)
    if stored is not None:
        log(f"{stored.model}: predictions on {split.name} are reused, nothing has changed")
        return stored
    member = load_member(directory)
    cache = open_cache(split, member.settings, cache_dir, num_workers)
    log(f"{member.model}: predicting {len(split)} images of {split.name}, {precision} on {device}")
    logits = predict_logits(member, cache, device, precision)
    return Predictions(
        model=member.model,
        class_names=member.class_names,
        ids=np.array(split.ids),
        targets=split.labels,
        pair_probabilities=1 / (1 + np.exp(-logits.astype(np.float64))).astype(np.float32),
        pair_accuracies=member.pair_accuracies,
        parameters=member.parameters,
        origin=origin,
    )


def _stored_predictions(path: Path, origin: dict[str, str]) -> Predictions | None:
    if not path.is_file():
        return None
    try:
        arrays, details = artifacts.read_predictions(path)
        if details["origin"] != origin:
            return None
        return Predictions(
            model=details["model"],
            class_names=details["class_names"],
            ids=arrays["ids"],
            targets=arrays["targets"],
            pair_probabilities=arrays["pair_probabilities"],
            pair_accuracies=arrays["pair_val_accuracies"],
            parameters=details["parameters"],
            origin=origin,
        )
    except (InputError, KeyError, TypeError) as error:
        log(f"{path}: not usable, predicting again ({error})")
        return None


@dataclass
class Member:
    """The ten classifiers of one backbone; equal trunks are kept once."""

    model: str
    directory: ResultDir
    num_classes: int
    class_names: list[str]
    settings: Preprocessing
    groups: list[tuple[nn.Module, list[tuple[int, PairTop]]]]  # trunk, (pair's column, top)
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch
    parameters: dict[str, int]


def load_member(directory: ResultDir) -> Member:
    """Load all pairs of a result directory.

    Raises InputError when pairs are missing, unreadable, or were trained on different pixels.
    """
    config = artifacts.read_config(directory)
    num_classes = int(config["config"].get("num_classes", 5))
    files = artifacts.pair_files(directory, num_classes)
    trunks: dict[Any, tuple[nn.Module, list[tuple[int, PairTop]]]] = {}
    contents, settings = [], None
    for column, path in enumerate(files):
        classifier = restore_pair(artifacts.load_pair_content(path), str(path))
        if classifier.pair != class_pairs(num_classes)[column]:
            raise InputError(f"{path}: holds pair {classifier.pair}; its name says another")
        if settings not in (None, classifier.settings):
            raise InputError(
                f"{path}: was trained on other pixels than {files[0].name} "
                f"({classifier.settings} and {settings}); train the pairs of one directory alike"
            )
        settings = classifier.settings
        group = trunks.setdefault(trunk_key(classifier.trunk), (classifier.trunk, []))
        group[1].append((column, classifier.top))
        contents.append(classifier.content)
    parameters = {
        "trunks": sum(sum(p.numel() for p in t.parameters()) for t, _ in trunks.values()),
        "tops": sum(content["parameters"]["trainable"] for content in contents),
    }
    return Member(
        model=contents[0]["model"],
        directory=directory,
        num_classes=num_classes,
        class_names=list(contents[0].get("class_names") or map(str, range(num_classes))),
        settings=settings,
        groups=list(trunks.values()),
        pair_accuracies=np.array([c["metrics"]["val_accuracy"] for c in contents]),
        parameters=parameters,
    )


def fingerprint_files(files: list[Path]) -> str:
    """Hash the contents of files, to know later whether they are still the same."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def predict_logits(
    member: Member, cache: PixelCache, device: torch.device, precision: str
) -> np.ndarray:
    """Return the logits (N, P) float32 of every pair for every image, each trunk run once."""
    if cache.settings.cache_key() != member.settings.cache_key():
        raise InputError(f"{member.model} was trained on other pixels than this cache holds")
    for trunk, tops in member.groups:
        trunk.to(device)
        for _, top in tops:
            top.to(device)
    logits = np.empty((len(cache), len(class_pairs(member.num_classes))), dtype=np.float32)
    for start in progress_bar(range(0, len(cache), CHUNK), f"predict {member.model}"):
        indices = np.arange(start, min(start + CHUNK, len(cache)))
        pixels = cache.read(indices)
        for trunk, tops in member.groups:
            features = trunk_features(trunk, pixels, member.settings, device, precision)
            with autocast(device, precision):
                for column, top in tops:
                    logits[indices, column] = top(features).float().cpu().numpy()
    return logits
