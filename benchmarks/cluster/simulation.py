"""Simulate a training that several processes share: slow ones, failures, preemption.

Who trains what is decided as `common/sharing` does it. A process trains a backbone after the other,
epoch by epoch; what strikes it costs the epoch under way, the time until it runs again, and its
start. All times are in seconds.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

import numpy as np

from common.pairs import class_pairs
from common.sharing.launcher import MOST_PROCESSES
from common.sharing.shares import Work, share_out
from common.system.errors import InputError

_HOPELESS = 7.0  # strikes in an epoch: one try in a thousand ends

Unit = tuple[int, tuple[int, int]]  # a backbone's number and a pair of classes


@dataclass(frozen=True)
class Costs:
    """What training a backbone takes."""

    trunk: float  # for an image of an epoch, whatever the number of its pairs
    sample: float  # for a pair's sample of an epoch


@dataclass(frozen=True)
class Troubles:
    """What befalls processes."""

    spread: float = 0.0  # standard deviation of the logarithm of their speeds
    failures: float = 0.0  # of a process, each hour
    preemptions: float = 0.0  # of a process, each hour
    requeue: float = 600.0  # seconds on average until one that was preempted runs again
    together: bool = False  # a failure starts all processes again, as torchrun --max_restarts does


@dataclass(frozen=True)
class Strike:
    """Something that ends a process, and how long it then waits before it starts again."""

    time: float
    wait: float


@dataclass(frozen=True)
class Process:
    """How one process fared."""

    end: float  # when it is done
    lost: float  # work done in vain, and starts
    waited: float


def shares(
    backbones: int, counts: Sequence[float], size: int, costs: Sequence[Costs] = ()
) -> list[list[Work[Unit]]]:
    """Share out the pairs of some backbones; counts: training images of each class.

    costs: weighs a backbone's samples by what one takes, as trainings do; without, all count alike.
    """
    work = [
        Work(
            (number, pair),
            number,
            round(sum(counts[c] for c in pair)),
            costs[number].sample if costs else 1.0,
        )
        for number in range(backbones)
        for pair in class_pairs(len(counts))
    ]
    divided = share_out(work, min(size, MOST_PROCESSES))
    return divided + [[] for _ in range(size - len(divided))]


def epoch_seconds(
    share: Sequence[Work[Unit]], counts: Sequence[float], costs: Sequence[Costs]
) -> list[float]:
    """Say how long an epoch of each backbone in a share takes, in the order of their training.

    costs: of each backbone, by its number.
    """
    pairs: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for work in share:
        pairs[work.group].append(work.key[1])
    found = []
    for number, own in pairs.items():
        images = sum(counts[c] for c in {c for pair in own for c in pair})
        samples = sum(counts[c] for pair in own for c in pair)
        found.append(costs[number].trunk * images + costs[number].sample * samples)
    return found


def simulate(
    all_shares: Sequence[Sequence[Work[Unit]]],
    counts: Sequence[float],
    costs: Sequence[Costs],
    epochs: int,
    start: float,
    troubles: Troubles,
    seed: int,
) -> list[Process]:
    """Simulate each process from the start to its end; one without work is done at once.

    start: seconds from the start of a process to its first step.
    """
    busy = max((rank + 1 for rank, share in enumerate(all_shares) if share), default=0)
    seeds = np.random.SeedSequence(seed).spawn(busy + 1)
    found = []
    for share, own_seed in zip(all_shares, seeds[1:]):
        own = np.random.default_rng(own_seed)
        slowness = float(np.exp(own.normal(0, troubles.spread)))
        failing = np.random.default_rng(seeds[0]) if troubles.together else own  # all see the same
        rate = troubles.failures * (len(all_shares) if troubles.together else 1)
        strikes = merge(
            _strikes(rate, 0.0, failing),
            _strikes(troubles.preemptions, troubles.requeue, np.random.default_rng(own_seed)),
            key=lambda strike: strike.time,
        )
        each = epoch_seconds(share, counts, costs)
        longest = slowness * max(each, default=0.0)
        require_ends(longest + (start if share else 0.0), rate + troubles.preemptions)
        found.append(_run([slowness * s for s in each], epochs, start, strikes))
    return found + [Process(0.0, 0.0, 0.0)] * (len(all_shares) - busy)


def require_ends(epoch: float, rate: float) -> None:
    """Raise InputError where a start and an epoch hardly ever end between two strikes.

    epoch: seconds of both.
    rate: strikes an hour, which leave e^(-rate epoch) of the tries whole.
    """
    if rate * epoch / 3600 > _HOPELESS:
        raise InputError(
            f"--failures and --preemptions: {rate:g} an hour hardly ever let a start and an "
            f"epoch of {epoch / 3600:.1f} h end; take fewer of them, fewer --images or more --gpus"
        )


def _strikes(rate: float, wait: float, generator: np.random.Generator) -> Iterator[Strike]:
    """Draw the times of what strikes `rate` times an hour, and mean waits of `wait` seconds."""
    time = 0.0
    while rate > 0:
        time += generator.exponential(3600 / rate)
        yield Strike(time, generator.exponential(wait) if wait else 0.0)


def _run(each: Sequence[float], epochs: int, start: float, strikes: Iterator[Strike]) -> Process:
    """Run one process; each: seconds of an epoch of each of its backbones."""
    if not each:
        return Process(0.0, 0.0, 0.0)
    time, lost, waited = start, 0.0, 0.0
    strike = next(strikes, None)
    for seconds in each:
        done = 0
        while done < epochs:
            end = time + seconds
            if strike is None or strike.time >= end:
                time, done = end, done + 1
            else:
                if strike.time >= time - start:  # else it did not run when it was struck
                    lost += max(0.0, strike.time - time) + start
                    waited += strike.wait
                    time = max(time, strike.time) + strike.wait + start
                strike = next(strikes, None)
    return Process(time, lost, waited)
