"""Profile an epoch of a backbone by operation, and in parts."""

import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.bench import Bench, build_bench
from benchmarks.speed.results import KindOfWork
from common.models import ovo
from common.pixels import device_pixels
from common.reporting.table import format_table
from common.system.device import wait_for
from common.system.log import log
from common.training import loop, step
from dev.operations import by_kind

# what is timed: the place that holds the function, its name, what it does
PARTS = (
    (device_pixels.DevicePixels, "__call__", "fetch pixels"),
    (ovo, "augment", "augment"),
    (ovo, "normalise", "normalise"),
    (loop, "trunk_features", "trunk, with the two above"),
    (step, "forward", "branches, forward"),
    (step, "accumulate", "branches, forward and backward"),
    (step, "update", "clip and optimiser"),
)


def timed(
    work: Callable[..., Any], wait: Callable[[], None], seconds: dict[str, float], name: str
) -> Callable[..., Any]:
    """Wrap a function so that its time adds up under a name."""

    def run(*inputs: Any, **options: Any) -> Any:
        wait()
        started = time.perf_counter()
        try:
            return work(*inputs, **options)
        finally:
            wait()
            seconds[name] += time.perf_counter() - started

    return run


def count_waits(work: Callable[[], Any]) -> int:
    """Count the calls that wait for the GPU while `work` runs."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in found)


def profile_model(
    name: str, root: Path, device: torch.device, rows: int, ceiling: float, bandwidth: float
) -> dict[str, KindOfWork]:
    """Profile one epoch by operation, then one in parts; prints both, returns kinds of work."""
    bench = build_bench(name, root, device, 2)
    bench.prepare_product()
    bench.train_product()  # warms up
    started = time.perf_counter()
    bench.train_product()
    wait_for(device)
    seconds = time.perf_counter() - started
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=activities, record_shapes=True) as found:
        bench.train_product()
    waits = count_waits(bench.train_product) if device.type == "cuda" else 0
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=key, row_limit=rows, max_name_column_width=45))
    samples = 4 * len(bench.split)
    log(f"{bench.spec.name}, {bench.context.precision} on {device}, {samples} pair-samples")
    if device.type == "cuda":
        log(f"{waits} waits for the GPU in {sum(t.steps_per_epoch for t in bench.trainers)} steps")
    flops = samples * bench.flops()[0]
    averages = found.key_averages(group_by_input_shape=True)
    on_gpu = device.type == "cuda"
    kinds = by_kind(averages, seconds, flops, ceiling, bandwidth, on_gpu)
    print_parts(bench, device, samples)
    return kinds


def print_parts(bench: Bench, device: torch.device, samples: int) -> None:
    """Time one epoch in parts."""
    seconds: dict[str, float] = defaultdict(float)
    with ExitStack() as patches:
        for place, name, title in PARTS:
            slow = timed(getattr(place, name), lambda: wait_for(device), seconds, title)
            patches.enter_context(mock.patch.object(place, name, slow))
        started = time.perf_counter()
        bench.train_product()
        total = time.perf_counter() - started
    spent = [*((title, seconds[title]) for _, _, title in PARTS), ("everything", total)]
    rows = [[title, f"{1000 * t / samples:.2f}", f"{100 * t / total:.1f} %"] for title, t in spent]
    print(format_table(["part", "ms per pair-sample", "of the epoch"], rows))
