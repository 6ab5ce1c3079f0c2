"""Flags that the measurements of accuracy share: where all lies, and how runs are made."""

from common.cli import folder, known_folder

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.recipes.runs import ROOT, Place
from common.flags.settings import default_of
from common.flags.training import weights_by_model
from common.system.errors import InputError


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Add where photographs, runs and reports lie, and how often intervals resample."""
    parser.add_argument(
        "--dataset_path",
        type=known_folder,
        default=known_folder(default_of("dataset_path")),
        help="photographs of the five grades; those of all its splits are divided anew",
    )
    parser.add_argument(
        "--output_dir", type=folder, default=Path("accuracy_results"), help="of folds and runs"
    )
    parser.add_argument(
        "--report_dir",
        type=folder,
        default=ROOT,
        help="where benchmarks/accuracy.json, docs/accuracy.md and its figure are written "
        "(default: this repository)",
    )
    parser.add_argument("--resamples", type=int, default=1000, help="for intervals (default 1000)")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add what trainings start from and run on."""
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="PATH",
        help="pretrained weights instead of the hub: PATH, or MODEL=PATH for several",
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, a core each")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--train_flags",
        default="",
        metavar="FLAGS",
        help="of train_ovo.py, for all trainings: --train_flags='--epochs 1' tries this out",
    )


def check_run_flags(args: argparse.Namespace, models: Sequence[str]) -> None:
    """Fill in the cores, and whose the weights are; raises InputError for what cannot be."""
    from common.models.backbones import resolve

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if not 1 <= args.jobs <= len(cores):
        raise InputError(f"expected --jobs 1 to {len(cores)}, the cores here, found {args.jobs}")
    args.cores = cores[: args.jobs]
    weights = weights_by_model(args.weights, list(models))
    args.weights = {resolve(name).name: str(Path(path).resolve()) for name, path in weights.items()}
    try:
        shlex.split(args.train_flags)
    except ValueError as error:
        raise InputError(f"--train_flags {args.train_flags}: {error}") from error


def place_of(args: argparse.Namespace) -> Place:
    """Return where the runs of a command that has these flags are."""
    return Place(
        root=args.output_dir.resolve(),
        dataset=args.dataset_path.resolve(),
        weights=args.weights,
        train_flags=args.train_flags,
        device=args.device,
    )
