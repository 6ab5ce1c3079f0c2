"""From pair probabilities to class probabilities in operations that exported files can hold.

What `prediction.voting` and `fitting.ensemble.grade_again` compute in NumPy, for tensors of
float64, without a linear solver and without branches, so that ONNX and TorchScript run it. N
pictures, M models, K classes of the models, P pairs in the order of `class_pairs`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from common.fitting.calibration import Temperature
from common.fitting.ensemble import GradingRule, MemberRule
from common.pairs import class_pairs

_LEAST_PAIR = 1e-7  # as `voting.couple` keeps pairwise probabilities from 0 and 1
_LEAST_CLASS = 1e-12  # as `calibration.apply_temperature` does


def couple(wins: Tensor) -> Tensor:
    """Find the class probabilities (N, K) that agree best with pairwise ones (N, K, K).

    Wu, Lin & Weng 2004, second method: minimise p'Qp with sum p = 1. The minimum solves
    (Q + 11')p = c 1 for some c, since Qp is a multiple of 1 there; that matrix is symmetric and
    positive definite, so elimination needs no pivot and is K steps of plain arithmetic. Equal to
    `voting.couple` to rounding, also where all pairs are entirely sure.
    """
    count = wins.shape[-1]
    unit = torch.eye(count, dtype=wins.dtype)
    r = wins.clamp(_LEAST_PAIR, 1 - _LEAST_PAIR) * (1 - unit)
    system = unit * (r * r).sum(1)[:, None, :] - r * r.transpose(1, 2) + 1  # Q + 11'
    rows = torch.cat([system, torch.ones_like(system[:, :, :1])], 2)  # (N, K, K + 1)
    for k in range(count):
        pivot = rows[:, k : k + 1] / rows[:, k : k + 1, k : k + 1]  # (N, 1, K + 1)
        rows = rows - (rows[:, :, k : k + 1] - unit[:, k : k + 1]) * pivot
    return _normalised(rows[:, :, count].clamp(min=0))


def _normalised(scores: Tensor) -> Tensor:
    return scores / scores.sum(1, keepdim=True)


class Vote(nn.Module):
    """Turns the pair probabilities of one model into those of its classes."""

    def __init__(self, num_classes: int, rule: MemberRule) -> None:
        super().__init__()
        self.num_classes, self.vote = num_classes, rule.vote
        pairs = class_pairs(num_classes)
        places = np.full((num_classes, num_classes), 2 * len(pairs))  # that of the 0 at the end
        for column, (a, b) in enumerate(pairs):
            places[a, b], places[b, a] = column, len(pairs) + column
        self.places: Tensor
        self.register_buffer("places", torch.from_numpy(places.ravel()), persistent=False)
        self.weights: Tensor
        weights = torch.tensor(np.nan_to_num(rule.pair_accuracies), dtype=torch.float64)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities (N, K) and the classes chosen (N,) for pair probabilities (N, P)."""
        wins = self._matrix(1 - pairs, pairs)
        if self.vote == "coupling":
            scores = couple(wins)
            return scores, scores.argmax(1)
        if self.vote == "weighted":
            scores = (wins * self._matrix(self.weights[None], self.weights[None])).sum(2)
            return _normalised(scores), scores.argmax(1)
        soft = wins.sum(2)
        if self.vote == "soft":
            return _normalised(soft), soft.argmax(1)
        higher = (pairs > 0.5).double()
        votes = self._matrix(1 - higher, higher).sum(2)
        return _normalised(votes), (votes + soft / self.num_classes).argmax(1)

    def _matrix(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Place (N, P) values as (N, K, K): `lower` at [a, b], `upper` at [b, a]."""
        values = torch.cat([lower, upper, torch.zeros_like(lower[:, :1])], 1)
        return values[:, self.places].unflatten(1, (self.num_classes, self.num_classes))


def temper(probabilities: Tensor, temperature: Temperature | None) -> Tensor:
    """Divide log probabilities (N, K) by a temperature that was fitted, and normalise."""
    if temperature is None or not temperature.fitted:
        return probabilities
    scaled = probabilities.clamp(min=_LEAST_CLASS).log() / temperature.value
    return scaled.softmax(1)


class Grading(nn.Module):
    """Turns what all models say of a picture into the probabilities of the scored classes."""

    def __init__(self, rule: GradingRule) -> None:
        super().__init__()
        self.rule = rule
        self.votes = nn.ModuleList(Vote(rule.num_classes, member) for member in rule.members)
        coarser = rule.set_classes
        self.of_model: Tensor | None
        of_model = None if coarser is None else torch.tensor(coarser.of_model)
        self.register_buffer("of_model", of_model, persistent=False)

    def forward(self, pairs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return probabilities (N, scored) and classes (N,) for each model's pairs (N, P)."""
        voted = [vote(each) for vote, each in zip(self.votes, pairs, strict=True)]
        if self.rule.temperature is None:  # a single model
            mean, chosen = voted[0]
            mean = temper(mean, self.rule.members[0].temperature)
        else:
            shares = self.rule.weights / self.rule.weights.sum()
            weighted = [share * each for share, (each, _) in zip(shares.tolist(), voted)]
            mean = torch.stack(weighted).sum(0)
            chosen = mean.argmax(1)
            mean = temper(mean, self.rule.temperature)
        if self.of_model is None:
            return mean, chosen
        count = int(self.of_model.max()) + 1
        groups = torch.eye(count, dtype=mean.dtype)[self.of_model]  # (K, scored)
        return mean @ groups, self.of_model[chosen]
