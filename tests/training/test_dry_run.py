"""What a plan measures and estimates."""

from dataclasses import asdict, replace

import pytest
import torch

from common.config import PixelOptions, TrainConfig
from common.data.folders import scan_split
from common.models.backbones import build, preprocessing_for, resolve
from common.pairs import pair_head
from common.training import dry_run
from common.training.context import RunInputs
from common.training.dry_run import RunSize, measure_step, needed_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize("batch", [2, 8])
def test_activations_grow_with_the_batch(demo, batch):
    spec, split = resolve("demo_convnext"), scan_split(demo, "train")
    preprocessing = preprocessing_for(spec, PixelOptions())
    backbone = build(spec, 64, False, "", True, 0)
    costs = []
    for size in (batch, 2 * batch):
        config = TrainConfig(batch_size=size)
        inputs = RunInputs(config, backbone, preprocessing, split, split, CPU, "fp32")
        costs.append(measure_step(inputs, pair_head((0, 1))))
    assert costs[1].activation_bytes == pytest.approx(2 * costs[0].activation_bytes, rel=0.1)
    assert all(value > 0 for value in asdict(costs[0]).values())


def test_memory_counts_weights_gradients_moments_and_the_process():
    one, two = (needed_memory(RunSize(10**6, 10**7, heads, 0, 0), CPU) for heads in (1, 2))
    assert two - one == pytest.approx(16 * 10**7, rel=0.01)
    assert one > 16 * 10**7 + 10**8, "PyTorch itself takes memory"


def test_launches_that_are_not_shared_take_no_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(dry_run, "room_for_pixels", lambda device: 0)
    gpu = torch.device("cuda")
    alone = RunSize(10**6, 10**7, 10, 10**9, 0)
    assert needed_memory(alone, gpu) == 4e6 + 10 * 16e7 + 1e9
    assert needed_memory(replace(alone, shared=True), gpu) == needed_memory(alone, gpu) + 1e9 + 9e9
