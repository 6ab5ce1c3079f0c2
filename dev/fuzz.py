#!/usr/bin/env python3
"""Feed mutated files and flags to everything that reads what strangers have made.

    python -m dev.fuzz --count 20000

A valid input is flipped, cut, spliced or grown, or hypothesis makes one. Whatever is tried must end
within seconds in a result or in the error that its reader promises, and must write nothing outside
its folder. Prints inputs, refusals and failures of each target (`dev.fuzz_targets`); exit 1 on any
failure, whose input is kept in --keep. With --atheris TARGET that target runs under atheris
instead, where it is installed.
"""

from common.cli import Parser, guarded

import sys
from pathlib import Path

TARGETS = ("images", "checkpoints", "config", "predictions", "tables", "flags")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the campaign."""
    parser = Parser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="inputs per target")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="folder of failing inputs")
    parser.add_argument("--atheris", choices=TARGETS, default=None, metavar="TARGET")
    args = parser.parse_args(argv)
    import torch

    from dev.fuzz_runs import campaign, run_atheris

    torch.set_num_threads(1)
    if args.atheris:
        run_atheris(args.atheris, args.count)
    runs = campaign(args.targets, args.count, args.seed, args.keep)
    total = sum(run.count for run in runs.values())
    failures = sum(len(run.failures) for run in runs.values())
    print(f"{total} inputs, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
