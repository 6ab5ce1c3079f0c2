"""Depthwise convolutions whose gradients are taken in the library's fast ways on a CPU.

oneDNN, which PyTorch's convolutions call on a CPU, has a fast kernel for the weights' gradient of a
depthwise convolution only up to three columns; wider ones are computed as if each channel were
sixteen. A strip of three columns of a wide kernel is the gradient of such a narrow one, of shifted
inputs. Of strided convolutions it has no fast kernel for the inputs' gradient in bf16, but one in
fp32. The result, and all other gradients of inputs, are the library's.

N samples, C channels, k x k kernel (k odd), H x W inputs, h x w outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# how a run trains, in config.json: 1, as PyTorch does (runs without this key); 2, with strips;
# 3, under bf16 with the inputs' gradients of strided convolutions in fp32, too, and on any CPU
# with the products of attention as models/timm_patches.py has them; 4, with its squeezes, too
KERNEL_VERSION = 4
_STRIP = 3  # columns that the fast kernel can do
# measured: on narrower outputs it is slower; where width times channels is less, little is won
_LEAST_WIDTH, _LEAST_WORK = 7, 4000
_TOGETHER = 1600  # places that are summed at a time: the fewer, the smaller the rounding errors


def pays(size: int, stride: int, width: int, channels: int, widened: bool) -> bool:
    """Tell whether this is faster for a kernel (size, size), by a rule that never changes.

    width: of the outputs. widened: the inputs' gradient is wanted in fp32 where the outputs' is
    not. A rule rather than a measurement at start, so that a run which goes on, or is shared by
    several processes, rounds in one way.
    """
    if size % 2 == 0 or size < _STRIP or stride not in (1, 2):
        return False
    if widened and stride == 2:
        return True
    return size > _STRIP and width >= _LEAST_WIDTH and width * channels >= _LEAST_WORK


def depthwise_conv2d(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    widened: bool = False,
) -> Tensor:
    """Convolve each channel of (N, C, H, W) with its kernel (C, 1, k, k); returns (N, C, h, w).

    As F.conv2d with groups=C, autocast included, but for the gradient of the weights, which is not
    rounded to what autocast computes in. widened: with stride 2 that of the inputs is computed in
    fp32 and rounded once.
    """
    kind = inputs.device.type
    if torch.is_autocast_enabled(kind):
        inputs = inputs.to(torch.get_autocast_dtype(kind))
    return _Depthwise.apply(inputs, weight, bias, stride, padding, widened and stride == 2)


def weight_gradient(
    inputs: Tensor, gradient: Tensor, size: int, stride: int, padding: int
) -> Tensor:
    """Return the gradient (C, 1, k, k) of the weights, in fp32.

    inputs (N, C, H, W) and the outputs' gradient (N, C, h, w), of any type and memory format; it is
    added up in fp32.
    """
    count, channels, height, width = inputs.shape
    rows, columns = gradient.shape[2:]
    pitch = max(width + 2 * padding, (columns - 1) * stride + size)
    # Channels last, so that a view which starts b pixels later is shifted by b columns, without a
    # copy. The pixels that it takes from the next row meet gradients of zero.
    pixels = count * height * pitch + size
    flat = torch.zeros(pixels * channels, dtype=torch.float32)
    strides = (height * pitch * channels, 1, pitch * channels, channels)
    flat.as_strided((count, channels, height, width), strides, padding * channels).copy_(inputs)
    wide = (pitch - _STRIP) // stride + 1
    padded = torch.zeros(count, rows, wide, channels, dtype=torch.float32).permute(0, 3, 1, 2)
    padded[..., :columns].copy_(gradient)
    total = torch.zeros(channels, 1, size, size, dtype=torch.float32)
    together = max(1, _TOGETHER // (rows * columns))
    for first in range(0, count, together):
        part = padded[first : first + together]
        for column in (*range(0, size - _STRIP, 2), size - _STRIP):
            shape = (len(part), channels, height, pitch)
            shifted = flat.as_strided(shape, strides, first * strides[0] + column * channels)
            found = _library_gradients(part, shifted, total[..., :_STRIP], stride, (padding, 0), 1)
            assert found is not None
            known = 0 if column == 0 else 1  # the first column is the last one of the strip before
            total[..., column + known : column + _STRIP] += found[..., known:]
    return total


def _library_gradients(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    stride: int,
    padding: tuple[int, int],
    wanted: int,
) -> Tensor | None:
    """Return one of the gradients as the library computes it: 0, of the inputs; 1, of the weights.

    Of the weights only the shape is used then.
    """
    return torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        weight,
        None,
        [stride, stride],
        list(padding),
        [1, 1],
        False,
        [0, 0],
        weight.shape[0],
        [wanted == 0, wanted == 1, False],
    )[wanted]


def _input_gradient(
    gradient: Tensor, inputs: Tensor, weight: Tensor, stride: int, padding: int, widened: bool
) -> Tensor | None:
    sides = (padding, padding)
    if not widened:
        return _library_gradients(gradient, inputs, weight, stride, sides, 0)
    found = _library_gradients(gradient.float(), inputs.float(), weight.float(), stride, sides, 0)
    return None if found is None else found.to(inputs.dtype)


class _Depthwise(Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        widened: bool,
    ) -> Tensor:
        ctx.stride, ctx.padding, ctx.dtype, ctx.widened = stride, padding, weight.dtype, widened
        weight = weight.to(inputs.dtype)
        bias = bias if bias is None else bias.to(inputs.dtype)
        ctx.save_for_backward(inputs, weight)
        return F.conv2d(inputs, weight, bias, stride, padding, 1, weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_inputs, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            how = ctx.stride, ctx.padding, ctx.widened
            of_inputs = _input_gradient(gradient, inputs, weight, *how)
        if ctx.needs_input_grad[1]:
            size = weight.shape[-1]
            found = weight_gradient(inputs, gradient, size, ctx.stride, ctx.padding)
            of_weight = found.to(ctx.dtype)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.float().sum((0, 2, 3)).to(ctx.dtype)
        return of_inputs, of_weight, of_bias, None, None, None
