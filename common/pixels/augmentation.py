"""Rotation, brightness and contrast for a batch on its device.

N images, H, W pixels. The parameters of an image depend on (seed, epoch, image) alone: neither
its batch nor its neighbours nor the other classifiers in training move them.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import AugmentationRanges

# Rec. 601 luma, the grey level that contrast turns around
_LUMA = (0.299, 0.587, 0.114)


def augmentation_table(
    generator: np.random.Generator, num_images: int, ranges: AugmentationRanges
) -> np.ndarray:
    """Draw every image's parameters for an epoch from the stream of (seed, epoch).

    Returns (num_images, 3) float32: angle in degrees within +-rotation, brightness factor within
    1 +- brightness, contrast factor within 1 +- contrast. What is added later is drawn after these,
    or from a stream of its own: the present columns, and so the weights of known runs, must stay.
    """
    draws = generator.random((num_images, 3)) * 2 - 1
    widths = np.array([ranges.rotation, ranges.brightness, ranges.contrast])
    return (draws * widths + np.array([0.0, 1.0, 1.0])).astype(np.float32)


def augment(images: Tensor, parameters: Tensor) -> Tensor:
    """Rotate about the centre (bilinear, black corners), then scale brightness, then contrast.

    images (N, 3, H, W) float in 0..1, H = W; parameters (N, 3) as from `augmentation_table`.
    Returns the same shape and range.
    """
    angle = parameters[:, 0] * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)  # (N, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)  # (N, H, W, 2)
    images = F.grid_sample(images, grid, align_corners=False)
    images = (images * parameters[:, 1].view(-1, 1, 1, 1)).clamp(0, 1)
    luma = torch.tensor(_LUMA).to(images.device, non_blocking=True).view(1, 3, 1, 1)
    grey = (images * luma).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1)
    contrast = parameters[:, 2].view(-1, 1, 1, 1)
    return (contrast * images + (1 - contrast) * grey).clamp(0, 1)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Subtract the channel means and divide by the deviations; images (N, 3, H, W) in 0..1."""
    shift, scale = torch.tensor([mean, std]).to(images.device, non_blocking=True)  # (3,) each
    return (images - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
