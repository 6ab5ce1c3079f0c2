"""Pixels on the device: those of the cache, copied once where there is room."""

import numpy as np
import pytest
import torch

from common.config import PixelOptions
from common.data.folders import scan_split
from common.models.backbones import preprocessing_for, resolve
from common.pixels.device_pixels import build_device_pixels, room_for_pixels
from common.pixels.pixel_cache import open_cache

CPU = torch.device("cpu")


@pytest.fixture
def cache(demo, shared_cache):
    preprocessing = preprocessing_for(resolve("demo_convnext"), PixelOptions())
    return open_cache(scan_split(demo, "test"), preprocessing, shared_cache, 2)


def test_resident_pixels_are_those_of_the_cache(cache, monkeypatch):
    size = len(cache) * 64 * 64 * 3
    resident, read = (build_device_pixels(cache, CPU, room) for room in (size, size - 1))
    assert (resident.bytes_on_device, read.bytes_on_device) == (size, 0)
    indices = np.array([3, 0, 3, 19])
    expected = torch.from_numpy(cache.read(indices))
    assert torch.equal(resident(indices), expected) and torch.equal(read(indices), expected)
    monkeypatch.setattr(type(cache), "read", lambda *_: pytest.fail("read again"))
    assert torch.equal(resident(indices), expected)


def test_a_cpu_keeps_no_second_copy():
    assert room_for_pixels(CPU) == 0
