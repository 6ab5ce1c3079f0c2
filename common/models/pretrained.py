"""Networks of timm and torchvision, with random weights, published ones, or those of a file."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torchvision
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from torch import nn

from common.system.errors import InputError

_HEADS = ("classifier.", "fc.", "head.")  # keys of a file that the network does not need


@dataclass(frozen=True)
class Architecture:
    """Which network of which library, and what messages and files call it."""

    name: str
    source: str  # "timm" or "torchvision"
    builder: str  # the library's own name
    options: dict[str, Any] = field(default_factory=dict)


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
            raise _no_download(name, unreachable or reason) from error
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


def _no_download(name: str, reason: str) -> InputError:
    return InputError(
        f"could not download the pretrained weights of {name} ({reason}); check "
        "the network, or pass --weights PATH with a downloaded file, or set HF_HOME to a copy of "
        "the hub's cache, or pass --no_pretrained to train from scratch"
    )


def load_weights(net: nn.Module, architecture: Architecture, path: Path) -> None:
    """Load a file in the library's own format; InputError when it cannot be read or does not fit.

    The file may hold a classifier, which is left out, and must hold all the rest.
    """
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file")
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # unpickling a stranger's bytes can raise anything
        raise InputError(f"--weights {path}: not a readable state dict ({error!r})") from error
    adapt = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    try:
        state = adapt(state, net) if adapt and architecture.source == "timm" else state
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
