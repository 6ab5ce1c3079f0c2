"""What each position of a picture adds to the logit of each pair, to rounding.

N images, n of a chunk, P pairs, O logits of a model's branches, h x w positions, C channels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.data.class_names import grade_order
from common.evidence.ending import LINEARISED, Ending, find_ending
from common.models.ovo import chunk_size
from common.pairs import class_pairs
from common.pixels.device_pixels import DevicePixels, PixelSource, unturn, views
from common.prediction.predict import (
    LoadedModel,
    branch_logits,
    in_grade_order,
    move_to,
    pair_logits,
)
from common.system.device import tune_malloc
from common.system.errors import InputError

# how far map and logit may lie apart, as a share of what is added up: the arithmetic's rounding
_TOLERANCE = {"fp32": 1e-4, "bf16": 0.03, "fp16": 0.005}
EXACT = "exact"  # of the methods; the other one is LINEARISED


@dataclass(frozen=True)
class Evidence:
    """What the positions of pictures add to the logits of the pairs (a, b), in grade order.

    Positive speaks for b, the higher grade. For every image and pair, the mean over the map's
    positions plus the constant is the logit. A value is what the logit would be, less the constant,
    if the last map were everywhere as at that position (and a norm after it scaled as it does).
    """

    maps: np.ndarray  # (N, P, h, w) float32
    constants: np.ndarray  # (N, P) float32
    logits: np.ndarray  # (N, P) float32, as predicted
    method: str  # EXACT, or LINEARISED where constants differ from image to image

    def __len__(self) -> int:
        return len(self.logits)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Evidence":
        """Return the same of some of the images."""
        rows = np.asarray(rows, dtype=int)
        return Evidence(self.maps[rows], self.constants[rows], self.logits[rows], self.method)


@torch.no_grad()
def evidence_of(
    model: LoadedModel,
    pixels: PixelSource,
    device: torch.device,
    precision: str = "fp32",
    tta: str = "none",
) -> Evidence:
    """Split the logits of every pair for every image over the positions of the last map.

    Maps of the views that `tta` names are turned back and averaged as the logits are. The logits
    are those of `predict_logits`; a softmax head's pairs are the differences of its outputs.
    Raises InputError where the network does not end in average pooling, or where the maps do not
    add up to the logits.
    """
    if pixels.preprocessing.cache_key() != model.preprocessing.cache_key():
        raise InputError(f"{model.model} was trained on other pixels than this cache holds")
    if device.type == "cpu":
        tune_malloc()
    move_to(model, device)
    size = model.preprocessing.img_size
    endings = [
        find_ending(group.trunk, group.branches[0].branch, size, model.model)
        for group in model.groups
    ]
    found = _Sums(len(pixels), model.num_outputs, endings[0].size)
    pixels_on_device, chunk = DevicePixels(pixels, device), chunk_size(device)
    with _last_maps(model, endings) as last_maps:
        for start in range(0, len(pixels), chunk):
            rows = np.arange(start, min(start + chunk, len(pixels)))
            looks = list(views(pixels_on_device(rows), tta))
            split = [_split_look(model, endings, last_maps, v, device, precision) for v in looks]
            found.maps[rows] = _mean(unturn([s.maps for s in split], tta))
            found.constants[rows] = _mean([s.constants for s in split])
            found.logits[rows] = _mean([s.logits for s in split])
            _check_sums(found, rows, model.model, precision)
    return _of_pairs(found, model, endings[0])


@dataclass(frozen=True)
class _Split:
    """The logits of a chunk, as a model's branches give them, and what they are made of."""

    maps: Tensor  # (n, O, h, w)
    constants: Tensor  # (n, O)
    logits: Tensor  # (n, O)


class _Sums:
    """The same of all images, to be filled."""

    def __init__(self, images: int, outputs: int, size: tuple[int, ...]) -> None:
        self.maps = np.empty((images, outputs, *size), np.float32)
        self.constants = np.empty((images, outputs), np.float32)
        self.logits = np.empty((images, outputs), np.float32)


def _mean(parts: Sequence[Tensor] | Iterator[Tensor]) -> np.ndarray:
    """Average over views, in one order, as `predict_logits` does."""
    values = list(parts)
    return (sum(values[1:], values[0]) / len(values)).cpu().numpy()


@contextmanager
def _last_maps(model: LoadedModel, endings: Sequence[Ending]) -> Iterator[list[Tensor]]:
    """Keep what each branch averages, in the order in which they are called."""
    kept: list[Tensor] = []

    def keep(layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept.append(inputs[0])

    hooks = [
        own.branch.get_submodule(ending.pool).register_forward_pre_hook(keep)
        for group, ending in zip(model.groups, endings)
        for own in group.branches
    ]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _split_look(
    model: LoadedModel,
    endings: Sequence[Ending],
    last_maps: list[Tensor],
    pixels: Tensor,
    device: torch.device,
    precision: str,
) -> _Split:
    """Predict a chunk of pictures (n, S, S, 3), and split what is said of them."""
    last_maps.clear()
    logits = branch_logits(model, pixels, device, precision)
    count, size = len(pixels), endings[0].size
    split = _Split(
        maps=torch.empty((count, model.num_outputs, *size), device=device),
        constants=torch.empty((count, model.num_outputs), device=device),
        logits=torch.empty((count, model.num_outputs), device=device),
    )
    branches = [
        (ending, own) for group, ending in zip(model.groups, endings) for own in group.branches
    ]
    for (ending, own), values, last in zip(branches, logits, last_maps, strict=True):
        features = ending.positions_last(last)  # (n, C, h, w)
        slope, constants = ending.coefficients(own.branch, features.mean((2, 3)))
        split.maps[:, own.columns] = torch.einsum("noc,nchw->nohw", slope, features)
        split.constants[:, own.columns] = constants
        split.logits[:, own.columns] = values.reshape(count, -1)
    return split


def _check_sums(found: _Sums, rows: np.ndarray, name: str, precision: str) -> None:
    """Raise InputError unless the maps of some images add up to their logits."""
    maps, logits = found.maps[rows], found.logits[rows]
    wrong = np.abs(maps.mean((2, 3)) + found.constants[rows] - logits)
    allowed = _TOLERANCE[precision] * (1 + np.abs(maps).mean((2, 3)) + np.abs(logits))
    if not (wrong <= allowed).all():
        raise InputError(
            f"{name}: its evidence maps do not add up to its logits: expected a difference below "
            f"{allowed.min():.2g}, found {wrong.max():.2g}; nothing was written; try "
            "--precision fp32, or explain another model"
        )


def _of_pairs(found: _Sums, model: LoadedModel, ending: Ending) -> Evidence:
    """Turn what belongs to a model's outputs into what belongs to the pairs, in grade order."""
    order = grade_order(model.class_names)
    turned = in_grade_order(np.zeros(len(class_pairs(len(order)))), order) == 1
    signs = np.where(turned, np.float32(-1), np.float32(1))  # of pairs that were trained b, a

    def of_pairs(values: np.ndarray) -> np.ndarray:
        last = pair_logits(np.moveaxis(values, 1, -1), model.head)
        return np.moveaxis(in_grade_order(last, order, are_shares=False) * signs, -1, 1)

    method = LINEARISED if ending.kind == LINEARISED else EXACT
    maps, constants, logits = map(of_pairs, (found.maps, found.constants, found.logits))
    return Evidence(maps, constants, logits, method)
