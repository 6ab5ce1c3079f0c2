"""What networks take for a picture: parameters, and operations by PyTorch's counter."""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common.trained_networks.loading import LoadedModel


def count_parameters(model: LoadedModel) -> int:
    """Count the parameters of all classifiers, those of a shared trunk once."""
    modules = [module for group in model.groups for module in group.modules]
    return sum(p.numel() for module in modules for p in module.parameters())


def count_flops(model: LoadedModel) -> int:
    """Count the multiplications and additions for one view of an image; the model is on the CPU."""
    size, flops = model.preprocessing.img_size, 0
    for group in model.groups:
        features, of_trunk = run_and_count(group.trunk, torch.zeros(1, 3, size, size))
        _, of_branch = run_and_count(group.branches[0].branch, features)
        flops += of_trunk + len(group.branches) * of_branch
    return flops


@torch.inference_mode()
def run_and_count(module: nn.Module, inputs: Tensor) -> tuple[Tensor, int]:
    """Run a module on the CPU; returns what it gives, and its multiplications and additions."""
    # the counter does not know every fused form of attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        outputs = module(inputs)
    return outputs, counter.get_total_flops()
