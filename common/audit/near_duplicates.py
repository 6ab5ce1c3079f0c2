"""Find near-duplicates among many pictures without comparing each with each.

N pictures, M candidate pairs. Each picture comes as eight perceptual hashes, one for each
orientation, and as a small normalised sketch. Two pictures are candidates where 16 neighbouring
bits of their hashes agree in one of 16 places; hence all within 15 bits of each other are found,
and most within 40. Candidates are then verified on the sketches.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from common.audit.file_checks import orient

# correlation of sketches from which two pictures are taken for one
SAME_PICTURE = 0.72


_BANDS = 16  # of 16 bits


_WINDOW = 16  # neighbours on each side within a band's bucket: crowded buckets stay linear


_MAX_DISTANCE = 88  # bits of 256; unrelated pictures differ in about 128


_CHUNK = 4096  # pairs


def near_duplicates(hashes: np.ndarray, sketches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs (M, 2) of one picture, in any orientation, and their correlations (M,).

    hashes (N, 8, 32) uint8; sketches (N, 64, 64) int8. In a crowd of equal pictures each is paired
    with a few, so that the crowd is connected but not every pair listed.
    """
    candidates = candidate_pairs(hashes)
    if not len(candidates):
        return np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32)
    scores = correlations(sketches, candidates)
    kept = scores >= SAME_PICTURE
    pairs, scores = np.sort(candidates[kept, :2], axis=1), scores[kept]
    order = np.lexsort((-scores, pairs[:, 1], pairs[:, 0]))
    pairs, first = np.unique(pairs[order], axis=0, return_index=True)
    return pairs, scores[order][first]


def candidate_pairs(hashes: np.ndarray) -> np.ndarray:
    """List (M, 3): a, b, k, where picture a in orientation k may be picture b.

    hashes (N, 8, 32) uint8.
    """
    count = len(hashes)
    if count < 2:
        return np.empty((0, 3), dtype=np.int64)
    found = [_band_pairs(hashes, band) for band in range(_BANDS)]
    codes = np.unique(np.concatenate(found))
    rest, orientation = np.divmod(codes, 8)
    first, second = np.divmod(rest, count)
    return np.stack([first, second, orientation], axis=1)


def _band_pairs(hashes: np.ndarray, band: int) -> np.ndarray:
    """Encode as integers the candidates whose hashes agree in one band of 16 bits."""
    keys = np.ascontiguousarray(np.roll(hashes, -2 * band, axis=-1)[..., :8]).view(">u8")[..., 0]
    keys = keys.astype(np.uint64)  # (N, 8): the band, then the 48 bits after it
    order = np.argsort(keys[:, 0], kind="stable")
    index = keys[order, 0]
    prefixes, wanted = index >> np.uint64(48), keys.ravel() >> np.uint64(48)
    place = np.searchsorted(index, keys.ravel())
    low = np.maximum(np.searchsorted(prefixes, wanted, "left"), place - _WINDOW)
    high = np.minimum(np.searchsorted(prefixes, wanted, "right"), place + _WINDOW)
    lengths = np.maximum(high - low, 0)
    query = np.repeat(np.arange(len(wanted)), lengths)
    steps = np.arange(len(query)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    second = order[low[query] + steps]
    first, orientation = np.divmod(query, 8)
    other = first != second
    first, second, orientation = first[other], second[other], orientation[other]
    near = np.concatenate(
        [
            _distance(hashes[a, k], hashes[b, 0]) <= _MAX_DISTANCE
            for a, b, k in _chunks(first, second, orientation, size=16 * _CHUNK)
        ]
        or [np.empty(0, dtype=bool)]
    )
    return ((first * len(hashes) + second) * 8 + orientation)[near]


def correlations(sketches: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Correlate sketches (N, 64, 64) of candidates (M, 3) as (M,), -1 to 1."""
    flat = sketches.reshape(len(sketches), -1)
    norms = np.array([np.linalg.norm(row.astype(np.float32)) for row in flat])
    scores = np.zeros(len(candidates), dtype=np.float32)
    for k in range(8):
        mine = np.flatnonzero(candidates[:, 2] == k)
        for start in range(0, len(mine), _CHUNK):
            part = mine[start : start + _CHUNK]
            first, second = candidates[part, 0], candidates[part, 1]
            turned = orient(sketches[first], k).reshape(len(part), -1).astype(np.float32)
            dots = np.einsum("ij,ij->i", turned, flat[second].astype(np.float32))
            scores[part] = dots / np.maximum(norms[first] * norms[second], 1e-9)
    return scores


def components(count: int, pairs: np.ndarray) -> np.ndarray:
    """Number the connected groups of `count` pictures linked by pairs (M, 2), as (count,)."""
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1]


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    differing = np.bitwise_xor(first, second)
    return _BIT_COUNTS[differing].sum(axis=1, dtype=np.int64)


_BIT_COUNTS = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


def _chunks(*arrays: np.ndarray, size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(arrays[0]), size):
        yield [array[start : start + size] for array in arrays]
