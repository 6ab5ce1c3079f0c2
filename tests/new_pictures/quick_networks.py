"""Networks that answer at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from helpers import SMALL_PIXELS

from common.grading.networks import Said
from common.pixels.preprocessing import Preprocessing


@dataclass(frozen=True)
class Deciding:
    """What a run of them that goes on must have alike."""

    model: str = "m"
    device: str = "cpu"
    tta: tuple[str, ...] = ("none",)


@dataclass(frozen=True)
class Begun:
    """What else is told of it."""

    begun: str = "now"


@dataclass
class QuickNetworks:
    """Two models whose pair probabilities follow from the pixels' mean."""

    chunk: int = 4
    preprocessings: Sequence[Preprocessing] = (SMALL_PIXELS, SMALL_PIXELS)
    seen: list[int] = field(default_factory=list)  # how many pictures at a time
    before: Callable[[], object] = lambda: None

    def say(self, pixels: Sequence[np.ndarray]) -> Said:
        self.before()
        self.seen.append(len(pixels[0]))
        means = pixels[0].mean((1, 2, 3)) / 255
        return Said(
            tuple(np.clip(means[:, None] * np.linspace(f, 1, 10), 0, 1) for f in (0.2, 0.9))
        )
