"""How a network ends: by averaging a map over its positions, and what makes logits of that mean.

N images, C channels and h x w positions of the last map, O logits of a branch. Since the mean is
the only thing that the logits see of the map, they split over the positions: with the channels'
coefficients g and a constant c, logit = c + sum_k g_k mean(a_k) = c + mean over the positions of
sum_k g_k a_k. The map whose mean that is shows what each position adds (Zhou et al. 2016, "Learning
deep features for discriminative localization"; Draelos & Carin 2020, HiResCAM, section 4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.ovo import Branch
from common.system.errors import InputError

_PASSIVE = (nn.Identity, nn.Flatten, nn.Dropout)  # in evaluation mode
_ROUNDING = 1e-2  # of the largest value; a GPU may round convolutions to 11 bits
LINEAR, NORMALISED, LINEARISED = "linear", "normalised", "linearised"


@dataclass(frozen=True)
class Ending:
    """Where a branch pools, and the layers from there to its logits, by their names in it.

    kind: LINEAR, a linear layer alone; NORMALISED, a LayerNorm before it; LINEARISED, anything
    else, such as the earlier trainer's hidden layers.
    """

    pool: str
    channels_last: bool  # the map is (N, h, w, C), not (N, C, h, w)
    tail: tuple[str, ...]
    pooled_shape: tuple[int, ...]  # of one image, as the tail takes it: (C,) or with ones
    size: tuple[int, ...]  # h, w
    kind: str

    def positions_last(self, features: Tensor) -> Tensor:
        """Arrange the last map as (N, C, h, w) float32."""
        return (features.permute(0, 3, 1, 2) if self.channels_last else features).float()

    def coefficients(self, branch: Branch, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Write the logits of pooled features (N, C) as g . pooled + c: g (N, O, C), c (N, O).

        Of a LayerNorm, which divides by the deviation sigma over the channels of the pooled
        features, sigma is held at what it is for the image: the constants are then the classifier's
        alone, w . beta + b. A LINEARISED tail gives its tangent at the pooled features. For the
        earlier trainer's head, made of linear pieces, that is the piece that decided.
        """
        layers = [branch.get_submodule(name) for name in self.tail]
        active = [layer for layer in layers if not isinstance(layer, _PASSIVE)]
        if self.kind == LINEARISED:
            return self._tangent(layers, pooled)
        last = active[-1]
        assert isinstance(last, nn.Linear)
        weight, bias = last.weight.float(), _or_zeros(last.bias, last.out_features, pooled)
        count = pooled.shape[0]  # not len(), which an exported network would hold as a number
        if self.kind == NORMALISED:
            norm = active[0]
            assert isinstance(norm, nn.LayerNorm)
            gamma, beta = norm.weight, norm.bias
            bias = bias + weight @ _or_zeros(beta, weight.shape[1], pooled)
            weight = weight if gamma is None else weight * gamma.float()
            weight = weight - weight.mean(1, keepdim=True)  # the mean over channels is taken off
            sigma = (pooled.var(1, correction=0) + norm.eps).sqrt()
            return weight / sigma[:, None, None], bias.expand(count, -1)
        return weight.expand(count, -1, -1), bias.expand(count, -1)

    def logits(self, layers: Sequence[nn.Module], pooled: Tensor) -> Tensor:
        """Pass pooled features (N, C) through the layers after the pooling, to (N, O)."""
        found = pooled.reshape(len(pooled), *self.pooled_shape)
        for layer in layers:
            found = layer(found)
        return found

    def _tangent(self, layers: Sequence[nn.Module], pooled: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = pooled.detach().clone().requires_grad_()
            logits = self.logits(layers, point)
            columns = logits.sum(0).unbind()
            slopes = [torch.autograd.grad(each, point, retain_graph=True)[0] for each in columns]
        slope = torch.stack(slopes, 1)  # (N, O, C)
        return slope, logits.detach() - torch.einsum("noc,nc->no", slope, pooled)


def _or_zeros(values: Tensor | None, count: int, like: Tensor) -> Tensor:
    return like.new_zeros(count) if values is None else values.float()


@dataclass
class _Seen:
    """The last pooling that a picture has met on its way, and the layers after it."""

    pool: str = ""
    channels_last: bool = False
    features: Tensor | None = None
    pooled_shape: tuple[int, ...] = ()
    tail: list[str] | None = None


@torch.no_grad()
def find_ending(trunk: nn.Module, branch: Branch, img_size: int, name: str) -> Ending:
    """Find out how a branch ends, by the way of one picture of noise of the size that it takes.

    name: of the model. Raises InputError where it does not end in average pooling, of which alone
    the logits are made.
    """
    device = next(branch.classifier.parameters()).device
    noise = torch.randn(1, 3, img_size, img_size, generator=torch.Generator().manual_seed(0))
    seen = _Seen()
    leaves = [item for item in branch.named_modules() if not any(True for _ in item[1].children())]
    hooks = [leaf.register_forward_hook(_watch(seen, place)) for place, leaf in leaves]
    try:
        logits = branch(trunk(noise.to(device))).reshape(1, -1)
    finally:
        for hook in hooks:
            hook.remove()
    if seen.features is None or not seen.tail:
        raise _refused(name, "found no average over the positions of a last map")
    layers = [branch.get_submodule(place) for place in seen.tail]
    ending = Ending(
        pool=seen.pool,
        channels_last=seen.channels_last,
        tail=tuple(seen.tail),
        pooled_shape=seen.pooled_shape,
        size=tuple(seen.features.shape[1:3] if seen.channels_last else seen.features.shape[2:]),
        kind=_kind(layers),
    )
    features = ending.positions_last(seen.features)
    try:
        again = ending.logits(layers, features.mean((2, 3)))
        same = again.shape == logits.shape and _close(again, logits)
    except (RuntimeError, ValueError, TypeError):  # something happens between these layers
        same = False
    if not same:
        raise _refused(name, f"found more between the pooling ({seen.pool}) and the logits")
    return ending


def _kind(layers: Sequence[nn.Module]) -> str:
    active = [layer for layer in layers if not isinstance(layer, _PASSIVE)]
    norms = active[:-1]
    if not active or not isinstance(active[-1], nn.Linear) or len(norms) > 1:
        return LINEARISED
    if norms and not isinstance(norms[0], nn.LayerNorm):
        return LINEARISED
    return NORMALISED if norms else LINEAR


def _refused(name: str, found: str) -> InputError:
    return InputError(
        f"{name}: its logits do not split over the positions of a picture: expected a network that "
        f"ends in average pooling and layers that take nothing else, {found}; explain another model"
    )


def _watch(seen: _Seen, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        first = inputs[0] if inputs else None
        if not isinstance(first, Tensor) or not isinstance(output, Tensor):
            return
        channels_last = _averages(first, output)
        if channels_last is not None and not isinstance(layer, _PASSIVE):
            seen.pool, seen.channels_last, seen.tail = name, channels_last, []
            seen.features, seen.pooled_shape = first, tuple(output.shape[1:])
        elif seen.tail is not None:
            seen.tail.append(name)

    return hook


def _averages(features: Tensor, output: Tensor) -> bool | None:
    """Tell where a layer that averages a map over its positions has the channels: True, last.

    None: it does something else.
    """
    if features.ndim != 4:
        return None
    for channels_last, positions in ((False, (2, 3)), (True, (1, 2))):
        mean = features.mean(positions)
        if output.numel() == mean.numel() and _close(output.reshape(mean.shape), mean):
            return channels_last
    return None


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _ROUNDING * other.abs().max())
