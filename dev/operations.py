"""Sort what a profile has timed into kinds of operations, and say how near each is to its bound.

Products and convolutions are bound by the largest matrix product, what only moves numbers by a
large copy. Bytes are those of all inputs and of an output as large as the largest, each once.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch.autograd import DeviceType

from benchmarks.speed.results import KindOfWork
from benchmarks.speed.timing import interleave
from common.system.device import wait_for

MATRIX, CONVOLUTION, NORM, COPY, OTHER, OPTIMISER, PYTHON = (
    "matrix products",
    "convolutions",
    "normalisation",
    "copies",
    "other operations",
    "optimiser",
    "Python and waiting",
)
KINDS = (MATRIX, CONVOLUTION, NORM, COPY, OTHER, OPTIMISER, PYTHON)
_COMPUTING = (MATRIX, CONVOLUTION)
# parts of the names of operations, the first that fits counts
_PARTS = (
    (OPTIMISER, ("adamw", "foreach", "optimizer", "vector_norm", "clip_grad")),
    (CONVOLUTION, ("conv", "_depthwise")),
    (NORM, ("batch_norm", "layer_norm", "group_norm")),
    (MATRIX, ("mm", "matmul", "linear", "attention", "einsum", "bilinear")),
    (COPY, ("copy", "cat", "clone", "contiguous", "fill", "zero", "pad", "index", "roll", "to_")),
)


class Timed(Protocol):
    """What is needed of an entry of a profile's averages."""

    key: str
    input_shapes: list[list[int]]
    count: int
    self_cpu_time_total: float  # microseconds
    self_device_time_total: float  # of a GPU
    device_type: Any  # a kernel of a GPU is listed by itself, too


def kind_of(name: str) -> str:
    """Name the kind of an operation such as "aten::addmm"."""
    plain = name.rpartition("::")[2].lower()
    return next((kind for kind, parts in _PARTS if any(p in plain for p in parts)), OTHER)


def by_kind(
    events: Iterable[Timed],
    seconds: float,
    flops: float,
    ceiling: float,
    bandwidth: float,
    on_gpu: bool = False,
) -> dict[str, KindOfWork]:
    """Return each kind's share of an epoch of `seconds`, and of what its bound allows.

    flops: of the epoch; ceiling (1/s) and bandwidth (bytes/s) of the machine. on_gpu: what counts
    is the GPU's time, not that of the CPU which only launches. NaN where nothing bounds a kind.
    """
    spent: dict[str, float] = defaultdict(float)
    moved: dict[str, float] = defaultdict(float)
    for event in events:
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, whose time is that of the operation that launched it, too
        kind = kind_of(event.key)
        time = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        spent[kind] += time / 1e6
        moved[kind] += event.count * _bytes(event.input_shapes)
    # profiling takes time itself, all of which is in Python
    spent[PYTHON] = max(0.0, seconds - sum(spent.values()))
    computing = sum(spent[kind] for kind in _COMPUTING)
    found = {}
    for kind in KINDS:
        of_bound = math.nan
        if kind in _COMPUTING and computing:
            of_bound = flops / computing / ceiling
        elif kind in (NORM, COPY, OTHER) and spent[kind]:
            of_bound = moved[kind] / spent[kind] / bandwidth
        found[kind] = KindOfWork(spent[kind] / seconds, of_bound)
    return found


def _bytes(shapes: list[list[int]]) -> float:
    sizes = [4 * math.prod(shape) for shape in shapes if shape and isinstance(shape[0], int)]
    return sum(sizes) + max(sizes, default=0)


def copy_bandwidth(device: torch.device) -> float:
    """Measure the bytes a second that a large copy reads and writes, the best of three."""
    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        wait_for(device)

    seconds = interleave({"copy": copy}, 3, device)["copy"]
    return 2 * source.nbytes / min(seconds)
