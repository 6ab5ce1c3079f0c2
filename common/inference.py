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
from common.dataset import PixelCache
from common.ovo import CHUNK, PairTop, restore_pair, trunk_features, trunk_key
from common.pairs import class_pairs
from common.preprocessing import Preprocessing
from common.runtime import InputError, autocast, progress_bar


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
    fingerprint: str  # of the checkpoint files


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
        fingerprint=fingerprint_files(files),
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
