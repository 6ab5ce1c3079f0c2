#!/usr/bin/env python3
"""Measure how accuracy grows with the number of photographs to learn from, by cross-validation.

    python -m benchmarks.learning_curve --dataset_path ./my_graded_photographs --jobs 2 \\
        --weights tf_efficientnet_lite0=tf_efficientnet_lite0_in1k.pth

On the folds of benchmarks.accuracy the small-data recipe and a linear classifier learn from a part
of the four other folds, the same images for both, and are judged on all of the fifth. What is
complete in --output_dir, with all images by benchmarks.accuracy too, is not made again. Adds its
section to benchmarks/accuracy.json and its table to docs/accuracy.md. N images.
"""

from common.cli import Parser, guarded

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy_tables import report, results
from benchmarks.accuracy_tables.gather import Reader, change_result, conditions_of
from benchmarks.accuracy_tables.results import ChangeResult, Changes, Grid
from benchmarks.recipes.derived_folds import derive_folds
from benchmarks.recipes.flags import add_place_flags, add_run_flags, check_run_flags, place_of
from benchmarks.recipes.methods import BEST, PROBE, TITLES, Member
from benchmarks.recipes.runs import FOLDS, Place, Run, make_folds, run_all
from common.data.folders import scan_split
from common.metrics.intervals import BootstrapConfig
from common.system.errors import InputError
from common.system.log import log


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_place_flags(parser)
    add_run_flags(parser)
    parser.add_argument("--base_model", default="tf_efficientnet_lite0")
    parser.add_argument(
        "--shares",
        nargs="+",
        type=float,
        default=[0.25, 0.5, 1.0],
        metavar="SHARE",
        help="of each grade's images, rounded up (default 0.25 0.5 1)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    args = parser.parse_args(argv)
    if not all(0 < share <= 1 for share in args.shares) or 1 not in args.shares:
        raise InputError(
            f"--shares {' '.join(f'{share:g}' for share in args.shares)}: expected shares above 0 "
            "and up to 1, with 1 among them, which the others are compared with"
        )
    from common.models.backbones import resolve

    args.base_model = resolve(args.base_model).name
    check_run_flags(args, [args.base_model])
    return args


def rows_to_learn_from(labels: np.ndarray, share: float) -> np.ndarray:
    """Choose so large a part of each grade's images, rounded up; returns sorted rows.

    labels (N,). A smaller share's rows are among those of a larger one.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    by_grade = [order[labels[order] == grade] for grade in np.unique(labels)]
    return np.sort(
        np.concatenate([own[: np.ceil(share * len(own)).astype(int)] for own in by_grade])
    )


def with_fewer(place: Place, share: float) -> Place:
    """Return where runs learn from a share of what there is in each fold, as links to its files."""
    if share == 1:
        return place

    def files(fold: int) -> dict[str, Path]:
        train, val = (scan_split(place.fold(fold), name) for name in ("train", "val"))
        kept = rows_to_learn_from(train.labels, share)
        return dict(zip(val.ids, val.paths)) | {train.ids[k]: train.paths[k] for k in kept}

    return derive_folds(place, f"share_{share:g}", files)


def measure(
    places: dict[float, Place], model: str, seeds: Sequence[int], bootstrap: BootstrapConfig
) -> list[ChangeResult]:
    """Judge both methods with each share, the largest first.

    The recipe is compared with itself with all images, the linear classifier with the recipe.
    """
    found, folds = [], tuple(range(1, FOLDS + 1))
    readers = {share: Reader(places[share]) for share in sorted(places, reverse=True)}
    counts = {
        share: round(sum(len(scan_split(place.fold(k), "train")) for k in folds) / FOLDS)
        for share, place in places.items()
    }
    of_recipe = {
        share: [reader.answers(Member(BEST, model), seed, folds) for seed in seeds]
        for share, reader in readers.items()
    }
    for member in (Member(BEST, model), Member(PROBE, model)):
        own_seeds = (0,) if member.recipe == PROBE else tuple(seeds)
        for share, reader in readers.items():
            before = of_recipe[share if member.recipe == PROBE else 1]
            row = change_result(
                setting=TITLES[member.recipe],
                to=f"{counts[share]}, a share of {share:g}",
                grid=Grid(own_seeds, folds),
                answers=[reader.answers(member, seed, folds) for seed in own_seeds],
                before=None if member.recipe == BEST and share == 1 else before,
                bootstrap=bootstrap,
                minutes=reader.minutes(member),
            )
            found.append(row)
    return found


@guarded
def main(argv: list[str] | None = None) -> int:
    """Make the runs that are missing, measure them, and write the table."""
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1)
    model, place = args.base_model, place_of(args)
    make_folds(place)
    places = {share: with_fewer(place, share) for share in args.shares}
    folds = range(1, FOLDS + 1)
    runs = [Run(BEST, model, seed, fold) for seed in args.seeds for fold in folds]
    runs += [Run(PROBE, model, 0, fold) for fold in folds]
    for share, each in places.items():
        log(f"share of {share:g}")
        run_all(each, runs, args.cores)
    rows = measure(places, model, args.seeds, BootstrapConfig(args.resamples))
    conditions = conditions_of(Reader(place), [model], [Member(BEST, model)])
    file = args.report_dir / "benchmarks" / "accuracy.json"
    stored = results.store(file, Changes(conditions, rows), "learning")
    page = args.report_dir / "docs" / "accuracy.md"
    report.write(page, stored)
    log(f"wrote {file} and {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
