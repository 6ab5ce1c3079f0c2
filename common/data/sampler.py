"""The order in which images reach the heads, and the batches that each head makes of them.

N images, B samples of a head's effective batch.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from common.pairs import Head
from common.system.device import to_device
from common.system.random_streams import random_generator

PairBatch = tuple[Head, np.ndarray, Tensor]  # head, image indices (B,), features (B, ...)


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
) -> Iterator[PairBatch]:
    """Compute each image's features once and hand each head its batches in its own order.

    order: image indices; labels of all images; features_of maps up to `chunk` indices to features.
    A head's batches depend on `order` and its own classes alone; the heads take turns.
    """
    order = order[np.isin(labels[order], sorted({c for head in heads for c in head.classes}))]
    counts = {head: int(np.isin(labels[order], head.classes).sum()) for head in heads}
    sizes = {head: batch_sizes(count, batch)[::-1] for head, count in counts.items()}
    waiting: dict[Head, list[tuple[np.ndarray, Tensor]]] = {head: [] for head in heads}

    def full(head: Head) -> bool:
        return bool(sizes[head]) and sum(len(i) for i, _ in waiting[head]) >= sizes[head][-1]

    for start in range(0, len(order), chunk):
        images = order[start : start + chunk]
        features = features_of(images)
        for head in heads:
            rows = np.flatnonzero(np.isin(labels[images], head.classes))
            if len(rows):
                own = features[to_device(rows, features.device)]
                waiting[head].append((images[rows], own))
        while ready := [head for head in heads if full(head)]:
            for head in ready:
                indices = np.concatenate([i for i, _ in waiting[head]])
                joined = torch.cat([f for _, f in waiting[head]])
                size = sizes[head].pop()
                waiting[head] = [(indices[size:], joined[size:])] if len(indices) > size else []
                yield head, indices[:size], joined[:size].contiguous()


def grouped(batches: Iterator[PairBatch], limit: int) -> Iterator[list[PairBatch]]:
    """Join successive batches of different heads and equal size, at most `limit` at a time."""
    group: list[PairBatch] = []
    for batch in batches:
        known = [head for head, _, _ in group]
        if group and (
            len(group) >= limit or batch[0] in known or len(batch[1]) != len(group[0][1])
        ):
            yield group
            group = []
        group.append(batch)
    if group:
        yield group
