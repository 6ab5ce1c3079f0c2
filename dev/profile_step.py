#!/usr/bin/env python3
"""Show where the time of a training step goes, part by part and by operation.

    python -m dev.profile_step --base_models coatnet --device cpu

Works on drawn photographs with ten classifiers from random weights. The device is waited for before
and after each part, so that parts take longer than in a real step; some contain others, as named.
On a GPU it also counts how often an epoch makes the program wait for the GPU. With --output_dir the
table by kinds of operations goes into RESULTS.md there.
"""

from common.cli import Parser, guarded

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.run import positive
from benchmarks.speed import report, results
from benchmarks.speed.results import ProfileSection
from benchmarks.speed.timing import in_own_process, matmul_ceiling, processor
from common.data.synthetic import write_dataset


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--base_models", nargs="+", default=["coatnet"], metavar="MODEL")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--images",
        type=positive,
        default=None,
        help="per grade (default: as many as fill the trunk's batches, 64 on a GPU, else 8)",
    )
    parser.add_argument("--rows", type=positive, default=15, help="operations shown (default 15)")
    parser.add_argument("--output_dir", type=Path, default=None, help="of results.json")
    args = parser.parse_args(argv)
    from common.models.backbones import resolve

    for name in args.base_models:
        resolve(name)
    return args


@guarded
def main(argv: list[str] | None = None) -> int:
    """Profile every backbone, and write what there is after each if asked to."""
    args = parse_args(argv)
    from common.models.backbones import resolve
    from common.system.device import resolve_precision, select_device
    from dev.operations import copy_bandwidth
    from dev.profiling import profile_model

    device = select_device(args.device)
    args.images = args.images or (64 if device.type == "cuda" else 8)
    precision = resolve_precision("auto", True, device)
    section = ProfileSection(
        processor=processor(device),
        command=f"python -m dev.profile_step --base_models {' '.join(args.base_models)} "
        f"--device {device.type} --images {args.images} --output_dir benchmarks",
        ceiling=matmul_ceiling(device, precision),
        bandwidth=copy_bandwidth(device),
    )
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), {"train": args.images}, 0, 768)
        for name in args.base_models:
            given = name, Path(folder), device, args.rows, section.ceiling, section.bandwidth
            section.models[resolve(name).alias] = in_own_process(profile_model, *given)
            if args.output_dir:
                key = results.profile_key(device.type)
                report.write(args.output_dir, results.store(args.output_dir, key, section))
    print(report.profile_table(section))
    return 0


if __name__ == "__main__":
    sys.exit(main())
