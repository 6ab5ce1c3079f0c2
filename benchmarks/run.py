#!/usr/bin/env python3
"""Measure how much faster the product is than the reference loop, in one process, interleaved.

    python -m benchmarks.run --device cpu

Both work on the same drawn photographs; every number is the median of the repeats, ratios with
their range. Writes benchmarks/RESULTS.md and results.json (one section per device).
"""

from common.cli import Parser, guarded

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed import report, results
from benchmarks.speed.goals import SEVEN, THREE
from benchmarks.speed.results import SpeedSection
from benchmarks.speed.timing import in_own_process, processor
from common.data.synthetic import write_dataset
from common.system.environment import versions, worker_count

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    import torch


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--base_models", nargs="+", default=list(THREE), metavar="MODEL")
    parser.add_argument(
        "--ensemble",
        nargs="*",
        default=list(SEVEN),
        metavar="MODEL",
        help="evaluated together (default all seven)",
    )
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument(
        "--images", type=positive, default=0, help="per grade (default 7 on a CPU, 64 on a GPU)"
    )
    parser.add_argument(
        "--size", type=positive, default=768, help="of the photographs (default 768)"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=4,
        help="of each DataLoader, at most the cores (default 4)",
    )
    parser.add_argument("--output_dir", type=Path, default=results.HERE)
    args = parser.parse_args(argv)
    from common.models.backbones import resolve

    for name in (*args.base_models, *args.ensemble):
        resolve(name)
    return args


def positive(text: str) -> int:
    """Read a number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text!r}")
    return int(text)


def begin_section(args: argparse.Namespace, device: "torch.device") -> SpeedSection:
    """Return what was measured before under the same conditions, to be added to, or nothing yet."""
    section = SpeedSection(
        versions=versions(),
        processor=processor(device),
        command=f"python -m benchmarks.run --device {device.type} --images {args.images} "
        f"--size {args.size} --repeats {args.repeats} --workers {args.workers}",
    )
    before = results.load(args.output_dir).speed.get(device.type)
    conditions = (section.versions, section.processor, section.command)
    if before and (before.versions, before.processor, before.command) == conditions:
        return before
    return section


@guarded
def main(argv: list[str] | None = None) -> int:
    """Measure every backbone, then the ensemble, and write what there is after each."""
    args = parse_args(argv)
    from benchmarks.speed.measure import measure, measure_ensemble, whole_chunks
    from common.system.device import select_device

    device, workers = select_device(args.device), worker_count(args.workers)
    args.images = args.images or (64 if device.type == "cuda" else 7)
    section = begin_section(args, device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, {"train": args.images}, 0, args.size)
        whole_chunks(root, device)
        for name in args.base_models:
            speed = in_own_process(measure, name, root, device, args.repeats, workers)
            section.models[name] = speed
            report.write(args.output_dir, results.store(args.output_dir, device.type, section))
        if args.ensemble:
            names = args.ensemble
            section.seven = in_own_process(
                measure_ensemble, names, root, device, args.repeats, workers
            )
            report.write(args.output_dir, results.store(args.output_dir, device.type, section))
    print((args.output_dir / "RESULTS.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
