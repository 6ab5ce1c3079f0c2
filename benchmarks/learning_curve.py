#!/usr/bin/env python3
"""Measure how accuracy grows with the number of photographs to learn from, by cross-validation.

    python -m benchmarks.learning_curve --dataset_path ./my_graded_photographs --jobs 2 \\
        --weights tf_efficientnet_lite0=tf_efficientnet_lite0_in1k.pth

On the folds of benchmarks.accuracy the small-data recipe and a linear classifier learn from a part
of the four other folds, the same images for both, and are judged on all of the fifth. The recipe
learns from a part twice: for its own number of epochs, and for so many that there are as many steps
as with all images. What is complete in --output_dir, with all images by benchmarks.accuracy too, is
not made again. Adds its section to benchmarks/accuracy.json and its table to docs/accuracy.md.
N images.
"""

from common.cli import Parser, guarded

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy_tables import report
from benchmarks.accuracy_tables.gather import Reader, change_result, conditions_of
from benchmarks.accuracy_tables.results import ChangeResult, Changes, Grid
from benchmarks.recipes.derived_folds import derive_folds, images_learned_from
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


@dataclass(frozen=True)
class Part:
    """What the recipe learns from: a share of each grade's images, for so many epochs."""

    share: float
    epochs: int
    usual: bool  # as many epochs as with all images; else as many steps


def parts_of(shares: Sequence[float], epochs: int) -> list[Part]:
    """List each share twice, but for all images; epochs: with all images."""
    found = [Part(share, epochs, True) for share in shares]
    return found + [Part(s, round(epochs / s), False) for s in shares if s < 1]


def with_fewer(place: Place, part: Part) -> Place:
    """Return where runs learn from a part of what there is in each fold, as links to its files."""
    if part.share == 1:
        return place

    def files(fold: int) -> dict[str, Path]:
        train, val = (scan_split(place.fold(fold), name) for name in ("train", "val"))
        kept = rows_to_learn_from(train.labels, part.share)
        return dict(zip(val.ids, val.paths)) | {train.ids[k]: train.paths[k] for k in kept}

    name = f"share_{part.share:g}"
    if part.usual:
        return derive_folds(place, name, files)
    longer = derive_folds(place, f"{name}_epochs_{part.epochs}", files)
    return replace(longer, train_flags=f"{place.train_flags} --epochs {part.epochs}".strip())


def measure(
    places: Mapping[Part, Place], model: str, seeds: Sequence[int], bootstrap: BootstrapConfig
) -> list[ChangeResult]:
    """Judge both methods with each part, the largest share first.

    The recipe is compared with itself with all images, the linear classifier, which has no epochs,
    with the recipe.
    """
    found, folds = [], tuple(range(1, FOLDS + 1))
    readers = {
        part: Reader(places[part])
        for part in sorted(places, key=lambda part: (-part.share, not part.usual))
    }
    counts = {part: images_learned_from(place) for part, place in places.items()}
    of_recipe = {
        part: [reader.answers(Member(BEST, model), seed, folds) for seed in seeds]
        for part, reader in readers.items()
    }
    whole = next(answers for part, answers in of_recipe.items() if part.share == 1)
    for member in (Member(BEST, model), Member(PROBE, model)):
        own_seeds = (0,) if member.recipe == PROBE else tuple(seeds)
        for part, reader in readers.items():
            if member.recipe == PROBE and not part.usual:
                continue
            before = of_recipe[part] if member.recipe == PROBE else whole
            epochs = "" if part.usual else f", {part.epochs} epochs"
            row = change_result(
                setting=TITLES[member.recipe],
                to=f"{counts[part]}, a share of {part.share:g}{epochs}",
                grid=Grid(own_seeds, folds),
                answers=[reader.answers(member, seed, folds) for seed in own_seeds],
                before=None if member.recipe == BEST and part.share == 1 else before,
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
    folds, epochs = range(1, FOLDS + 1), place.config(Run(BEST, model, args.seeds[0], 1)).epochs
    places = {part: with_fewer(place, part) for part in parts_of(args.shares, epochs)}
    recipe = [Run(BEST, model, seed, fold) for seed in args.seeds for fold in folds]
    probe = [Run(PROBE, model, 0, fold) for fold in folds]
    for part, each in places.items():
        log(f"share of {part.share:g}, {part.epochs} epochs")
        run_all(each, [*recipe, *probe] if part.usual else recipe, args.cores)
    rows = measure(places, model, args.seeds, BootstrapConfig(args.resamples))
    conditions = conditions_of(Reader(place), [model], [Member(BEST, model)])
    report.publish(args.report_dir, Changes(conditions, rows), "learning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
