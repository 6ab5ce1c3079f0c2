"""A model, or an ensemble, as one network from uint8 pixels to the probabilities of the classes.

N pictures, V views of each, S pixels of the side, M models, P pairs in grade order, K classes that
are scored, O logits of a model's branches, h x w positions of its last map.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from common.config import VIEWS
from common.data.class_names import grade_order
from common.evidence.ending import LINEARISED, Ending, find_ending
from common.grading.stored_grader import StoredGrader
from common.grading.torch_networks import TorchModel
from common.models.ovo import trunk_key
from common.pairs import class_pairs, has_pair_outputs, heads_of_model, is_one_network
from common.pixels.augmentation import normalise
from common.pixels.device_pixels import unturn, views
from common.pixels.preprocessing import Preprocessing
from common.release.contract import Contract, NetworkMember, input_names
from common.release.tensor_voting import Grading
from common.system.errors import InputError
from common.trained_networks.loading import LoadedModel, TrunkGroup
from common.trained_networks.outputs import in_grade_order


class _Trunk(nn.Module):
    """What branches share: the views of the pixels, normalised, through the frozen stages."""

    def __init__(self, trunk: nn.Module, source: int, preprocessing: Preprocessing, tta: str):
        super().__init__()
        self.trunk, self.source, self.tta = trunk, source, tta
        self.mean, self.std = preprocessing.mean, preprocessing.std

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn (N, S, S, 3) uint8 into features (V N, ...), view by view."""
        looks = torch.cat(list(views(pixels, self.tta)))
        images = looks.permute(0, 3, 1, 2).contiguous().float() / 255
        return self.trunk(normalise(images, self.mean, self.std))


class _Branch(nn.Module):
    """A branch, and if asked for what the positions of its last map add to its logits."""

    def __init__(
        self, group: TrunkGroup, place: int, name: str, trunk: int, ending: Ending | None
    ) -> None:
        """name: of its head, "0-1" or "shared"; trunk: the number of the one that it works on."""
        super().__init__()
        self.columns, self.name = group.branches[place].columns, name
        self.branch, self.trunk, self.ending = group.branches[place].branch, trunk, ending
        self._last: list[Tensor] = []
        if ending is not None:
            pool = self.branch.get_submodule(ending.pool)
            pool.register_forward_pre_hook(lambda layer, inputs: self._last.append(inputs[0]))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits (n, O), pooled features (n, F), and maps (n, O, h, w) if asked for."""
        self._last.clear()
        pooled = self.branch.stages(features)
        logits = self.branch.classify(pooled)
        logits = logits.unsqueeze(1) if logits.ndim == 1 else logits
        if self.ending is None:
            return logits, pooled, None
        last = self.ending.positions_last(self._last.pop())  # (n, C, h, w)
        slope, _ = self.ending.coefficients(self.branch, last.mean((2, 3)))
        return logits, pooled, (slope @ last.flatten(2)).unflatten(2, self.ending.size)

    def constants(self) -> Tensor:
        """Return what is added to the mean of each map, (O,); it is the same for all pictures."""
        assert self.ending is not None
        weight = self.branch.classifier.weight  # (O, C)
        assert isinstance(weight, Tensor)
        return self.ending.coefficients(self.branch, torch.ones_like(weight[:1]))[1][0]


class _Member(nn.Module):
    """One model: its branches, the mean over the views, and the pairs in grade order."""

    def __init__(self, model: LoadedModel, branches: Sequence[_Branch], tta: str):
        super().__init__()
        self.branches = sorted(branches, key=lambda own: own.columns.start)
        self.modules_of_branches = nn.ModuleList(self.branches)
        self.tta, self.softmax = tta, not has_pair_outputs(model.head)
        pairs = class_pairs(len(model.class_names))
        self.lower: Tensor
        self.higher: Tensor
        lower, higher = torch.tensor(pairs).T
        self.register_buffer("lower", lower.contiguous(), persistent=False)
        self.register_buffer("higher", higher.contiguous(), persistent=False)
        order = grade_order(model.class_names)
        places = in_grade_order(np.arange(len(pairs)), order, are_shares=False)
        turned = in_grade_order(np.zeros(len(pairs)), order) == 1  # trained as b, a
        self.places: Tensor
        self.signs: Tensor
        self.register_buffer("places", torch.from_numpy(places), persistent=False)
        signs = torch.from_numpy(np.where(turned, -1.0, 1.0)).float()
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits (N, P), pooled features (N, F), and maps (N, P, h, w) if asked for.

        features: of each trunk. Logits and maps are those of the pairs.
        """
        found = [branch(features[branch.trunk]) for branch in self.branches]
        count = VIEWS[self.tta]
        logits = torch.cat([each for each, _, _ in found], 1).unflatten(0, (count, -1)).mean(0)
        pooled = torch.stack([each for _, each, _ in found]).mean(0)
        upright = pooled.unflatten(0, (count, -1))[0]  # of the pictures as they are
        if self.branches[0].ending is None:
            return self.of_pairs(logits), upright, None
        maps = torch.cat([each for _, _, each in found], 1).unflatten(0, (count, -1))
        turned_back = torch.stack(list(unturn(maps.unbind(0), self.tta))).mean(0)
        return self.of_pairs(logits), upright, self.of_pairs(turned_back)

    def of_pairs(self, outputs: Tensor) -> Tensor:
        """Turn what belongs to a model's outputs (N, O, ...) into that of pairs (N, P, ...)."""
        if self.softmax:
            outputs = outputs[:, self.higher] - outputs[:, self.lower]
        signs = self.signs.view(-1, *[1] * (outputs.ndim - 2))
        return outputs[:, self.places] * signs


class ExportedNetwork(nn.Module):
    """All models of a grader as one network; `contract` says what it takes and gives."""

    def __init__(
        self,
        contract: Contract,
        trunks: Sequence[_Trunk],
        members: Sequence[_Member],
    ) -> None:
        super().__init__()
        self.contract = contract
        self.trunks, self.members = list(trunks), list(members)
        self.parts = nn.ModuleList([*trunks, *members])
        self.grading = Grading(contract.grader.rule)

    def forward(self, *pixels: Tensor) -> tuple[Tensor, ...]:
        """Grade pictures, (N, S, S, 3) uint8 for each input; what returns is `contract.outputs`.

        From the logits on everything is computed in float64: thresholds lie where the evaluation
        has put them.
        """
        features = [trunk(pixels[trunk.source]) for trunk in self.trunks]
        said = [member(features) for member in self.members]
        pairs = [logits.double().sigmoid() for logits, _, _ in said]
        classes, predicted = self.grading(pairs)
        found = [torch.stack(pairs, 1).float(), classes.float(), predicted]
        cut = self.contract.grader.scored.referable_from
        if cut is not None:
            found.append(classes[:, cut:].sum(1).float())
        found += [pooled for _, pooled, _ in said]
        return (*found, *(maps for _, _, maps in said if maps is not None))


def build_network(
    networks: Sequence[TorchModel], grader: StoredGrader, kind: str, evidence: bool
) -> ExportedNetwork:
    """Join the models of a grader, in its order; equal trunks of all of them are kept once.

    evidence: give the exact evidence maps, too. Raises InputError for a network that has none.
    """
    inputs, places = input_names([own.loaded.preprocessing for own in networks])
    trunks: dict[object, _Trunk] = {}
    parts, members = [], []
    for own, place in zip(networks, places, strict=True):
        model, pixels = own.loaded, own.loaded.preprocessing
        heads = heads_of_model(len(model.class_names), model.head)
        branches = []
        for group in model.groups:
            _flatten_memory(group)
            key = (place, pixels.mean, pixels.std, own.tta, model.model, trunk_key(group.trunk))
            trunk = trunks.setdefault(key, _Trunk(group.trunk, place, pixels, own.tta))
            ending = _ending_of(model, group) if evidence else None
            number = list(trunks.values()).index(trunk)
            for i, part in enumerate(group.branches):
                head = heads[0 if is_one_network(model.head) else part.columns.start]
                branches.append(_Branch(group, i, head.name, number, ending))
        member = _Member(model, branches, own.tta)
        parts.append(member)
        members.append(NetworkMember(place, pixels, own.tta, _constants(member)))
    counts = tuple(_count_features(own.loaded) for own in networks)
    contract = Contract(kind, grader, tuple(inputs), tuple(members), counts, _map_sizes(parts))
    return ExportedNetwork(contract, list(trunks.values()), parts).eval()


@torch.no_grad()
def _count_features(model: LoadedModel) -> int:
    group, size = model.groups[0], model.preprocessing.img_size
    return group.branches[0].branch.stages(group.trunk(torch.zeros(1, 3, size, size))).shape[1]


def _flatten_memory(group: TrunkGroup) -> None:
    """Store weights in the plain order of their dimensions, as files do."""
    for module in group.modules:
        module.to(memory_format=torch.contiguous_format)


def _ending_of(model: LoadedModel, group: TrunkGroup) -> Ending:
    branch, size = group.branches[0].branch, model.preprocessing.img_size
    ending = find_ending(group.trunk, branch, size, model.model)
    if ending.kind == LINEARISED:
        raise InputError(
            f"{model.model}: exact evidence maps need a network that ends in average pooling and "
            "one linear layer, and this one has more layers; leave out --evidence"
        )
    return ending


@torch.no_grad()
def _constants(member: _Member) -> np.ndarray | None:
    if member.branches[0].ending is None:
        return None
    outputs = torch.cat([branch.constants() for branch in member.branches])[None]
    return member.of_pairs(outputs)[0].numpy()


def _map_sizes(members: Sequence[_Member]) -> tuple[tuple[int, int], ...]:
    endings = [member.branches[0].ending for member in members]
    return tuple((e.size[0], e.size[1]) for e in endings if isinstance(e, Ending))


def example_pixels(contract: Contract, count: int, seed: int = 0) -> list[np.ndarray]:
    """Draw noise of the shape of each input, (count, S, S, 3) uint8."""
    generator = np.random.default_rng(seed)
    sides = [each.preprocessing.img_size for each in contract.inputs]
    return [generator.integers(0, 256, (count, side, side, 3), np.uint8) for side in sides]
