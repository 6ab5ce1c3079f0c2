"""Write a network to a file of one of three formats, and run such files.

The contract's text is within each file. N pictures, S pixels of a square side.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from common.models.backbones import native_state
from common.release.contract import KEY
from common.release.exported_network import ExportedNetwork, example_pixels
from common.release.onnx_grader import open_session, require_onnx, run_session
from common.system.errors import InputError

_MOST_IN_ONE = 1_900_000_000  # bytes of weights; a protocol buffer holds at most 2 GB
_OPSET = 18

Runner = Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]  # inputs -> outputs by their names


def write_network(network: ExportedNetwork, path: Path, text: str) -> None:
    """Write a network in the format of its contract; text: the contract's.

    Beside an ONNX file of more than 2 GB lies PATH.data, which belongs to it.
    """
    write = {"onnx": _write_onnx, "torchscript": _write_torchscript, "safetensors": _write_weights}
    write[network.contract.kind](network, path, text)


def open_network(network: ExportedNetwork, path: Path) -> Runner:
    """Load a file that was written, to be run; network: whose weights those of safetensors are."""
    kind, names = network.contract.kind, [each.name for each in network.contract.outputs]
    if kind == "onnx":
        session = open_session(path)
        return lambda pixels: run_session(session, pixels)
    with _quiet():
        loaded = torch.jit.load(path) if kind == "torchscript" else _filled(network, path)
    loaded.eval()

    @torch.inference_mode()
    def run(pixels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        found = loaded(*(torch.from_numpy(each) for each in pixels))
        return dict(zip(names, (each.numpy() for each in found), strict=True))

    return run


def quantise(source: Path, target: Path, text: str) -> None:
    """Write an ONNX file once more with 8-bit weights, activations being rounded as they come.

    onnxruntime's dynamic quantisation, of weights channel by channel.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    model = onnx.load(target)
    onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, target)


def _write_onnx(network: ExportedNetwork, path: Path, text: str) -> None:
    require_onnx()
    contract, pictures = network.contract, torch.export.Dim("pictures")
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            _examples(network),
            dynamo=True,
            verbose=False,
            opset_version=_OPSET,
            input_names=[each.name for each in contract.inputs],
            output_names=[each.name for each in contract.outputs],
            dynamic_shapes={"pixels": tuple({0: pictures} for _ in contract.inputs)},
        )
    if program is None:
        raise InputError("torch.onnx.export gave no program; install the newest onnxscript")
    program.model.metadata_props[KEY] = text
    program.save(path, external_data=weight_bytes(network) > _MOST_IN_ONE)


def _write_torchscript(network: ExportedNetwork, path: Path, text: str) -> None:
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(network, _examples(network), check_trace=False)
        with path.open("wb") as file:  # by its name PyTorch would refuse some
            torch.jit.save(traced, file, _extra_files={f"{KEY}.json": text})


def _write_weights(network: ExportedNetwork, path: Path, text: str) -> None:
    state = {key: value.contiguous() for key, value in named_weights(network).items()}
    safetensors.torch.save_file(state, path, {KEY: text})


def named_weights(network: ExportedNetwork) -> dict[str, Tensor]:
    """Return all weights by names that end in the keys of the networks' own library.

    "trunks.0.", of the models that share it; "members.0.0-1." and the like of a branch, with
    "classifier.weight" and "classifier.bias" for the layer after the pooled features.
    """
    state: dict[str, Tensor] = {}
    for place, trunk in enumerate(network.trunks):
        parts = native_state(trunk.trunk)
        state |= {f"trunks.{place}.{key}": value for key, value in parts.items()}
    for place, member in enumerate(network.members):
        for branch in member.branches:
            start = f"members.{place}.{branch.name}"
            parts = native_state(branch.branch.stages)
            last = branch.branch.classifier.state_dict()
            parts |= {f"classifier.{key}": value for key, value in last.items()}
            state |= {f"{start}.{key}": value for key, value in parts.items()}
    return state


def weight_bytes(network: ExportedNetwork) -> int:
    """Count the bytes of all weights."""
    return sum(value.nbytes for value in named_weights(network).values())


@torch.no_grad()
def _filled(network: ExportedNetwork, path: Path) -> nn.Module:
    """Fill a network with the weights of a file, in place of its own."""
    own, found = named_weights(network), safetensors.torch.load_file(path)
    if own.keys() != found.keys():
        raise InputError(f"{path}: expected the weights of this network, found others")
    for key, value in own.items():
        value.zero_()
        value.copy_(found[key])
    return network


def _examples(network: ExportedNetwork) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(each) for each in example_pixels(network.contract, 2))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' notes on their own insides from the log."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
