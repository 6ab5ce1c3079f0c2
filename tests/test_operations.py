"""A profile's operations are sorted by kind, and each kind's distance to its bound is right."""

import math
import re
from dataclasses import dataclass, replace

import pytest
from torch.autograd import DeviceType

from benchmarks.speed import report, results
from benchmarks.speed.results import ProfileSection
from dev.operations import (
    CONVOLUTION,
    COPY,
    MATRIX,
    NORM,
    OPTIMISER,
    OTHER,
    PYTHON,
    by_kind,
    kind_of,
)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("aten::addmm", MATRIX),
        ("aten::mkldnn_convolution", CONVOLUTION),
        ("_DepthwiseBackward", CONVOLUTION),
        ("aten::native_layer_norm_backward", NORM),
        ("aten::copy_", COPY),
        ("aten::constant_pad_nd", COPY),
        ("aten::_fused_adamw_", OPTIMISER),
        ("aten::linalg_vector_norm", OPTIMISER),
        ("aten::gelu_backward", OTHER),
    ],
)
def test_an_operation_has_a_kind(name, kind):
    assert kind_of(name) == kind


@dataclass
class Event:
    key: str
    input_shapes: list
    count: int
    self_cpu_time_total: float
    self_device_time_total: float = 0.0
    device_type: DeviceType = DeviceType.CPU


def test_shares_add_up_and_bounds_are_those_of_the_machine(tmp_path):
    events = [
        Event("aten::mm", [[2, 2], [2, 2]], 1, 2e6),
        Event("aten::copy_", [[1000], [1000], []], 2, 1e6),
    ]
    found = by_kind(events, seconds=4.0, flops=10.0, ceiling=10.0, bandwidth=48_000.0)
    assert sum(kind.share for kind in found.values()) == pytest.approx(1)
    assert found[MATRIX].of_bound == 0.5 and found[PYTHON].share == 0.25
    assert found[COPY].of_bound == 0.5, "24,000 bytes in a second"
    assert math.isnan(found[OPTIMISER].of_bound)
    on_gpu = [replace(each, self_device_time_total=each.self_cpu_time_total / 2) for each in events]
    kernel = Event("ampere_mm", [], 1, 0.0, 1e6, DeviceType.CUDA)
    of_gpu = by_kind([*on_gpu, kernel], 4.0, 10.0, 10.0, 48_000.0, on_gpu=True)
    assert of_gpu[MATRIX].share == found[MATRIX].share / 2 and of_gpu[MATRIX].of_bound == 1.0

    section = ProfileSection("a processor", "a command", 1e11, 1e10, {"convnext": found})
    text = report.write(tmp_path, results.store(tmp_path, "profile_cpu", section))
    assert re.search(r"matrix products +50\.0 % \(50 %\)", text)
    assert re.search(r"optimiser +0\.0 %\n", text)
    assert results.load(tmp_path).profile["cpu"].models["convnext"][COPY] == found[COPY]
