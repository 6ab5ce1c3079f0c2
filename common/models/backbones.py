"""The seven backbones, and any other timm model, as a chain of stages.

N images, F pooled features. A network is cut into stages that are called one after the other;
the first ones can be frozen and shared. The keys of a stage's state are those of the original
library, so that published weights load by name.
"""

import re
import string
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.models import PretrainedCfg
from torch import Tensor, nn

from common.architectures import BackboneSpec, aliases, in_table, timm_architecture
from common.config import PixelOptions
from common.models import timm_patches
from common.models.pretrained import create_network, load_weights, one_line
from common.pixels.decoding import PIXEL_VERSION
from common.pixels.preprocessing import Preprocessing
from common.system.errors import InputError

_DOT = ":"  # in names of modules, which cannot hold a dot, where the library's keys have one
_POOLING = ("global_pool", "avgpool", "head")
_NAME_LETTERS = set(string.ascii_letters + string.digits + "_.-")
_CONTAINERS = ("stages", "layers", "blocks", "features", "dense_stages")
_INNER_STAGE = re.compile(rf"({'|'.join(_CONTAINERS)})\.|(layer|level|stage|s)\d+$")  # not the stem

Stages = list[tuple[str, nn.Module]]  # in the order in which they are called


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
    spec = in_table(name)
    if spec is not None:
        return spec
    # timm looks no further than the first dot; names become file names
    plain = len(name) <= 100 and not set(name) - _NAME_LETTERS
    if plain and _is_timm_model(name):
        return timm_architecture(name)
    known = {*aliases(), *timm.list_models()}
    near = get_close_matches(name[:100], known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
    raise InputError(f"unknown model {name[:100]!r}; {hint}")


def _is_timm_model(name: str) -> bool:
    try:
        return timm.is_model(name) and timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # a tag of pretrained weights that is not known
        return False


def preprocessing_for(
    spec: BackboneSpec, options: PixelOptions, version: int = PIXEL_VERSION
) -> Preprocessing:
    """Combine the model's own pretrained input settings with what the user chose.

    version: of the pixels, where a run goes on with those of an earlier release.
    """
    if spec.source == "timm":
        cfg = timm.get_pretrained_cfg(spec.builder) or PretrainedCfg()  # every model has one
        own, mean, std, mode = cfg.input_size[-1], cfg.mean, cfg.std, cfg.interpolation
    else:
        preset = torchvision.models.get_model_weights(spec.builder).DEFAULT.transforms()
        own, mean, std = preset.crop_size[0], preset.mean, preset.std
        mode = preset.interpolation.value
    return Preprocessing(
        img_size=options.img_size or spec.img_size or own,
        mean=_of_channels(mean),
        std=_of_channels(std),
        interpolation=mode,
        enable_clahe=options.enable_clahe,
        clahe_clip_limit=options.clahe_clip_limit,
        clahe_tile_grid_size=options.clahe_tile_grid_size,
        version=version,
    )


def _of_channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def build(
    spec: BackboneSpec,
    img_size: int,
    pretrained: bool,
    weights: str,
    freeze: bool,
    seed: int,
    frozen_stages: int = -1,
    pooled_stages: str = "last",
) -> Backbone:
    """Create a network, load its weights and cut it.

    weights: a file in the library's own format, "" for the hub; seed: of the random start where
    nothing is loaded; frozen_stages: how many freeze with `freeze`, -1 for the model's own cut;
    pooled_stages: "trained" pools the maps of all stages that do not freeze, not the last alone;
    "auto" does so where it can be.
    Raises InputError when weights cannot be had or do not fit, or there are no such stages.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = create_network(spec, img_size, pretrained and not weights)
    if pretrained and weights:
        load_weights(net, spec, Path(weights))
    timm_patches.apply(net.eval())
    with torch.no_grad():
        parts = _stages_of(net, spec, img_size, freeze)
        frozen = _count_frozen(parts, spec, frozen_stages) if freeze else 0
        trunk, stages = _chain(parts[:frozen]), _chain(parts[frozen:])
        # measured on a CPU: 1.6 times as fast for frozen convolutions, and no slower elsewhere
        trunk.requires_grad_(False).to(memory_format=torch.channels_last)
        features = trunk(torch.zeros(1, 3, img_size, img_size))
        if pooled_stages in ("trained", "auto"):
            stages = _joined(stages, features, spec, needed=pooled_stages == "trained")
        pooled = stages(features)
    return Backbone(spec, trunk, stages, pooled.shape[1])


class JoinedStages(nn.Sequential):
    """Stages up to pooling, which pools what each of them gives, not what the last gives alone.

    Their maps are averaged down to the size of the last one and joined with it before it is pooled.
    The children, and so the state, are those of the plain chain.
    """

    def __init__(self, chain: nn.Sequential) -> None:
        super().__init__(OrderedDict(chain.named_children()))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, ...) to pooled (N, F), F the channels of all maps together."""
        children, maps = list(self.named_children()), []
        first = _before_pooling(self)
        for name, child in children[:first]:
            features = child(features)
            if is_stage(name, child):
                maps.append(features)
        features = _join([*maps, features])
        for _, child in children[first:]:
            features = child(features)
        return features


def _join(maps: Sequence[Tensor]) -> Tensor:
    """Join maps (N, C, h, w), or all (N, h, w, C) with h = w, at the size of the last one.

    One that comes twice, since nothing lies between the last stage and the pooling, counts once.
    """
    last = maps[-1]
    channels_last = last.shape[2] != last.shape[3]
    height, width = last.shape[1:3] if channels_last else last.shape[2:]
    alone = [one for one in maps[:-1] if one is not last]
    in_order = [one.permute(0, 3, 1, 2) if channels_last else one for one in (*alone, last)]
    joined = torch.cat([F.adaptive_avg_pool2d(one, (height, width)) for one in in_order], dim=1)
    return joined.permute(0, 2, 3, 1) if channels_last else joined


def _joined(
    stages: nn.Sequential, features: Tensor, spec: BackboneSpec, needed: bool
) -> nn.Sequential:
    """Let stages pool all of their maps where nothing but pooling follows them.

    Raises InputError where that cannot be and is needed.
    """
    joined = JoinedStages(stages)
    try:
        if joined(features).shape[1] > stages(features).shape[1]:
            return joined
    except (RuntimeError, IndexError):  # a norm of the last stage's channels; no maps
        pass
    if not needed:
        return stages
    raise InputError(
        "--pooled_stages trained: expected several trained stages, and nothing but an average over "
        f"the positions behind the last one, which {spec.name} as it is frozen here does not have; "
        "leave it out, freeze fewer stages or choose another model"
    )


def count_frozen(backbone: Backbone, freeze: bool, frozen_stages: int) -> int | None:
    """Count the parts that would freeze of a backbone that was cut in some way; None: cannot be."""
    chain = (*backbone.trunk.named_children(), *backbone.stages.named_children())
    parts = [(name.replace(_DOT, "."), part) for name, part in chain]
    try:
        return _count_frozen(parts, backbone.spec, frozen_stages) if freeze else 0
    except (ValueError, TypeError):  # more stages than there are, or what is no number
        return None


def pool_by_average(backbone: Backbone) -> None:
    """Replace the network's own pooling and norm after it by a plain global average."""
    children = list(backbone.stages.named_children())[: _before_pooling(backbone.stages)]
    body = [(name.replace(_DOT, "."), child) for name, child in children]
    pooling = [("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten(1))]
    backbone.stages = _chain([*body, *pooling])


def _before_pooling(chain: nn.Module) -> int:
    """Count the children of a chain that come before its pooling; all, if it has none."""
    names = [name for name, _ in chain.named_children()]
    return next((place for place, name in enumerate(names) if name in _POOLING), len(names))


def native_state(chain: nn.Module) -> dict[str, Tensor]:
    """Return the state of a chain under the original library's keys."""
    return {key.replace(_DOT, "."): value for key, value in chain.state_dict().items()}


def load_native_state(chain: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state with the original library's keys; raises RuntimeError if it does not fit."""
    own = {key.replace(_DOT, "."): key for key in chain.state_dict()}
    chain.load_state_dict({own.get(key, key): value for key, value in state.items()})


def stages_above(chain: nn.Sequential) -> dict[str, int]:
    """Count for each child of a chain the stages with weights that come after it.

    The stem lies one below the first stage; a norm or convolution behind the last belongs to that.
    """
    above, count = {}, 0
    for name, child in reversed(list(chain.named_children())):
        above[name] = count
        count += is_stage(name, child)
    return above


def is_stage(name: str, module: nn.Module) -> bool:
    """Tell a stage from the stem, single layers and what has no weights."""
    layers = [m for m in module.children() if any(True for _ in m.parameters())]
    return bool(_INNER_STAGE.match(name.replace(_DOT, "."))) and bool(layers)


def _cut(net: nn.Module, spec: BackboneSpec) -> Stages:
    """List what a network calls in turn, as far as its module names tell."""
    stages: Stages = []
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


def _count_frozen(stages: Stages, spec: BackboneSpec, wanted: int) -> int:
    """Count the parts that freeze: up to the wanted stage, or with -1 up to the model's own."""
    names = [name for name, _ in stages]
    if wanted >= 0:
        places = [place for place, (name, part) in enumerate(stages) if is_stage(name, part)]
        if wanted > len(places):
            found = ", ".join(names[place] for place in places) or "none that can be told apart"
            raise InputError(
                f"--frozen_stages {wanted}: expected at most the stages of {spec.name}, found "
                f"{len(places)} ({found})"
            )
        return places[wanted - 1] + 1 if wanted else 0
    if spec.last_frozen:
        return names.index(spec.last_frozen) + 1
    inner = [index for index, name in enumerate(names) if _INNER_STAGE.match(name)]
    if not inner:
        raise InputError(
            f"{spec.name} has no stages that can be told apart; pass --freeze_weights false"
        )
    return inner[(len(inner) - 1) // 2] + 1


def _stages_of(net: nn.Module, spec: BackboneSpec, img_size: int, freeze: bool) -> Stages:
    """Cut a network into stages that give what it gives, or leave it whole if nothing freezes."""
    size = f"{img_size} pixels"
    pixels = torch.linspace(-1, 1, 3 * img_size * img_size).view(1, 3, img_size, img_size)
    try:
        pooled = net(pixels)
    except Exception as error:  # libraries raise anything where a size does not fit
        raise InputError(
            f"{spec.name} cannot work at {size} ({one_line(error)}); try its own --img_size"
        ) from error
    if not isinstance(pooled, Tensor) or pooled.ndim != 2:
        found = tuple(pooled.shape) if isinstance(pooled, Tensor) else type(pooled).__name__
        raise InputError(
            f"{spec.name} gives no features (1, F) for a picture of {size} but {found}; "
            "choose another model"
        )
    if not pooled.isfinite().all():
        raise InputError(
            f"the weights of {spec.name} make NaN or infinity of a picture of {size}, though each "
            "is a number: they are damaged or of another model; check --weights"
        )
    stages = _cut(net, spec)
    try:
        if torch.equal(_chain(stages)(pixels), pooled):
            return stages
    except Exception:  # what one stage returns, the next one does not take
        pass
    if freeze:
        raise InputError(
            f"{spec.name} is not a plain chain of stages, so its first ones cannot be frozen; "
            "pass --freeze_weights false or choose another model"
        )
    return [("network", net)]


def _chain(stages: Stages) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name.replace(".", _DOT), module) for name, module in stages))
