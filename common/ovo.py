"""The One-vs-One model: a frozen trunk that is shared, and one trainable top per pair.

N images, C images of a trunk chunk, F pooled features, S pixels, P pairs.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from common.augmentation import augment, normalise
from common.backbones import (
    Backbone,
    build,
    load_native_state,
    native_state,
    pool_by_average,
    resolve,
)
from common.legacy import LEGACY_FORMAT, legacy_head
from common.pairs import Pair, pair_name
from common.preprocessing import Preprocessing
from common.runtime import InputError, autocast, to_device, torch_generator

# The trunk always sees batches of one size: an image's features are then the same to the last bit
# whatever its neighbours, and so whichever other pairs are trained. A GPU wants larger ones.
_CHUNKS = {"cpu": 16, "cuda": 64}


class PairTop(nn.Module):
    """The trainable stages and the binary classifier of one pair."""

    def __init__(self, stages: nn.Sequential, classifier: nn.Module) -> None:
        super().__init__()
        self.stages = stages
        self.classifier = classifier

    def forward(self, features: Tensor, dropout_mask: Tensor | None = None) -> Tensor:
        """Map trunk features (N, ...) to logits (N,), or (N, K) of a softmax head.

        dropout_mask (N, F) scales the pooled features.
        """
        pooled = self.stages(features)  # (N, F)
        if dropout_mask is not None:
            pooled = pooled * dropout_mask
        logits = self.classifier(pooled)  # (N, 1) or (N, K)
        return logits.squeeze(1) if logits.shape[1] == 1 else logits


def chunk_size(device: torch.device) -> int:
    """Return C, the number of images that pass the trunk together on a device."""
    return _CHUNKS[device.type]


def make_top(backbone: Backbone, pair: Pair, seed: int) -> PairTop:
    """Copy the backbone's stages and draw the pair's classifier from (seed, pair).

    All classes in place of a pair make a softmax head.
    """
    classifier = nn.Linear(backbone.num_features, _outputs(pair))
    top = PairTop(copy.deepcopy(backbone.stages), classifier)
    generator = torch_generator("classifier", seed, *pair)
    nn.init.trunc_normal_(top.classifier.weight, std=0.02, generator=generator)
    nn.init.zeros_(top.classifier.bias)
    return top.eval()


def _outputs(pair: Pair) -> int:
    return 1 if len(pair) == 2 else len(pair)


def use_batch_statistics(top: PairTop) -> bool:
    """Let the BatchNorm layers see their batch, for training from scratch; say if there are any.

    Everything else stays in evaluation mode: the only dropout is the mask that `forward` takes.
    """
    layers = batch_norms(top)
    for layer in layers:
        layer.train()
    return bool(layers)


def batch_norms(top: nn.Module) -> list[nn.Module]:
    """List the layers whose output depends on the batch in training."""
    return [m for m in top.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def enable_grad_checkpointing(top: PairTop) -> None:
    """Recompute activations in the backward pass, block by block where a stage has blocks."""
    for stage in top.stages.children():
        blocks = list(_blocks(stage)) or [stage]
        for block in blocks:
            if any(True for _ in block.parameters()):
                block.forward = _recomputed(block.forward)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        repeated = isinstance(child, nn.Sequential) and len(child) > 1
        if repeated and all(any(True for _ in block.children()) for block in child):
            yield from child
        else:
            yield from _blocks(child)


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def wrapped(*inputs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        # nothing inside draws random numbers, so their state need not be kept
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False)

    return wrapped


def dropout_mask(shape: tuple[int, int], rate: float, *stream: int | str) -> Tensor:
    """Draw the (N, F) mask of inverted dropout from its own stream; all ones at rate 0."""
    keep = torch.rand(shape, generator=torch_generator("dropout", *stream)) >= rate
    return keep.float() / (1 - rate)


@torch.no_grad()
def trunk_features(
    trunk: nn.Module,
    pixels: np.ndarray | Tensor,
    settings: Preprocessing,
    device: torch.device,
    precision: str,
    augmentation: np.ndarray | None = None,
) -> Tensor:
    """Run one chunk of pictures through the trunk.

    pixels (n, S, S, 3) uint8, n <= C, padded to C inside, already on the device or not;
    augmentation (n, 3) as from `augmentation_table`, None to leave the pictures as they are.
    Returns (n, ...) features.
    """
    size = len(pixels)
    order = [*range(size), *[size - 1] * (chunk_size(device) - size)]
    pixels = torch.as_tensor(pixels)
    images = to_device(pixels[to_device(order, pixels.device)], device)
    images = images.permute(0, 3, 1, 2).contiguous().float() / 255  # (C, 3, S, S)
    if augmentation is not None:
        images = augment(images, to_device(augmentation[order], device))
    images = normalise(images, settings.mean, settings.std)
    images = images.contiguous(memory_format=torch.channels_last)
    with autocast(device, precision):
        return trunk(images)[:size]


@dataclass
class PairClassifier:
    """One trained pair, as read from its file."""

    pair: Pair
    settings: Preprocessing
    trunk: nn.Sequential
    top: PairTop
    content: dict[str, Any]


def pair_content(backbone: Backbone, top: PairTop, pair: Pair, settings: Preprocessing,
                 details: dict[str, Any]) -> dict[str, Any]:  # fmt: skip
    """Gather what makes a pair's file self-contained: tensors and plain types only.

    details: what training adds (configuration, best epoch, metrics, history, class names).
    """
    trunk, stages = native_state(backbone.trunk), native_state(top.stages)
    return {
        "format": "ovo-pair-1",
        "model": backbone.spec.name,
        "pair": list(pair),
        "preprocessing": {**vars(settings), "mean": list(settings.mean), "std": list(settings.std)},
        "trunk": {key: value.detach().cpu().clone() for key, value in trunk.items()},
        "top": {key: value.detach().cpu().clone() for key, value in stages.items()},
        "classifier": {k: v.detach().cpu().clone() for k, v in top.classifier.state_dict().items()},
        "parameters": {
            "frozen": sum(p.numel() for p in backbone.trunk.parameters()),
            "trainable": sum(p.numel() for p in top.parameters()),
        },
        **details,
    }


def restore_pair(content: dict[str, Any], source: str) -> PairClassifier:
    """Rebuild a classifier from the content of its file; InputError names `source` on a misfit."""
    try:
        settings = Preprocessing(**content["preprocessing"])
        pair = tuple(int(c) for c in content["pair"])
        if len(pair) < 2:
            raise ValueError(f"expected two or more classes, found {pair}")
        legacy = content.get("format") == LEGACY_FORMAT
        backbone = copy.deepcopy(
            _template(content["model"], settings.img_size, bool(content["trunk"]), legacy)
        )
        head = legacy_head if legacy else nn.Linear
        classifier = head(backbone.num_features, _outputs(pair))
        load_native_state(backbone.trunk, content["trunk"])
        top = PairTop(backbone.stages, classifier)
        load_native_state(top.stages, content["top"])
        top.classifier.load_state_dict(content["classifier"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: not a usable pair checkpoint ({reason})") from error
    return PairClassifier(pair, settings, backbone.trunk.eval(), top.eval(), content)


@functools.lru_cache(maxsize=1)
def _template(model: str, img_size: int, frozen: bool, legacy: bool) -> Backbone:
    """Build a network once for the ten files that hold its weights."""
    backbone = build(resolve(model), img_size, False, "", frozen, 0)
    if legacy:
        pool_by_average(backbone)
    return backbone


def trunk_key(trunk: nn.Module) -> tuple[Any, ...]:
    """Give equal trunks an equal key, so that ten files can share one."""
    return tuple((key, *_digest(value)) for key, value in sorted(native_state(trunk).items()))


def _digest(tensor: Tensor) -> tuple[tuple[int, ...], int]:
    return tuple(tensor.shape), hash(tensor.detach().cpu().contiguous().numpy().tobytes())


def describe_pair(pair: Pair, class_names: list[str]) -> str:
    """Name a pair with its classes' names."""
    if len(pair) > 2:
        return pair_name(pair)
    return f"{pair_name(pair)} ({class_names[pair[0]]} vs {class_names[pair[1]]})"
