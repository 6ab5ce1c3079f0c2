"""Find the pictures of one eye among many by their points.

N pictures, M pairs. Each picture is compared point by point with the few that it resembles most;
the work is shared among processes.
"""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from common.duplicates.agreement import LEAST_INLIERS, Agreement, agreement, mirrored, root_sift
from common.duplicates.local_features import LocalFeatures
from common.duplicates.neighbours import (
    BLOCK,
    Codebook,
    Codes,
    Index,
    build_index,
    encode,
    learn_codebook,
    neighbours,
)
from common.duplicates.signatures import Signature
from common.system.environment import worker_count
from common.system.errors import InputError

NEIGHBOURS = 20  # of each picture, and as many in the mirror
_CHUNK = 500  # comparisons; each takes half a millisecond
_FEW = 400  # pictures that are not worth starting processes


@dataclass(frozen=True)
class Matches:
    """Pairs of pictures that show one eye."""

    pairs: np.ndarray  # (M, 2), the smaller place first
    agreements: list[Agreement]


Found = list[tuple[tuple[int, int], Agreement]]


def matching_pictures(
    signatures: Sequence[Signature], num_workers: int, asked: np.ndarray | None = None
) -> Matches:
    """Find the pairs of pictures that show one eye, and how well they agree.

    asked (N,): True for the pictures of which pairs are wanted; None for all.
    Raises InputError if a process dies.
    """
    useful = np.flatnonzero([len(one.points) >= LEAST_INLIERS for one in signatures])
    workers = worker_count(num_workers) if len(useful) > _FEW else 1
    candidates = _candidates([signatures[i].features for i in useful.tolist()], workers)
    candidates[:, :2] = useful[candidates[:, :2]]
    if asked is not None:
        candidates = candidates[asked[candidates[:, 0]] | asked[candidates[:, 1]]]
    parts = np.array_split(candidates, max(1, -(-len(candidates) // _CHUNK)))
    found = _share(partial(compare_candidates, signatures), parts, workers)
    best: dict[tuple[int, int], Agreement] = {}
    for pair, match in (one for part in found for one in part):
        if pair not in best or match.correlation > best[pair].correlation:
            best[pair] = match
    pairs = sorted(best)
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Matches(places, [best[pair] for pair in pairs])


def _candidates(features: Sequence[LocalFeatures], workers: int) -> np.ndarray:
    """List (M, 3): a, b, m with a < b, where a, mirrored if m is 1, resembles b."""
    total = len(features)
    if total <= NEIGHBOURS + 1:  # all
        first, second = (np.tile(places, 2) for places in np.triu_indices(total, 1))
        return _by_first(np.stack([first, second, np.repeat([0, 1], len(first) // 2)], axis=1))
    codebook = learn_codebook(features)
    starts = range(0, total, BLOCK)
    parts = _share(partial(_encode_block, codebook, features), starts, workers)
    index = build_index(codebook, parts, total)
    plain = _share(partial(_ask, index, parts), range(len(parts)), workers)
    turned = _share(partial(_ask_mirrored, index, features), starts, workers)
    found = [np.concatenate(plain), np.concatenate(turned)]
    pairs = np.sort(np.concatenate(found), axis=1)
    mirrors = np.repeat([0, 1], [len(part) for part in found])
    return _by_first(np.unique(np.column_stack([pairs, mirrors]), axis=0))


def _by_first(candidates: np.ndarray) -> np.ndarray:
    """Order candidates (M, 3) by their first picture, as it is and then mirrored."""
    return candidates[np.lexsort((candidates[:, 1], candidates[:, 2], candidates[:, 0]))]


def _encode_block(codebook: Codebook, features: Sequence[LocalFeatures], start: int) -> Codes:
    return encode(codebook, features[start : start + BLOCK], start)


def _ask(index: Index, parts: Sequence[Codes], number: int) -> np.ndarray:
    """Find the neighbours (M, 2) of a block of pictures."""
    start = number * BLOCK
    length = min(BLOCK, index.total - start)
    return neighbours(index, parts[number], start, length, NEIGHBOURS)


def _ask_mirrored(index: Index, features: Sequence[LocalFeatures], start: int) -> np.ndarray:
    """Find the neighbours (M, 2) of a block of pictures that are mirrored first."""
    block = [one.mirrored() for one in features[start : start + BLOCK]]
    codes = encode(index.codebook, block, start)
    return neighbours(index, codes, start, len(block), NEIGHBOURS)


def compare_candidates(signatures: Sequence[Signature], candidates: np.ndarray) -> Found:
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


_work: list[Callable[[Any], Any]] = []  # what a forked process inherits


def _share(work: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Any]:
    """Do a piece of work for each item, in several processes, in the items' order."""
    workers = min(workers, len(items))
    if workers < 2:
        return [work(item) for item in items]
    # forked: the children see the pictures without a copy
    cv2.setNumThreads(1)
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(workers, context, _start_worker, (work,)) as pool:
            return list(pool.map(_do, items))
    except BrokenProcessPool as error:
        raise InputError(
            "a process that compares pictures died (out of memory?); "
            "run again with a smaller --num_workers"
        ) from error


def _start_worker(work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which it ends its workers
    threadpool_limits(1)  # one thread for each process
    _work[:] = [work]


def _do(item: Any) -> Any:
    return _work[0](item)
