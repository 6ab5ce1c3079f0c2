"""A network whose classifier sees what each of its stages gives, not what the last one does alone.

N images, F features.
"""

import torch
from torch import Tensor, nn

from common.models.backbones import is_stage


class StageMeans(nn.Sequential):
    """A chain up to pooling that also returns the mean over the positions after each stage.

    Its children, and so its state, are those of the chain.
    """

    def __init__(self, chain: nn.Sequential) -> None:
        super().__init__()
        for name, child in chain.named_children():
            self.add_module(name, child)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, ...) to the means after each stage and the pooled ones, as (N, F)."""
        found = []
        for name, child in self.named_children():
            features = child(features)
            if is_stage(name, child):
                found.append(mean_of_map(features.float()))
        return torch.cat([*found, features.float()], dim=1)


def mean_of_map(features: Tensor) -> Tensor:
    """Average a map, (N, C, h, w) or (N, h, w, C) with h = w, over its positions, to (N, C)."""
    return features.mean((2, 3) if features.shape[2] == features.shape[3] else (1, 2))
