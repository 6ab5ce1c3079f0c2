"""What each position of a picture adds to the logit of each pair, to rounding.

N images, n of a chunk, P pairs, O logits of a model's branches, h x w positions, C channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from common.data.class_names import grade_order
from common.evidence.ending import LINEARISED, Ending, find_ending
from common.evidence.maps import EXACT
from common.models.ovo import chunk_size
from common.pairs import class_pairs
from common.pixels.device_pixels import DevicePixels, PixelSource, unturn, views
from common.system.errors import InputError
from common.trained_networks.loading import Columns, LoadedModel
from common.trained_networks.outputs import in_grade_order, pair_logits
from common.trained_networks.running import branch_logits, move_to

# how far map and logit may lie apart, as a share of what is added up: the arithmetic's rounding
_TOLERANCE = {"fp32": 1e-4, "bf16": 0.03, "fp16": 0.005}


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
    method: str  # EXACT, LINEARISED with a constant for each image, or a finer map's name

    def __len__(self) -> int:
        return len(self.logits)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Evidence":
        """Return the same of some of the images."""
        rows = np.asarray(rows, dtype=int)
        # sums round by the order in memory, which is that of what is stored and read again, too
        maps = np.ascontiguousarray(self.maps[rows])
        return Evidence(maps, self.constants[rows], self.logits[rows], self.method)


@dataclass(frozen=True)
class Split:
    """The logits of a chunk, as a model's branches give them, and what they are made of."""

    maps: Tensor  # (n, O, h, w)
    constants: Tensor  # (n, O)
    logits: Tensor  # (n, O)


class Look(Protocol):
    """A way to split what a model says of a chunk of pictures (n, S, S, 3)."""

    @property
    def method(self) -> str: ...

    @property
    def size(self) -> tuple[int, ...]:
        """The positions that its maps have, (h, w)."""
        ...

    def __call__(self, pixels: Tensor) -> Split: ...


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
    are those of `predict_logits`, to rounding; a softmax head's pairs are differences of outputs.
    Raises InputError where the network does not end in average pooling, or where the maps do not
    add up to the logits.
    """
    move_to(model, device)
    with _LastMaps(model, device, precision) as look:
        return gather(model, pixels, device, look, _TOLERANCE[precision], tta)


def gather(
    model: LoadedModel,
    pixels: PixelSource,
    device: torch.device,
    look: Look,
    tolerance: float,
    tta: str,
) -> Evidence:
    """Split what a model says of all views of all images, a chunk at a time.

    tolerance: how far the sums may lie from the logits, as a share of what is added up.
    """
    if pixels.preprocessing.cache_key() != model.preprocessing.cache_key():
        raise InputError(f"{model.model} was trained on other pixels than this cache holds")
    count, outputs = len(pixels), model.num_outputs
    maps = np.empty((count, outputs, *look.size), np.float32)
    constants, logits = np.empty((2, count, outputs), np.float32)
    pixels_on_device, chunk = DevicePixels(pixels, device), chunk_size(device)
    for start in range(0, count, chunk):
        rows = np.arange(start, min(start + chunk, count))
        found = [look(view) for view in views(pixels_on_device(rows), tta)]
        maps[rows] = _mean(unturn([split.maps for split in found], tta))
        constants[rows] = _mean([split.constants for split in found])
        logits[rows] = _mean([split.logits for split in found])
    _check_sums(maps, constants, logits, tolerance, model.model)
    order = grade_order(model.class_names)
    arrange = partial(pairs_in_grade_order, head=model.head, order=order)
    return Evidence(arrange(maps), arrange(constants), arrange(logits), look.method)


def _mean(parts: Iterable[Tensor]) -> np.ndarray:
    """Average over views, in one order, as `predict_logits` does."""
    values = list(parts)
    return (sum(values[1:], values[0]) / len(values)).cpu().numpy()


class _LastMaps:
    """Splits logits over the positions of what each branch averages."""

    def __init__(self, model: LoadedModel, device: torch.device, precision: str) -> None:
        self._model, self._device, self._precision = model, device, precision
        self._endings = endings_of(model)
        self._kept: dict[torch.nn.Module, Tensor] = {}  # what each branch's pooling was given
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> "_LastMaps":
        def keep(layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._kept[layer] = inputs[0]

        for ending, own in self._branches():
            pool = own.branch.get_submodule(ending.pool)
            self._hooks.append(pool.register_forward_pre_hook(keep))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @property
    def method(self) -> str:
        """How the logits are split."""
        return LINEARISED if self._endings[0].kind == LINEARISED else EXACT

    @property
    def size(self) -> tuple[int, ...]:
        """The positions of the maps, (h, w)."""
        return self._endings[0].size

    def __call__(self, pixels: Tensor) -> Split:
        """Predict a chunk of pictures (n, S, S, 3), and split what is said of them."""
        count = len(pixels)
        logits = branch_logits(self._model, pixels, self._device, self._precision)
        split = empty_split(count, self._model.num_outputs, self.size, self._device)
        for (ending, own), values in zip(self._branches(), logits, strict=True):
            last = self._kept.pop(own.branch.get_submodule(ending.pool))
            features = ending.positions_last(last[:count])  # (n, C, h, w)
            slope, constants = ending.coefficients(own.branch, features.mean((2, 3)))
            split.maps[:, own.columns] = torch.einsum("noc,nchw->nohw", slope, features)
            split.constants[:, own.columns] = constants
            split.logits[:, own.columns] = values[:count].reshape(count, -1)
        return split

    def _branches(self) -> Iterator[tuple[Ending, Columns]]:
        for group, ending in zip(self._model.groups, self._endings):
            for own in group.branches:
                yield ending, own


def endings_of(model: LoadedModel) -> list[Ending]:
    """Find out how the branches of each trunk end; raises InputError as `find_ending`."""
    size = model.preprocessing.img_size
    return [
        find_ending(group.trunk, group.branches[0].branch, size, model.model)
        for group in model.groups
    ]


def empty_split(count: int, outputs: int, size: Sequence[int], device: torch.device) -> Split:
    """Make room for what is said of a chunk of pictures."""
    constants, logits = torch.empty((2, count, outputs), device=device)
    return Split(torch.empty((count, outputs, *size), device=device), constants, logits)


def _check_sums(
    maps: np.ndarray, constants: np.ndarray, logits: np.ndarray, tolerance: float, name: str
) -> None:
    """Raise InputError unless the maps add up to their logits."""
    wrong = np.abs(maps.mean((2, 3)) + constants - logits)
    allowed = tolerance * (1 + np.abs(maps).mean((2, 3)) + np.abs(logits))
    if not (wrong <= allowed).all():
        raise InputError(
            f"{name}: its evidence maps do not add up to its logits: expected a difference below "
            f"{allowed.min():.2g}, found {wrong.max():.2g}; nothing was written; try "
            "--precision fp32, or explain another model"
        )


def pairs_in_grade_order(values: np.ndarray, head: str, order: tuple[int, ...]) -> np.ndarray:
    """Turn what belongs to a model's outputs (N, O, ...) into that of pairs in grade order."""
    turned = in_grade_order(np.zeros(len(class_pairs(len(order)))), order) == 1
    signs = np.where(turned, np.float32(-1), np.float32(1))  # of pairs that were trained b, a
    last = pair_logits(np.moveaxis(values, 1, -1), head)
    return np.moveaxis(in_grade_order(last, order, are_shares=False) * signs, -1, 1)
