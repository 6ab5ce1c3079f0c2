"""Find near-duplicates among many pictures without comparing each with each.

N pictures, M candidate pairs. A picture is reduced to eight perceptual hashes, one for each
orientation, and to a small normalised sketch. Two pictures are candidates where 16 neighbouring
bits of their hashes agree in one of 16 places; hence all within 15 bits of each other are found,
and most within 40. Candidates are then verified on the sketches.
"""

from collections.abc import Iterator

import cv2
import imagehash
import numpy as np
from PIL import Image

SKETCH_SIDE = 64  # pixels
# correlation of sketches from which two pictures are taken for one
SAME_PICTURE = 0.72
_BANDS = 16  # of 16 bits
_WINDOW = 16  # neighbours on each side within a band's bucket: crowded buckets stay linear
_MAX_DISTANCE = 88  # bits of 256; unrelated pictures differ in about 128
_CHUNK = 4096  # pairs
_ASKED = 1 << 14  # pictures whose candidates are in memory at once
_FLAT = 0.5  # grey levels: below, a picture has no structure to compare


def sketch_and_hashes(grey: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Reduce a retina's grey levels (256, 256) to a sketch (64, 64) int8 and hashes (8, 32) uint8.

    The hashes see coarse structure, which survives most changes; the sketch sees vessels and
    lesions only, because at coarser scales two eyes before one camera correlate up to 0.87.
    Returns None for both where the picture has no structure.
    """
    small = cv2.resize(grey, (SKETCH_SIDE, SKETCH_SIDE), interpolation=cv2.INTER_AREA)
    if (small - cv2.GaussianBlur(small, (0, 0), 2))[_disc(0.8)].std() < _FLAT:
        return None, None
    return _structure(small, (0.7, 2, 5), 0.8), _hashes(_structure(small, (1, 5, 8), 0.9))


def orient(sketches: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (..., 64, 64) into one of its 8 orientations: 0-3 quarter turns, 4-7 mirrored first."""
    turned = sketches if orientation < 4 else sketches[..., ::-1]
    return np.rot90(turned, orientation % 4, axes=(-2, -1))


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
    starts = range(0, len(keys), _ASKED)  # some at a time: each may have hundreds of candidates
    return np.concatenate([_asked_pairs(hashes, keys, order, start) for start in starts])


def _asked_pairs(hashes: np.ndarray, keys: np.ndarray, order: np.ndarray, start: int) -> np.ndarray:
    """Encode the candidates of some pictures; order: of all by their keys (N, 8) as they are."""
    asked, index = keys[start : start + _ASKED].ravel(), keys[order, 0]
    prefixes, wanted = index >> np.uint64(48), asked >> np.uint64(48)
    place = np.searchsorted(index, asked)
    low = np.maximum(np.searchsorted(prefixes, wanted, "left"), place - _WINDOW)
    high = np.minimum(np.searchsorted(prefixes, wanted, "right"), place + _WINDOW)
    lengths = np.maximum(high - low, 0)
    query = np.repeat(np.arange(len(wanted)), lengths)
    steps = np.arange(len(query)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    second = order[low[query] + steps]
    first, orientation = np.divmod(query, 8)
    first += start
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
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1]


def _disc(radius: float) -> np.ndarray:
    """Mark the pixels of a sketch within a share of its half side from the centre."""
    steps = (np.arange(SKETCH_SIDE) + 0.5) / SKETCH_SIDE * 2 - 1
    return np.hypot(steps[:, None], steps[None]) < radius


def _structure(small: np.ndarray, scales: tuple[float, float, float], radius: float) -> np.ndarray:
    """Keep the structure of (64, 64) grey levels alone, whatever the exposure, as int8.

    Band-passed between two scales, divided by its spread over the third, nothing outside the
    disc, whose edge all photographs share.
    """
    low, high, wide = scales
    band = cv2.GaussianBlur(small, (0, 0), low) - cv2.GaussianBlur(small, (0, 0), high)
    spread = np.sqrt(cv2.GaussianBlur(band**2, (0, 0), wide))
    local = np.where(_disc(radius), band / (spread + 0.5), 0)
    return np.clip(np.round(32 * local), -127, 127).astype(np.int8)


def _frequency_order(side: int) -> np.ndarray:
    """Order the bits of a perceptual hash of side x side from low to high frequencies."""
    rows, columns = np.divmod(np.arange(side * side), side)
    return np.lexsort((rows, np.abs(rows - columns), rows + columns))


_ORDER = _frequency_order(16)


def _hashes(structure: np.ndarray) -> np.ndarray:
    """Hash 8 orientations of (64, 64) int8 perceptually to (8, 32) uint8, low frequencies first."""
    picture = (structure.astype(np.int16) + 128).astype(np.uint8)
    bits = [
        imagehash.phash(Image.fromarray(np.ascontiguousarray(orient(picture, k))), 16).hash
        for k in range(8)
    ]
    return np.packbits(np.stack(bits).reshape(8, -1)[:, _ORDER], axis=1)


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Count the bits in which hashes (M, 32) differ, as (M,)."""
    differing = np.bitwise_xor(first, second)
    return _BIT_COUNTS[differing].sum(axis=1, dtype=np.int64)


_BIT_COUNTS = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


def _chunks(*arrays: np.ndarray, size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(arrays[0]), size):
        yield [array[start : start + size] for array in arrays]
