"""Who says what of a chunk of pictures: the models in PyTorch, or an exported file without it.

N pictures of a chunk, S pixels of a model's square side, P pairs, F pooled features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from common.pixels.preprocessing import Preprocessing


@dataclass(frozen=True)
class Said:
    """What models say of a chunk of pictures, each in the order of the models."""

    pair_probabilities: tuple[np.ndarray, ...]  # (N, P) float64, in the order of the grades
    features: tuple[np.ndarray, ...] = ()  # (N, F) pooled; empty where they are not known


class Networks(Protocol):
    """The networks of a grader, whatever runs them."""

    @property
    def preprocessings(self) -> Sequence[Preprocessing]:
        """The pixels that each model sees."""
        ...

    @property
    def chunk(self) -> int:
        """How many pictures are shown at a time, at most."""
        ...

    def say(self, pixels: Sequence[np.ndarray]) -> Said:
        """Look at a chunk of pictures, (N, S, S, 3) uint8 for each model.

        What is said of a picture does not depend on which others are beside it.
        """
        ...
