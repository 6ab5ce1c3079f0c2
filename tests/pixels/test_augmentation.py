"""Augmentation: exact at its landmarks, and the same for an image whatever surrounds it."""

import numpy as np
import torch
from torchvision.transforms import functional as oracle

from common.config import AugmentationRanges
from common.pixels.augmentation import augment, augmentation_table, normalise
from common.system.random_streams import random_generator


def table(epoch=0, ranges=(25.0, 0.2, 0.2), count=40, seed=1):
    return augmentation_table(
        random_generator("augmentation", seed, epoch), count, AugmentationRanges(*ranges)
    )


def pictures(count=3, size=33):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_parameters_stay_in_their_ranges_and_fill_them():
    found = table(count=4000)
    assert found.shape == (4000, 3) and found.dtype == np.float32
    for column, (low, high) in enumerate([(-25, 25), (0.8, 1.2), (0.8, 1.2)]):
        assert low <= found[:, column].min() < low + 0.01 * (high - low) + 0.3
        assert high - 0.3 - 0.01 * (high - low) < found[:, column].max() <= high


def test_parameters_depend_on_seed_and_epoch_only():
    assert np.array_equal(table(), table())
    assert not np.array_equal(table(), table(epoch=1))
    assert not np.array_equal(table(), table(seed=2))


def test_no_ranges_leave_the_picture_alone():
    images = pictures()
    still = torch.from_numpy(table(ranges=(0.0, 0.0, 0.0), count=3))
    assert torch.allclose(augment(images, still), images, atol=1e-5)


def test_brightness_and_contrast_agree_with_torchvision():
    images = pictures()
    for brightness, contrast in ((0.8, 1.0), (1.15, 1.0), (1.0, 0.8), (1.2, 1.2)):
        parameters = torch.tensor([[0.0, brightness, contrast]] * 3)
        expected = oracle.adjust_brightness(images, brightness)
        expected = oracle.adjust_contrast(expected, contrast)
        assert torch.allclose(augment(images, parameters), expected, atol=2e-3)


def test_rotation_agrees_with_torchvision():
    images = pictures(1, 65)
    images = torch.nn.functional.avg_pool2d(images, 9, 1, 4)  # smooth, to compare interpolations
    found = augment(images, torch.tensor([[90.0, 1.0, 1.0]]))
    turned = [torch.rot90(images, k, (2, 3)) for k in (1, 3)]
    assert min((found - t).abs().max().item() for t in turned) < 1e-4
    found = augment(images, torch.tensor([[20.0, 1.0, 1.0]]))[..., 20:45, 20:45]
    turned = [
        oracle.rotate(images, angle, oracle.InterpolationMode.BILINEAR)[..., 20:45, 20:45]
        for angle in (20.0, -20.0)
    ]
    assert min((found - t).abs().max().item() for t in turned) < 1e-3


def test_an_image_is_augmented_alike_in_any_batch():
    images, parameters = pictures(6), torch.from_numpy(table(count=6))
    together = augment(images, parameters)
    alone = torch.cat([augment(images[i : i + 1], parameters[i : i + 1]) for i in range(6)])
    assert torch.equal(together, alone)


def test_normalising_subtracts_means_and_divides_by_deviations():
    found = normalise(torch.full((1, 3, 2, 2), 0.5), (0.5, 0.4, 0.3), (0.5, 0.2, 0.1))
    assert torch.allclose(found[0, :, 0, 0], torch.tensor([0.0, 0.5, 2.0]))
