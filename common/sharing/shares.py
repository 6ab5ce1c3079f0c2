"""Who does what: pure functions of the work and of the number of processes.

Each process computes the shares of all, alike, and takes its own; nobody asks anybody.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
_LATER = 1.05  # so much later the last may end for the sake of fewer groups


@dataclass(frozen=True)
class Work(Generic[Key]):
    """A piece that one process does; those of one group next to each other cost less."""

    key: Key
    group: int  # the place of the backbone, whose trunk pass they share
    samples: int  # of an epoch
    each: float = 1.0  # what a sample takes, beside those of other groups

    @property
    def weight(self) -> float:
        """What it takes; nothing is for free."""
        return max(self.samples, 1) * self.each


def share_out(work: Sequence[Work[Key]], size: int) -> list[list[Work[Key]]]:
    """Give `size` processes shares that take nearly as long, each of as few groups as can be.

    work: ordered by group. The processes are filled one after the other, group by group, unless
    that makes the last one end later than the largest pieces first would, each given to whoever has
    least. Within a share the order is that of `work`. A process beyond the number of pieces gets
    none.
    """
    packed, level = _by_group(work, size), _largest_first(work, size)
    ranks = packed if _longest(work, packed) <= _LATER * _longest(work, level) else level
    shares: list[list[Work[Key]]] = [[] for _ in range(size)]
    for each, rank in zip(work, ranks):
        shares[rank].append(each)
    return shares


def _longest(work: Sequence[Work[Key]], ranks: Sequence[int]) -> float:
    """Say how much the process with the largest share has to do; ranks: who does each piece."""
    loads: dict[int, float] = defaultdict(float)
    for each, rank in zip(work, ranks):
        loads[rank] += each.weight
    return max(loads.values(), default=0.0)


def _largest_first(work: Sequence[Work[Key]], size: int) -> list[int]:
    """Give the largest piece that is left to who has least, of several to who has its group."""
    loads, groups = [0.0] * size, [set[int]() for _ in range(size)]
    ranks, used = [0] * len(work), 0  # those beyond have nothing yet: the first is as good as all
    for place in sorted(range(len(work)), key=lambda place: -work[place].weight):
        group = work[place].group
        candidates = range(min(size, used + 1))
        rank = min(candidates, key=lambda rank: (loads[rank], group not in groups[rank], rank))
        ranks[place], used = rank, max(used, rank + 1)
        loads[rank] += work[place].weight
        groups[rank].add(group)
    return ranks


def _by_group(work: Sequence[Work[Key]], size: int) -> list[int]:
    """Fill one process after the other; a group's largest pieces come first among those it needs.

    The process that a group only fills in part goes on with the next group.
    """
    loads, ranks = [0.0] * size, [0] * len(work)
    left, free = sum(each.weight for each in work), list(range(size))
    half = left / max(len(work), 1) / 2  # of a piece: less room than that is none
    for _, places in groupby(range(len(work)), key=lambda place: work[place].group):
        own = sorted(places, key=lambda place: -work[place].weight)
        needed = sum(work[place].weight for place in own)
        fair = (left + sum(loads[rank] for rank in free)) / len(free)
        rooms: dict[int, float] = {}
        for rank in free:
            missing = needed - sum(rooms.values())
            if missing > needed * 1e-9:
                rooms[rank] = min(fair - loads[rank], missing)
        for place in own:
            rank = max(rooms, key=lambda rank: (rooms[rank], -rank))
            ranks[place] = rank
            rooms[rank] -= work[place].weight
            loads[rank] += work[place].weight
        left -= needed
        open_ones = [rank for rank in free if fair - loads[rank] >= half]
        free = open_ones or free[-1:]  # one stays, for what is left
    return ranks


def ranges(count: int, size: int, step: int = 1) -> list[range]:
    """Cut 0 .. count - 1 into `size` ranges of nearly equal length, at multiples of `step`."""
    steps = -(-count // step)
    ends = [min(count, step * (steps * rank // size)) for rank in range(size + 1)]
    return [range(start, end) for start, end in pairwise(ends)]
