"""Device, precision, random streams, logging and safe files."""

import contextlib
import ctypes
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class InputError(ValueError):
    """A mistake that the user can mend: what was expected, found, where, and what to do next."""


def utc_now() -> str:
    """Write the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def log(message: str = "") -> None:
    """Print a line at once, each with the UTC time, so that `tail -f` and `tee` read well."""
    tqdm.write(f"{utc_now()}  {message}" if message else "", file=sys.stdout)
    sys.stdout.flush()


def progress_bar(steps: Iterable[Any] | None, description: str, total: int | None = None) -> tqdm:
    """Wrap an iterable in a bar that shows on a terminal only, never in a log."""
    shown = sys.stderr.isatty() and sys.stdout.isatty()
    return tqdm(steps, desc=description, total=total, disable=not shown, leave=False)


def derive_seed(*parts: int | str) -> int:
    """Hash the parts of a random stream's name to 63 bits, alike on every platform."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def random_generator(*parts: int | str) -> np.random.Generator:
    """Open the NumPy random stream of that name."""
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: int | str) -> torch.Generator:
    """Open the PyTorch random stream of that name, on the CPU so that every device draws alike."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def select_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device that is there.

    Raises InputError for a name that PyTorch does not know or a GPU that is missing.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    return device


def resolve_precision(precision: str, use_amp: bool, device: torch.device) -> str:
    """Choose "fp32", "bf16" or "fp16" for a device.

    "auto" takes bf16 where the hardware has it (tensor cores; AVX512-BF16 or AMX of a CPU), fp16 on
    an older GPU and fp32 on an older CPU; without `use_amp` it takes fp32. Raises InputError for
    what the device cannot do.
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError("--precision fp16 needs a GPU; on the CPU take fp32 or bf16")
    if precision != "auto":
        return precision
    if not use_amp:
        return "fp32"
    if device.type == "cpu":
        return "bf16" if _cpu_has_bf16() else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _cpu_has_bf16() -> bool:
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)


def keep_freed_memory(keep: bool = True) -> None:
    """Let glibc keep large blocks of freed memory, or give them back again as it does by itself.

    Measured on 2 cores: training takes 5 to 10 % less time, since pages need not be cleared anew.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30 if keep else 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30 if keep else 64 << 20)


def to_device(values: Any, device: torch.device) -> torch.Tensor:
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


@contextlib.contextmanager
def atomic_write(path: Path, previous: Path | None = None) -> Iterator[io.BufferedWriter]:
    """Open a file that takes the place of `path` only when it is whole and on the disk.

    previous: the name that the file now at `path` keeps. On any error the file at `path` stays as
    it was and nothing is left beside it; an OSError names it.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~umask())
        if previous is not None and path.is_file():
            os.replace(path, previous)
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        if isinstance(error, OSError) and error.errno and error.filename in (None, name):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_folder(path.parent)


def umask() -> int:
    """Return the permission bits that new files must not have."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all; NaN, which JSON lacks, becomes null."""
    write_text(path, json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, np.ndarray):
        return _without_nan(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read JSON; raises InputError naming the file if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a readable JSON file ({error})") from error


def worker_count(requested: int) -> int:
    """Limit the number of workers to the cores that this process may use."""
    return max(1, min(requested, len(os.sched_getaffinity(0))))


def versions() -> dict[str, str]:
    """Name the versions and the processor that results depend on."""
    import cv2
    import PIL
    import timm
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": str(torch.get_num_threads()),
    }
