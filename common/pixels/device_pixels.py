"""The pixels of a split on the device that works on them.

N images of the split, n of them asked for, S pixels of the square side.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from common.pixels.preprocessing import Preprocessing
from common.system.device import free_cached_memory, to_device

MAX_RESIDENT_BYTES = 6 * 10**9
_BLOCK = 256  # images copied to the device at a time


class PixelSource(Protocol):
    """The pixels of images under one configuration: a cache, or what is in memory."""

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the pixels of the given images as (n, S, S, 3) uint8."""
        ...


def views(pixels: Tensor, tta: str) -> Iterator[Tensor]:
    """Show square pictures (n, S, S, 3) as test-time augmentation does, the same pixels elsewhere.

    tta: "none" as they are; "flips" also mirrored left to right, top to bottom, and both; "d4" all
    eight symmetries of the square. As many of the same shape as `config.VIEWS` says.
    """
    if tta == "flips":
        yield from (pixels, *(pixels.flip(sides) for sides in ((2,), (1,), (1, 2))))
    elif tta == "d4":
        for quarters in range(4):
            turned = pixels.rot90(quarters, (1, 2))
            yield from (turned, turned.flip(2))
    elif tta == "none":
        yield pixels
    else:
        raise ValueError(f"test-time augmentation {tta!r}")


def unturn(found: Sequence[Tensor], tta: str) -> Iterator[Tensor]:
    """Turn back what was found in each of the `views`, maps (..., h, w) in their order.

    Each then lies on the picture as it is.
    """
    for number, each in enumerate(found):
        if tta == "flips":
            sides = ((), (-1,), (-2,), (-2, -1))[number]
            yield each.flip(sides) if sides else each
        elif tta == "d4":
            mirrored = each.flip(-1) if number % 2 else each
            yield mirrored.rot90(-(number // 2), (-2, -1))
        else:
            yield each


def room_for_pixels(device: torch.device) -> int:
    """Return how many bytes of a device may be filled with pixels: a quarter of what is free.

    At most 6 GB, so that all defaults need no more than a GPU of 16 GB has. 0 on the CPU, where
    the cache file is in memory as far as it fits.
    """
    if device.type == "cpu":
        return 0
    free_cached_memory()  # what PyTorch keeps of earlier work is not free to the driver
    return min(MAX_RESIDENT_BYTES, torch.cuda.mem_get_info(device)[0] // 4)


class DevicePixels:
    """Hands out a split's pixels on a device: from the device's memory, or read anew each time."""

    def __init__(
        self, cache: PixelSource, device: torch.device, resident: Tensor | None = None
    ) -> None:
        """resident: all pixels (N, S, S, 3) uint8 on the device, if they are there."""
        self._cache, self._device, self._resident = cache, device, resident

    @property
    def bytes_on_device(self) -> int:
        """How much of the device's memory the pixels take."""
        return 0 if self._resident is None else self._resident.numel()

    def __call__(self, indices: np.ndarray) -> Tensor:
        """Return the pixels of the given images, (n, S, S, 3) uint8, on the device."""
        if self._resident is not None:
            return self._resident[to_device(indices, self._device)]
        pixels = torch.from_numpy(self._cache.read(indices))
        if self._device.type == "cuda":
            pixels = pixels.pin_memory()
        return to_device(pixels, self._device)


def build_device_pixels(cache: PixelSource, device: torch.device, room: int) -> DevicePixels:
    """Copy a split's pixels to a device if they fit into `room` bytes; else they are read anew."""
    shape = (len(cache), *cache.shape)
    if math.prod(shape) > room:
        return DevicePixels(cache, device)
    resident = torch.empty(shape, dtype=torch.uint8, device=device)
    for start in range(0, len(cache), _BLOCK):
        stop = min(start + _BLOCK, len(cache))
        resident[start:stop] = torch.from_numpy(cache.read(np.arange(start, stop)))
    return DevicePixels(cache, device, resident)
