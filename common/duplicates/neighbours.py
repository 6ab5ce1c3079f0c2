"""Find for each picture the few that its points resemble most, without comparing all with all.

N pictures, T descriptions of points in all of them, n in one, W words. Each description is reduced
to the nearest word of a vocabulary and 64 bits that say on which side of it the description lies
(Hamming embedding, Jegou et al. 2008). Two points vote for their pictures where their words are
equal and their bits nearly so. A mirrored picture is a second question to the same index. The
vocabulary has two levels and is learned from a sample of the pictures at hand, with a fixed seed.

Chosen by measurement on 413 photographs and copies of 30 of them (turned, cropped, mirrored,
darker, saved again): in how many standard deviations a copy stands out from the other pictures is,
for the worst copy, 7.2 here and 2.0 where the descriptions are summed up as one vector (VLAD);
with 54,000 pictures some 3.4 are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.duplicates.agreement import root_sift
from common.duplicates.local_features import LocalFeatures

BLOCK = 256  # pictures that are encoded or asked for at once
_BITS = 64
_NEAR = 22  # bits in which two points of one place may differ; unrelated ones differ in 32
_WORDS = 64  # at most, on each level, where the sample is no larger than _SAMPLE
_PER_WORD = 40  # descriptions at least, on average
_SAMPLE = 100_000  # descriptions, of up to 50,000 pictures
_OF_SAMPLED = 200  # descriptions for each of a larger sample
_ROUNDS = 6  # of k-means
_AT_ONCE = 1 << 17  # descriptions that are compared with all words at once
_LEAST_VOTES = 2


@dataclass(frozen=True)
class Codebook:
    """A vocabulary of two levels, and the directions in which descriptions are told apart."""

    coarse: np.ndarray  # (K, 128) float32
    fine: np.ndarray  # (K, F, 128) float32; W = K * F
    directions: np.ndarray  # (128, 64) float32

    @property
    def size(self) -> int:
        """Count the words."""
        return self.fine.shape[0] * self.fine.shape[1]


@dataclass(frozen=True)
class Codes:
    """Descriptions of several pictures, reduced."""

    pictures: np.ndarray  # (T,) int32, place of the picture of each
    words: np.ndarray  # (T,) int32
    bits: np.ndarray  # (T, 8) uint8


@dataclass(frozen=True)
class Index:
    """The codes of all pictures, by word."""

    codebook: Codebook
    codes: Codes  # ordered by word
    starts: np.ndarray  # (W + 1,) where the codes of each word begin
    total: int  # N


def learn_codebook(features: Sequence[LocalFeatures], descriptions: int | None = None) -> Codebook:
    """Learn the vocabulary from a sample of the pictures' descriptions, of which there are some.

    Both grow with the pictures, so that a word is that of as many descriptions whatever their
    number, and all of them are compared in a time that is nearly proportional to it.
    descriptions: how many the vocabulary is for; None: those of the pictures.
    """
    generator = np.random.default_rng(0)
    total = sum(len(one.descriptors) for one in features) if descriptions is None else descriptions
    size = max(_SAMPLE, total // _OF_SAMPLED)
    sample = _draw_sample(features, size, generator)
    most = max(_WORDS, int(np.sqrt(size / _PER_WORD)))
    count = int(np.clip(np.sqrt(len(sample) / _PER_WORD), 1, most))
    coarse = _k_means(sample, count, generator)
    nearest = _nearest(sample, coarse)
    fine = [_k_means(sample[nearest == k], count, generator) for k in range(count)]
    directions = np.linalg.qr(generator.normal(size=(128, 128)))[0][:, :_BITS]
    return Codebook(coarse, np.stack(fine), directions.astype(np.float32))


def _draw_sample(
    features: Sequence[LocalFeatures], size: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw unit vectors (size, 128) of descriptions, or all where there are fewer."""
    chosen = np.sort(generator.permutation(len(features))[: size // 100])
    every = np.concatenate([features[i].descriptors for i in chosen.tolist()])
    return root_sift(every[np.sort(generator.permutation(len(every))[:size])])


def encode(codebook: Codebook, features: Sequence[LocalFeatures], first: int) -> Codes:
    """Reduce the descriptions of pictures, the first of which stands at the place `first`."""
    vectors = root_sift(np.concatenate([one.descriptors for one in features]))
    lengths = [len(one.descriptors) for one in features]
    pictures = np.repeat(np.arange(first, first + len(features), dtype=np.int32), lengths)
    coarse = _nearest(vectors, codebook.coarse)
    words, bits = np.empty(len(vectors), np.int32), np.empty((len(vectors), _BITS // 8), np.uint8)
    for k, fine in enumerate(codebook.fine):
        mine = np.flatnonzero(coarse == k)
        nearest = _nearest(vectors[mine], fine)
        words[mine] = k * len(fine) + nearest
        beside = (vectors[mine] - fine[nearest]) @ codebook.directions > 0
        bits[mine] = np.packbits(beside, axis=1)
    return Codes(pictures, words, bits)


def build_index(codebook: Codebook, parts: Sequence[Codes], total: int) -> Index:
    """Order the codes of all pictures by word."""
    words = np.concatenate([part.words for part in parts])
    order = np.argsort(words, kind="stable")
    codes = Codes(
        np.concatenate([part.pictures for part in parts])[order],
        words[order],
        np.concatenate([part.bits for part in parts])[order],
    )
    starts = np.searchsorted(codes.words, np.arange(codebook.size + 1))
    return Index(codebook, codes, starts, total)


def neighbours(index: Index, asked: Codes, first: int, number: int, count: int) -> np.ndarray:
    """List (M, 2): a picture asked for and one of the `count` others that it resembles most.

    asked: codes of `number` pictures, the first of which stands at the place `first`. Of others
    with equally many votes those that come first are taken.
    """
    found, votes = _votes(index, asked, first)
    asking, other = np.divmod(found, index.total)
    kept = (votes >= _LEAST_VOTES) & (other != first + asking)
    asking, other, votes = asking[kept], other[kept], votes[kept]
    order = np.lexsort((other, -votes, asking))
    asking, other = asking[order], other[order]
    rank = np.arange(len(asking)) - np.searchsorted(asking, np.arange(number))[asking]
    best = rank < count
    return np.stack([first + asking[best], other[best]], axis=1)


def _votes(index: Index, asked: Codes, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the points of the pictures asked for that agree with points of others.

    Returns pairs, each as its first picture's place among those asked for times N plus the
    second's, in order, and how many points of theirs agree. Pairs without any are not listed: few
    pictures among many share a point.
    """
    hits = [np.empty(0, dtype=np.int64)]
    order = np.argsort(asked.words, kind="stable")
    starts = np.searchsorted(asked.words[order], np.arange(index.codebook.size + 1))
    for word in np.flatnonzero(np.diff(starts)).tolist():
        mine = order[starts[word] : starts[word + 1]]
        theirs = slice(index.starts[word], index.starts[word + 1])
        if theirs.start == theirs.stop:
            continue
        ones = np.unpackbits(asked.bits[mine], axis=1).astype(np.float32)
        others = np.unpackbits(index.codes.bits[theirs], axis=1).astype(np.float32)
        # differing bits: the ones of one, less those shared, and the ones of the other only
        shared = (2 * ones - 1) @ others.T
        row, column = np.nonzero(ones.sum(axis=1, keepdims=True) - shared <= _NEAR)
        places = (asked.pictures[mine] - first).astype(np.int64) * index.total
        hits.append(places[row] + index.codes.pictures[theirs][column])
    return np.unique(np.concatenate(hits), return_counts=True)


def _k_means(vectors: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Find the centres (count, 128) of clusters of vectors (T, 128)."""
    if not len(vectors):
        return np.zeros((count, 128), dtype=np.float32)
    start = generator.permutation(len(vectors))[np.arange(count) % len(vectors)]
    centres = vectors[start]
    for _ in range(_ROUNDS):
        nearest = _nearest(vectors, centres)
        order = np.argsort(nearest, kind="stable")
        begins = np.flatnonzero(np.diff(nearest[order], prepend=-1))
        sizes = np.diff(begins, append=len(order))[:, None]
        centres[nearest[order][begins]] = np.add.reduceat(vectors[order], begins) / sizes
    return centres


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Number the centre nearest to each of vectors (T, 128), as (T,)."""
    half = 0.5 * (centres**2).sum(axis=1)
    parts = [vectors[start : start + _AT_ONCE] for start in range(0, len(vectors), _AT_ONCE)]
    found = [(part @ centres.T - half).argmax(axis=1) for part in parts]
    return np.concatenate([np.empty(0, dtype=np.int64), *found])
