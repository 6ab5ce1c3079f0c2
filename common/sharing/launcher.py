"""Which of several processes this one is, as torchrun, srun or whoever started them tells it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from common.system.errors import InputError

# rank, number of processes, place on this machine. The names of a SLURM *step* are taken: a batch
# script has SLURM_PROCID and SLURM_NTASKS, too, and is alone all the same.
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
MOST_PROCESSES = 4096  # there is less work than that to share out
_DIGITS = 18
_MAX_RESTARTS = "TORCHELASTIC_MAX_RESTARTS"


@dataclass(frozen=True)
class Place:
    """A process among those that share a piece of work."""

    rank: int = 0  # 0 .. size - 1
    size: int = 1
    local_rank: int = 0  # among those on this machine; chooses the GPU
    max_restarts: int = 0  # how often torchrun starts all of them again when one has failed

    @property
    def alone(self) -> bool:
        """Tell whether there are no others."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Tell whether this is the process that speaks for all and does what cannot be shared."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """Name the process in a log; "" of one that is alone."""
        return "" if self.alone else f"rank {self.rank} of {self.size}"


ALONE = Place()


def find_place(environment: Mapping[str, str] | None = None) -> Place:
    """Read the place of this process from the environment; ALONE where nobody has set one.

    RANK and WORLD_SIZE, which torchrun sets, count before those of a SLURM step. Raises InputError
    for values that contradict each other.
    """
    found = os.environ if environment is None else environment
    if any(found.get(name) for name in _TORCHRUN[:2]):
        place = _read(found, _TORCHRUN)
    elif all(found.get(name) for name in _SRUN[:2]):
        place = _read(found, _SRUN)
    else:
        return ALONE
    return Place(max_restarts=place.max_restarts) if place.alone else place


def _read(found: Mapping[str, str], names: tuple[str, str, str]) -> Place:
    rank_name, size_name, local_name = names
    for name, other in ((rank_name, size_name), (size_name, rank_name)):
        if not found.get(name):
            raise InputError(
                f"the environment has {other}={found[other]} but no {name}; set both, as torchrun "
                f"does, or neither (unset {other})"
            )
    rank, size = _number(found, rank_name), _number(found, size_name)
    if size > MOST_PROCESSES:
        raise InputError(
            f"{size_name}={found[size_name][:40]}: expected {MOST_PROCESSES:,} at most"
        )
    if rank >= size:
        raise InputError(
            f"{rank_name}={rank} and {size_name}={size}: expected ranks 0 to {size_name} - 1; set "
            "both as torchrun does, or neither"
        )
    local = _number(found, local_name) if found.get(local_name) else rank
    restarts = _number(found, _MAX_RESTARTS) if found.get(_MAX_RESTARTS) else 0
    return Place(rank, size, local, restarts)


def _number(found: Mapping[str, str], name: str) -> int:
    text = found[name].strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise InputError(f"{name}={text[:40]!r}: expected a whole number of 0 or more")
    return int(text)


@contextmanager
def without_launcher() -> Iterator[None]:
    """Let what is called, and processes that it starts, find no other processes beside them."""
    names = (*_TORCHRUN, *_SRUN, _MAX_RESTARTS)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
