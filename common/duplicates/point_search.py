"""Find the pictures of one eye among many by their points.

N pictures, M pairs. Each picture is compared point by point with the few that it resembles most;
the comparisons are shared among processes.
"""

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from common.duplicates.agreement import LEAST_INLIERS, Agreement, agreement, mirrored, root_sift
from common.duplicates.neighbours import neighbours
from common.duplicates.signatures import Signature
from common.system.environment import worker_count
from common.system.errors import InputError

NEIGHBOURS = 20  # of each picture, and as many in the mirror
_CHUNK = 500  # comparisons; each takes half a millisecond
_FEW = 4000  # comparisons that are not worth starting processes


@dataclass(frozen=True)
class Matches:
    """Pairs of pictures that show one eye."""

    pairs: np.ndarray  # (M, 2), the smaller place first
    agreements: list[Agreement]


Found = list[tuple[tuple[int, int], Agreement]]


def matching_pictures(signatures: Sequence[Signature], num_workers: int) -> Matches:
    """Find the pairs of pictures that show one eye, and how well they agree.

    Raises InputError if a process that compares dies.
    """
    useful = np.flatnonzero([len(one.points) >= LEAST_INLIERS for one in signatures])
    candidates = neighbours([signatures[i].features for i in useful.tolist()], NEIGHBOURS)
    candidates[:, :2] = useful[candidates[:, :2]]
    parts = np.array_split(candidates, max(1, -(-len(candidates) // _CHUNK)))
    workers = min(worker_count(num_workers), len(parts))
    if workers == 1 or len(candidates) < _FEW:
        found = [_compare(signatures, part) for part in parts]
    else:
        found = _compare_in_processes(signatures, parts, workers)
    best: dict[tuple[int, int], Agreement] = {}
    for pair, match in (one for part in found for one in part):
        if pair not in best or match.correlation > best[pair].correlation:
            best[pair] = match
    pairs = sorted(best)
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Matches(places, [best[pair] for pair in pairs])


def _compare(signatures: Sequence[Signature], candidates: np.ndarray) -> Found:
    """Compare candidates (M, 3), ordered by their first picture; keep those that agree."""
    found: Found = []
    last, mine, vectors = None, signatures[0], np.empty((0, 128), np.float32)
    for first, second, mirror in candidates.tolist():
        if (first, mirror) != last:
            last = first, mirror
            mine = mirrored(signatures[first]) if mirror else signatures[first]
            vectors = root_sift(mine.descriptors)
        other = signatures[second]
        match = agreement(mine, other, vectors, root_sift(other.descriptors))
        if match.same_eye:
            found.append(((first, second), replace(match, mirrored=bool(mirror))))
    return found


_shared: list[Sequence[Signature]] = []  # what a forked process inherits


def _compare_in_processes(
    signatures: Sequence[Signature], parts: list[np.ndarray], workers: int
) -> list[Found]:
    # forked: the children see the signatures without a copy
    cv2.setNumThreads(1)
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(workers, context, _start_worker, (signatures,)) as pool:
            return list(pool.map(_compare_shared, parts))
    except BrokenProcessPool as error:
        raise InputError(
            "a process that compares pictures died (out of memory?); "
            "run again with a smaller --num_workers"
        ) from error


def _start_worker(signatures: Sequence[Signature]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which it ends its workers
    threadpool_limits(1)  # one thread for each process
    _shared[:] = [signatures]


def _compare_shared(candidates: np.ndarray) -> Found:
    return _compare(_shared[0], candidates)
