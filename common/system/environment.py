"""What results depend on besides the images and the flags: versions, cores, the commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np


def worker_count(requested: int) -> int:
    """Limit the number of workers to the cores that this process may use."""
    return max(1, min(requested, len(os.sched_getaffinity(0))))


def versions() -> dict[str, str]:
    """Name the versions and the processor that results depend on."""
    import cv2
    import PIL
    import torch
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": metadata.version("timm"),
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
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
