"""What the pairs of a run share."""

from dataclasses import dataclass, field
from typing import Any

import torch

from common.config import TrainConfig
from common.data.device_pixels import DevicePixels, build_device_pixels, room_for_pixels
from common.data.pixel_cache import PixelCache
from common.data.preprocessing import Preprocessing
from common.models.backbones import Backbone
from common.models.parallel_branches import ParallelBranches
from common.result_dir import ResultDir
from common.system.device import tune_malloc


@dataclass
class Memory:
    """What the device turned out to allow, shared by all pairs."""

    micro_batch: int
    checkpointing: bool
    stack: ParallelBranches | None = (
        None  # runs several pairs in one launch; None: one after the other
    )


@dataclass
class TrainContext:
    """What the pairs of a run share."""

    config: TrainConfig
    backbone: Backbone
    preprocessing: Preprocessing
    device: torch.device
    precision: str
    train: PixelCache
    val: PixelCache
    directory: ResultDir
    details: dict[str, Any]  # what each pair's file says of the run
    overridden: bool = False  # the settings are not those of the epochs before
    memory: Memory = field(init=False)
    train_feed: DevicePixels = field(init=False)
    val_feed: DevicePixels = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self.memory = Memory(config.effective_batch + 1, config.grad_checkpointing == "on")
        if self.device.type == "cpu":
            tune_malloc()
        self.backbone.trunk.to(self.device)
        room = room_for_pixels(self.device)
        self.train_feed = build_device_pixels(self.train, self.device, room)
        left = room - self.train_feed.bytes_on_device
        self.val_feed = build_device_pixels(self.val, self.device, left)
