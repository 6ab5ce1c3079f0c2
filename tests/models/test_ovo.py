"""Trunk and branches: what their outputs depend on, and what they must not depend on."""

import numpy as np
import pytest
import torch

from common.config import PixelOptions
from common.models.backbones import build, preprocessing_for, resolve
from common.models.ovo import (
    batch_norms,
    build_branch,
    chunk_size,
    dropout_mask,
    enable_grad_checkpointing,
    trunk_features,
    trunk_key,
    use_batch_statistics,
)
from common.pairs import pair_head

FAMILIES = ["demo_coatnet", "demo_convnext", "demo_swinv2"]
CPU = torch.device("cpu")
CHUNK = chunk_size(CPU)


def make(name, freeze=True, size=64):
    return build(resolve(name), size, False, "", freeze, 0)


def preprocessing(name="demo_convnext", size=64):
    return preprocessing_for(resolve(name), PixelOptions(size))


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def run(trunk, pixels, name, **options):
    return trunk_features(trunk, pixels, preprocessing(name), CPU, "fp32", **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_do_not_depend_on_neighbours_or_place(name):
    trunk, images = make(name).trunk, pictures(CHUNK)
    together = run(trunk, images, name)
    for order in (np.arange(CHUNK)[::-1], np.array([5]), np.array([7, 0, 3])):
        assert torch.equal(run(trunk, images[order.copy()], name), together[order.copy()])


def test_augmentation_reaches_the_trunk():
    trunk, images = make("demo_convnext").trunk, pictures(2)
    still = np.array([[0, 1, 1, 1, 1, 1, 0, 0]] * 2, dtype=np.float32)
    turned = still + np.array([[0], [20]], dtype=np.float32) * np.eye(8, dtype=np.float32)[0]
    a, b = (run(trunk, images, "demo_convnext", augmentation=t) for t in (still, turned))
    assert torch.equal(a[0], b[0]) and not torch.equal(a[1], b[1])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("freeze", [True, False])
def test_grad_checkpointing_changes_memory_not_gradients(name, freeze):
    backbone = make(name, freeze)
    features = run(backbone.trunk, pictures(3), name)
    gradients, kept = [], []
    for checkpointed in (False, True):
        branch = build_branch(backbone, pair_head((0, 1)), 0)
        if checkpointed:
            enable_grad_checkpointing(branch)
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = branch(features).square().sum()
        loss.backward()
        gradients.append([p.grad for p in branch.parameters()])
        kept.append(sum(sizes.values()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients))
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["coatnet", "convnext", "swinv2", "densenet121", "efficientnetb2", "resnet50", "seresnext50"],
)
def test_grad_checkpointing_works_for_every_backbone(name):
    backbone = make(name)
    with torch.no_grad():
        features = backbone.trunk(torch.rand(2, 3, 64, 64))
    gradients = []
    for checkpointed in (False, True):
        branch = build_branch(backbone, pair_head((0, 1)), 0)
        if checkpointed:
            enable_grad_checkpointing(branch)
        branch(features).square().sum().backward()
        gradients.append([p.grad for p in branch.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients))


def test_a_pair_s_start_depends_on_seed_and_pair():
    backbone = make("demo_convnext")
    branches = {
        (pair, seed): build_branch(backbone, pair_head(pair), seed)
        for pair, seed in [((0, 1), 0), ((0, 2), 0), ((0, 1), 1)]
    }
    again = build_branch(backbone, pair_head((0, 1)), 0)
    weights = [branch.classifier.weight for branch in branches.values()]
    assert torch.equal(weights[0], again.classifier.weight)
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_dropout_keeps_the_mean_and_repeats_itself():
    mask = dropout_mask((200, 500), 0.28, 1, 2, 3)
    assert torch.equal(mask, dropout_mask((200, 500), 0.28, 1, 2, 3))
    assert not torch.equal(mask, dropout_mask((200, 500), 0.28, 1, 2, 4))
    assert (mask == 0).float().mean().item() == pytest.approx(0.28, abs=0.01)
    assert mask.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(dropout_mask((2, 2), 0.0, 1), torch.ones(2, 2))


def test_only_batch_norms_leave_evaluation_mode():
    branch = build_branch(make("demo_coatnet", freeze=False), pair_head((0, 1)), 0)
    assert not any(module.training for module in branch.modules())
    assert use_batch_statistics(branch)
    learning = {m for m in branch.modules() if m.training and list(m.parameters(recurse=False))}
    assert learning == set(batch_norms(branch))
    assert not use_batch_statistics(build_branch(make("demo_convnext"), pair_head((0, 1)), 0))


def test_equal_trunks_have_equal_keys():
    one, two = make("demo_convnext"), make("demo_convnext")
    other = build(resolve("demo_convnext"), 64, False, "", True, 1)
    assert trunk_key(one.trunk) == trunk_key(two.trunk) != trunk_key(other.trunk)
