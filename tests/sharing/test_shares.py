"""Who does what among several processes."""

import random

import pytest

from common.config import TrainConfig
from common.pairs import class_pairs, heads_of_model
from common.sharing.shares import Work, ranges, share_out
from common.sharing.training_shares import sample_cost, share_training

EYEPACS = [25810, 2443, 5292, 873, 708]  # images of each grade in a screening programme


def work_of(counts, groups):
    pairs = class_pairs(len(counts))
    return [Work((g, p), g, counts[p[0]] + counts[p[1]]) for g in range(groups) for p in pairs]


def loads_of(shares):
    return [sum(each.samples for each in share) for share in shares]


def test_every_piece_is_done_once_and_no_share_is_much_larger_than_the_largest_piece_demands():
    draw = random.Random(0)
    for _ in range(200):
        counts = [draw.randint(1, 3000) for _ in range(draw.choice([2, 3, 5]))]
        work, size = work_of(counts, draw.randint(1, 7)), draw.randint(1, 20)
        shares = share_out(work, size)
        assert sorted(each.key for share in shares for each in share) == [w.key for w in work]
        loads = loads_of(shares)
        assert max(loads) <= sum(loads) / size + max(each.samples for each in work)
        assert all(share == sorted(share, key=work.index) for share in shares)
        assert share_out(work, size) == shares


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_a_process_has_few_backbones_and_as_much_to_do_as_the_others(size):
    shares = share_out(work_of(EYEPACS, 7), size)
    loads = loads_of(shares)
    assert max(loads) <= 1.01 * sum(loads) / size
    backbones = [len({each.group for each in share}) for share in shares]
    assert sum(backbones) <= 7 + size - 1, "each process but the last can end within one"
    assert size != 7 or backbones == [1] * 7


def test_ten_pairs_are_spread_over_more_processes_than_are_needed():
    shares = share_out(work_of(EYEPACS, 1), 16)
    assert [len(share) for share in shares] == [1] * 10 + [0] * 6


def test_ranges_meet_and_begin_at_multiples_of_a_chunk():
    assert ranges(100, 3, 8) == [range(0, 32), range(32, 64), range(64, 100)]
    assert ranges(5, 4, 8) == [range(0, 0), range(0, 0), range(0, 0), range(0, 5)]
    assert ranges(0, 2) == [range(0, 0), range(0, 0)]


def test_the_first_process_of_a_backbone_speaks_of_the_dataset_and_the_plan_names_everybody():
    configs = [TrainConfig(model="convnext"), TrainConfig(model="coatnet")]
    plan = share_training(configs, heads_of_model(3, "ovo"), [10, 20, 30], 4)
    spoken = [(own.config.model, own.speaks) for rank in range(4) for own in plan.share(rank)]
    assert sorted(model for model, speaks in spoken if speaks) == ["coatnet", "convnext"]
    trained = [
        (own.config.model, head.name)
        for rank in range(4)
        for own in plan.share(rank)
        for head in own.heads
    ]
    assert len(set(trained)) == len(trained) == 6
    assert plan.lines()[0].startswith("rank 0 of 4: convnext 1-2 (50 samples an ep")
    alone = share_training(configs, heads_of_model(3, "softmax"), [10, 20, 30], 3)
    assert alone.lines()[2] == (
        "rank 2 of 3: no classifier is left for it; it fills the pixel cache, of test, too, then "
        "predicts val and test with convnext, coatnet once complete"
    )
    assert not alone.share(2)
    several = share_training(configs, heads_of_model(3, "softmax"), [10, 20, 30], 5)
    found = [[config.model for config in several.predicts(rank)] for rank in several.surplus]
    assert found == [["convnext"], ["coatnet"], []]
    seeds = [TrainConfig(model="convnext", seed=seed) for seed in (0, 1)]
    lines = share_training(seeds, heads_of_model(3, "softmax"), [10, 20, 30], 3).lines()
    assert lines[1].startswith("rank 1 of 3: convnext seed 1 softmax (60 samples an epoch")
    assert lines[2].endswith("with convnext seed 0, convnext seed 1 once complete")
    idle = several.lines()[several.surplus[2]]
    assert idle.endswith("it fills the pixel cache, of test, too")


def test_a_backbone_counts_by_what_its_samples_take_where_that_is_known_of_all():
    heads, counts = heads_of_model(5, "ovo"), [100] * 5

    def pairs_of_first(*models: str, **changes) -> int:
        configs = [TrainConfig(model=model, **changes) for model in models]
        return len(share_training(configs, heads, counts, 2).share(0)[0].heads)

    # a pair of ConvNeXt-T takes 5.9 GFLOP a sample, one of EfficientNet-B2 1.1
    assert pairs_of_first("convnext_tiny", "efficientnetb2") == 6
    assert pairs_of_first("convnext_tiny", "demo_convnext") == 10
    assert pairs_of_first("convnext_tiny", "efficientnetb2", freeze_weights=False) < 10


def test_more_pixels_and_less_that_is_frozen_take_more():
    plain = sample_cost(TrainConfig(model="convnext_tiny"))
    assert sample_cost(TrainConfig(model="convnext_tiny", img_size=448)) == pytest.approx(4 * plain)
    whole = sample_cost(TrainConfig(model="convnext_tiny", freeze_weights=False))
    assert whole == pytest.approx(plain + 3.052)
    assert sample_cost(TrainConfig(model="demo_convnext")) == 0
