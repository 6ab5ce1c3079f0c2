"""What was asked of the parts of a split, and whether they are that, grade by grade.

N images, K grades.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.system.errors import InputError

MOST_OFF = 0.05  # by which a part's share of all images may differ from what was asked for
MOST_OFF_IN_A_GRADE = 0.10  # and its share of a grade's images
_LARGE = 0.25  # share of a grade's images from which one group makes an even split impossible
_SEVERAL = 4  # images
_FEW = 10  # groups


@dataclass(frozen=True)
class Shares:
    """Which share of all images each part gets; train gets what is left."""

    val: float = 0.15
    test: float = 0.15
    cal: float = 0.0

    @property
    def train(self) -> float:
        """The share that is left to learn from."""
        return 1 - self.val - self.test - self.cal

    def check(self) -> None:
        """Raise InputError for shares that leave nothing to learn from, or are none."""
        asked = (self.val, self.test, self.cal)
        if not (all(0 <= share < 1 for share in asked) and self.train > 0 and sum(asked) > 0):
            raise InputError(
                "expected --val, --test and --cal of 0 or more, together between 0 and 1, found "
                f"{self.val:g}, {self.test:g} and {self.cal:g}"
            )

    def of_parts(self) -> dict[str, float]:
        """List the parts with their shares."""
        return {"train": self.train, "val": self.val, "cal": self.cal, "test": self.test}


def uneven_parts(
    places: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray,
    shares: Mapping[str, float],
    titles: Sequence[str],
) -> list[str]:
    """Say where a split differs from what was asked for, and why; nothing if it is as asked.

    places (N,): the part of each image, of `shares`, which names those that were asked for; labels
    (N,): grades, called as titles (K,) say; groups (N,): what has to stay together. A part may
    differ by the tolerances above and by one group (of each grade) more, since groups are not cut;
    but none may lack a grade.
    """
    where = np.asarray(places)
    everything = np.ones(len(where), dtype=bool)
    one_of_each = len(np.unique(labels)) / len(np.unique(groups))
    lines = [
        f"{part} has {_percent(got)} of the images where {_percent(shares[part])} were asked for"
        f"{_why(everything, groups, 'images')}"
        for part, got in _off(where, shares, MOST_OFF + one_of_each).items()
    ]
    for grade in np.unique(labels).tolist():
        mine = labels == grade
        why = _why(mine, groups, f"pictures of {titles[grade]}")
        tolerance = MOST_OFF_IN_A_GRADE + 1 / len(np.unique(groups[mine]))
        missing = [
            part for part, share in shares.items() if share and not (where[mine] == part).any()
        ]
        lines += [f"{part} has no picture of {titles[grade]}{why}" for part in missing]
        lines += [
            f"{part} has {_percent(got)} of the pictures of {titles[grade]} where "
            f"{_percent(shares[part])} were asked for{why}"
            for part, got in _off(where[mine], shares, tolerance).items()
            if part not in missing
        ]
    return lines


def _off(where: np.ndarray, shares: Mapping[str, float], tolerance: float) -> dict[str, float]:
    """Find the parts whose share of these images differs too much: part -> its share."""
    got = {part: float(np.mean(where == part)) for part in shares}
    return {part: share for part, share in got.items() if abs(share - shares[part]) > tolerance}


def _why(mine: np.ndarray, groups: np.ndarray, what: str) -> str:
    """Name the group that makes an even split impossible, or say that there are too few."""
    sizes = np.unique(groups[mine], return_counts=True)[1]
    if sizes.max() >= max(_SEVERAL, _LARGE * mine.sum()):
        return f" (one group holds {sizes.max()} of {int(mine.sum())} {what})"
    if len(sizes) < _FEW:
        return f" ({int(mine.sum())} {what} are {len(sizes)} independent groups)"
    return ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
