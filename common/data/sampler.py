"""The order in which images reach the heads, and the batches that each head makes of them.

N images, B samples of a head's effective batch.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.pairs import Head
from common.system.device import to_device
from common.system.random_streams import random_generator


class HeadBatch(NamedTuple):
    """The samples of one head's optimiser step."""

    head: Head
    indices: np.ndarray  # (B,) of the images
    features: Tensor  # (B, ...)


def batch_sizes(count: int, batch: int) -> list[int]:
    """Cut `count` samples into batches; a lone last one joins the batch before it.

    A batch of one has no batch statistics.
    """
    sizes = [batch] * (count // batch)
    rest = count % batch
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the epoch's one permutation of all images, of which a head takes its own."""
    return random_generator("order", seed, epoch).permutation(count)


def pair_batches(
    order: np.ndarray,
    labels: np.ndarray,
    heads: list[Head],
    batch: int,
    chunk: int,
    features_of: Callable[[np.ndarray], Tensor],
) -> Iterator[HeadBatch]:
    """Compute each image's features once and hand each head its batches in its own order.

    order: image indices; labels of all images; features_of maps up to `chunk` indices to features.
    A head's batches depend on `order` and its own classes alone; the heads take turns.
    """
    order = order[np.isin(labels[order], sorted({c for head in heads for c in head.classes}))]
    queues = [_Queue(head, labels[order], batch) for head in heads]
    for start in range(0, len(order), chunk):
        images = order[start : start + chunk]
        features = features_of(images)
        for queue in queues:
            queue.add(images, labels[images], features)
        while ready := [queue for queue in queues if queue.has_batch()]:
            for queue in ready:
                yield queue.pop()


class _Queue:
    """The samples of one head that wait until a batch of them is complete."""

    def __init__(self, head: Head, labels: np.ndarray, batch: int) -> None:
        """labels: of all images of the epoch, of which the head takes those of its classes."""
        self._head = head
        count = int(np.isin(labels, head.classes).sum())
        self._sizes = batch_sizes(count, batch)[::-1]  # of the batches to come, the next one last
        self._indices: list[np.ndarray] = []
        self._features: list[Tensor] = []

    def add(self, images: np.ndarray, labels: np.ndarray, features: Tensor) -> None:
        """Take the images (n,) with features (n, ...) that are of the head's classes."""
        rows = np.flatnonzero(np.isin(labels, self._head.classes))
        if len(rows):
            self._indices.append(images[rows])
            self._features.append(features[to_device(rows, features.device)])

    def has_batch(self) -> bool:
        """Tell whether the next batch is complete."""
        return bool(self._sizes) and sum(map(len, self._indices)) >= self._sizes[-1]

    def pop(self) -> HeadBatch:
        """Take the next batch out."""
        size = self._sizes.pop()
        indices, features = np.concatenate(self._indices), torch.cat(self._features)
        left = len(indices) > size
        self._indices = [indices[size:]] if left else []
        self._features = [features[size:]] if left else []
        return HeadBatch(self._head, indices[:size], features[:size].contiguous())


def grouped(
    batches: Iterator[HeadBatch], limit: int, equal: bool = False
) -> Iterator[list[HeadBatch]]:
    """Join successive batches of different heads, at most `limit` at a time; equal: in size."""
    group: list[HeadBatch] = []
    for batch in batches:
        if group and not _fits(batch, group, limit, equal):
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def _fits(batch: HeadBatch, group: list[HeadBatch], limit: int, equal: bool) -> bool:
    return (
        len(group) < limit
        and (not equal or len(batch.indices) == len(group[0].indices))
        and all(batch.head != other.head for other in group)
    )
