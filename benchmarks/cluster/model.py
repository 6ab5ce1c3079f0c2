"""A model of time and money: what decoding, training and evaluating N images takes on G GPUs.

Speeds of a GPU are assumed, not measured: `Assumptions` holds them all, and each can be replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.cluster.simulation import Costs, Troubles, epoch_seconds, shares, simulate

_VAL = 0.125  # images of val for one of train


@dataclass(frozen=True)
class Network:
    """What a backbone takes for one picture, forwards."""

    name: str
    pixels: str  # those of one name share a cache
    side: int  # of them
    trunk: float  # GFLOP of the frozen, shared stages
    branch: float  # GFLOP of a pair's own stages


@dataclass(frozen=True)
class Assumptions:
    """What the model takes for granted."""

    gpu_tflops: float = 60.0  # that a GPU does in training, not at its best
    cores: int = 8  # of a machine for each of its GPUs, to decode
    decoding: float = 70.0  # images of 768 px that a core decodes each second
    epochs: int = 50  # until every pair has stopped
    mix: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)  # of the grades
    price: float = 2.0  # of a GPU hour, in any currency
    start: float = 60.0  # seconds
    by_samples: bool = False  # all samples count alike, whatever a backbone takes for one
    troubles: Troubles = field(default_factory=Troubles)


@dataclass(frozen=True)
class Estimate:
    """What a number of images takes on a number of GPUs."""

    images: int
    gpus: int
    decoding: float  # hours, each image once
    training: float  # hours from the first start to the last end
    counting: float  # share of the GPUs' time in it that one GPU alone would need, too
    evaluation: float  # hours, for a tenth of the images as test
    gpu_hours: float
    money: float
    cache: float  # bytes of pixels, for all sizes that the networks need
    reading: float  # bytes of pixels that a GPU takes each second in training, at most


def estimate(
    networks: Sequence[Network], images: int, gpus: int, given: Assumptions, seed: int = 0
) -> Estimate:
    """Estimate time and money for a dataset of so many images, eight tenths of them for training.

    A backward pass is taken for two forward passes.
    """
    counts = [0.8 * images * share for share in given.mix]
    speed = given.gpu_tflops * 1e3  # GFLOP a second
    costs = [Costs(n.trunk * (1 + _VAL) / speed, n.branch * (3 + _VAL) / speed) for n in networks]
    divided = shares(len(networks), counts, gpus, () if given.by_samples else costs)
    processes = simulate(divided, counts, costs, given.epochs, given.start, given.troubles, seed)
    training = max(process.end for process in processes)
    alone = given.epochs * sum(epoch_seconds(shares(len(networks), counts, 1)[0], counts, costs))
    sides = {network.pixels: network.side for network in networks}
    decoding = images * len(sides) / given.decoding / (given.cores * gpus)
    evaluation = 0.1 * images * sum(n.trunk + 10 * n.branch for n in networks) / speed / gpus
    hours = (decoding + training + evaluation) / 3600
    return Estimate(
        images=images,
        gpus=gpus,
        decoding=decoding / 3600,
        training=training / 3600,
        counting=alone / (training * gpus),
        evaluation=evaluation / 3600,
        gpu_hours=hours * gpus,
        money=hours * gpus * given.price,
        cache=3.0 * images * sum(side**2 for side in sides.values()),
        reading=max(
            3 * network.side**2 / (cost.trunk + 4 * cost.sample)
            for network, cost in zip(networks, costs)
        ),
    )
