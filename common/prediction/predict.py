"""Load the pair classifiers of a result directory and predict with them.

N images, P pairs, K classes.
"""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common.data.device_pixels import DevicePixels
from common.data.folders import Split
from common.data.pixel_cache import PixelCache, open_cache
from common.data.preprocessing import Preprocessing
from common.models.checkpoint import PairCheckpoint, load_pair, restore_pair
from common.models.ovo import Branch, chunk_size, trunk_features, trunk_key
from common.pairs import class_pairs, heads_of_model, with_head
from common.prediction.predictions import PairPredictions, load_predictions
from common.result_dir import ResultDir, Run, find_run
from common.system.device import autocast, tune_malloc
from common.system.errors import InputError
from common.system.log import log, progress_bar


def predict_directory(
    directory: ResultDir,
    split: Split,
    cache_dir: Path,
    num_workers: int,
    device: torch.device,
    precision: str,
    place: ResultDir | None,
) -> PairPredictions:
    """Predict a split with a result directory's classifiers.

    What `place` has stored is taken where checkpoints, images and precision are still the same.
    """
    run = find_run(directory)
    origin = {
        "checkpoints": fingerprint_files(run.files),
        "data": split.fingerprint(with_times=True),
        "images": split.fingerprint(),
        "precision": precision,
    }
    stored = load_predictions(place.predictions(split.name), origin) if place else None
    if stored is not None:
        log(f"{stored.model}: predictions on {split.name} are reused, nothing has changed")
        return stored
    member = load_model(run)
    cache = open_cache(split, member.preprocessing, cache_dir, num_workers)
    name = with_head(member.model, member.head)
    log(f"{name}: predicting {len(split)} images of {split.name}, {precision} on {device}")
    started = time.perf_counter()
    logits = predict_logits(member, cache, device, precision)
    speed = len(split) / (time.perf_counter() - started)
    if not np.isfinite(logits).all():
        column = int(np.argmax(~np.isfinite(logits).all(0)))
        name = run.files[column if run.head == "ovo" else 0].name
        raise InputError(
            f"{directory.models / name}: gives values that are not finite; train "
            "this classifier again"
        )
    return PairPredictions(
        model=member.model,
        head=member.head,
        class_names=member.class_names,
        ids=np.array(split.ids),
        targets=split.labels,
        pair_probabilities=pair_probabilities(logits, member.head),
        pair_accuracies=member.pair_accuracies,
        cost={**member.cost, "images_per_second": speed, "device": str(device)},
        origin=origin,
    )


def pair_probabilities(logits: np.ndarray, head: str) -> np.ndarray:
    """Turn logits (N, P) of pairs, or (N, K) of a softmax head, into pair probabilities (N, P).

    Those of a softmax head are p_b / (p_a + p_b): the coupling then gives back its probabilities.
    """
    logits = logits.astype(np.float64)
    if head != "ovo":
        columns = class_pairs(logits.shape[1])
        logits = np.stack([logits[:, b] - logits[:, a] for a, b in columns], axis=1)
    return scipy.special.expit(logits)


@dataclass
class LoadedModel:
    """The classifiers of one backbone; equal trunks are kept once."""

    model: str
    head: str
    class_names: list[str]
    preprocessing: Preprocessing
    groups: list[tuple[nn.Module, list[tuple[slice, Branch]]]]  # trunk, (columns, branch)
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch
    cost: dict[str, Any]

    @property
    def num_outputs(self) -> int:
        """Count the columns of the logits: P pairs, or K classes of a softmax head."""
        return max(columns.stop for _, branches in self.groups for columns, _ in branches)


def load_model(run: Run) -> LoadedModel:
    """Load all classifiers of a result directory.

    Raises InputError when one is unreadable or was trained on different pixels.
    """
    trunks: dict[Any, tuple[nn.Module, list[tuple[slice, Branch]]]] = {}
    checkpoints: list[PairCheckpoint] = []
    preprocessing = None
    heads = heads_of_model(run.num_classes, run.head)
    for column, (path, head) in enumerate(zip(run.files, heads)):
        checkpoint = load_pair(path)
        classifier = restore_pair(checkpoint, str(path))
        if (checkpoint.model, checkpoint.head) != (run.model, head):
            raise InputError(
                f"{path}: holds {checkpoint.head.title} of {checkpoint.model}; "
                "its name says another"
            )
        if preprocessing not in (None, checkpoint.preprocessing):
            raise InputError(
                f"{path}: was trained on other pixels than {run.files[0].name} "
                f"({checkpoint.preprocessing} and {preprocessing}); train the pairs of one "
                "directory alike"
            )
        preprocessing = checkpoint.preprocessing
        group = trunks.setdefault(trunk_key(classifier.trunk), (classifier.trunk, []))
        group[1].append((slice(column, column + head.outputs), classifier.branch))
        checkpoints.append(checkpoint)
    unfinished = sum(not checkpoint.complete for checkpoint in checkpoints)
    if unfinished:
        log(
            f"note: {unfinished} of {len(checkpoints)} classifiers of {run.model} are unfinished; "
            "train_ovo.py --resume goes on with them"
        )
    groups = list(trunks.values())
    names = run.class_names or checkpoints[0].class_names
    accuracies = [checkpoint.val_accuracy for checkpoint in checkpoints]
    return LoadedModel(
        model=run.model,
        head=run.head,
        class_names=[str(name) for name in names][: run.num_classes],
        preprocessing=preprocessing,
        groups=groups,
        pair_accuracies=np.array(accuracies if run.head == "ovo" else _no_pairs(run.num_classes)),
        cost=measure_cost(groups, preprocessing.img_size),
    )


def _no_pairs(num_classes: int) -> list[float]:
    return [1.0] * len(class_pairs(num_classes))


def measure_cost(
    groups: list[tuple[nn.Module, list[tuple[slice, Branch]]]], img_size: int
) -> dict[str, Any]:
    """Count parameters and GFLOPs (10^9 multiplications and additions) of one image's grading."""
    image = torch.zeros(1, 3, img_size, img_size)
    parameters = flops = 0
    # the counter does not know every fused form of attention
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        for trunk, branches in groups:
            with FlopCounterMode(display=False) as of_trunk:
                features = trunk(image)
            with FlopCounterMode(display=False) as of_branch:
                branches[0][1](features)
            flops += of_trunk.get_total_flops() + len(branches) * of_branch.get_total_flops()
            modules = [trunk, *(branch for _, branch in branches)]
            parameters += sum(p.numel() for module in modules for p in module.parameters())
    return {"parameters": parameters, "gflops": flops / 1e9}


def fingerprint_files(files: Iterable[Path]) -> str:
    """Hash the contents of files, to know later whether they are still the same."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def predict_logits(
    member: LoadedModel, cache: PixelCache, device: torch.device, precision: str
) -> np.ndarray:
    """Return the logits (N, P) float32 of every pair for every image, each trunk run once.

    (N, K) of a softmax head.
    """
    if cache.preprocessing.cache_key() != member.preprocessing.cache_key():
        raise InputError(f"{member.model} was trained on other pixels than this cache holds")
    if device.type == "cpu":
        tune_malloc()
    for trunk, branches in member.groups:
        trunk.to(device)
        for _, branch in branches:
            branch.to(device)
    logits = np.empty((len(cache), member.num_outputs), dtype=np.float32)
    pixels_on_device = DevicePixels(cache, device)
    chunk = chunk_size(device)
    for start in progress_bar(range(0, len(cache), chunk), f"predict {member.model}"):
        indices = np.arange(start, min(start + chunk, len(cache)))
        pixels = pixels_on_device(indices)
        found: list[tuple[slice, Tensor]] = []
        for trunk, branches in member.groups:
            features = trunk_features(trunk, pixels, member.preprocessing, device, precision)
            with autocast(device, precision):
                found += [(columns, branch(features).float()) for columns, branch in branches]
        for columns, values in found:  # only now is the device waited for
            logits[indices, columns] = values.reshape(len(indices), -1).cpu().numpy()
    return logits
