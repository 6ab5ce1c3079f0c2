"""The order of the images, and the batches that each head makes of them."""

import numpy as np
import torch

from common.data.sampler import batch_sizes, epoch_order, grouped, pair_batches
from common.pairs import heads_of_model, pair_head


def test_a_lone_last_sample_joins_the_batch_before_it():
    assert batch_sizes(17, 8) == [8, 9]
    assert batch_sizes(18, 8) == [8, 8, 2]
    assert batch_sizes(1, 8) == [1]
    assert batch_sizes(3, 1) == [1, 1, 1]


def test_a_pair_s_batches_are_its_subsequence_whatever_else_is_trained():
    labels = np.random.default_rng(0).integers(0, 5, 230)
    order = epoch_order(3, 1, 230)

    def batches(pairs):
        found = {pair: [] for pair in pairs}
        for head, indices, features in pair_batches(
            order,
            labels,
            list(map(pair_head, pairs)),
            8,
            16,
            lambda i: torch.from_numpy(i.astype(np.float32)),
        ):
            assert features.tolist() == indices.tolist()
            found[head.classes].append(indices.tolist())
        return found

    every = batches([(0, 1), (0, 2), (2, 3), (3, 4)])
    assert every[(2, 3)] == batches([(2, 3)])[(2, 3)]
    flat = [i for batch in every[(2, 3)] for i in batch]
    assert flat == [i for i in order if labels[i] in (2, 3)]
    assert [len(b) for b in every[(2, 3)]] == batch_sizes(len(flat), 8)


def test_each_image_passes_the_trunk_once_per_epoch():
    labels, seen = np.arange(100) % 5, []

    def features_of(indices):
        seen.extend(indices.tolist())
        return torch.zeros(len(indices), 1)

    heads = heads_of_model(5, "ovo")
    for _ in pair_batches(np.arange(100), labels, heads, 8, 16, features_of):
        pass
    assert sorted(seen) == list(range(100))


def test_groups_hold_different_pairs_of_equal_size():
    labels = np.arange(203) % 5
    heads = heads_of_model(5, "ovo")
    order = epoch_order(0, 0, 203)

    def batches():
        return pair_batches(order, labels, heads, 8, 16, lambda i: torch.zeros(len(i), 1))

    groups = list(grouped(batches(), 10, equal=True))
    assert max(map(len, groups)) == 10
    for group in groups:
        assert len({head for head, _, _ in group}) == len(group)
        assert len({len(indices) for _, indices, _ in group}) == 1
    whatever = list(grouped(batches(), 10))
    assert len(whatever) < len(groups)
    assert any(len({len(indices) for _, indices, _ in group}) > 1 for group in whatever)
    flat = [(head, indices.tolist()) for group in groups for head, indices, _ in group]
    assert flat == [(head, indices.tolist()) for head, indices, _ in batches()]
    assert all(len(group) == 1 for group in grouped(batches(), 1))
