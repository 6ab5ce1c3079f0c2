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
from common.models.checkpoint import load_pair_content, restore_pair
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
    groups: list[tuple[nn.Module, list[tuple[slice, Branch]]]]  # trunk, (columns, top)
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch
    cost: dict[str, Any]

    @property
    def num_outputs(self) -> int:
        """Count the columns of the logits: P pairs, or K classes of a softmax head."""
        return max(columns.stop for _, tops in self.groups for columns, _ in tops)


def load_model(run: Run) -> LoadedModel:
    """Load all classifiers of a result directory.

    Raises InputError when one is unreadable or was trained on different pixels.
    """
    trunks: dict[Any, tuple[nn.Module, list[tuple[slice, Branch]]]] = {}
    contents, preprocessing = [], None
    heads = heads_of_model(run.num_classes, run.head)
    for column, (path, head) in enumerate(zip(run.files, heads)):
        classifier = restore_pair(load_pair_content(path), str(path))
        if classifier.head != head or classifier.content["model"] != run.model:
            raise InputError(
                f"{path}: holds {classifier.head.title} of {classifier.content['model']}; "
                "its name says another"
            )
        if preprocessing not in (None, classifier.preprocessing):
            raise InputError(
                f"{path}: was trained on other pixels than {run.files[0].name} "
                f"({classifier.preprocessing} and {preprocessing}); train the pairs of one "
                "directory alike"
            )
        preprocessing = classifier.preprocessing
        group = trunks.setdefault(trunk_key(classifier.trunk), (classifier.trunk, []))
        group[1].append((slice(column, column + head.outputs), classifier.top))
        contents.append(classifier.content)
    unfinished = sum(not content.get("complete", True) for content in contents)
    if unfinished:
        log(
            f"note: {unfinished} of {len(contents)} classifiers of {run.model} are unfinished; "
            "train_ovo.py --resume goes on with them"
        )
    groups = list(trunks.values())
    names = run.class_names or contents[0].get("class_names") or range(run.num_classes)
    accuracies = [_val_accuracy(*item) for item in zip(contents, run.files)]
    return LoadedModel(
        model=run.model,
        head=run.head,
        class_names=[str(name) for name in names][: run.num_classes],
        preprocessing=preprocessing,
        groups=groups,
        pair_accuracies=np.array(accuracies if run.head == "ovo" else _no_pairs(run.num_classes)),
        cost=measure_cost(groups, preprocessing.img_size),
    )


def _val_accuracy(content: dict[str, Any], path: Path) -> float:
    try:
        return float(content["metrics"]["val_accuracy"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no validation accuracy ({error!r})") from error


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
        for trunk, tops in groups:
            with FlopCounterMode(display=False) as of_trunk:
                features = trunk(image)
            with FlopCounterMode(display=False) as of_top:
                tops[0][1](features)
            flops += of_trunk.get_total_flops() + len(tops) * of_top.get_total_flops()
            modules = [trunk, *(top for _, top in tops)]
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
    for trunk, tops in member.groups:
        trunk.to(device)
        for _, top in tops:
            top.to(device)
    logits = np.empty((len(cache), member.num_outputs), dtype=np.float32)
    feed = DevicePixels(cache, device)
    chunk = chunk_size(device)
    for start in progress_bar(range(0, len(cache), chunk), f"predict {member.model}"):
        indices = np.arange(start, min(start + chunk, len(cache)))
        pixels = feed(indices)
        found: list[tuple[slice, Tensor]] = []
        for trunk, tops in member.groups:
            features = trunk_features(trunk, pixels, member.preprocessing, device, precision)
            with autocast(device, precision):
                found += [(columns, top(features).float()) for columns, top in tops]
        for columns, values in found:  # only now is the device waited for
            logits[indices, columns] = values.reshape(len(indices), -1).cpu().numpy()
    return logits
