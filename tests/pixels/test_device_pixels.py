"""Pixels on the device: those of the cache, copied once where there is room, and views of them."""

import numpy as np
import pytest
import torch

from common.config import VIEWS, PixelOptions
from common.data.folders import scan_split
from common.models.backbones import preprocessing_for, resolve
from common.pixel_store.pixel_cache import open_cache
from common.pixels.device_pixels import build_device_pixels, room_for_pixels, unturn, views

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


@pytest.mark.parametrize("tta", VIEWS)
def test_views_are_the_symmetries_of_the_square_with_the_same_pixels_elsewhere(tta):
    picture = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    a, b, c, d = picture[0].reshape(4, 3).tolist()
    expected = {
        "none": [[a, b, c, d]],
        "flips": [[a, b, c, d], [b, a, d, c], [c, d, a, b], [d, c, b, a]],
    }
    turned = [[b, d, a, c], [d, b, c, a], [a, c, b, d], [c, a, d, b]]
    expected["d4"] = [*expected["flips"], *turned]
    found = [view[0].reshape(4, 3).tolist() for view in views(picture, tta)]
    assert found[0] == [a, b, c, d] and sorted(found) == sorted(expected[tta])
    assert len(found) == VIEWS[tta]
    places = torch.arange(6).reshape(1, 6, 1, 1) + 10 * torch.arange(9).reshape(1, 1, 3, 3)
    shown = [view.permute(0, 3, 1, 2) for view in views(places.permute(0, 2, 3, 1), tta)]
    assert all(torch.equal(back, places) for back in unturn(shown, tta))
