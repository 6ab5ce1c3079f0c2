"""The moving average of a network's weights over the steps of its training."""

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from common.models.ovo import Branch


def average_decay(step: int, decay: float) -> float:
    """Return how much of the average stays at an optimiser step, counted from 0.

    It grows from 0.1 to `decay`, so that the first weights are soon forgotten: min(decay, (1 + t) /
    (10 + t)), as in TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + step) / (10 + step))


def start_average(branch: Branch) -> Branch:
    """Copy a network as the average of its weights so far, in evaluation mode."""
    return copy.deepcopy(branch).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: Branch, branch: Branch, decay: float) -> None:
    """Move the average towards the weights of now: decay * average + (1 - decay) * weights.

    The running statistics of BatchNorm are averaged, too; counters are copied.
    """
    ours, theirs = list(average.state_dict().values()), list(branch.state_dict().values())
    floats = [n for n, tensor in enumerate(ours) if tensor.is_floating_point()]
    get_ema_multi_avg_fn(decay)([ours[n] for n in floats], [theirs[n] for n in floats], None)
    for n in set(range(len(ours))) - set(floats):
        ours[n].copy_(theirs[n])
