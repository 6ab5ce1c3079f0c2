#!/usr/bin/env python3
"""Write the synthetic demo dataset, or fill a dataset's pixel cache before training.

    python prepare_dataset.py demo ./demo_dataset
    python prepare_dataset.py cache ./my_graded_photographs --base_models coatnet convnext swinv2

Training fills the cache itself; doing it beforehand tells early which files cannot be read.
"""

import argparse
import sys
from pathlib import Path

from common.backbones import preprocessing_for, resolve
from common.cli import Parser, boolean, default_of, guarded
from common.config import TrainConfig
from common.dataset import SPLITS, open_cache, scan_split
from common.runtime import InputError, log
from common.synthetic import write_dataset


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    demo = commands.add_parser("demo", help="write a synthetic dataset")
    demo.add_argument("dataset_path", type=Path)
    demo.add_argument("--train", type=int, default=100, help="images per grade (default 100)")
    demo.add_argument("--val", type=int, default=30, help="images per grade (default 30)")
    demo.add_argument("--test", type=int, default=40, help="images per grade (default 40)")
    demo.add_argument("--size", type=int, default=256, help="pixels per side (default 256)")
    demo.add_argument("--seed", type=int, default=0, help="equal seeds draw equal images")
    cache = commands.add_parser("cache", help="decode a dataset once for these models")
    cache.add_argument("dataset_path", type=Path)
    cache.add_argument("--base_models", nargs="+", required=True, metavar="MODEL")
    cache.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    cache.add_argument("--num_classes", type=int, default=default_of("num_classes"))
    cache.add_argument("--class_names", nargs="+", default=())
    cache.add_argument("--num_workers", type=int, default=default_of("num_workers"))
    cache.add_argument("--cache_dir", type=Path, default=Path(default_of("cache_dir")))
    for name in ("img_size", "clahe_tile_grid_size"):
        cache.add_argument(f"--{name}", type=int, default=default_of(name))
    cache.add_argument("--clahe_clip_limit", type=float, default=default_of("clahe_clip_limit"))
    cache.add_argument("--enable_clahe", type=boolean, nargs="?", const=True, metavar="true|false",
                       default=default_of("enable_clahe"))  # fmt: skip
    return parser.parse_args(argv)


def write_demo(args: argparse.Namespace) -> None:
    """Draw the demo dataset into a folder that is empty or holds an earlier demo."""
    folder = args.dataset_path
    counts = {"train": args.train, "val": args.val, "test": args.test}
    if min(counts.values()) < 1 or not 64 <= args.size <= 4096:
        raise InputError("expected 1 or more images per grade and --size 64 to 4096")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "SYNTHETIC.md").is_file():
        raise InputError(f"{folder} is not empty; synthetic images must not mix with photographs")
    total = write_dataset(folder, counts, args.seed, args.size)
    log(f"wrote {total} synthetic images to {folder}; they show no eye and are of no medical value")


def fill_caches(args: argparse.Namespace) -> None:
    """Decode every split for every model; models with equal pixels share the work."""
    found = [name for name in args.splits if (args.dataset_path / name).is_dir()]
    if not found:
        raise InputError(f"expected a folder of {' '.join(args.splits)} in {args.dataset_path}")
    names = ("num_classes", "img_size", "enable_clahe", "clahe_clip_limit",
             "clahe_tile_grid_size", "num_workers")  # fmt: skip
    try:  # the same limits as in training
        TrainConfig(class_names=tuple(args.class_names), **{n: getattr(args, n) for n in names})
    except ValueError as error:
        raise InputError(str(error)) from error
    for model in args.base_models:
        settings = preprocessing_for(
            resolve(model), args.img_size, args.enable_clahe, args.clahe_clip_limit,
            args.clahe_tile_grid_size,
        )  # fmt: skip
        for name in found:
            split = scan_split(args.dataset_path, name, args.num_classes, tuple(args.class_names))
            open_cache(split, settings, args.cache_dir, args.num_workers)
            log(f"{model}: {name} is cached, {len(split)} images, per grade "
                f"{split.counts(args.num_classes)}")  # fmt: skip


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the command that was asked for."""
    args = parse_args(argv)
    write_demo(args) if args.command == "demo" else fill_caches(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
