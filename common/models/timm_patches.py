"""All that is changed in the libraries' networks: attention, squeezes, depthwise convolutions.

A patched module is of a subclass of the library's class, with the same parameters and buffers;
`apply` and `restore`, `compute_as`, `patch_depthwise` and `restore_depthwise` exchange classes.
N windows of L places, or N pictures of C channels.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.layers import RelPosBias, SEModule
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.maxxvit import Attention2d, AttentionCl
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from common.kernels.depthwise import depthwise_conv2d, pays


class _EmbeddedBias(RelPosBias):
    """Looks biases up as an embedding, and adds them in the precision of the scores.

    Why: PyTorch adds the gradients of an embedding up faster than those of an indexed table.
    Measured on 2 cores in bf16 with CoAtNet-0: with `_FusedOnGpuOnly` as well, an epoch takes 15 %
    less.
    """

    relative_position_index: Tensor

    def get_bias(self) -> Tensor:
        """Return the biases (1, heads, L, L)."""
        bias = F.embedding(self.relative_position_index, self.relative_position_bias_table)
        return bias.view(self.bias_shape).permute(2, 0, 1)[None].contiguous()

    def forward(self, attn: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        """Add the biases to scores (N, heads, L, L).

        shared_rel_pos: accepted, since some networks pass it, and not used, as in timm.
        """
        return attn + self.get_bias().to(attn.dtype)


class _FusedOnGpuOnly(nn.Module):
    """Fuses attention on a GPU only.

    Why: on a CPU fused attention is slower where the bias is trained. It was measured only together
    with `_EmbeddedBias`: the 15 % given there are of both patches.
    """

    fuse_on_gpu: bool  # what timm had chosen for every device, in `fused_attn`

    def choose_for(self, x: Tensor) -> bool:
        """Choose the form for what is on the device of x; tells whether it is fused."""
        # through vars() here and below, since timm declares the attribute as final
        vars(self)["fused_attn"] = self.fuse_on_gpu and x.device.type != "cpu"
        return bool(vars(self)["fused_attn"])

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        """Attend as timm does, fused or not."""
        self.choose_for(x)
        return super().forward(x, shared_rel_pos)


class _Attention2d(_FusedOnGpuOnly, Attention2d):
    """Multiplies the weights of attention by the values, where timm does it the other way round.

    Why: the gradient of the weights then comes as the softmax takes it, not transposed. A copy of
    (N, heads, L, L) less in each block; what is computed stays, to rounding. Measured on one core
    in bf16 with CoAtNet-0: 9 % of a training step, 6 % of an evaluation.
    """

    rel_pos: RelPosBias  # `apply` patches no others

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        """Attend from pictures (N, C, H, W) to pictures of as many places."""
        if self.choose_for(x):
            return super().forward(x, shared_rel_pos)
        count, _, height, width = x.shape
        qkv = self.qkv(x)
        if self.head_first:
            parts = qkv.reshape(count, self.num_heads, self.dim_head * 3, -1).chunk(3, dim=2)
        else:
            parts = qkv.reshape(count, 3, self.num_heads, self.dim_head, -1).unbind(1)
        queries, keys, values = parts  # (N, heads, channels of a head, L)
        scores = self.rel_pos((queries * self.scale).transpose(-2, -1) @ keys)  # (N, heads, L, L)
        weights = self.attn_drop(scores.softmax(dim=-1))
        found = (weights @ values.transpose(-2, -1)).transpose(-2, -1)
        return self.proj_drop(self.proj(found.reshape(count, -1, height, width)))


class _EarlierAttention2d(_FusedOnGpuOnly, Attention2d): ...


class _AttentionCl(_FusedOnGpuOnly, AttentionCl): ...


class _RelPosAttention(_FusedOnGpuOnly, RelPosAttention): ...


def _squeeze(pictures: Tensor) -> Tensor:
    """Average pictures (N, C, H, W) over their places, (N, C, 1, 1).

    Why: on a CPU and in channels_last PyTorch's mean, and the gradient that it hands back, take
    several times as long as a pooling of the same size. Measured on one core in bf16, batch 8:
    squeeze and excitation of EfficientNet-B2, forward and backward, take half of the time.
    """
    channels_last = pictures.is_contiguous(memory_format=torch.channels_last)
    if pictures.device.type == "cpu" and channels_last and not pictures.is_contiguous():
        return F.avg_pool2d(pictures, pictures.shape[2:])
    return pictures.mean((2, 3), keepdim=True)


class _SqueezeExcitation(SqueezeExcitation):
    def _scale(self, input: Tensor) -> Tensor:
        found = self.fc2(self.activation(self.fc1(_squeeze(input))))
        return self.scale_activation(found)


class _SEModule(SEModule):
    def forward(self, x: Tensor) -> Tensor:
        if self.add_maxpool:
            return super().forward(x)
        found = self.fc2(self.act(self.bn(self.fc1(_squeeze(x)))))
        return x * self.gate(found)


class _SqueezeExcite(SqueezeExcite):
    def forward(self, x: Tensor) -> Tensor:
        found = self.conv_expand(self.act1(self.conv_reduce(_squeeze(x))))
        return x * self.gate(found)


class _Depthwise(nn.Conv2d):
    """Takes its gradients in faster ways, where it is trained on a CPU."""

    gradients_in_fp32: bool

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _is_trained_on_cpu(input, weight):
            stride, padding = self.stride[0], int(self.padding[0])
            return depthwise_conv2d(input, weight, bias, stride, padding, self.gradients_in_fp32)
        return super()._conv_forward(input, weight, bias)


class _DepthwiseSame(Conv2dSame):
    """The same where as much is padded as TensorFlow pads, more on the right than on the left."""

    gradients_in_fp32: bool

    def forward(self, x: Tensor) -> Tensor:
        if not _is_trained_on_cpu(x, self.weight):
            return super().forward(x)
        padded = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        stride, widened = self.stride[0], self.gradients_in_fp32
        return depthwise_conv2d(padded, self.weight, self.bias, stride, 0, widened)


def _is_trained_on_cpu(inputs: Tensor, weight: Tensor) -> bool:
    trained = torch.is_grad_enabled() and weight.requires_grad
    return trained and inputs.device.type == weight.device.type == "cpu"


_DEPTHWISE: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _Depthwise,
    Conv2dSame: _DepthwiseSame,
}
_ATTENTION: dict[type[nn.Module], type[_FusedOnGpuOnly]] = {
    Attention2d: _Attention2d,
    AttentionCl: _AttentionCl,
    RelPosAttention: _RelPosAttention,
}
_SQUEEZES: dict[type[nn.Module], type[nn.Module]] = {
    SqueezeExcitation: _SqueezeExcitation,
    SEModule: _SEModule,
    SqueezeExcite: _SqueezeExcite,
}
_SQUEEZES_BACK = {patched: original for original, patched in _SQUEEZES.items()}
_ORIGINALS: dict[type[nn.Module], type[nn.Module]] = {
    **_SQUEEZES_BACK,
    _EmbeddedBias: RelPosBias,
    **{patched: original for original, patched in _ATTENTION.items()},
    _EarlierAttention2d: Attention2d,
}


def apply(net: nn.Module) -> None:
    """Patch all attention and all squeezes that have a faster form; results stay, to rounding."""
    _exchange_all(net, _SQUEEZES)
    for module in list(net.modules()):
        kind = type(module)
        if kind is RelPosBias:
            module.__class__ = _EmbeddedBias
        elif kind in _ATTENTION and isinstance(module.rel_pos, RelPosBias):
            module.__class__ = _ATTENTION[kind]
            vars(module)["fuse_on_gpu"] = vars(module)["fused_attn"]


def restore(net: nn.Module) -> None:
    """Make every module that `apply` patched what the library had built."""
    for module in net.modules():
        if isinstance(module, _FusedOnGpuOnly):
            vars(module)["fused_attn"] = vars(module).pop("fuse_on_gpu")
    _exchange_all(net, _ORIGINALS)


def compute_as(net: nn.Module, kernel_version: int) -> None:
    """Let patched modules round as those of an earlier kernel version, for runs which began so."""
    if kernel_version < 4:
        _exchange_all(net, _SQUEEZES_BACK)
    if kernel_version < 3:
        _exchange_all(net, {_Attention2d: _EarlierAttention2d})


def is_patched(net: nn.Module) -> bool:
    """Tell whether a network has modules that `apply` patched."""
    return any(type(module) in _ORIGINALS for module in net.modules())


@torch.no_grad()
def patch_depthwise(net: nn.Module, features: Tensor, gradients_in_fp32: bool) -> int:
    """Patch the depthwise convolutions whose gradients can be taken faster; returns their number.

    features: an example (1, ...) of what the network takes, for the sizes inside.
    gradients_in_fp32: strided ones shall compute their inputs' gradients in fp32; for networks that
    are trained in less. What the convolutions give stays as it is to the last bit, their gradients
    to rounding.
    """
    widths: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        widths[module] = output.shape[3]

    candidates = [m for m in net.modules() if isinstance(m, nn.Conv2d) and _is_depthwise(m)]
    hooks = [module.register_forward_hook(note) for module in candidates]
    if hooks:
        net(features)
    for hook in hooks:
        hook.remove()
    patched = 0
    for module in candidates:
        width, size, stride = widths.get(module, 0), module.kernel_size[0], module.stride[0]
        if pays(size, stride, width, module.out_channels, gradients_in_fp32):
            _exchange_all(module, _DEPTHWISE)  # a convolution has no modules within
            vars(module)["gradients_in_fp32"] = gradients_in_fp32
            patched += 1
    return patched


def restore_depthwise(net: nn.Module) -> None:
    """Make every depthwise convolution what the library had built."""
    for module in net.modules():
        vars(module).pop("gradients_in_fp32", None)
    _exchange_all(net, {patched: original for original, patched in _DEPTHWISE.items()})


def _exchange_all(net: nn.Module, kinds: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    for module in net.modules():
        module.__class__ = kinds.get(type(module), type(module))


def _is_depthwise(module: nn.Conv2d) -> bool:
    """Tell whether it is a plain depthwise convolution, of equal sides and not dilated."""
    sides = (module.kernel_size, module.stride, module.dilation)
    square = all(len(set(pair)) == 1 for pair in sides) and module.dilation[0] == 1
    padded = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return (
        type(module) in _DEPTHWISE
        and module.groups == module.in_channels == module.out_channels
        and square
        and padded
        and len(set(module.padding)) == 1
    )


def unfuse_attention(net: nn.Module) -> None:
    """Fuse attention on no device: vmap cannot run it with a trained bias."""
    for module in net.modules():
        for name in {"fused_attn", "fuse_on_gpu"} & vars(module).keys():
            vars(module)[name] = False
