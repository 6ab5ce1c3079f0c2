#!/usr/bin/env python3
"""Measure what each measure for speed is worth: an epoch without it, against one with all.

    python -m dev.ablation --device cpu

Works on drawn photographs with ten classifiers from random weights. All forms take turns in one
process; above 1 is the factor by which an epoch is slower in that form. Writes
benchmarks/RESULTS.md.
"""

from common.cli import Parser, guarded

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.run import positive
from benchmarks.speed import report, results
from benchmarks.speed.goals import THREE
from benchmarks.speed.results import AblationSection
from benchmarks.speed.timing import in_own_process, processor
from common.data.synthetic import write_dataset

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    import torch


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--base_models", nargs="+", default=list(THREE), metavar="MODEL")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument(
        "--images",
        type=positive,
        default=None,
        help="per grade (default: as many as fill the trunk's batches, 64 on a GPU, else 4)",
    )
    parser.add_argument("--output_dir", type=Path, default=results.HERE)
    args = parser.parse_args(argv)
    from common.models.backbones import resolve

    for name in args.base_models:
        resolve(name)
    return args


def begin_section(args: argparse.Namespace, device: "torch.device") -> AblationSection:
    """Return what was measured before under the same conditions, to be added to, or nothing yet."""
    section = AblationSection(
        processor=processor(device),
        command=f"python -m dev.ablation --device {device.type} --images {args.images} "
        f"--repeats {args.repeats}",
    )
    before = results.load(args.output_dir).ablation.get(device.type)
    if before and (before.processor, before.command) == (section.processor, section.command):
        return before
    return section


@guarded
def main(argv: list[str] | None = None) -> int:
    """Measure every backbone and write the results."""
    args = parse_args(argv)
    from common.system.device import select_device
    from dev.forms import measure

    device = select_device(args.device)
    args.images = args.images or (64 if device.type == "cuda" else 4)
    key = results.ablation_key(device.type)
    section = begin_section(args, device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, {"train": args.images}, 0, 768)
        for model in args.base_models:
            section.models[model] = in_own_process(measure, model, root, device, args.repeats)
            report.write(args.output_dir, results.store(args.output_dir, key, section))
    print((args.output_dir / "RESULTS.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
