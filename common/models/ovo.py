"""The One-vs-One model: a frozen trunk that is shared, and one trainable branch per pair.

N images, C images of a trunk chunk, F pooled features, S pixels, P pairs.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from common.models.backbones import Backbone, native_state
from common.pairs import Head
from common.pixels.augmentation import augment, normalise
from common.pixels.preprocessing import Preprocessing
from common.system.device import autocast, to_device
from common.system.random_streams import torch_generator

# The trunk always sees batches of one size: an image's features are then the same to the last bit
# whatever its neighbours, and so whichever other pairs are trained. A GPU wants larger ones.
_CHUNKS = {"cpu": 16, "cuda": 64}


class Branch(nn.Module):
    """The trainable stages and the linear classifier of one head, such as that of a pair."""

    def __init__(self, stages: nn.Sequential, classifier: nn.Module) -> None:
        super().__init__()
        self.stages = stages
        self.classifier = classifier

    def forward(self, features: Tensor, dropout_mask: Tensor | None = None) -> Tensor:
        """Map trunk features (N, ...) to logits (N,) of a pair, or (N, outputs) of another head.

        dropout_mask (N, F) scales the pooled features.
        """
        pooled = self.stages(features)  # (N, F)
        if dropout_mask is not None:
            pooled = pooled * dropout_mask
        return self.classify(pooled)

    def classify(self, pooled: Tensor) -> Tensor:
        """Map pooled features (N, F) to logits (N,) of a pair, or (N, outputs) of another head."""
        logits = self.classifier(pooled)  # (N, outputs)
        return logits.squeeze(1) if logits.shape[1] == 1 else logits


def chunk_size(device: torch.device) -> int:
    """Return C, the number of images that pass the trunk together on a device."""
    return _CHUNKS[device.type]


def build_branch(backbone: Backbone, head: Head, seed: int) -> Branch:
    """Copy the backbone's stages and draw the head's classifier from (seed, classes).

    A shared head's outputs start as the classifiers of its pairs would.
    """
    classifier = nn.Linear(backbone.num_features, head.outputs)
    branch = Branch(copy.deepcopy(backbone.stages), classifier)
    streams = head.pairs or (head.classes,)
    for rows, classes in zip(classifier.weight.data.chunk(len(streams)), streams):
        generator = torch_generator("classifier", seed, *classes)
        nn.init.trunc_normal_(rows, std=0.02, generator=generator)
    nn.init.zeros_(classifier.bias)
    return branch.eval()


def use_batch_statistics(branch: Branch) -> bool:
    """Let the BatchNorm layers see their batch, for training from scratch; say if there are any.

    Everything else stays in evaluation mode: the only dropout is the mask that `forward` takes.
    """
    layers = batch_norms(branch)
    for layer in layers:
        layer.train()
    return bool(layers)


def batch_norms(branch: nn.Module) -> list[nn.Module]:
    """List the layers whose output depends on the batch in training."""
    return [m for m in branch.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def enable_grad_checkpointing(branch: Branch) -> None:
    """Recompute activations in the backward pass, block by block where a stage has blocks."""
    for stage in branch.stages.children():
        blocks = list(_blocks(stage)) or [stage]
        for block in blocks:
            if any(True for _ in block.parameters()):
                block.forward = _recomputed(block.forward)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        repeated = isinstance(child, nn.Sequential) and len(child) > 1
        if repeated and all(any(True for _ in block.children()) for block in child.children()):
            yield from child.children()
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
    preprocessing: Preprocessing,
    device: torch.device,
    precision: str,
    augmentation: np.ndarray | None = None,
    padded: bool = False,
) -> Tensor:
    """Run one chunk of pictures through the trunk.

    pixels (n, S, S, 3) uint8, n <= C, padded to C inside, already on the device or not;
    augmentation (n, 8) as from `augmentation_table`, None to leave the pictures as they are.
    Returns (n, ...) features; with `padded` (C, ...), the rest of them those of the last picture.
    """
    size = len(pixels)
    order = [*range(size), *[size - 1] * (chunk_size(device) - size)]
    pixels = torch.as_tensor(pixels)
    images = to_device(pixels[to_device(order, pixels.device)], device)
    images = images.permute(0, 3, 1, 2).contiguous().float() / 255  # (C, 3, S, S)
    if augmentation is not None:
        images = augment(images, to_device(augmentation[order], device))
    images = normalise(images, preprocessing.mean, preprocessing.std)
    images = images.contiguous(memory_format=torch.channels_last)
    with autocast(device, precision):
        return trunk(images)[: None if padded else size]


@torch.no_grad()
def trunk_output(trunk: nn.Module, img_size: int) -> Tensor:
    """Return the features (1, ...) of a black picture, on the CPU, for their sizes."""
    return trunk(torch.zeros(1, 3, img_size, img_size))


def trunk_key(trunk: nn.Module) -> tuple[Any, ...]:
    """Give equal trunks an equal key, so that ten files can share one."""
    return tuple((key, *_digest(value)) for key, value in sorted(native_state(trunk).items()))


def _digest(tensor: Tensor) -> tuple[tuple[int, ...], int]:
    return tuple(tensor.shape), hash(tensor.detach().cpu().contiguous().numpy().tobytes())
