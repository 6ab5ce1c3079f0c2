"""The device that computes, its precision and its memory."""

import functools
import math
from pathlib import Path

import torch
from numpy.typing import ArrayLike

from common.system.environment import control_groups, set_malloc
from common.system.errors import InputError
from common.system.log import log

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str, local_rank: int = 0) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device that is there.

    local_rank: the place among the processes that share this machine. "auto" and "cuda" give each
    the next GPU, in turns where there are fewer. Raises InputError for a name that PyTorch does not
    know or a GPU that is missing.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank and (count := torch.cuda.device_count()) > 1:
        name = f"cuda:{local_rank % count}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"expected --device auto, cpu, cuda or cuda:N, found {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"expected --device auto, cpu, cuda or cuda:N, found {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name}: found {torch.cuda.device_count()} CUDA devices; "
            "check nvidia-smi and the driver, or pass --device cpu"
        )
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)  # for what is asked of "the" GPU without its number
    return device


def free_cached_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for itself and does not use."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def resolve_precision(precision: str, use_amp: bool, device: torch.device) -> str:
    """Choose "fp32", "bf16" or "fp16" for a device.

    "auto" takes bf16 where the hardware has it (tensor cores of a GPU; AVX512-BF16 or AMX of a
    CPU), fp16 on an older GPU and fp32 on an older CPU; without `use_amp` it takes fp32. Notes in
    the log that bf16 was asked of an older CPU. Raises InputError for what the device cannot do.
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError("--precision fp16 needs a GPU; on the CPU take fp32 or bf16")
    if precision == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        _say_bf16_is_slow()
    if precision != "auto":
        return precision
    if not use_amp:
        return "fp32"
    if device.type == "cpu":
        return "bf16" if _cpu_has_bf16() else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


@functools.cache
def _say_bf16_is_slow() -> None:
    """Say it once, whatever is trained after it."""
    log("note: --precision bf16 on a CPU without AVX512-BF16 or AMX; fp32 may be faster")


def _cpu_has_bf16() -> bool:
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)


def free_memory(root: Path = Path("/")) -> float:
    """Return how many bytes of memory are free, or can be, for this process; infinity if unknown.

    The machine's, or less where a control group (of SLURM, of a container) grants less.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        free = 1024 * float(sizes["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError, IndexError):  # another system
        free = math.inf
    return min([free, *map(_left_of_group, control_groups("memory", root))])


def _left_of_group(folder: Path) -> float:
    """Return what a control group still grants, of version 2 or 1, files in memory given back."""
    for limit, used, files in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            granted, taken = (int((folder / name).read_text()) for name in (limit, used))
            rows = (folder / "memory.stat").read_text().splitlines()
            return max(0, granted - taken + int(dict(row.split() for row in rows)[files]))
        except (OSError, KeyError, ValueError):  # "max" is no number: there is no limit
            continue
    return math.inf


def tune_malloc(keep: bool = True) -> None:
    """Let glibc keep large blocks of freed memory, or return them to the system, as it does alone.

    Measured on 2 cores: with kept blocks training takes 5 to 10 % less time, since the system need
    not clear pages anew. Does nothing with another C library.
    """
    set_malloc(_M_MMAP_THRESHOLD, 1 << 30 if keep else 32 << 20)
    set_malloc(_M_TRIM_THRESHOLD, 1 << 30 if keep else 64 << 20)


def to_device(values: ArrayLike | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy numbers, an array or a tensor to a device, without waiting for what a GPU is doing."""
    return torch.as_tensor(values).to(device, non_blocking=True)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Open the mixed-precision context; with fp32 it does nothing."""
    enabled = precision != "fp32"
    return torch.autocast(device.type, _DTYPES[precision] if enabled else None, enabled=enabled)
