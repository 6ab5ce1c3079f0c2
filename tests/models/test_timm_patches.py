"""Patches change how attention and squeezes are computed, not what they give, and can be undone."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F

from common.models import timm_patches
from common.models.backbones import build, native_state, resolve
from common.system.device import autocast


def pixels(size=64):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def plain_net(name):
    torch.manual_seed(0)
    return timm.create_model(name, img_size=64, num_classes=0).eval()


def description(net):
    """What a network is made of: each module's class and plain attributes."""
    return [
        (name, type(module), vars(module).get("fused_attn"), sorted(vars(module)))
        for name, module in net.named_modules()
    ]


PATCHED = ["test_coatnet", "test_maxvit", "coatnext_nano_rw_224", "gcvit_xxtiny"]
SQUEEZING = ["efficientnetb2", "tf_efficientnet_b0", "seresnext26d_32x4d"]  # three classes of it
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.mark.parametrize("name", PATCHED)
def test_a_patched_network_gives_what_the_library_s_gives(name):
    net = plain_net(name)
    with torch.no_grad():
        expected = net(pixels())
        timm_patches.apply(net)
        assert timm_patches.is_patched(net)
        assert torch.allclose(net(pixels()), expected, atol=1e-5)


@pytest.mark.parametrize("precision, most", [("fp32", 1e-4), ("bf16", 0.02)])
def test_products_of_attention_the_other_way_round_give_the_same(precision, most):
    backbone = build(resolve("test_coatnet"), 64, False, "", False, 0)
    nets = [backbone.stages, copy.deepcopy(backbone.stages)]
    timm_patches.compute_as(nets[1], 2)
    kinds = [{type(module) for module in net.modules()} for net in nets]
    assert timm_patches._Attention2d in kinds[0] - kinds[1]
    features, results = backbone.trunk(pixels()), []
    for net in nets:
        with autocast(torch.device("cpu"), precision):
            results.append(net(features).float())
        results[-1].square().sum().backward()
    gradients = [torch.cat([p.grad.flatten() for p in net.parameters()]) for net in nets]
    for ours, earlier in (results, gradients):
        assert (ours - earlier).norm() < most * earlier.norm()


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("precision, most", [("fp32", 1e-5), ("bf16", 0.03)])
@pytest.mark.parametrize("name", SQUEEZING)
def test_squeezes_give_and_learn_what_the_library_s_do(
    name, precision, most, memory_format, monkeypatch
):
    pools, average = [], F.avg_pool2d
    monkeypatch.setattr(F, "avg_pool2d", lambda *given: pools.append(given) or average(*given))
    backbone, results = build(resolve(name), 64, False, "", False, 0), []
    nets = [backbone.stages, copy.deepcopy(backbone.stages)]
    timm_patches.compute_as(nets[1], 3)
    assert {type(m) for m in nets[0].modules()} & set(timm_patches._SQUEEZES_BACK)
    assert not {type(m) for m in nets[1].modules()} & set(timm_patches._SQUEEZES_BACK)
    features = pixels().contiguous(memory_format=FORMATS[memory_format])
    counts = []
    for net in nets:
        pools.clear()
        with autocast(torch.device("cpu"), precision):
            results.append(net(features).float())
        counts.append(len(pools))
        results[-1].square().sum().backward()
    assert counts[0] > counts[1] if memory_format == "channels_last" else counts[0] == counts[1]
    gradients = [torch.cat([p.grad.flatten() for p in net.parameters()]) for net in nets]
    for ours, library in (results, gradients):
        assert (ours - library).norm() <= most * library.norm()


def test_a_network_that_squeezes_can_be_restored():
    net = timm.create_model("tf_efficientnet_b0", num_classes=0).eval()
    before = description(net)
    timm_patches.apply(net)
    assert description(net) != before and timm_patches.is_patched(net)
    timm_patches.restore(net)
    assert description(net) == before


def test_earlier_attention_can_be_restored_too():
    net = plain_net("test_coatnet")
    before = description(net)
    timm_patches.apply(net)
    timm_patches.compute_as(net, 2)
    assert timm_patches.is_patched(net)
    timm_patches.restore(net)
    assert description(net) == before


@pytest.mark.parametrize("name", PATCHED)
def test_restoring_gives_the_library_s_network_back(name):
    net = plain_net(name)
    before, state = description(net), {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        expected = net(pixels())
        timm_patches.apply(net)
        net(pixels())
        timm_patches.restore(net)
        assert description(net) == before and not timm_patches.is_patched(net)
        assert torch.equal(net(pixels()), expected)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_patching_twice_is_patching_once_and_copies_are_patched_too():
    net = plain_net("test_coatnet")
    timm_patches.apply(net)
    once = description(net)
    timm_patches.apply(net)
    assert description(net) == once == description(copy.deepcopy(net))


def test_a_network_without_position_biases_stays_as_it_is():
    net = plain_net("swinv2_cr_tiny_224")
    before = description(net)
    timm_patches.apply(net)
    assert description(net) == before and not timm_patches.is_patched(net)


def test_unfused_attention_stays_unfused():
    net = plain_net("test_coatnet")
    timm_patches.apply(net)
    timm_patches.unfuse_attention(net)
    fused = []
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            module.register_forward_hook(lambda module, *_: fused.append(module.fused_attn))
    net(pixels())
    assert fused and not any(fused)


def test_faster_attention_learns_what_the_library_s_does():
    ours = build(resolve("demo_coatnet"), 64, False, "", False, 0).stages.double()
    size = {"num_classes": 0, "img_size": 64}
    theirs = timm.create_model("coatnet_0_rw_224", **size, **resolve("demo_coatnet").options)
    theirs.eval().double().load_state_dict(native_state(ours))
    fused = []
    attention = next(m for m in ours.modules() if hasattr(m, "fused_attn"))
    attention.register_forward_hook(lambda module, *_: fused.append(module.fused_attn))
    found, expected = (net(pixels().double()) for net in (ours, theirs))
    assert torch.allclose(found, expected, rtol=1e-9)
    found.square().sum().backward()
    expected.square().sum().backward()
    gradients = {name.replace(":", "."): p.grad for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-6, atol=1e-12), name
    with torch.no_grad():
        assert torch.allclose(ours(pixels().double()), expected, rtol=1e-9)
    assert fused == [False, False]
