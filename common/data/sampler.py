"""The order in which images reach the pairs, and the batches that each pair makes of them.

N images, B samples of a pair's effective batch.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from common.pairs import Pair
from common.system.device import to_device
from common.system.random_streams import random_generator

PairBatch = tuple[Pair, np.ndarray, Tensor]  # pair, image indices (B,), features (B, ...)


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
    """Return the epoch's one permutation of all images, of which a pair takes its own."""
    return random_generator("order", seed, epoch).permutation(count)


def pair_batches(
    order: np.ndarray,
    labels: np.ndarray,
    pairs: list[Pair],
    batch: int,
    chunk: int,
    features_of: Callable[[np.ndarray], Tensor],
) -> Iterator[PairBatch]:
    """Compute each image's features once and hand each pair its batches in its own order.

    order: image indices; labels of all images; features_of maps up to `chunk` indices to features.
    A pair's batches depend on `order` and its own classes alone; the pairs take turns.
    """
    order = order[np.isin(labels[order], sorted({c for pair in pairs for c in pair}))]
    sizes = {p: batch_sizes(int(np.isin(labels[order], p).sum()), batch)[::-1] for p in pairs}
    waiting: dict[Pair, list[tuple[np.ndarray, Tensor]]] = {pair: [] for pair in pairs}

    def full(pair: Pair) -> bool:
        return bool(sizes[pair]) and sum(len(i) for i, _ in waiting[pair]) >= sizes[pair][-1]

    for start in range(0, len(order), chunk):
        images = order[start : start + chunk]
        features = features_of(images)
        for pair in pairs:
            rows = np.flatnonzero(np.isin(labels[images], pair))
            if len(rows):
                own = features[to_device(rows, features.device)]
                waiting[pair].append((images[rows], own))
        while ready := [pair for pair in pairs if full(pair)]:
            for pair in ready:
                indices = np.concatenate([i for i, _ in waiting[pair]])
                joined = torch.cat([f for _, f in waiting[pair]])
                size = sizes[pair].pop()
                waiting[pair] = [(indices[size:], joined[size:])] if len(indices) > size else []
                yield pair, indices[:size], joined[:size].contiguous()


def grouped(batches: Iterator[PairBatch], limit: int) -> Iterator[list[PairBatch]]:
    """Join successive batches of different pairs and equal size, at most `limit` at a time."""
    group: list[PairBatch] = []
    for batch in batches:
        known = [pair for pair, _, _ in group]
        if group and (
            len(group) >= limit or batch[0] in known or len(batch[1]) != len(group[0][1])
        ):
            yield group
            group = []
        group.append(batch)
    if group:
        yield group
