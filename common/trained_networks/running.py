"""Show pictures to the networks of a result directory.

N images, n of a chunk, C pictures that a chunk always has, S pixels of the square side, P pairs, K
classes, F pooled features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from common.models.ovo import chunk_size, trunk_features
from common.pixels.device_pixels import DevicePixels, PixelSource, views
from common.pixels.preprocessing import Preprocessing
from common.system.device import autocast, tune_malloc
from common.system.errors import InputError
from common.system.log import progress_bar
from common.system.threads import side_by_side
from common.trained_networks.loading import Columns, LoadedModel, TrunkGroup

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def predict_logits(
    model: LoadedModel, cache: PixelSource, device: torch.device, precision: str, tta: str = "none"
) -> np.ndarray:
    """Return the logits (N, P) float32 of every pair for every image, each trunk run once per view.

    (N, K) of a softmax head. tta: as in `predict_pixels`.
    """
    if cache.preprocessing.cache_key() != model.preprocessing.cache_key():
        raise InputError(f"{model.model} was trained on other pixels than this cache holds")
    move_to(model, device)
    logits = np.empty((len(cache), model.num_outputs), dtype=np.float32)
    pixels_on_device, chunk = DevicePixels(cache, device), chunk_size(device)
    for start in progress_bar(range(0, len(cache), chunk), f"predict {model.model}"):
        indices = np.arange(start, min(start + chunk, len(cache)))
        found = predict_pixels(model, pixels_on_device(indices), device, precision, tta)
        logits[indices] = found.logits
    return logits


def move_to(model: LoadedModel, device: torch.device) -> None:
    """Bring a model to the device that `predict_pixels` is to run it on."""
    if device.type == "cpu":
        tune_malloc()
    for group in model.groups:
        for module in group.modules:
            module.to(device)


@dataclass(frozen=True)
class Outputs:
    """What a model's classifiers say of n pictures, and what these look like to its networks."""

    logits: np.ndarray  # (n, P) float32, or (n, K) of a softmax head
    features: np.ndarray  # (n, F) float32, pooled, of the pictures as they are; mean over branches


@torch.inference_mode()
def predict_pixels(
    model: LoadedModel,
    pixels: np.ndarray | Tensor,
    device: torch.device,
    precision: str,
    tta: str = "none",
) -> Outputs:
    """Show n pictures (n, S, S, 3) uint8, n <= `chunk_size`, to all classifiers of a model.

    `move_to` comes first. Every layer sees a chunk of one size, filled up with the last picture, so
    that on the CPU what is said of a picture is the same to the last bit wherever it stands and
    whatever is beside it. Logits are averaged over the views that `tta` names: a softmax
    head's differences, which are its pairs' logits, are then averaged alike.
    """
    count = len(pixels)
    shown = views(torch.as_tensor(pixels), tta)
    found = _each(partial(_run_branches, model, device, precision), list(shown), device)
    logits = np.empty((count, model.num_outputs), dtype=np.float32)
    of_branches = [own.columns for group in model.groups for own in group.branches]
    for columns, values in zip(of_branches, zip(*(view.logits for view in found))):
        mean = sum(values[1:], values[0]) / len(values)  # only now is the device waited for
        logits[:, columns] = mean[:count].reshape(count, -1).cpu().numpy()
    return Outputs(logits, found[0].features[:count].cpu().numpy())


@dataclass(frozen=True)
class _View:
    """What the branches say of one view of a chunk of pictures."""

    logits: list[Tensor]  # (C,), or (C, outputs), of each branch in turn; the first n are asked for
    features: Tensor  # (C, F) float32


def branch_logits(
    model: LoadedModel, pixels: Tensor, device: torch.device, precision: str
) -> list[Tensor]:
    """Return the logits (C,), or (C, outputs), of each branch in turn for n <= C pictures.

    What comes after the first n fills the chunk up, as in `predict_pixels`.
    """
    return _run_branches(model, device, precision, pixels).logits


def _each(
    work: Callable[[_Item], _Result], items: Sequence[_Item], device: torch.device
) -> list[_Result]:
    """Do a piece of work for each item: on a CPU side by side, on a GPU one after the other."""
    return side_by_side(work, items) if device.type == "cpu" else [work(item) for item in items]


def _run_branches(
    model: LoadedModel, device: torch.device, precision: str, pixels: Tensor
) -> _View:
    run = partial(_run_group, model.preprocessing, device, precision, pixels)
    groups = _each(run, model.groups, device)
    logits, pooled = zip(*(own for group in groups for own in group))
    return _View(list(logits), torch.stack(pooled).float().mean(0))


def _run_group(
    preprocessing: Preprocessing,
    device: torch.device,
    precision: str,
    pixels: Tensor,
    group: TrunkGroup,
) -> list[tuple[Tensor, Tensor]]:
    features = trunk_features(group.trunk, pixels, preprocessing, device, precision, padded=True)
    return _each(partial(_run_branch, features, device, precision), group.branches, device)


def _run_branch(
    features: Tensor, device: torch.device, precision: str, own: Columns
) -> tuple[Tensor, Tensor]:
    """Return a branch's logits (C,), or (C, outputs), and its pooled features (C, F)."""
    with autocast(device, precision):
        pooled = own.branch.stages(features)
        return own.branch.classify(pooled).float(), pooled
