"""Strips give the library's gradients, whatever the shape, the memory format and the precision."""

import copy

import pytest
import torch
import torch.nn.functional as F

from common.kernels import depthwise
from common.models import timm_patches
from common.models.backbones import build, resolve
from common.models.ovo import build_branch
from common.pairs import pair_head
from common.system.device import autocast

CPU = torch.device("cpu")
FORMATS = [torch.contiguous_format, torch.channels_last]


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def distance(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("sides", [(0, 0), (1, 2), (2, 2)], ids=str)  # TensorFlow's are unequal
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("widened", [False, True], ids=["", "inputs' in fp32"])
@pytest.mark.parametrize("precision, most", [("fp32", 1e-6), ("bf16", 1e-3)])
def test_all_gradients_are_those_of_double_precision(
    size, stride, sides, memory_format, precision, most, widened
):
    before, after = sides
    padding = 0 if before != after else before
    inputs, weight, bias = drawn(3, 20, 13, 18), drawn(20, 1, size, size), drawn(20)
    if before != after:
        inputs = F.pad(inputs, (before, after, before, after))
    if precision == "bf16":
        inputs = inputs.bfloat16()
    inputs = inputs.contiguous(memory_format=memory_format)
    found = [tensor.clone().requires_grad_() for tensor in (inputs, weight, bias)]
    exact = [tensor.double().requires_grad_() for tensor in (inputs, weight, bias)]
    if precision == "bf16":  # the convolution takes its weights rounded
        exact[1] = weight.bfloat16().double().requires_grad_()
    result = depthwise.depthwise_conv2d(*found, stride, padding, widened)
    expected = F.conv2d(*exact, stride, padding, 1, 20)
    gradient = drawn(*expected.shape).to(result.dtype)
    result.backward(gradient)
    expected.backward(gradient.double())
    plain = [x.to(inputs.dtype, copy=True).requires_grad_() for x in (inputs, weight, bias)]
    F.conv2d(*plain, stride, padding, 1, 20).backward(gradient)
    of_library = distance(plain[0].grad, exact[0].grad)
    assert distance(found[1].grad, exact[1].grad) < most
    assert distance(found[2].grad, exact[2].grad) < most
    # a processor without bf16 rounds between the library's sums of inputs' gradients
    rounding = most if precision == "fp32" else 5e-3
    assert distance(found[0].grad, exact[0].grad) < max(rounding, 1.01 * of_library)
    assert found[0].grad.dtype == inputs.dtype and found[1].grad.dtype == weight.dtype


def test_many_places_are_summed_in_parts_and_give_the_same_bits_each_time(monkeypatch):
    inputs, gradient = drawn(5, 16, 9, 9), drawn(5, 16, 9, 9)
    whole = depthwise.weight_gradient(inputs, gradient, 5, 1, 2)
    assert torch.equal(depthwise.weight_gradient(inputs, gradient, 5, 1, 2), whole)
    monkeypatch.setattr(depthwise, "_TOGETHER", 2 * 81)
    assert torch.allclose(depthwise.weight_gradient(inputs, gradient, 5, 1, 2), whole, atol=1e-4)


def test_strips_are_for_wide_kernels_on_maps_that_are_not_tiny():
    assert depthwise.pays(5, 1, 20, 672, False) and depthwise.pays(7, 1, 7, 768, False)
    refused = ((3, 1, 20, 672), (6, 1, 20, 672), (5, 3, 20, 672), (5, 1, 4, 1152), (5, 1, 8, 240))
    assert not any(depthwise.pays(*shape, widened) for shape in refused for widened in (0, 1))


def test_gradients_of_inputs_are_computed_in_fp32_for_strided_convolutions_alone():
    assert depthwise.pays(3, 2, 14, 288, True) and depthwise.pays(5, 2, 4, 16, True)
    assert not depthwise.pays(3, 2, 14, 288, False)

    def gradient(stride, widened):
        inputs = drawn(2, 64, 9, 9).bfloat16().requires_grad_()
        result = depthwise.depthwise_conv2d(inputs, drawn(64, 1, 3, 3), None, stride, 1, widened)
        result.backward(drawn(*result.shape).bfloat16())
        return inputs.grad

    assert torch.equal(gradient(1, True), gradient(1, False))
    exact = drawn(2, 64, 9, 9).double().requires_grad_()
    result = F.conv2d(exact, drawn(64, 1, 3, 3).bfloat16().double(), None, 2, 1, 1, 64)
    result.backward(drawn(*result.shape).bfloat16().double())
    assert torch.equal(gradient(2, True), exact.grad.bfloat16()), "rounded once"


def networks(name, monkeypatch):
    """The trained part of a network twice, the second time patched; and features for both."""
    monkeypatch.setattr(timm_patches, "pays", lambda size, stride, *_: size > 3 or stride == 2)
    backbone = build(resolve(name), 64, False, "", True, 0)
    plain = build_branch(backbone, pair_head((0, 1)), 0)
    patched = copy.deepcopy(plain)
    with torch.no_grad():
        features = backbone.trunk(drawn(2, 3, 64, 64))
    return plain, patched, features


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "demo_convnext"])
def test_a_patched_network_gives_the_same_bits_and_the_same_gradients(name, precision, monkeypatch):
    plain, patched, features = networks(name, monkeypatch)
    assert timm_patches.patch_depthwise(patched.stages, features[:1], precision == "bf16") > 0
    results = []
    for net in (plain, patched):
        with autocast(CPU, precision):
            results.append(net(features))
        results[-1].sum().backward()
    assert torch.equal(*results)
    most = 1e-5 if precision == "fp32" else 0.05
    for (name, one), (_, other) in zip(plain.named_parameters(), patched.named_parameters()):
        assert distance(other.grad, one.grad.double()) < most or one.grad.norm() < 1e-6, name


def test_restoring_gives_the_library_s_convolutions_back(monkeypatch):
    plain, patched, features = networks("tf_efficientnet_lite0", monkeypatch)
    timm_patches.patch_depthwise(patched.stages, features[:1], True)
    kinds = [type(module) for module in plain.modules()]
    assert [type(module) for module in copy.deepcopy(patched).modules()] != kinds
    timm_patches.restore_depthwise(patched)
    assert [type(module) for module in patched.modules()] == kinds
    assert all(vars(a).keys() == vars(b).keys() for a, b in zip(plain.modules(), patched.modules()))
