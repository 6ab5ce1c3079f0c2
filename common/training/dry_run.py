"""What a training would do and cost, measured without training.

B samples of the effective batch.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from common.config import TrainConfig
from common.data.sampler import batch_sizes
from common.fine_tuning.optimizer import make_optimizer, rates_line
from common.fine_tuning.schedule import schedule_line, schedule_warnings
from common.locks.run_lock import require_writable
from common.models.backbones import Backbone
from common.models.ovo import build_branch, chunk_size, trunk_features
from common.pairs import Head
from common.pixels.device_pixels import room_for_pixels
from common.prediction.classes import classes_of
from common.result_dir.paths import ResultDir
from common.result_dir.run import read_config
from common.system.device import autocast, wait_for
from common.system.log import duration
from common.training.context import RunInputs, take_fingerprints
from common.training.resume import (
    Standing,
    check_continuation,
    find_standing,
    require_effect,
)


@dataclass(frozen=True)
class StepCost:
    """What training costs, measured on a few real steps."""

    trunk_seconds: float  # per image
    branch_seconds: float  # per sample of a head, forward, backward and update
    activation_bytes: float  # kept for the backward pass of an effective batch


@dataclass(frozen=True)
class RunSize:
    """What a training keeps in memory."""

    frozen: int  # parameters of the trunk, shared
    trained: int  # parameters of a head's branch
    heads: int
    activation_bytes: float  # of one head's step
    pixel_bytes: int  # of all images, decoded
    averaged: bool = False  # the weights have a moving average
    shared: bool = False  # a GPU may train several heads in one launch


def foresee(inputs: RunInputs, heads: list[Head], resume: bool, override: bool) -> list[Standing]:
    """Refuse what a training would refuse, and see where each head would go on; writes nothing."""
    config = inputs.config
    directory = ResultDir(Path(config.output_dir))
    require_writable(directory.root)
    found = take_fingerprints(_without_skipped(inputs, directory))
    changes = check_continuation(directory, config, inputs.backbone, found, heads, resume, override)
    standings = [find_standing(directory, config, head, bool(changes)) for head in heads]
    require_effect(directory, changes, [standing.finished for standing in standings])
    return standings


def _without_skipped(inputs: RunInputs, directory: ResultDir) -> RunInputs:
    """Leave out the images that the run there could not read; looking again would decode them."""
    if not (inputs.config.skip_unreadable and directory.config.is_file()):
        return inputs
    skipped = read_config(directory).get("skipped")
    if not isinstance(skipped, dict) or not all(isinstance(ids, list) for ids in skipped.values()):
        return inputs
    train, val = (
        replace(s, images=tuple(i for i in s.images if i.id not in skipped.get(s.name, ())))
        for s in (inputs.train, inputs.val)
    )
    return replace(inputs, train=train, val=val, skipped=skipped)


def plan_lines(inputs: RunInputs, heads: list[Head], standings: list[Standing]) -> list[str]:
    """Describe the run line by line, with a time and a memory estimate from a few real steps.

    standings: where the heads go on.
    """
    config, backbone, device = inputs.config, inputs.backbone, inputs.device
    counts = np.array(inputs.train.counts(config.num_classes))
    val_counts = inputs.val.counts(config.num_classes)
    sizes = {head: int(counts[list(head.classes)].sum()) for head in heads}
    cost = measure_step(inputs, heads[0])
    size = RunSize(
        frozen=sum(p.numel() for p in backbone.trunk.parameters()),
        trained=sum(p.numel() for p in backbone.stages.parameters())
        + (backbone.num_features + 1) * heads[0].outputs,
        heads=len(heads),
        activation_bytes=cost.activation_bytes,
        pixel_bytes=(len(inputs.train) + len(inputs.val)) * inputs.preprocessing.img_size**2 * 3,
        averaged=bool(config.ema_decay),
        shared=len(heads) > 1
        and config.pair_parallelism != "off"
        and config.grad_checkpointing != "on",
    )
    word = classes_of(config.names).word
    kept, resuming = needed_disk(size)
    memory = needed_memory(size, device) / 1e9
    images = int(counts[sorted({c for head in heads for c in head.classes})].sum())
    epoch = images * cost.trunk_seconds + sum(sizes.values()) * cost.branch_seconds
    left = {head: epochs_left(config, s) for head, s in zip(heads, standings)}
    whole = sum(sizes[head] * count for head, count in left.items()) * cost.branch_seconds
    whole += images * cost.trunk_seconds * max(left.values())
    steps = {head: len(batch_sizes(count, config.effective_batch)) for head, count in sizes.items()}
    return [
        f"plan: {config.model} at {inputs.preprocessing.img_size} px into {config.output_dir}",
        f"  device {device}, {inputs.precision}; effective batch {config.effective_batch}",
        f"  {config.recipe_line}",
        f"  {schedule_line(config)}",
        *[f"  {line}" for line in [rates_line(backbone.stages, config)] if line],
        f"  parameters per classifier: {size.trained:,} trained, {size.frozen:,} frozen and shared"
        f"{frozen_part(backbone)}",
        f"  train images per {word} {counts.tolist()}, val {list(val_counts)}",
        *[
            f"  {head.title_with(config.names)}: {sizes[head]} images, {steps[head]} steps/epoch, "
            f"{standing_text(standing)}{steps[head] * left[head]} steps at most"
            for head, standing in zip(heads, standings)
        ],
        *[f"  note: {note}" for standing in standings for note in standing.notes],
        f"  cache: {size.pixel_bytes / 1e9:.2f} GB in "
        f"{Path(config.cache_dir) / inputs.preprocessing.cache_key()}",
        f"  disk: about {kept / 1e9:.2f} GB in {config.output_dir}, {resuming / 1e9:.2f} GB more "
        "until it is complete",
        f"  memory: about {memory:.1f} GB ({cost.activation_bytes / 1e9:.1f} GB of it activations)",
        f"  time: about {duration(epoch)} an epoch, {duration(whole)} for "
        f"{max(left.values())} epochs without early stopping (measured on a few steps)"
        if any(left.values())
        else "  nothing is left to train: every classifier is finished",
        *schedule_warnings(config),
        *[f"note: {text}" for text in config.without_effect.values()],
        "dry run: nothing was trained or written",
    ]


def epochs_left(config: TrainConfig, standing: Standing) -> int:
    """Count the epochs that a head is still trained for, at most."""
    return 0 if standing.finished else config.epochs - standing.epoch


def standing_text(standing: Standing) -> str:
    """Say where a head goes on: "finished after epoch 3, "; "" of a new one."""
    if not standing.epoch:
        return ""
    return f"{'finished' if standing.finished else 'goes on'} after epoch {standing.epoch}, "


def frozen_part(backbone: Backbone) -> str:
    """Say how far a network freezes: ", up to stages.1"."""
    names = [name for name, _ in backbone.trunk.named_children()]
    return f", up to {names[-1].replace(':', '.')}" if names else ""


def needed_memory(size: RunSize, device: torch.device) -> float:
    """Estimate the peak in bytes of device memory, on a CPU of the whole process.

    Each trained parameter has a gradient and two moments, perhaps an average, all float32. A GPU
    also holds the pixels where they fit, and copies of the parameters for shared launches.
    """
    copies = 4 + size.averaged
    memory = size.frozen * 4 + size.heads * size.trained * copies * 4 + size.activation_bytes
    if device.type == "cuda":
        resident = size.pixel_bytes if size.pixel_bytes <= room_for_pixels(device) else 0
        shared = size.heads * (size.trained * 10 + size.activation_bytes) - size.activation_bytes
        return memory + resident + (shared if size.shared else 0)
    libraries = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    checkpoint = size.trained * 4 * (copies - 1)  # laid out before it is written
    return memory + libraries + checkpoint


def needed_disk(size: RunSize) -> tuple[int, int]:
    """Estimate the bytes of the classifiers' files, and of two states of each to resume from.

    A classifier's file holds the frozen part, too; a state the weights, two moments and perhaps an
    average of what is trained.
    """
    states = 2 * size.trained * (3 + size.averaged)
    return size.heads * (size.frozen + size.trained) * 4, size.heads * states * 4


def measure_step(inputs: RunInputs, head: Head) -> StepCost:
    """Time the trunk and a head's step, and count what a step keeps for the backward pass."""
    config, device, precision = inputs.config, inputs.device, inputs.precision
    side, chunk = inputs.preprocessing.img_size, chunk_size(device)
    trunk = inputs.backbone.trunk.to(device)
    branch = build_branch(inputs.backbone, head, config.seed).to(device)
    optimizer = make_optimizer(branch, config)
    pixels = np.zeros((chunk, side, side, 3), dtype=np.uint8)
    batch = min(chunk, config.effective_batch)
    weights = {p.untyped_storage().data_ptr() for p in branch.parameters()}
    for _ in range(2):  # the first round warms up
        started = time.perf_counter()
        features = trunk_features(trunk, pixels, inputs.preprocessing, device, precision)[:batch]
        wait_for(device)
        middle = time.perf_counter()
        with _saved_tensors() as sizes, autocast(device, precision):
            loss = branch(features).float().square().mean()
        loss.backward()
        optimizer.step()
        wait_for(device)
        ended = time.perf_counter()
    kept = sum(size for pointer, size in sizes.items() if pointer not in weights)
    return StepCost(
        trunk_seconds=(middle - started) / chunk,
        branch_seconds=(ended - middle) / batch,
        activation_bytes=kept * config.effective_batch / batch,
    )


@contextmanager
def _saved_tensors() -> Iterator[dict[int, int]]:
    """Collect what autograd saves for the backward pass: bytes by the address of the storage."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield sizes
