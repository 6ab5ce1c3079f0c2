"""Find for each picture the few that its points resemble most, without comparing all with all.

N pictures, W words, n points of a picture. The descriptions of a picture are summed up as one
vector (VLAD, Jegou et al. 2010): for each word of a vocabulary, the sum of what the descriptions
nearest to it differ from it. The vocabulary is learned from a sample of the pictures at hand, with
a fixed seed. A mirrored picture is a second question to the same vectors.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from common.duplicates.agreement import root_sift
from common.duplicates.local_features import LocalFeatures

_WORDS = 64
_SAMPLE = 60000  # descriptions
_BLOCK = 1024  # rows of a block of products


def neighbours(features: Sequence[LocalFeatures], count: int) -> np.ndarray:
    """List (M, 3): a, b, m with a < b, where a, mirrored if m, resembles b.

    Each picture has `count` neighbours, and as many in the mirror; all others where there are no
    more.
    """
    total = len(features)
    if total < 2:
        return np.empty((0, 3), dtype=np.int64)
    if total <= count + 1:
        first, second = (np.tile(places, 2) for places in np.triu_indices(total, 1))
        turned_over = np.repeat([0, 1], len(first) // 2)
        return _by_first(np.stack([first, second, turned_over], axis=1))
    words = _vocabulary(features)
    plain = np.stack([_vlad(one, words) for one in features])
    turned = np.stack([_vlad(one.mirrored(), words) for one in features])
    centre = plain.mean(axis=0)
    plain, turned = _unit(plain - centre), _unit(turned - centre)
    codes: list[np.ndarray] = []
    for mirror, questions in enumerate((plain, turned)):
        for start in range(0, total, _BLOCK):
            likeness = questions[start : start + _BLOCK] @ plain.T
            rows = np.arange(len(likeness))
            likeness[rows, start + rows] = -2
            best = np.argpartition(-likeness, count, axis=1)[:, :count]
            asked = np.repeat(start + rows, count)
            low, high = np.minimum(asked, best.ravel()), np.maximum(asked, best.ravel())
            codes.append((low * total + high) * 2 + mirror)
    rest, mirrors = np.divmod(np.unique(np.concatenate(codes)), 2)
    return _by_first(np.stack([*np.divmod(rest, total), mirrors], axis=1))


def _by_first(candidates: np.ndarray) -> np.ndarray:
    """Order candidates (M, 3) by their first picture, as it is and then mirrored."""
    return candidates[np.lexsort((candidates[:, 1], candidates[:, 2], candidates[:, 0]))]


def _vocabulary(features: Sequence[LocalFeatures]) -> np.ndarray:
    """Learn words (W, 128) float32 from a sample of the descriptions."""
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.permutation(len(features))[:2000])
    each = max(1, _SAMPLE // len(chosen))
    parts = [features[i].descriptors for i in chosen]
    sample = np.concatenate([part[:: max(1, len(part) // each)] for part in parts])
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 15, 0)
    count = min(_WORDS, len(sample))
    start = np.zeros((len(sample), 1), dtype=np.int32)
    return cv2.kmeans(root_sift(sample), count, start, stop, 1, cv2.KMEANS_PP_CENTERS)[2]


def _vlad(one: LocalFeatures, words: np.ndarray) -> np.ndarray:
    """Sum up a picture's descriptions as (W * 128,) float32."""
    summed = np.zeros(words.shape, dtype=np.float32)
    if len(one.descriptors):
        vectors = root_sift(one.descriptors)
        nearest = (vectors @ words.T - 0.5 * (words**2).sum(axis=1)).argmax(axis=1)
        order = np.argsort(nearest, kind="stable")
        starts = np.flatnonzero(np.diff(nearest[order], prepend=-1))
        counts = np.diff(starts, append=len(order))[:, None]
        used = nearest[order][starts]
        summed[used] = np.add.reduceat(vectors[order], starts, axis=0) - counts * words[used]
    return _unit(summed).ravel()


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
