"""The optimiser's groups: each part at its rate, and its moments wherever it is put."""

import pytest
import torch

from common.config import TrainConfig
from common.fine_tuning.optimizer import (
    load_optimizer,
    make_optimizer,
    part_rates,
    rates_line,
    set_learning_rate,
)
from common.models.backbones import build, resolve
from common.models.ovo import build_branch
from common.pairs import pair_head
from common.system.errors import InputError


def branch_of(name="demo_convnext", freeze=False):
    return build_branch(build(resolve(name), 64, False, "", freeze, 0), pair_head((0, 1)), 0)


def step(branch, optimizer, rate=0.1):
    for parameter in branch.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_learning_rate(optimizer, rate)
    optimizer.step()


def test_all_learn_alike_by_default_and_vectors_do_not_decay():
    config = TrainConfig(weight_decay=0.1)
    branch = branch_of()
    groups = make_optimizer(branch, config).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [group["lr_scale"] for group in groups] == [1.0, 1.0]
    assert [{p.ndim > 1 for p in group["params"]} for group in groups] == [{True}, {False}]
    assert not rates_line(branch.stages, config)


@pytest.mark.parametrize(
    ("model", "freeze", "expected"),
    [
        ("demo_convnext", False, {"stem": 4, "stages:0": 3, "stages:3": 0, "head": 0}),
        ("demo_coatnet", True, {"stages:2": 1, "stages:3": 0}),
        ("densenet121", True, {"features:transition2": 3, "features:denseblock4": 0}),
        ("resnet50", False, {"conv1": 4, "bn1": 4, "layer1": 3, "layer4": 0}),
        ("tf_efficientnet_lite0", True, {"blocks:4": 2, "blocks:6": 0, "conv_head": 0}),
    ],
)
def test_a_stage_learns_slower_the_further_it_is_from_the_classifier(model, freeze, expected):
    stages = build(resolve(model), 64, False, "", freeze, 0).stages
    rates = part_rates(stages, TrainConfig(layer_decay=0.5, head_lr_factor=5))
    assert {name: rates[name] for name in expected} == {n: 0.5**k for n, k in expected.items()}
    assert rates["classifier"] == 5


def test_a_step_moves_each_part_by_its_rate():
    branch = branch_of()
    before = {name: p.detach().clone() for name, p in branch.named_parameters()}
    settings = {"head_lr_factor": 5, "layer_decay": 0.5, "weight_decay": 0}
    step(branch, make_optimizer(branch, TrainConfig(**settings)))
    for name, rate in (("classifier.bias", 5), ("stages.stages:3.blocks.0.mlp.fc2.bias", 1)):
        moved = (branch.state_dict()[name] - before[name]).abs().max()
        assert moved == pytest.approx(0.1 * rate, rel=1e-3)  # the first step of Adam
    moved = (branch.stages[0][0].bias.detach() - before["stages.stem.0.bias"]).abs().max()
    assert moved == pytest.approx(0.1 * 0.5**4, rel=1e-3)


def test_a_network_of_one_part_has_no_layers_to_tell_apart():
    stages = torch.nn.Sequential()
    stages.add_module("network", torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match=r"--layer_decay 0.5: expected several stages.*network"):
        part_rates(stages, TrainConfig(layer_decay=0.5))


@pytest.mark.parametrize("earlier", [True, False], ids=["of an earlier release", "named"])
def test_moments_stay_with_their_parameters_in_other_groups(earlier):
    branch = branch_of()
    optimizer = make_optimizer(branch, TrainConfig())
    step(branch, optimizer)
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        if earlier:
            del group["names"], group["lr_scale"]
    other = make_optimizer(branch, TrainConfig(layer_decay=0.5, weight_decay=0.3))
    load_optimizer(other, branch, saved)
    assert len(other.param_groups) > 2 and other.param_groups[0]["weight_decay"] == 0.3
    for parameter in branch.parameters():
        moments, kept = other.state[parameter], optimizer.state[parameter]
        assert all(torch.equal(moments[name], kept[name]) for name in kept)
    saved["param_groups"][0]["params"].pop()
    with pytest.raises(ValueError):
        load_optimizer(other, branch, saved)
