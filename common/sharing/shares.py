"""Who does what: pure functions of the work and of the number of processes.

Each process computes the shares of all, alike, and takes its own; nobody asks anybody.
"""

from collections import Counter
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
    samples: int  # what it takes: samples of an epoch


def share_out(work: Sequence[Work[Key]], size: int) -> list[list[Work[Key]]]:
    """Give `size` processes shares of nearly equal samples, each of as few groups as can be.

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


def _weight(work: Work[Key]) -> int:
    return max(work.samples, 1)  # nothing is for free


def _longest(work: Sequence[Work[Key]], ranks: Sequence[int]) -> int:
    """Say how much the process with the largest share has to do; ranks: who does each piece."""
    loads: Counter[int] = Counter()
    for each, rank in zip(work, ranks):
        loads[rank] += _weight(each)
    return max(loads.values(), default=0)


def _largest_first(work: Sequence[Work[Key]], size: int) -> list[int]:
    """Give the largest piece that is left to who has least, of several to who has its group."""
    loads, groups = [0] * size, [set[int]() for _ in range(size)]
    ranks = [0] * len(work)
    for place in sorted(range(len(work)), key=lambda place: -_weight(work[place])):
        group = work[place].group
        rank = min(range(size), key=lambda rank: (loads[rank], group not in groups[rank], rank))
        ranks[place] = rank
        loads[rank] += _weight(work[place])
        groups[rank].add(group)
    return ranks


def _by_group(work: Sequence[Work[Key]], size: int) -> list[int]:
    """Fill one process after the other; a group's largest pieces come first among those it needs.

    The process that a group only fills in part goes on with the next group.
    """
    loads, ranks = [0.0] * size, [0] * len(work)
    left, free = float(sum(map(_weight, work))), list(range(size))
    half = left / max(len(work), 1) / 2  # of a piece: less room than that is none
    for _, places in groupby(range(len(work)), key=lambda place: work[place].group):
        own = sorted(places, key=lambda place: -_weight(work[place]))
        needed = sum(_weight(work[place]) for place in own)
        fair = (left + sum(loads[rank] for rank in free)) / len(free)
        rooms: dict[int, float] = {}
        for rank in free:
            missing = needed - sum(rooms.values())
            if missing > needed * 1e-9:
                rooms[rank] = min(fair - loads[rank], missing)
        for place in own:
            rank = max(rooms, key=lambda rank: (rooms[rank], -rank))
            ranks[place] = rank
            rooms[rank] -= _weight(work[place])
            loads[rank] += _weight(work[place])
        left -= needed
        open_ones = [rank for rank in free if fair - loads[rank] >= half]
        free = open_ones or free[-1:]  # one stays, for what is left
    return ranks


def ranges(count: int, size: int, step: int = 1) -> list[range]:
    """Cut 0 .. count - 1 into `size` ranges of nearly equal length, at multiples of `step`."""
    steps = -(-count // step)
    ends = [min(count, step * (steps * rank // size)) for rank in range(size + 1)]
    return [range(start, end) for start, end in pairwise(ends)]
