"""Which classifiers of which backbones each of several processes trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from common.architectures import stored_architecture
from common.config import TrainConfig
from common.pairs import Head
from common.sharing.shares import Work, share_out

Classifier = tuple[int, Head]  # the place of its backbone, and what it decides between


@dataclass(frozen=True)
class BackboneShare:
    """What one process trains of one backbone; these classifiers share the trunk's passes."""

    config: TrainConfig
    heads: tuple[Head, ...]
    speaks: bool  # says what concerns the whole dataset: the first process of this backbone


@dataclass(frozen=True)
class TrainingShares:
    """Who trains what; every process computes the same."""

    configs: tuple[TrainConfig, ...]
    shares: tuple[tuple[Work[Classifier], ...], ...]  # by rank

    def share(self, rank: int) -> list[BackboneShare]:
        """List what one process trains, a backbone after the other; [] where nothing is left."""
        spoken_for = {each.group for share in self.shares[:rank] for each in share}
        found = []
        for place, work in groupby(self.shares[rank], key=lambda each: each.group):
            heads = tuple(each.key[1] for each in work)
            found.append(BackboneShare(self.configs[place], heads, place not in spoken_for))
        return found

    @property
    def surplus(self) -> list[int]:
        """The ranks of processes for which nothing is left."""
        return [rank for rank, work in enumerate(self.shares) if not work]

    def predicts(self, rank: int) -> tuple[TrainConfig, ...]:
        """Say which backbones a process predicts with for which nothing is left to train."""
        surplus = self.surplus
        return self.configs[surplus.index(rank) :: len(surplus)]

    def lines(self) -> list[str]:
        """Say who trains what, a line for each process."""
        size, total = len(self.shares), sum(each.weight for each in sum(self.shares, ()))
        lines = []
        for rank, work in enumerate(self.shares):
            samples = sum(each.samples for each in work)
            parts = [
                f"{self._name(own.config)} {' '.join(head.name for head in own.heads)}"
                for own in self.share(rank)
            ]
            share = sum(each.weight for each in work) / total
            what = f"{'; '.join(parts)} ({samples:,} samples an epoch, {share:.0%} of the work)"
            lines.append(f"rank {rank} of {size}: {what if work else self._beside(rank)}")
        return lines

    def _beside(self, rank: int) -> str:
        """Say what a process does for which nothing is left."""
        decodes = "no classifier is left for it; it fills the pixel cache, of test, too"
        names = ", ".join(self._name(config) for config in self.predicts(rank))
        if not names:
            return decodes
        return f"{decodes}, then predicts val and test with {names} once complete"

    def _name(self, config: TrainConfig) -> str:
        """Name a backbone, with its seed where it is trained with several."""
        same = [each for each in self.configs if each.model == config.model]
        return f"{config.model} seed {config.seed}" if len(same) > 1 else config.model


def share_training(
    configs: Sequence[TrainConfig], heads: Sequence[Head], counts: Sequence[int], size: int
) -> TrainingShares:
    """Share out the classifiers of some backbones among `size` processes.

    heads: of each backbone; counts: training images of each class. How long a head takes follows
    from these and from the operations of its backbone, where all of them are known.
    """
    costs = [sample_cost(config) for config in configs]
    costs = costs if all(costs) else [1.0] * len(configs)
    work = [
        Work((place, head), place, sum(counts[c] for c in head.classes), costs[place])
        for place in range(len(configs))
        for head in heads
    ]
    return TrainingShares(tuple(configs), tuple(map(tuple, share_out(work, size))))


def sample_cost(config: TrainConfig) -> float:
    """Estimate the GFLOP of a forward pass of one sample through what is trained; 0: not known."""
    network = stored_architecture(config.model)
    gflop = network.trained_gflop + (0.0 if config.freeze_weights else network.frozen_gflop)
    side = config.img_size or network.img_size
    return gflop * (side / network.img_size) ** 2 if network.img_size else 0.0
