"""Rotation, flips, scale, shift, brightness and contrast for a batch on its device.

N images, H, W pixels. The parameters of an image depend on (seed, epoch, image) alone: neither
its batch nor its neighbours nor the other classifiers in training move them.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import AugmentationRanges
from common.system.random_streams import random_generator

# Rec. 601 luma, the grey level that contrast turns around
_LUMA = (0.299, 0.587, 0.114)


def augmentation_table(
    seed: int, epoch: int, num_images: int, ranges: AugmentationRanges
) -> np.ndarray:
    """Draw every image's parameters for an epoch.

    Returns (num_images, 8) float32: angle in degrees within +-rotation, brightness factor and
    contrast factor within 1 +- theirs, horizontal and vertical flip (-1 or 1), scale factor within
    1 +- scale, horizontal and vertical shift within +-shift of the side. The first three come from
    one stream, the others from one of their own, whose last columns are drawn last: what is there
    must stay, and so the weights of known runs, when something is added.
    """
    generator = random_generator("augmentation", seed, epoch)
    colours = generator.random((num_images, 3)) * 2 - 1  # the angle among them
    generator = random_generator("augmentation of shape", seed, epoch)
    shapes = generator.random((num_images, 5)) * 2 - 1
    mirrors = np.where(shapes[:, :2] < 0, -1.0, 1.0)
    allowed = np.array([ranges.horizontal_flip, ranges.vertical_flip])
    draws = np.hstack([colours, np.where(allowed, mirrors, 1.0), shapes[:, 2:]])
    widths = [ranges.rotation, ranges.brightness, ranges.contrast, 1.0, 1.0]
    widths += [ranges.scale, ranges.shift, ranges.shift]
    centres = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    return (draws * np.array(widths) + np.array(centres)).astype(np.float32)


def augment(images: Tensor, parameters: Tensor) -> Tensor:
    """Move the picture (bilinear, black around it), then scale brightness, then contrast.

    images (N, 3, H, W) float in 0..1, H = W; parameters (N, 8) as from `augmentation_table`.
    Returns the same shape and range.
    """
    grid = F.affine_grid(_matrices(parameters), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, align_corners=False)  # grid (N, H, W, 2)
    images = (images * parameters[:, 1].view(-1, 1, 1, 1)).clamp(0, 1)
    luma = torch.tensor(_LUMA).to(images.device, non_blocking=True).view(1, 3, 1, 1)
    grey = (images * luma).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1)
    contrast = parameters[:, 2].view(-1, 1, 1, 1)
    return (contrast * images + (1 - contrast) * grey).clamp(0, 1)


def _matrices(parameters: Tensor) -> Tensor:
    """Say for each picture where a place in the new one lies in the old one: (N, 2, 3).

    The picture is mirrored, turned about its centre, scaled, then shifted: one map, so that pixels
    are interpolated once. Coordinates run from -1 to 1 along a side.
    """
    angle = parameters[:, 0] * (math.pi / 180)
    mirror_x, mirror_y, scale = parameters[:, 3], parameters[:, 4], parameters[:, 5]
    cos, sin = angle.cos() / scale, angle.sin() / scale
    x = torch.stack([mirror_x * cos, mirror_x * -sin], dim=1)
    y = torch.stack([mirror_y * sin, mirror_y * cos], dim=1)
    linear = torch.stack([x, y], dim=1)  # (N, 2, 2)
    shift = 2 * parameters[:, 6:8, None]  # a side is 2 long
    return torch.cat([linear, -(linear * shift.mT).sum(2, keepdim=True)], dim=2)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Subtract the channel means and divide by the deviations; images (N, 3, H, W) in 0..1."""
    shift, scale = torch.tensor([mean, std]).to(images.device, non_blocking=True)  # (3,) each
    return (images - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
