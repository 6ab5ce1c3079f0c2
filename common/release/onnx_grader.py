"""Run an exported ONNX file: networks without PyTorch, which only need onnxruntime and NumPy.

N pictures of a chunk, S pixels of a square side, M models, P pairs.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.grading.networks import Said
from common.grading.stored_grader import StoredGrader
from common.pixels.preprocessing import Preprocessing
from common.release.contract import FEATURES, KEY, PAIRS, Contract, parse_contract
from common.system.environment import worker_count
from common.system.errors import InputError

_CHUNK = 16
_ONNX_NEEDED = "pip install -e '.[export]'"


def require_onnx() -> None:
    """Raise InputError unless what writes and runs ONNX files is installed."""
    try:
        import onnx  # noqa: F401  # only whether it is there
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--format onnx needs onnx, onnxscript and onnxruntime ({error}); {_ONNX_NEEDED}"
        ) from error


def open_session(path: Path, device: str = "cpu") -> Any:
    """Load an ONNX file into onnxruntime; device: "cpu", "cuda", "cuda:1" or "auto".

    "auto" takes a GPU where onnxruntime has one. Raises InputError where onnxruntime is missing,
    the file is no network, or there is no GPU.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "ONNX files are run by onnxruntime, which is not installed; pip install onnxruntime"
        ) from error
    there = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    asked = ("cuda" if there else "cpu") if device == "auto" else device
    kind, colon, number = asked.partition(":")
    on_gpu = kind == "cuda" and there and (number.isdecimal() or not colon)
    if not on_gpu and asked != "cpu":
        raise InputError(
            f"--device {device}: expected auto or cpu, or cuda where onnxruntime-gpu is installed"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.log_severity_level = 3  # errors
    try:
        if not path.is_file():
            raise InputError(f"{path}: expected an ONNX file of export_model.py, found none")
        gpu = ("CUDAExecutionProvider", {"device_id": int(number or 0)})
        providers: list[Any] = [gpu] if on_gpu else []
        providers.append("CPUExecutionProvider")
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except InputError:
        raise
    except Exception as error:  # onnxruntime raises kinds of its own for a stranger's bytes
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected an ONNX file of export_model.py ({reason})") from error


def _threads() -> int:
    """Count the threads: those that OMP_NUM_THREADS asks for, or the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return worker_count(int(asked) if asked.isdecimal() and int(asked) else os.cpu_count() or 1)


def run_session(session: Any, pixels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return all outputs by name; pixels: (N, S, S, 3) uint8 for each input in turn."""
    names = [each.name for each in session.get_outputs()]
    inputs = {each.name: values for each, values in zip(session.get_inputs(), pixels, strict=True)}
    return dict(zip(names, session.run(names, inputs)))


@dataclass(frozen=True)
class OnnxNetworks:
    """The networks of an exported file, as `grading.networks.Networks`."""

    contract: Contract
    session: Any

    @property
    def device(self) -> str:
        """Where the file is run."""
        return "cuda" if "CUDA" in self.session.get_providers()[0] else "cpu"

    @property
    def grader(self) -> StoredGrader:
        """What was chosen for these networks."""
        return self.contract.grader

    @property
    def preprocessings(self) -> Sequence[Preprocessing]:
        """The pixels that each model sees."""
        return [member.preprocessing for member in self.contract.members]

    @property
    def chunk(self) -> int:
        """How many pictures are shown at a time.

        One to a file with 8-bit weights, which rounds by the range of all that it sees together.
        """
        return _CHUNK if self.contract.weights == "fp32" else 1

    def say(self, pixels: Sequence[np.ndarray]) -> Said:
        """Look at a chunk of pictures, (N, S, S, 3) uint8 for each model.

        The file always sees a whole chunk, filled up with the last picture, since it rounds by how
        many it sees.
        """
        count = len(pixels[0])
        filled = np.minimum(np.arange(self.chunk), count - 1)
        own = [member.input for member in self.contract.members]
        inputs = [pixels[own.index(place)][filled] for place in range(len(self.contract.inputs))]
        found = {name: values[:count] for name, values in run_session(self.session, inputs).items()}
        pairs = found[PAIRS].astype(np.float64)  # (N, M, P)
        features = (values for name, values in found.items() if name.startswith(FEATURES))
        return Said(tuple(pairs[:, place] for place in range(len(own))), tuple(features))


def open_networks(path: Path, device: str = "auto") -> OnnxNetworks:
    """Open what export_model.py wrote, with the contract within; InputError for anything else."""
    session = open_session(path, device)
    text = session.get_modelmeta().custom_metadata_map.get(KEY, "")
    if not text:
        raise InputError(
            f"{path}: expected a network that export_model.py wrote; it has no contract"
        )
    return OnnxNetworks(parse_contract(text, str(path)), session)
