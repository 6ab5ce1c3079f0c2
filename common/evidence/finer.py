"""Finer maps, of an earlier stage: what each of its positions adds at the present slope.

A logit does not split exactly there, since layers follow that mix positions. HiResCAM (Draelos &
Carin 2020) takes the slope of the logit at each position and channel times what stands there, and
no mean of slopes, which would put evidence where there is none. That is a first-order account.

N images, n of a chunk, O logits, h x w positions, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.evidence.ending import Ending
from common.evidence.exact import Evidence, Split, empty_split, endings_of, gather
from common.models.backbones import JoinedStages
from common.models.ovo import Branch, trunk_features
from common.pixels.device_pixels import PixelSource
from common.system.device import autocast
from common.system.errors import InputError
from common.trained_networks.loading import LoadedModel
from common.trained_networks.running import move_to

_TIMES = 2  # the sides of the last map, at least


@dataclass(frozen=True)
class _Place:
    """Where in a branch a map is taken: behind so many of its stages."""

    stages: int
    name: str
    channels_last: bool
    size: tuple[int, ...]


def finer_evidence_of(
    model: LoadedModel,
    pixels: PixelSource,
    device: torch.device,
    precision: str = "fp32",
    tta: str = "none",
) -> Evidence:
    """Account for the logits at the last stage that has twice the positions of the last map.

    As `evidence_of`, but that the constant, which makes the sum right, is another for each image.
    Raises InputError where there is no such stage among those that each pair has for itself.
    """
    move_to(model, device)
    look = _EarlierMaps(model, device, precision)
    return gather(model, pixels, device, look, torch.inf, tta)


class _EarlierMaps:
    """Accounts for logits at an earlier stage."""

    def __init__(self, model: LoadedModel, device: torch.device, precision: str) -> None:
        self._model, self._device, self._precision = model, device, precision
        self._places = [
            _find_place(group.trunk, group.branches[0].branch, ending, model)
            for group, ending in zip(model.groups, endings_of(model))
        ]

    @property
    def method(self) -> str:
        """Name the method and the place."""
        return f"HiResCAM at {self._places[0].name}"

    @property
    def size(self) -> tuple[int, ...]:
        """The positions of the maps, (h, w)."""
        return self._places[0].size

    def __call__(self, pixels: Tensor) -> Split:
        """Predict a chunk of pictures (n, S, S, 3), and account for what is said of them."""
        split = empty_split(len(pixels), self._model.num_outputs, self.size, self._device)
        for group, place in zip(self._model.groups, self._places):
            features = trunk_features(
                group.trunk, pixels, self._model.preprocessing, self._device, self._precision
            )
            for own in group.branches:
                with autocast(self._device, self._precision):
                    maps, logits = _account(own.branch, features, place)
                split.maps[:, own.columns] = maps
                split.logits[:, own.columns] = logits
        split.constants.copy_(split.logits - split.maps.mean((2, 3)))
        return split


def _account(branch: Branch, features: Tensor, place: _Place) -> tuple[Tensor, Tensor]:
    """Return slope times value (n, O, h, w) at a place, as large as its positions are many.

    Its mean over the positions is then in units of the logits (n, O), which come second.
    """
    stages = list(branch.stages.children())
    with torch.no_grad():
        point = _through(stages[: place.stages], features)
    with torch.enable_grad():
        point = point.detach().clone().requires_grad_()
        logits = branch.classifier(_pooled_from(branch, place, point, features)).float()  # (n, O)
        slopes = [
            torch.autograd.grad(column, point, retain_graph=True)[0]
            for column in logits.sum(0).unbind()
        ]
    channels = -1 if place.channels_last else 1
    maps = [(slope.float() * point.detach().float()).sum(channels) for slope in slopes]
    positions = place.size[0] * place.size[1]
    return torch.stack(maps, 1) * positions, logits.detach()


def _pooled_from(branch: Branch, place: _Place, point: Tensor, features: Tensor) -> Tensor:
    """Go on from a place in a branch to the pooled features; features: what the trunk gives.

    What a classifier of joined stages sees of earlier ones does not depend on the place.
    """
    stages = list(branch.stages.children())
    if not isinstance(branch.stages, JoinedStages):
        return _through(stages[place.stages :], point)
    if not place.stages:
        return branch.stages(point)
    hook = stages[place.stages - 1].register_forward_hook(lambda *_: point)
    try:
        return branch.stages(features)
    finally:
        hook.remove()


def _through(stages: Sequence[nn.Module], values: Tensor) -> Tensor:
    for stage in stages:
        values = stage(values)
    return values


@torch.no_grad()
def _find_place(trunk: nn.Module, branch: Branch, ending: Ending, model: LoadedModel) -> _Place:
    """Find the last place in a branch whose map has at least twice the last map's sides."""
    device = next(branch.classifier.parameters()).device
    size = model.preprocessing.img_size
    found = None
    for place in _places(branch, trunk(torch.zeros(1, 3, size, size, device=device)), ending):
        if all(side >= _TIMES * last for side, last in zip(place.size, ending.size)):
            found = place
    whole = len(trunk) == 0 if isinstance(trunk, nn.Sequential) else False
    if found is None or (whole and found.stages == 0):  # the pixels are no stage's map
        raise InputError(
            f"{model.model}: expected a stage with twice the {ending.size[0]} x {ending.size[1]} "
            "positions of the last map among those that a pair has for itself, found none; take "
            "the exact maps, or train with fewer --frozen_stages"
        )
    return found


def _places(branch: Branch, features: Tensor, ending: Ending) -> Iterator[_Place]:
    """Follow a picture through a branch, from what the trunk gives on."""
    last = ending.channels_last
    for count, (name, stage) in enumerate(
        (("the trunk", nn.Identity()), *branch.stages.named_children())
    ):
        features = stage(features)
        if not isinstance(features, Tensor) or features.ndim != 4:
            return
        sides = {True: tuple(features.shape[1:3]), False: tuple(features.shape[2:])}
        # a square map: where only the other arrangement is one, a stage works in that
        layout = last if sides[last][0] == sides[last][1] else not last
        yield _Place(count, name.replace(":", "."), layout, sides[layout])
