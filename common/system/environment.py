"""What results depend on besides the images and the flags: versions, cores, the commit."""

import ctypes
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np


def worker_count(requested: int) -> int:
    """Limit the number of workers to the cores that this process may use."""
    return max(1, min(requested, len(os.sched_getaffinity(0))))


def set_malloc(option: int, value: int) -> None:
    """Set an option of glibc's mallopt(3), by its number; does nothing with another C library."""
    try:
        ctypes.CDLL("libc.so.6").mallopt(option, value)
    except (OSError, AttributeError):
        return


def control_groups(controller: str, root: Path = Path("/")) -> set[Path]:
    """List the folders of the control groups, of either version, that limit this process.

    controller: "cpu" or "memory".
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        place = top / path.lstrip("/")
        # a container may see the path of outside, and its own group at the top
        found |= {top, place, *(p for p in place.parents if top in p.parents)}
    return found


def versions() -> dict[str, str]:
    """Name the versions and the processor that results depend on.

    Where onnxruntime runs the networks, PyTorch is not imported, and not named.
    """
    import cv2
    import PIL

    found = {
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
    }
    if "onnxruntime" in sys.modules and "torch" not in sys.modules:
        return {**found, "onnxruntime": metadata.version("onnxruntime")}
    import torch
    import torchvision

    return {
        **found,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": metadata.version("timm"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": str(torch.get_num_threads()),
    }


def git_commit() -> str:
    """Name the commit of this code, "" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
