"""Take the steps of an audit's search for copies among many pictures, and time each.

N pictures. The steps that pass over all pictures are taken for all; the questions, which would take
hours of a core, are asked for a sample and all copies.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.copies.hidden_copies import Hidden
from benchmarks.many_images.process_use import memory_of_status, watched_memory
from common.duplicates.local_features import LocalFeatures
from common.duplicates.near_duplicates import SAME_PICTURE, candidate_pairs, correlations
from common.duplicates.neighbours import (
    BLOCK,
    Index,
    build_index,
    encode,
    learn_codebook,
    neighbours,
)
from common.duplicates.point_search import NEIGHBOURS, compare_candidates
from common.duplicates.signatures import Signature

Found = TypeVar("Found")


@dataclass(frozen=True)
class PointSteps:
    """What the search by points takes, in seconds of the processor."""

    words: int  # of the vocabulary
    learning: float  # it
    encoding: float  # a picture
    indexing: float
    asking: float  # for a picture's neighbours, once: it is asked for as it is and mirrored
    among: list[bool]  # of each copy: whether its photograph is among its candidates
    learned_in: int  # bytes of its own that the process had at most when it had learned


@dataclass(frozen=True)
class OtherSteps:
    """What all the rest of the search takes, in seconds of the processor."""

    hashing: float  # finding candidates by hashes, for all pictures
    hashed: int  # pairs that were found
    correlating: float  # them
    comparing: float  # a picture with a candidate, point by point
    candidates: float  # of a picture, mirrored or not
    found: list[bool]  # of each copy: whether it is linked with its photograph
    wrong: int  # links of made-up pictures


@dataclass(frozen=True)
class Measured:
    """What a process measured among N pictures."""

    pictures: int
    vocabulary_of: int  # pictures that the vocabulary is for
    reading: float  # seconds of the processor: what is kept of all pictures
    read: int  # bytes of its own then in memory
    own: int  # bytes of its own in memory, at most
    peak: int  # with views of what is kept, which the system may drop
    points: PointSteps
    others: OtherSteps | None  # None where another vocabulary changes nothing


def measure(hidden: Hidden, pictures: int, vocabulary_of: int, sample: int) -> Measured:
    """Take the steps among so many pictures, in this process, on one thread.

    sample: made-up pictures that are asked for.
    """
    cv2.setNumThreads(1)
    with threadpool_limits(1), watched_memory() as memory:
        records, reading = timed(lambda: hidden.read(pictures))
        signatures = [one.signature for one in records if one.signature is not None]
        read = memory_of_status("RssAnon")
        asked = slices(hidden, pictures, sample)
        points, candidates = _search_points(hidden, signatures, vocabulary_of, asked)
        own = vocabulary_of == pictures
        others = _search_otherwise(hidden, signatures, candidates) if own else None
    return Measured(pictures, vocabulary_of, reading, read, memory.own, memory.peak, points, others)


def timed(work: Callable[[], Found]) -> tuple[Found, float]:
    """Return what a piece of work returns, and its seconds of the processor."""
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


def slices(hidden: Hidden, pictures: int, sample: int) -> list[slice]:
    """Say which pictures are asked for: all copies, then the first of those made up."""
    end = min(hidden.real + sample, pictures)
    starts = range(hidden.photographs, end, BLOCK)
    return [slice(start, min(start + BLOCK, end)) for start in starts]


def _search_points(
    hidden: Hidden, signatures: Sequence[Signature], vocabulary_of: int, asked: Sequence[slice]
) -> tuple[PointSteps, np.ndarray]:
    """Search by points; returns the candidates (M, 3), too, as `compare_candidates` takes them."""
    features = [one.features for one in signatures]
    each = sum(len(one.descriptors) for one in features) / len(features)
    codebook, learning = timed(lambda: learn_codebook(features, round(vocabulary_of * each)))
    learned_in = memory_of_status("RssAnon")
    starts = range(0, len(features), BLOCK)
    parts, encoding = timed(
        lambda: [encode(codebook, features[start : start + BLOCK], start) for start in starts]
    )
    index, indexing = timed(lambda: build_index(codebook, parts, len(features)))
    found, seconds = [np.empty((0, 3), np.int64)], 0.0
    for part in asked:
        for mirror in (False, True):
            near, own = _ask(index, features[part], part.start, mirror)
            found.append(np.column_stack([near, np.full(len(near), mirror)]))
            seconds += own
    number = sum(part.stop - part.start for part in asked)
    candidates = np.concatenate(found)
    candidates = candidates[np.lexsort((candidates[:, 1], candidates[:, 2], candidates[:, 0]))]
    steps = PointSteps(
        words=codebook.size,
        learning=learning,
        encoding=encoding / len(features),
        indexing=indexing,
        asking=seconds / 2 / number,
        among=linked(hidden, candidates[:, :2]),
        learned_in=learned_in,
    )
    return steps, candidates


def _ask(
    index: Index, features: Sequence[LocalFeatures], first: int, mirror: bool
) -> tuple[np.ndarray, float]:
    """Ask for the neighbours (M, 2) of some pictures, and time it without encoding them."""
    block = [one.mirrored() if mirror else one for one in features]
    codes = encode(index.codebook, block, first)
    return timed(lambda: neighbours(index, codes, first, len(block), NEIGHBOURS))


def linked(hidden: Hidden, pairs: np.ndarray) -> list[bool]:
    """Tell of each copy whether one of pairs (M, 2) is of it and its photograph."""
    known = {(a, b) for a, b in np.sort(pairs, axis=1).tolist()}
    copies = enumerate(hidden.sources, hidden.photographs)
    return [(source, copy) in known for copy, source in copies]


def _search_otherwise(
    hidden: Hidden, signatures: Sequence[Signature], candidates: np.ndarray
) -> OtherSteps:
    """Search by hashes, and compare candidates (M, 3) of points."""
    hashes = np.stack([one.hashes for one in signatures])
    sketches = np.stack([one.sketch for one in signatures])
    hashed, hashing = timed(lambda: candidate_pairs(hashes))
    scores, correlating = timed(lambda: correlations(sketches, hashed))
    matches, comparing = timed(lambda: compare_candidates(signatures, candidates))
    by_points = np.array([pair for pair, _ in matches], dtype=np.int64).reshape(-1, 2)
    pairs = np.concatenate([hashed[scores >= SAME_PICTURE, :2], by_points])
    made_up = np.unique(np.sort(pairs[(pairs >= hidden.real).any(axis=1)], axis=1), axis=0)
    return OtherSteps(
        hashing=hashing,
        hashed=len(hashed),
        correlating=correlating,
        comparing=comparing / max(1, len(candidates)),
        candidates=len(candidates) / len(np.unique(candidates[:, 0])),
        found=linked(hidden, pairs),
        wrong=len(made_up),
    )
