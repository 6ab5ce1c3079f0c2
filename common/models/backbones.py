"""The seven backbones, and any other timm model, as a chain of stages.

N images, F pooled features. A network is cut into stages that are called one after the other;
the first ones can be frozen and shared. The keys of a stage's state are those of the original
library, so that published weights load by name.
"""

import string
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from common.data.preprocessing import Preprocessing
from common.models import timm_patches
from common.system.errors import InputError

# module names cannot hold a dot, the original state keys do
_DOT = ":"


_POOLING = ("global_pool", "avgpool", "head")


_NAME_LETTERS = set(string.ascii_letters + string.digits + "_.-")


_CONTAINERS = ("stages", "layers", "blocks", "features")


@dataclass(frozen=True)
class BackboneSpec:
    """One row of the table of models: where it comes from and what freezing freezes."""

    name: str
    alias: str
    source: str
    builder: str
    family: str
    img_size: int = 0
    last_frozen: str = ""
    options: dict[str, Any] = field(default_factory=dict)


_SPECS = (
    BackboneSpec(
        "coatnet_0_rw_224",
        "coatnet",
        "timm",
        "coatnet_0_rw_224",
        "hybrid CNN+transformer",
        224,
        "stages.1",
    ),
    BackboneSpec(
        "convnext_tiny", "convnext", "timm", "convnext_tiny", "modern CNN", 224, "stages.1"
    ),
    BackboneSpec(
        "swinv2_tiny_window8_256",
        "swinv2",
        "timm",
        "swinv2_tiny_window8_256",
        "transformer",
        256,
        "layers.1",
    ),
    BackboneSpec(
        "densenet121",
        "densenet121",
        "torchvision",
        "densenet121",
        "CNN",
        224,
        "features.denseblock2",
    ),
    BackboneSpec(
        "efficientnetb2",
        "efficientnetb2",
        "torchvision",
        "efficientnet_b2",
        "CNN",
        224,
        "features.2",
    ),
    BackboneSpec("resnet50", "resnet50", "torchvision", "resnet50", "CNN", 224, "layer2"),
    BackboneSpec(
        "seresnext50_32x4d",
        "seresnext50",
        "timm",
        "seresnext50_32x4d",
        "SE + grouped CNN",
        224,
        "layer2",
    ),
    # small members of the three families, to be trained from scratch on the synthetic demo
    BackboneSpec(
        "demo_coatnet",
        "demo_coatnet",
        "timm",
        "coatnet_0_rw_224",
        "hybrid CNN+transformer",
        64,
        "stages.1",
        {"embed_dim": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "stem_width": (8, 16)},
    ),
    BackboneSpec(
        "demo_convnext",
        "demo_convnext",
        "timm",
        "convnext_tiny",
        "modern CNN",
        64,
        "stages.1",
        {"dims": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "ls_init_value": None},
    ),
    BackboneSpec(
        "demo_swinv2",
        "demo_swinv2",
        "timm",
        "swinv2_tiny_window8_256",
        "transformer",
        64,
        "layers.1",
        {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8), "window_size": 4},
    ),
)


@dataclass
class Backbone:
    """A network cut into a trunk, which may be empty, and the trainable stages up to pooling.

    `trunk` maps pixels (N, 3, S, S) to features; `stages` maps those to pooled (N, F).
    """

    spec: BackboneSpec
    trunk: nn.Sequential
    stages: nn.Sequential
    num_features: int


def resolve(name: str) -> BackboneSpec:
    """Find a backbone by alias, file name or timm name; raises InputError for an unknown one."""
    for spec in _SPECS:
        if name in (spec.name, spec.alias, spec.builder):
            return spec
    # timm looks no further than the first dot; names become file names
    plain = len(name) <= 100 and not set(name) - _NAME_LETTERS
    if plain and _is_timm_model(name):
        return BackboneSpec(name, name, "timm", name, "other")
    known = [spec.alias for spec in _SPECS] + timm.list_models()
    near = get_close_matches(name[:100], known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
    raise InputError(f"unknown model {name[:100]!r}; {hint}")


def _is_timm_model(name: str) -> bool:
    try:
        return timm.is_model(name) and timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # a tag of pretrained weights that is not known
        return False


def preprocessing_for(
    spec: BackboneSpec, img_size: int, enable_clahe: bool, clip_limit: float, tile_grid_size: int
) -> Preprocessing:
    """Combine the model's own pretrained input settings with those of CLAHE.

    img_size: 0 keeps the model's own.
    """
    if spec.source == "timm":
        cfg = timm.get_pretrained_cfg(spec.builder)
        own, mean, std, mode = cfg.input_size[-1], cfg.mean, cfg.std, cfg.interpolation
    else:
        preset = torchvision.models.get_model_weights(spec.builder).DEFAULT.transforms()
        own, mean, std = preset.crop_size[0], preset.mean, preset.std
        mode = preset.interpolation.value
    return Preprocessing(
        img_size=img_size or spec.img_size or own,
        mean=tuple(mean),
        std=tuple(std),
        interpolation=mode,
        enable_clahe=enable_clahe,
        clahe_clip_limit=clip_limit,
        clahe_tile_grid_size=tile_grid_size,
    )


def build(
    spec: BackboneSpec, img_size: int, pretrained: bool, weights: str, freeze: bool, seed: int
) -> Backbone:
    """Create a network, load its weights and cut it.

    weights: a file in the library's own format, "" for the hub; seed: of the random start where
    nothing is loaded. Raises InputError when weights cannot be had or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.source == "timm":
            net = _create_timm(spec, img_size, pretrained and not weights)
        else:
            net = _create_torchvision(spec, pretrained and not weights)
    if pretrained and weights:
        _load_weights(net, spec, Path(weights))
    timm_patches.apply(net)
    stages = _cut(net.eval(), spec)
    if not _is_chain(net, stages, img_size, spec):
        if freeze:
            raise InputError(
                f"{spec.name} is not a plain chain of stages, so its first ones cannot be frozen; "
                "pass --freeze_weights false or choose another model"
            )
        stages = [("network", net)]
    frozen = _count_frozen(stages, spec) if freeze else 0
    trunk, top = _chain(stages[:frozen]), _chain(stages[frozen:])
    # measured on a CPU: 1.6 times as fast for frozen convolutions, and no slower elsewhere
    trunk.requires_grad_(False).to(memory_format=torch.channels_last)
    with torch.no_grad():
        pooled = top(trunk(torch.zeros(1, 3, img_size, img_size)))
    return Backbone(spec, trunk, top, pooled.shape[1])


def pool_by_average(backbone: Backbone) -> None:
    """Replace the network's own pooling and norm after it by a plain global average."""
    names = [name for name, _ in backbone.stages.named_children()]
    first = next((i for i, name in enumerate(names) if name in _POOLING), len(names))
    body = [(n.replace(_DOT, "."), getattr(backbone.stages, n)) for n in names[:first]]
    pooling = [("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten(1))]
    backbone.stages = _chain([*body, *pooling])


def native_state(chain: nn.Module) -> dict[str, Tensor]:
    """Return the state of a chain under the original library's keys."""
    return {key.replace(_DOT, "."): value for key, value in chain.state_dict().items()}


def load_native_state(chain: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state with the original library's keys; raises RuntimeError if it does not fit."""
    own = {key.replace(_DOT, "."): key for key in chain.state_dict()}
    chain.load_state_dict({own.get(key, key): value for key, value in state.items()})


def _create_timm(spec: BackboneSpec, img_size: int, pretrained: bool) -> nn.Module:
    options = {**spec.options, "num_classes": 0, "pretrained": pretrained}
    try:
        try:  # attention windows and position tables are laid out for a size
            return timm.create_model(spec.builder, img_size=img_size, **options)
        except TypeError as error:  # convolutional networks take any size
            if "img_size" not in str(error):
                raise
            return timm.create_model(spec.builder, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise InputError(f"cannot create {spec.name} at {img_size} pixels: {error}") from error
        raise _no_download(spec, error) from error
    except AssertionError as error:
        raise InputError(f"{spec.name} cannot work at --img_size {img_size}: {error}") from error


def _create_torchvision(spec: BackboneSpec, pretrained: bool) -> nn.Module:
    try:
        net = torchvision.models.get_model(spec.builder, weights="DEFAULT" if pretrained else None)
    except OSError as error:
        raise _no_download(spec, error) from error
    setattr(net, "fc" if hasattr(net, "fc") else "classifier", nn.Identity())
    return net


def _no_download(spec: BackboneSpec, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"could not download the pretrained weights of {spec.name} ({reason}); check the network, "
        "or pass --weights PATH with a downloaded file, or set HF_HOME to a copy of the hub's "
        "cache, or pass --no_pretrained to train from scratch"
    )


def _load_weights(net: nn.Module, spec: BackboneSpec, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file")
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # unpickling a stranger's bytes can raise anything
        raise InputError(f"--weights {path}: not a readable state dict ({error!r})") from error
    adapt = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    try:
        state = adapt(state, net) if adapt and spec.source == "timm" else state
        result = net.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"--weights {path}: does not fit {spec.name}: {reason}") from error
    heads = ("classifier.", "fc.", "head.")
    foreign = [key for key in result.unexpected_keys if not key.startswith(heads)]
    if result.missing_keys or foreign:
        raise InputError(
            f"--weights {path}: does not fit {spec.name}; missing {len(result.missing_keys)} "
            f"tensors {result.missing_keys[:3]}, foreign {len(foreign)} {foreign[:3]}"
        )


def _cut(net: nn.Module, spec: BackboneSpec) -> list[tuple[str, nn.Module]]:
    stages: list[tuple[str, nn.Module]] = []
    for name, module in net.named_children():
        if name in _CONTAINERS and isinstance(module, nn.Sequential):
            stages += [(f"{name}.{key}", child) for key, child in module.named_children()]
        else:
            stages.append((name, module))
    if spec.source == "timm":
        return stages
    body = [item for item in stages if item[0] not in ("avgpool", "fc", "classifier")]
    if spec.builder.startswith("densenet"):  # its last ReLU is a function, not a module
        body.append(("relu", nn.ReLU()))
    return [*body, ("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten(1))]


def _count_frozen(stages: list[tuple[str, nn.Module]], spec: BackboneSpec) -> int:
    names = [name for name, _ in stages]
    if spec.last_frozen:
        return names.index(spec.last_frozen) + 1
    inner = [
        index
        for index, name in enumerate(names)
        if name.startswith(tuple(f"{container}." for container in _CONTAINERS))
        or (name.startswith("layer") and name[5:].isdigit())
    ]
    if not inner:
        raise InputError(
            f"{spec.name} has no stages that can be told apart; pass --freeze_weights false"
        )
    return inner[(len(inner) - 1) // 2] + 1


def _is_chain(
    net: nn.Module, stages: list[tuple[str, nn.Module]], img_size: int, spec: BackboneSpec
) -> bool:
    """Tell whether the stages, called in turn, are the network."""
    pixels = torch.linspace(-1, 1, 3 * img_size * img_size).view(1, 3, img_size, img_size)
    wrong = (RuntimeError, AssertionError, TypeError, ValueError)
    with torch.no_grad():
        try:
            whole = net(pixels)
        except wrong as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{spec.name} cannot work at {img_size} pixels ({reason}); try its own --img_size"
            ) from error
        try:
            return torch.equal(_chain(stages)(pixels), whole)
        except wrong:
            return False


def _chain(stages: list[tuple[str, nn.Module]]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name.replace(".", _DOT), module) for name, module in stages))
