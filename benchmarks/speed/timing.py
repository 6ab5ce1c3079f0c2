"""Time pieces of work fairly: in turn, after a round to warm up, in a process of their own."""

import multiprocessing
import os
import platform
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from benchmarks.speed.results import Speed
from common.system.errors import InputError
from common.system.signals import Stopped

if TYPE_CHECKING:  # takes seconds to import: what computes does it
    import torch

Inputs = ParamSpec("Inputs")
Found = TypeVar("Found")


def interleave(
    works: Mapping[str, Callable[[], None]], repeats: int, device: "torch.device"
) -> dict[str, list[float]]:
    """Time each work once per repeat, in turn, after one round to warm up."""
    from common.system.device import wait_for

    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            wait_for(device)
            started = time.perf_counter()
            work()
            wait_for(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def compare(
    slow: Callable[[], None],
    fast: Callable[[], None],
    amount: int,
    repeats: int,
    device: "torch.device",
) -> Speed:
    """Compare the speeds of the reference and the product at the same amount of work.

    The product keeps freed memory on a CPU; the reference, a process of its own in practice, does
    as glibc does.
    """
    from common.system.device import tune_malloc

    def plain() -> None:
        tune_malloc(False)
        slow()

    def product() -> None:
        tune_malloc()
        fast()

    seconds = interleave({"reference": plain, "product": product}, repeats, device)
    ratios = [r / p for r, p in zip(seconds["reference"], seconds["product"])]
    return Speed(
        reference_per_second=amount / statistics.median(seconds["reference"]),
        product_per_second=amount / statistics.median(seconds["product"]),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
    )


def matmul_ceiling(device: "torch.device", precision: str) -> float:
    """Measure the FLOP/s of large matrix products, the best of all."""
    import torch

    from common.system.device import wait_for

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    best = 0.0
    for size in (8192, 16384) if device.type == "cuda" else (1024, 2048, 4096):
        one = torch.randn(size, size, device=device).to(kind)
        for _ in range(8):
            wait_for(device)
            started = time.perf_counter()
            one @ one
            wait_for(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def in_own_process(
    work: Callable[Inputs, Found], *inputs: Inputs.args, **options: Inputs.kwargs
) -> Found:
    """Run a measurement in a fresh process, whose memory and workers end with it.

    Interrupted, it ends that process, too.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        process = pool.submit(os.getpid).result()
        try:
            return pool.submit(work, *inputs, **options).result()
        except BrokenProcessPool as error:
            raise InputError(
                "the process that measures was killed (out of memory?); try fewer --images"
            ) from error
        except (KeyboardInterrupt, Stopped):
            os.kill(process, signal.SIGTERM)
            raise


def processor(device: "torch.device") -> str:
    """Name the processor and its cores, or the GPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    found = {key.strip(): value.strip() for key, _, value in reversed(lines)}  # of the first core
    name = found.get("model name", platform.machine())
    if "cpu family" in found and "model" in found:  # a cloud gives several generations one name
        name += f" (family {found['cpu family']}, model {found['model']})"
    return f"{name}, {torch.get_num_threads()} threads"
