"""Several networks of one shape in one launch, which is what small batches need on a GPU.

P networks, B samples of each.
"""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from common.models import timm_patches


class ParallelBranches:
    """Runs networks that differ in nothing but their parameters; buffers must be equal, too."""

    def __init__(self, net: nn.Module) -> None:
        self._skeleton = copy.deepcopy(net).to("meta")
        timm_patches.unfuse_attention(self._skeleton)
        timm_patches.compute_as(self._skeleton, 3)  # vmap does not tell memory formats apart
        timm_patches.restore_depthwise(self._skeleton)  # vmap knows the library's gradient alone
        self._of_convolutions: list[str] = []
        for name, module in self._skeleton.named_modules():
            if isinstance(module, nn.Conv2d):
                own = module.named_parameters(recurse=False)
                self._of_convolutions += [f"{name}.{parameter}" for parameter, _ in own]
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.register_forward_pre_hook(_like_the_weight)

    def __call__(self, nets: Sequence[nn.Module], *inputs: Tensor) -> Tensor:
        """Run each network on its own slice of the inputs (P, B, ...); returns (P, ...).

        The result and the gradients, which reach each network's own parameters, are those of a loop
        to rounding. Raises RuntimeError where the network cannot be run so.
        """
        own = [dict(net.named_parameters()) for net in nets]
        stacked = {name: torch.stack([parameters[name] for parameters in own]) for name in own[0]}
        kind = inputs[0].device.type
        if torch.is_autocast_enabled(kind):  # which under vmap passes over convolutions
            for name in self._of_convolutions:
                stacked[name] = stacked[name].to(torch.get_autocast_dtype(kind))
        buffers = dict(nets[0].named_buffers())

        def run(parameters: dict[str, Tensor], *slices: Tensor) -> Tensor:
            return functional_call(self._skeleton, (parameters, buffers), slices)

        with warnings.catch_warnings():  # a last pooling may fall back to a loop, which is cheap
            warnings.filterwarnings("ignore", "There is a performance drop")
            return torch.vmap(run)(stacked, *inputs)


def _like_the_weight(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return tuple(tensor.to(weight.dtype) for tensor in inputs)
