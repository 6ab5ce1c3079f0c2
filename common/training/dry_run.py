"""What a training would do and cost, measured without training.

B samples of the effective batch.
"""

import resource
import time

import numpy as np
import torch

from common.config import TrainConfig
from common.data.device_pixels import room_for_pixels
from common.data.folders import Split
from common.data.preprocessing import Preprocessing
from common.data.sampler import batch_sizes
from common.models.backbones import Backbone
from common.models.ovo import build_branch, chunk_size, trunk_features
from common.pairs import Head
from common.system.device import autocast, wait_for
from common.system.log import duration
from common.training.trainer import make_optimizer


def plan_lines(
    config: TrainConfig,
    backbone: Backbone,
    preprocessing: Preprocessing,
    train: Split,
    val: Split,
    heads: list[Head],
    device: torch.device,
    precision: str,
) -> list[str]:
    """Describe the run line by line, with a time and a memory estimate from a few real steps."""
    counts = np.array(train.counts(config.num_classes))
    val_counts = np.array(val.counts(config.num_classes))
    frozen = sum(p.numel() for p in backbone.trunk.parameters())
    trained = sum(p.numel() for p in backbone.stages.parameters()) + backbone.num_features + 1
    cache_bytes = (len(train) + len(val)) * preprocessing.img_size**2 * 3
    cost = measure_step(config, backbone, preprocessing, heads, device, precision)
    images = int(counts[sorted({c for head in heads for c in head.classes})].sum())
    samples = sum(int(counts[list(head.classes)].sum()) for head in heads)
    epoch = images * cost["trunk_seconds"] + samples * cost["top_seconds"]
    activations = cost["activation_bytes"]
    memory = needed_memory(frozen, trained, len(heads), activations, cache_bytes, device)
    lines = [
        f"plan: {config.model} at {preprocessing.img_size} px into {config.output_dir}",
        f"  device {device}, {precision}; effective batch {config.effective_batch}",
        f"  parameters per classifier: {trained:,} trained, {frozen:,} frozen and shared",
        f"  train images per grade {counts.tolist()}, val {val_counts.tolist()}",
    ]
    for head in heads:
        size = int(counts[list(head.classes)].sum())
        steps = len(batch_sizes(size, config.effective_batch))
        lines.append(
            f"  {head.title}: {size} images, {steps} steps/epoch, "
            f"{steps * config.epochs} steps at most"
        )
    return [
        *lines,
        f"  cache: {cache_bytes / 1e9:.2f} GB in {config.cache_dir}",
        f"  memory: about {memory / 1e9:.1f} GB ({activations / 1e9:.1f} GB of it activations)",
        f"  time: about {duration(epoch)} an epoch, {duration(epoch * config.epochs)} for "
        f"{config.epochs} epochs without early stopping (measured on a few steps)",
        "dry run: nothing was trained or written",
    ]


def needed_memory(
    frozen: int, trained: int, pairs: int, activations: float, pixels: int, device: torch.device
) -> float:
    """Estimate the peak in bytes of device memory, on a CPU of the whole process.

    frozen, trained: parameters; each trained one has a gradient and two moments, all float32. A GPU
    also holds the pixels where they fit, and copies of the parameters for shared launches.
    """
    memory = frozen * 4 + pairs * trained * 16 + activations
    if device.type == "cuda":
        resident = pixels if pixels <= room_for_pixels(device) else 0
        return memory + pairs * (trained * 10 + activations) - activations + resident
    libraries = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return memory + libraries + trained * 12  # a checkpoint is laid out before it is written


def measure_step(
    config: TrainConfig,
    backbone: Backbone,
    preprocessing: Preprocessing,
    heads: list[Head],
    device: torch.device,
    precision: str,
) -> dict[str, float]:
    """Time the trunk and a top's step per image, and count what a step keeps for the backward.

    Returns trunk_seconds and top_seconds per image and activation_bytes of an effective batch.
    """
    backbone.trunk.to(device)
    top = build_branch(backbone, heads[0], config.seed).to(device)
    optimizer = make_optimizer(top, config)
    chunk = chunk_size(device)
    pixels = np.zeros((chunk, preprocessing.img_size, preprocessing.img_size, 3), dtype=np.uint8)
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    known = {p.untyped_storage().data_ptr() for p in top.parameters()}
    batch = min(chunk, config.effective_batch)
    for _ in range(2):  # the first round warms up
        started = time.perf_counter()
        features = trunk_features(backbone.trunk, pixels, preprocessing, device, precision)[:batch]
        wait_for(device)
        middle = time.perf_counter()
        sizes.clear()
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            autocast(device, precision),
        ):
            loss = top(features).float().square().mean()
        loss.backward()
        optimizer.step()
        wait_for(device)
        ended = time.perf_counter()
    kept = sum(size for pointer, size in sizes.items() if pointer not in known)
    return {
        "trunk_seconds": (middle - started) / chunk,
        "top_seconds": (ended - middle) / batch,
        "activation_bytes": kept * config.effective_batch / batch,
    }
