import pytest
import torch

from common.config import TrainConfig
from common.models.backbones import build, preprocessing_for, resolve
from common.training.dry_run import measure_step, needed_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize("batch", [2, 8])
def test_activations_grow_with_the_batch(batch):
    spec = resolve("demo_convnext")
    preprocessing = preprocessing_for(spec, 0, True, 2.0, 8)
    backbone = build(spec, 64, False, "", True, 0)
    costs = [
        measure_step(TrainConfig(batch_size=size), backbone, preprocessing, [(0, 1)], CPU, "fp32")
        for size in (batch, 2 * batch)
    ]
    assert costs[1]["activation_bytes"] == pytest.approx(2 * costs[0]["activation_bytes"], rel=0.1)
    assert all(value > 0 for value in costs[0].values())


def test_memory_counts_weights_gradients_moments_and_the_process():
    one, two = (needed_memory(10**6, 10**7, pairs, 0, 0, CPU) for pairs in (1, 2))
    assert two - one == pytest.approx(16 * 10**7, rel=0.01)
    assert one > 16 * 10**7 + 10**8, "PyTorch itself takes memory"
