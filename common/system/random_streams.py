"""Random streams, each named by its purpose, so that none depends on what another has drawn."""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str) -> int:
    """Hash the parts of a random stream's name to 63 bits, alike on every platform."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def random_generator(*parts: int | str) -> np.random.Generator:
    """Open the NumPy random stream of that name."""
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: int | str) -> "torch.Generator":
    """Open the PyTorch random stream of that name, on the CPU so that every device draws alike."""
    import torch  # here, since grading by a network that was exported does without

    return torch.Generator().manual_seed(derive_seed(*parts))
