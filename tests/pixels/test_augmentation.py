"""Augmentation: exact at its landmarks, and the same for an image whatever surrounds it."""

import numpy as np
import torch
from torchvision.transforms import functional as oracle

from common.config import AugmentationRanges
from common.pixels.augmentation import augment, augmentation_table, normalise


def table(epoch=0, ranges=(25.0, 0.2, 0.2), count=40, seed=1):
    return augmentation_table(seed, epoch, count, AugmentationRanges(*ranges))


def parameters_of(count=1, **values):
    """Parameters that leave pictures alone but for these columns."""
    columns = ("angle", "brightness", "contrast", "mirror_x", "mirror_y", "scale", "x", "y")
    still = dict.fromkeys(columns, 1.0) | {"angle": 0.0, "x": 0.0, "y": 0.0}
    return torch.tensor([list((still | values).values())] * count)


def pictures(count=3, size=33):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_parameters_stay_in_their_ranges_and_fill_them():
    found = table(count=4000, ranges=(25.0, 0.2, 0.2, True, True, 0.1, 0.05))
    assert found.shape == (4000, 8) and found.dtype == np.float32
    limits = [(-25, 25), (0.8, 1.2), (0.8, 1.2), (-1, 1), (-1, 1), (0.9, 1.1), (-0.05, 0.05)]
    for column, (low, high) in enumerate([*limits, limits[-1]]):
        assert low <= found[:, column].min() < low + 0.01 * (high - low) + 0.3
        assert high - 0.3 - 0.01 * (high - low) < found[:, column].max() <= high


def test_parameters_depend_on_seed_and_epoch_only():
    assert np.array_equal(table(), table())
    assert not np.array_equal(table(), table(epoch=1))
    assert not np.array_equal(table(), table(seed=2))


def test_flips_come_for_half_of_the_images_and_only_where_asked_for():
    mirrored = table(count=4000, ranges=(25.0, 0.2, 0.2, True, False))[:, 3:5]
    assert set(mirrored[:, 0]) == {-1, 1} and abs(mirrored[:, 0].mean()) < 0.05
    assert set(mirrored[:, 1]) == {1}


def test_what_was_there_first_is_drawn_alike_whatever_is_asked_for_beside_it():
    more = table(ranges=(25.0, 0.2, 0.2, True, True, 0.1, 0.05))
    assert np.array_equal(more[:, :3], table()[:, :3])
    assert np.array_equal(table()[:, 3:], np.tile([1, 1, 1, 0, 0], (40, 1)))


def test_no_ranges_leave_the_picture_alone():
    images = pictures()
    still = torch.from_numpy(table(ranges=(0.0, 0.0, 0.0), count=3))
    assert torch.allclose(augment(images, still), images, atol=1e-5)


def test_brightness_and_contrast_agree_with_torchvision():
    images = pictures()
    for brightness, contrast in ((0.8, 1.0), (1.15, 1.0), (1.0, 0.8), (1.2, 1.2)):
        parameters = parameters_of(3, brightness=brightness, contrast=contrast)
        expected = oracle.adjust_brightness(images, brightness)
        expected = oracle.adjust_contrast(expected, contrast)
        assert torch.allclose(augment(images, parameters), expected, atol=2e-3)


def test_rotation_agrees_with_torchvision():
    images = pictures(1, 65)
    images = torch.nn.functional.avg_pool2d(images, 9, 1, 4)  # smooth, to compare interpolations
    found = augment(images, parameters_of(angle=90.0))
    turned = [torch.rot90(images, k, (2, 3)) for k in (1, 3)]
    assert min((found - t).abs().max().item() for t in turned) < 1e-4
    found = augment(images, parameters_of(angle=20.0))[..., 20:45, 20:45]
    turned = [
        oracle.rotate(images, angle, oracle.InterpolationMode.BILINEAR)[..., 20:45, 20:45]
        for angle in (20.0, -20.0)
    ]
    assert min((found - t).abs().max().item() for t in turned) < 1e-3


def test_only_turning_is_what_it_was_before_there_was_more_to_the_last_bit():
    images, angle = pictures(), torch.tensor([30.0, -7.0, 180.0]) * (torch.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(3)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    parameters = torch.cat([parameters_of(angle=degrees) for degrees in (30.0, -7.0, 180.0)])
    assert torch.equal(augment(images, parameters), expected.clamp(0, 1))


def test_flips_scale_and_shift_agree_with_torchvision():
    images = torch.nn.functional.avg_pool2d(pictures(2, 64), 9, 1, 4)
    assert torch.allclose(
        augment(images, parameters_of(2, mirror_x=-1.0)), images.flip(3), atol=1e-5
    )
    assert torch.allclose(
        augment(images, parameters_of(2, mirror_y=-1.0)), images.flip(2), atol=1e-5
    )
    moved = {"angle": 20.0, "scale": 1.2, "x": 6 / 64, "y": -3 / 64, "mirror_x": -1.0}
    found = augment(images, parameters_of(2, **moved))
    expected = oracle.affine(
        images.flip(3), -20.0, [6, -3], 1.2, [0.0, 0.0], oracle.InterpolationMode.BILINEAR
    )
    turned = oracle.affine(
        images.flip(3), 20.0, [6, -3], 1.2, [0.0, 0.0], oracle.InterpolationMode.BILINEAR
    )
    inner = (..., slice(8, 56), slice(8, 56))
    assert min((found - e)[inner].abs().max() for e in (expected, turned)) < 1e-3


def test_an_image_is_augmented_alike_in_any_batch():
    images = pictures(6)
    parameters = torch.from_numpy(table(count=6, ranges=(25.0, 0.2, 0.2, True, True, 0.1, 0.05)))
    together = augment(images, parameters)
    alone = torch.cat([augment(images[i : i + 1], parameters[i : i + 1]) for i in range(6)])
    assert torch.equal(together, alone)


def test_normalising_subtracts_means_and_divides_by_deviations():
    found = normalise(torch.full((1, 3, 2, 2), 0.5), (0.5, 0.4, 0.3), (0.5, 0.2, 0.1))
    assert torch.allclose(found[0, :, 0, 0], torch.tensor([0.0, 0.5, 2.0]))
