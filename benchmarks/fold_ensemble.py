#!/usr/bin/env python3
"""Measure what the models of folds reach together, beside one model of one division.

    python -m benchmarks.fold_ensemble --dataset_path ./my_graded_photographs --jobs 2 \\
        --weights tf_efficientnet_lite0=tf_efficientnet_lite0_in1k.pth

Whoever has some hundred photographs divides them once, into train and val, or into folds, with a
model each (docs/guide.md, "Cross-validation"). On the folds of benchmarks.accuracy one part is
judged by what has learned from the four others: a model that has one of these four as its val and
learns from three; all four such models together; and a model that learns from all four and has no
val. Nothing is chosen on any val. What is complete in --output_dir, by benchmarks.accuracy too, is
not made again. Adds its section to benchmarks/accuracy.json and its table to docs/accuracy.md.
"""

from common.cli import Parser, guarded

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.accuracy_tables import report
from benchmarks.accuracy_tables.gather import Reader, change_result, conditions_of
from benchmarks.accuracy_tables.measures import Answers, average, judge, pool_folds
from benchmarks.accuracy_tables.measures import measure as measure_answers
from benchmarks.accuracy_tables.results import ChangeResult, Changes, Grid
from benchmarks.recipes.derived_folds import derive_folds, images_learned_from
from benchmarks.recipes.flags import add_place_flags, add_run_flags, check_run_flags, place_of
from benchmarks.recipes.methods import BEST, Member
from benchmarks.recipes.runs import FOLDS, Place, Run, make_folds, run_all
from common.data.folders import scan_split
from common.metrics.intervals import BootstrapConfig

# two parts are left out of a training, one this far behind the other in a circle of five: all pairs
DISTANCES = (1, 2)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_place_flags(parser)
    add_run_flags(parser)
    parser.add_argument("--base_model", default="tf_efficientnet_lite0")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    from common.models.backbones import resolve

    args.base_model = resolve(args.base_model).name
    check_run_flags(args, [args.base_model])
    return args


def behind(fold: int, distance: int) -> int:
    """Return the fold so far behind one, in a circle; both from 1."""
    return (fold - 1 + distance) % FOLDS + 1


def without_two_parts(place: Place, distance: int) -> Place:
    """Return where runs learn from three parts; val has the fold's own and the one behind it."""

    def files(fold: int) -> dict[str, Path]:
        own, other = (scan_split(place.fold(k), "val") for k in (fold, behind(fold, distance)))
        val = dict(zip([*own.ids, *other.ids], [*own.paths, *other.paths]))
        train = scan_split(place.fold(fold), "train")
        left_out = {id_.partition("/")[2] for id_ in other.ids}
        kept = {
            id_: path
            for id_, path in zip(train.ids, train.paths)
            if id_.partition("/")[2] not in left_out
        }
        return kept | val

    return derive_folds(place, f"without_two_{distance}", files)


def answers_of_divisions(reader: Reader, places: dict[int, Place], run: Run) -> list[Answers]:
    """Return what the models of the four divisions say of each part, which is new to all of them.

    Division by division: each part's answers are of a model that had another part as its val.
    """
    val = {fold: scan_split(reader.place.fold(fold), "val").ids for fold in range(1, FOLDS + 1)}
    found = []
    for distance, place in places.items():
        images = {fold: place.images(Run(run.recipe, run.model, run.seed, fold)) for fold in val}
        for shift in (0, distance):  # the judged part is the model's own, or the one behind it
            by_part = {}
            for fold, said in images.items():
                part = behind(fold, shift)
                by_part[part] = said.take(np.flatnonzero(np.isin(said.ids, val[part])))
            found.append(pool_folds(dict(sorted(by_part.items())), reader.groups))
    return found


def measure(
    place: Place, places: dict[int, Place], run: Run, bootstrap: BootstrapConfig
) -> list[ChangeResult]:
    """Judge one model of one division, those of all, the best of them, and what saw all parts."""
    folds, member = tuple(range(1, FOLDS + 1)), Member(run.recipe, run.model)
    reader, of_three = Reader(place), Reader(places[DISTANCES[0]])
    every, count = (images_learned_from(one.place) for one in (reader, of_three))
    single = answers_of_divisions(reader, places, run)
    together, each = average(single), of_three.minutes(member)
    best = max(single, key=lambda answers: float(measure_answers(judge(answers))["kappa"]))
    whole = reader.answers(member, run.seed, folds)
    rows: list[tuple[str, str, list[Answers], list[Answers] | None, float]] = [
        ("one model of one division", f"{count}, {every - count} are val", single, None, each),
        ("the models of all four divisions", f"{count} each", [together], single, 4 * each),
        ("the best of these four, by kappa here", f"{count}", [best], [together], each),
        ("one model of all, without a val", f"{every}", [whole], single, reader.minutes(member)),
    ]
    return [
        change_result(
            setting=setting,
            to=learned_from,
            grid=Grid(tuple(range(len(answers))), folds),
            answers=answers,
            before=before,
            bootstrap=bootstrap,
            minutes=minutes,
        )
        for setting, learned_from, answers, before, minutes in rows
    ]


@guarded
def main(argv: list[str] | None = None) -> int:
    """Make the runs that are missing, measure them, and write the table."""
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1)
    model, place = args.base_model, place_of(args)
    make_folds(place)
    places = {distance: without_two_parts(place, distance) for distance in DISTANCES}
    runs = [Run(BEST, model, args.seed, fold) for fold in range(1, FOLDS + 1)]
    for each in (*places.values(), place):
        run_all(each, runs, args.cores)
    rows = measure(place, places, runs[0], BootstrapConfig(args.resamples))
    conditions = conditions_of(Reader(places[DISTANCES[0]]), [model], [Member(BEST, model)])
    report.publish(args.report_dir, Changes(conditions, rows), "divisions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
