"""All that is changed in timm's networks: attention with trained position biases, made faster.

A patched module is of a subclass of timm's class, with the same parameters and buffers; `apply` and
`restore` exchange classes. N windows of L places.
"""

import torch.nn.functional as F
from timm.layers import RelPosBias
from timm.models.maxxvit import Attention2d, AttentionCl
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import Tensor, nn


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

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        """Attend as timm does, fused or not."""
        # through vars() here and below, since timm declares the attribute as final
        vars(self)["fused_attn"] = self.fuse_on_gpu and x.device.type != "cpu"
        return super().forward(x, shared_rel_pos)


class _Attention2d(_FusedOnGpuOnly, Attention2d): ...


class _AttentionCl(_FusedOnGpuOnly, AttentionCl): ...


class _RelPosAttention(_FusedOnGpuOnly, RelPosAttention): ...


_ATTENTION: dict[type[nn.Module], type[_FusedOnGpuOnly]] = {
    Attention2d: _Attention2d,
    AttentionCl: _AttentionCl,
    RelPosAttention: _RelPosAttention,
}
_ORIGINALS: dict[type[nn.Module], type[nn.Module]] = {
    _EmbeddedBias: RelPosBias,
    **{patched: original for original, patched in _ATTENTION.items()},
}


def apply(net: nn.Module) -> None:
    """Patch every module that has a faster form; results stay, to rounding."""
    for module in list(net.modules()):
        kind = type(module)
        if kind is RelPosBias:
            module.__class__ = _EmbeddedBias
        elif kind in _ATTENTION and isinstance(module.rel_pos, RelPosBias):
            module.__class__ = _ATTENTION[kind]
            vars(module)["fuse_on_gpu"] = vars(module)["fused_attn"]


def restore(net: nn.Module) -> None:
    """Make every patched module what timm had built."""
    for module in list(net.modules()):
        if isinstance(module, _FusedOnGpuOnly):
            vars(module)["fused_attn"] = vars(module).pop("fuse_on_gpu")
        module.__class__ = _ORIGINALS.get(type(module), type(module))


def is_patched(net: nn.Module) -> bool:
    """Tell whether a network has patched modules."""
    return any(type(module) in _ORIGINALS for module in net.modules())


def unfuse_attention(net: nn.Module) -> None:
    """Fuse attention on no device: vmap cannot run it with a trained bias."""
    for module in net.modules():
        for name in {"fused_attn", "fuse_on_gpu"} & vars(module).keys():
            vars(module)[name] = False
