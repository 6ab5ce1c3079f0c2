"""One launch of several branches gives what a loop over them gives."""

import pytest
import torch

from common.models.backbones import build, resolve
from common.models.ovo import build_branch
from common.models.parallel_branches import ParallelBranches
from common.pairs import pair_head


@pytest.mark.parametrize(
    "name, pooled",
    [
        ("demo_coatnet", "last"),
        ("demo_coatnet", "trained"),
        ("demo_convnext", "last"),
        ("demo_swinv2", "last"),
        ("demo_swinv2", "trained"),
    ],
)
@pytest.mark.parametrize("freeze", [True, False])
def test_a_launch_gives_the_values_and_gradients_of_a_loop(name, pooled, freeze):
    backbone = build(resolve(name), 64, False, "", freeze, 0, pooled_stages=pooled)
    branches = [build_branch(backbone, pair_head(pair), 0) for pair in ((0, 1), (1, 3), (3, 4))]
    with torch.no_grad():
        features = (
            backbone.trunk(torch.rand(6, 3, 64, 64))
            .view(3, 2, *(backbone.trunk(torch.rand(1, 3, 64, 64)).shape[1:]))
            .contiguous()
        )
    masks = torch.rand(3, 2, backbone.num_features)
    loop = torch.stack([branch(f, m) for branch, f, m in zip(branches, features, masks)])
    loop.square().sum().backward()
    expected = [p.grad.clone() for branch in branches for p in branch.parameters()]
    for branch in branches:
        branch.zero_grad()
    together = ParallelBranches(branches[0])(branches, features, masks)
    together.square().sum().backward()
    assert together.shape == (3, 2) and torch.allclose(loop, together, atol=1e-5)
    for found, wanted in zip(
        (p.grad for branch in branches for p in branch.parameters()), expected
    ):
        assert torch.allclose(found, wanted, atol=1e-4 * (1 + wanted.abs().max().item()))


def test_the_networks_stay_as_they_are():
    branch = build_branch(
        build(resolve("demo_swinv2"), 64, False, "", True, 0), pair_head((0, 1)), 0
    )
    fused = [m.fused_attn for m in branch.modules() if hasattr(m, "fused_attn")]
    ParallelBranches(branch)
    assert [m.fused_attn for m in branch.modules() if hasattr(m, "fused_attn")] == fused
    assert all(p.device.type == "cpu" for p in branch.parameters())


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_convnext", "demo_swinv2", "test_resnet"])
def test_mixed_precision_reaches_every_layer(name):
    backbone = build(resolve(name), 64, False, "", True, 0)
    branches = [build_branch(backbone, pair_head(pair), 0) for pair in ((0, 1), (1, 3))]
    with torch.no_grad():
        features = backbone.trunk(torch.rand(4, 3, 64, 64))
    features = features.reshape(2, 2, *features.shape[1:]).contiguous()
    masks = torch.ones(2, 2, backbone.num_features)
    exact = torch.stack([branch(f, m) for branch, f, m in zip(branches, features, masks)])
    with torch.autocast("cpu", torch.bfloat16):
        together = ParallelBranches(branches[0])(branches, features, masks)
    assert not torch.allclose(together.float(), exact, atol=1e-6), "the arithmetic is bf16's"
    assert torch.allclose(together.float(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())
    together.float().sum().backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 for p in branches[1].parameters()
    )
