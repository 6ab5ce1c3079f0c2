#!/usr/bin/env python3
"""Count the operations of the table's networks again, and compare them with the table's figures.

    python -m dev.count_flops                           # all whose figures are known
    python -m dev.count_flops --base_models convnext    # also of what is not in the table

In GFLOP, forwards, for one picture of the network's own size, by PyTorch's counter: of the stages
that freezing freezes, and of the others (`common/architectures.py`). Exit status 1 where the table
says otherwise.
"""

from common.cli import Parser, guarded

import sys
from dataclasses import dataclass

from common.architectures import BackboneSpec, aliases, in_table
from common.config import PixelOptions

_DECIMALS = 3  # of the table


@dataclass(frozen=True)
class Operations:
    """What a network takes for a picture, in GFLOP."""

    frozen: float
    trained: float


def of_table(spec: BackboneSpec) -> Operations | None:
    """Return what the table says of a network; None where it says nothing."""
    found = Operations(spec.frozen_gflop, spec.trained_gflop)
    return found if found.trained else None


def count(spec: BackboneSpec) -> Operations:
    """Count the operations of a network with random weights, frozen as by default."""
    import torch

    from common.models.backbones import build, preprocessing_for
    from common.trained_networks.cost import run_and_count

    size = preprocessing_for(spec, PixelOptions()).img_size
    backbone = build(spec, size, pretrained=False, weights="", freeze=True, seed=0)
    features, frozen = run_and_count(backbone.trunk, torch.zeros(1, 3, size, size))
    _, trained = run_and_count(backbone.stages, features)
    return Operations(round(frozen / 1e9, _DECIMALS), round(trained / 1e9, _DECIMALS))


@guarded
def main(argv: list[str] | None = None) -> int:
    """Print a line for each network."""
    known = [alias for alias in aliases() if (spec := in_table(alias)) and of_table(spec)]
    parser = Parser(description=__doc__)
    parser.add_argument("--base_models", nargs="+", default=known, metavar="MODEL")
    args = parser.parse_args(argv)
    from common.models.backbones import resolve

    agree = True
    for spec in map(resolve, args.base_models):
        found, said = count(spec), of_table(spec)
        differs = said is not None and said != found
        note = f", the table says {said.frozen} and {said.trained}" if said and differs else ""
        print(f"{spec.name}: frozen {found.frozen}, trained {found.trained} GFLOP{note}")
        agree &= not differs
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
