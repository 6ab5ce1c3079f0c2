#!/usr/bin/env python3
"""Measure how accurate the project's recipes are, by cross-validation on real photographs.

    python -m benchmarks.accuracy --dataset_path ./my_graded_photographs --jobs 2 \\
        --weights tf_efficientnet_lite0=tf_efficientnet_lite0_in1k.pth

Divides the photographs into five grouped folds and trains each method on four of them, once per
seed; what it says of the fifth is pooled over the folds. What is complete in --output_dir is not
made again. Writes benchmarks/accuracy.json, and the tables and figure of docs/accuracy.md.
"""

from common.cli import Parser, guarded

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from benchmarks.accuracy_tables import report
from benchmarks.accuracy_tables.gather import gather_changes, gather_methods
from benchmarks.recipes.flags import add_place_flags, add_run_flags, check_run_flags, place_of
from benchmarks.recipes.methods import (
    BEST,
    CHANGED,
    CHANGES,
    PROBES,
    SOUP,
    TRAINED,
    UNSEEDED,
    views_of,
)
from benchmarks.recipes.runs import FOLDS, Place, Run, make_folds, run_all
from common.config import VIEWS, config_differences
from common.data.patients import AUTO, PATIENT_HELP
from common.metrics.intervals import BootstrapConfig
from common.reporting.table import format_table
from common.system.errors import InputError
from common.system.log import duration

LITE = tuple(f"tf_efficientnet_lite{size}" for size in range(3))
FEWER = 2  # folds of an ablation
# images a second through one core at 256 pixels, as measured with Lite0: forward and backward of
# all layers or of the second half; other networks by their multiplications at the same size
SPEED = {False: 9.0, True: 17.0}
FORWARD = 25.0
WORK = dict(zip(LITE, (1.0, 1.35, 1.64)))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_place_flags(parser)
    add_run_flags(parser)
    parser.add_argument(
        "--methods",
        nargs="*",
        default=list(TRAINED),
        choices=TRAINED,
        help="to be trained if they are not complete (default all; none: measure what is there)",
    )
    parser.add_argument(
        "--ablation",
        nargs="*",
        default=None,
        metavar="CHANGE",
        help="in place of the methods, change single settings of the small-data recipe: all "
        f"or some of {', '.join(change.name for change in CHANGES)}; by default on folds 1 to "
        f"{FEWER} with one seed",
    )
    parser.add_argument(
        "--base_models",
        nargs="+",
        default=[LITE[0]],
        metavar="MODEL",
        help=f"the first is compared (default {LITE[0]}); others, trained with the recipe, join "
        "ensembles",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, metavar="SEED", help="(default 0 1 2)"
    )
    parser.add_argument(
        "--folds", nargs="+", type=int, default=None, metavar="FOLD", help=f"(default 1 to {FOLDS})"
    )
    parser.add_argument(
        "--patient_regex",
        default=AUTO,
        help=f"{PATIENT_HELP}; whoever it names stays in one fold. With one of yours the methods, "
        "and the changes, have a section of their own; its folds need another --output_dir",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="divide the photographs, and print what would be run"
    )
    parser.add_argument(
        "--render_only",
        action="store_true",
        help="only lay out docs/accuracy.md from benchmarks/accuracy.json again",
    )
    return checked(parser.parse_args(argv))


def checked(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in what depends on other flags; raises InputError for what cannot be."""
    from common.models.backbones import resolve

    check_run_flags(args, args.base_models)
    ablation = args.ablation is not None
    args.seeds = args.seeds or ([0] if ablation else [0, 1, 2])
    args.folds = args.folds or list(range(1, 1 + (FEWER if ablation else FOLDS)))
    if set(args.folds) - set(range(1, FOLDS + 1)) or min(args.seeds) < 0:
        raise InputError(
            f"expected --folds of 1 to {FOLDS} and --seeds of 0 or more, found "
            f"{' '.join(map(str, args.folds))} and {' '.join(map(str, args.seeds))}"
        )
    args.base_models = list(dict.fromkeys(resolve(name).name for name in args.base_models))
    known = [change.name for change in CHANGES]
    unknown = [name for name in args.ablation or () if name not in known]
    if unknown:
        raise InputError(f"--ablation {unknown[0]}: expected one of {', '.join(known)}")
    return args


def plan(args: argparse.Namespace, place: Place) -> list[Run]:
    """List the runs that are asked for, in an order in which what is complete can be compared.

    A change to what the recipe has already is no run.
    """
    first, others = args.base_models[0], args.base_models[1:]
    if args.ablation is not None:
        changes = [c for c in CHANGES if c.name in args.ablation or not args.ablation]
        recipe = place.config(Run(CHANGED, first, 0, 1))
        members = [(CHANGED, first)]
        for change in changes:
            changed = place.config(Run(change.name, first, 0, 1))
            same_views = change.tta in ("", recipe.tta)
            differs = config_differences(recipe.to_dict(), changed)
            if change.trial or not same_views or differs:
                members.append((change.name, first))
    else:
        members = [(recipe, first) for recipe in args.methods]
        members += [(BEST, model) for model in others if BEST in args.methods]
    runs = [
        Run(recipe, model, 0 if recipe in UNSEEDED else seed, fold)
        for seed in args.seeds
        for fold in args.folds
        for recipe, model in members
    ]
    return list(dict.fromkeys(runs))


def expected_seconds(place: Place, run: Run, images: int) -> float:
    """Estimate how long a run takes: as long as those like it did, or from measured speeds."""
    from common.models.backbones import preprocessing_for, resolve

    before = [place.seconds(other) for other in place.complete(run.recipe, run.model)]
    if before:
        return median(before)
    config = place.config(run)
    size = config.img_size or preprocessing_for(resolve(run.model), config.pixel_options).img_size
    work = images * (1 - 1 / FOLDS) * (size / 256) ** 2 * WORK.get(run.model, 1.0)
    if run.recipe in PROBES:
        return 60 + work / SPEED[True]
    views = config.tta if run.recipe == SOUP else views_of(run.recipe)
    if views:
        return work / (FOLDS - 1) * VIEWS[views] / FORWARD
    pairs = config.num_classes - 1 if config.head == "ovo" else 1  # that each image belongs to
    return config.epochs * pairs * work / SPEED[config.freezes]


def plan_text(place: Place, runs: Sequence[Run], jobs: int) -> str:
    """Lay out what is to be run, and about how long that takes."""
    images = sum(map(bool, place.manifest.column(place.manifest.columns.index("file"))))
    rows, left = [], 0.0
    for recipe, model in dict.fromkeys((run.recipe, run.model) for run in runs):
        own = [run for run in runs if (run.recipe, run.model) == (recipe, model)]
        missing = [run for run in own if not place.is_complete(run)]
        each = expected_seconds(place, own[0], images)
        left += each * len(missing)
        row = [recipe, model, len(own), len(own) - len(missing), f"{each / 60:.1f}"]
        rows.append([*row, f"{each * len(missing) / 3600:.2f}"])
    table = format_table(["recipe", "model", "runs", "complete", "minutes", "hours left"], rows)
    return f"{table}\n\nabout {duration(left / jobs)} left with --jobs {jobs}"


@guarded
def main(argv: list[str] | None = None) -> int:
    """Make the runs that are missing, measure all that is complete, and write the tables."""
    args = parse_args(argv)
    if args.render_only:
        report.publish_again(args.report_dir)
        return 0
    import torch

    torch.set_num_threads(1)
    bootstrap = BootstrapConfig(args.resamples)
    place = replace(place_of(args), patient_regex=args.patient_regex)
    make_folds(place)
    runs = plan(args, place)
    if args.dry_run:
        print(plan_text(place, runs, args.jobs))
        return 0
    run_all(place, runs, args.cores)
    own_folds = args.patient_regex != AUTO
    if args.ablation is None:
        methods = gather_methods(place, args.base_models, bootstrap)
        report.publish(args.report_dir, methods, "together" if own_folds else "methods")
    else:
        changes = gather_changes(place, args.base_models[0], bootstrap)
        report.publish(args.report_dir, changes, "changes_together" if own_folds else "changes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
