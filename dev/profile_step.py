#!/usr/bin/env python3
"""Show where the time of a training step goes, part by part and by operation.

    python -m dev.profile_step --base_models coatnet --device cpu

Works on drawn photographs with ten classifiers from random weights. The device is waited for before
and after each part, so that parts take longer than in a real step; some contain others, as named.
On a GPU it also counts how often an epoch makes the program wait for the GPU. With --output_dir the
table by kinds of operations goes into RESULTS.md there.
"""

from common.cli import Parser, guarded

import argparse
import sys
import tempfile
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

from benchmarks import report, results
from benchmarks.bench import Bench, build_bench
from benchmarks.results import KindOfWork, ProfileSection
from benchmarks.run import positive
from benchmarks.timing import in_own_process, matmul_ceiling, processor
from common.data.synthetic import write_dataset
from common.models import ovo
from common.models.backbones import resolve
from common.pixels import device_pixels
from common.reporting.table import format_table
from common.system.device import resolve_precision, select_device, wait_for
from common.system.log import log
from common.training import loop, step
from dev.operations import by_kind, copy_bandwidth

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


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--base_models", nargs="+", default=["coatnet"], metavar="MODEL")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=positive, default=8, help="per grade (default 8)")
    parser.add_argument("--rows", type=positive, default=15, help="operations shown (default 15)")
    parser.add_argument("--output_dir", type=Path, default=None, help="of results.json")
    args = parser.parse_args(argv)
    for name in args.base_models:
        resolve(name)
    return args


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
    flops = samples * bench.flops_per_sample()
    averages = found.key_averages(group_by_input_shape=True)
    kinds = by_kind(averages, seconds, flops, ceiling, bandwidth)
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


@guarded
def main(argv: list[str] | None = None) -> int:
    """Profile every backbone, and write what there is after each if asked to."""
    args = parse_args(argv)
    device = select_device(args.device)
    precision = resolve_precision("auto", True, device)
    section = ProfileSection(
        processor=processor(device),
        command=f"python -m dev.profile_step --base_models {' '.join(args.base_models)} "
        f"--device {device.type} --images {args.images} --output_dir benchmarks",
        ceiling=matmul_ceiling(device, precision),
        bandwidth=copy_bandwidth(device),
    )
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), {"train": args.images}, 0, 768)
        for name in args.base_models:
            given = name, Path(folder), device, args.rows, section.ceiling, section.bandwidth
            section.models[resolve(name).alias] = in_own_process(profile_model, *given)
            if args.output_dir:
                key = results.profile_key(device.type)
                report.write(args.output_dir, results.store(args.output_dir, key, section))
    print(report.profile_table(section))
    return 0


if __name__ == "__main__":
    sys.exit(main())
