"""What the heads of a run share: its inputs, and the context that training builds from them."""

import hashlib
from dataclasses import dataclass, field

import torch

from common.config import TrainConfig
from common.data.folders import Split
from common.data.synthetic import synthetic_note
from common.models import timm_patches
from common.models.backbones import Backbone, native_state
from common.models.ovo import batch_norms, trunk_output
from common.models.parallel_branches import ParallelBranches
from common.pairs import Head, is_one_network
from common.pixel_store.pixel_cache import PixelCache
from common.pixels.device_pixels import DevicePixels, build_device_pixels, room_for_pixels
from common.pixels.preprocessing import Preprocessing
from common.prediction.classes import classes_of
from common.result_dir.paths import ResultDir
from common.system.device import tune_malloc
from common.system.errors import InputError


@dataclass(frozen=True)
class RunInputs:
    """What the training of one backbone starts from, before any image is decoded."""

    config: TrainConfig
    backbone: Backbone
    preprocessing: Preprocessing
    train: Split
    val: Split
    device: torch.device
    precision: str  # resolved: "fp32", "bf16" or "fp16"
    skipped: dict[str, list[str]] = field(default_factory=dict)  # by split, ids left out of it
    kernel_version: int = 1


def check_inputs(inputs: RunInputs, heads: list[Head]) -> None:
    """Raise InputError where these heads cannot be trained on this, before anything is written."""
    config = inputs.config
    require_images(config, inputs.train, inputs.val, heads)
    if not config.pretrained and config.effective_batch < 2 and batch_norms(inputs.backbone.stages):
        raise InputError(
            f"{config.model} from scratch needs the statistics of a batch, and the effective "
            "batch is one image; raise --batch_size or --gradient_accumulation_steps"
        )


def require_images(config: TrainConfig, train: Split, val: Split, heads: list[Head]) -> None:
    """Raise InputError if a class of these heads has no image to train or to validate on."""
    classes = classes_of(config.names)
    other_way = "" if is_one_network(config.head) else " or choose --pairs without it"
    for split in (train, val):
        counts = split.counts(config.num_classes)
        empty = sorted({c for head in heads for c in head.classes if not counts[c]})
        if empty:
            raise InputError(
                f"expected images of every {classes.word} in {split.name}, found none of "
                f"{', '.join(classes.titles[c] for c in empty)}; add some{other_way}"
            )


@dataclass(frozen=True)
class Fingerprints:
    """What a run must find unchanged when it goes on; the fields are keys of config.json."""

    data: dict[str, str]  # of the images, by split
    initial_weights: str
    precision: str
    synthetic: bool
    pixel_version: int = 1  # what runs without this key have, as of the next one
    kernel_version: int = 1
    skipped: dict[str, list[str]] = field(default_factory=dict)  # by split, unreadable images


def take_fingerprints(inputs: RunInputs) -> Fingerprints:
    """Hash the lists of images and the weights that training starts from."""
    return Fingerprints(
        data={"train": inputs.train.fingerprint(), "val": inputs.val.fingerprint()},
        initial_weights=hash_weights(inputs.backbone),
        precision=inputs.precision,
        synthetic=bool(synthetic_note(inputs.train.ids)),
        pixel_version=inputs.preprocessing.version,
        kernel_version=inputs.kernel_version,
        skipped=inputs.skipped,
    )


def hash_weights(backbone: Backbone) -> str:
    """Hash the weights of a whole network."""
    digest = hashlib.sha256()
    for part in (backbone.trunk, backbone.stages):
        for key, value in sorted(native_state(part).items()):
            digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass
class Memory:
    """What the device turned out to allow; changes when it runs out of memory."""

    micro_batch: int | None = None  # samples at a time; None: a whole effective batch
    checkpointing: bool = False  # recompute activations in the backward pass
    parallel_branches: ParallelBranches | None = None  # for one launch of all; None: one by one
    workers: int = 1  # parts of a CPU's threads, one of which trains a head
    at_once: int = 1  # heads that are trained side by side, at most so many


@dataclass
class TrainContext:
    """What the heads of a run share while they are trained."""

    config: TrainConfig
    backbone: Backbone
    preprocessing: Preprocessing
    device: torch.device
    precision: str
    train: Split
    val: Split
    train_pixels: DevicePixels
    val_pixels: DevicePixels
    directory: ResultDir
    fingerprints: Fingerprints
    overridden: bool  # the settings are not those of the epochs before
    memory: Memory
    channels_last: bool = False  # in which the branches are trained


def build_context(
    inputs: RunInputs,
    train_cache: PixelCache,
    val_cache: PixelCache,
    directory: ResultDir,
    fingerprints: Fingerprints,
    overridden: bool = False,
) -> TrainContext:
    """Move the trunk, and the pixels as far as they fit, to the device of the training."""
    device = inputs.device
    if device.type == "cpu":
        tune_malloc()
    for part in (inputs.backbone.trunk, inputs.backbone.stages):
        timm_patches.compute_as(part, fingerprints.kernel_version)
    channels_last = _use_faster_kernels(inputs, fingerprints.kernel_version)
    inputs.backbone.trunk.to(device)
    room = room_for_pixels(device)
    train_pixels = build_device_pixels(train_cache, device, room)
    left = room - train_pixels.bytes_on_device
    return TrainContext(
        config=inputs.config,
        backbone=inputs.backbone,
        preprocessing=inputs.preprocessing,
        device=device,
        precision=inputs.precision,
        train=inputs.train,
        val=inputs.val,
        train_pixels=train_pixels,
        val_pixels=build_device_pixels(val_cache, device, left),
        directory=directory,
        fingerprints=fingerprints,
        overridden=overridden,
        memory=Memory(checkpointing=inputs.config.grad_checkpointing == "on"),
        channels_last=channels_last,
    )


def _use_faster_kernels(inputs: RunInputs, version: int) -> bool:
    """Patch depthwise convolutions where that pays, which channels_last then does as well."""
    if inputs.device.type != "cpu" or version < 2:
        return False
    features = trunk_output(inputs.backbone.trunk, inputs.preprocessing.img_size)
    widened = version > 2 and inputs.precision == "bf16"
    return timm_patches.patch_depthwise(inputs.backbone.stages, features, widened) > 0
