#!/usr/bin/env python3
"""Measure how well maps of evidence meet lesions whose places are known.

    python -m benchmarks.evidence --results_dirs ./runs/*/fold_* --dataset_path ./folds \\
        --lesions ./lesions.csv

Each model is judged on referable images that it has not learned from and in which lesions are
marked: the share of its positive evidence in them over their share of the retina (the gain),
whether its highest place is in one (the pointing game), and the same of the optic disc; with
--checks, what its score loses when the places with most evidence are blurred, and what shuffled
weights leave of the maps. Models that differ in seed and fold alone are one method: what those of
a seed say of their own folds is pooled by photograph, and figures are means over the seeds, with
their spread. All of three seeds, as in docs/evidence.md:

    python -m benchmarks.evidence --results_dirs ./runs/*/shared/seed_[012]/fold_* \\
        --dataset_path ./folds --lesions ./lesions.csv --target referable grade pair \\
        --layer exact finer combined

Writes benchmarks/evidence.json, and findings, tables and figures of docs/evidence.md. Maps are kept
in --output_dir, and not asked for again.
"""

from common.cli import Parser, folder, guarded, known_folder

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.evidence_tables import report, results
from benchmarks.evidence_tables.measures import UPSAMPLINGS
from benchmarks.evidence_tables.results import CHECKS, TARGETS, Conditions, Section
from benchmarks.recipes.runs import ROOT
from common.config import PRECISIONS, VIEWS
from common.data.synthetic import LESIONS_FILE
from common.evidence.maps import EXACT, KINDS
from common.flags.settings import default_of
from common.listing.split_folders import SPLITS
from common.metrics.intervals import BootstrapConfig
from common.system.environment import git_commit, versions
from common.system.errors import InputError
from common.system.log import log

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from benchmarks.evidence_maps.judged import Judged
    from benchmarks.evidence_tables.gather import Gatherer, View


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--results_dirs",
        nargs="+",
        type=folder,
        default=[],
        metavar="DIR",
        help="result directories of train_ovo.py, of any seeds and folds; the first one's method "
        "is looked at in other ways, too",
    )
    parser.add_argument(
        "--dataset_path",
        type=known_folder,
        default=None,
        help="a dataset, or the folder of the folds of one: each model is judged on that whose "
        "train it has learned from (default: where each was trained)",
    )
    parser.add_argument(
        "--lesions",
        type=Path,
        default=None,
        metavar="CSV",
        help="boxes: image, finding (optic_disc, or any lesion), and left, top, right, bottom in "
        f"shares of the photograph's sides (default {LESIONS_FILE} in --dataset_path)",
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="", help="(default test where there is one, else val)"
    )
    parser.add_argument(
        "--referable_from",
        default="",
        metavar="CLASS",
        help="first class that is referred, by name or index (default: by the names)",
    )
    several = "; of several, the first is measured for all, and each other one compared with it"
    parser.add_argument(
        "--target",
        nargs="+",
        choices=TARGETS,
        default=TARGETS[:1],
        help="what evidence is for: referral, the predicted grade, or that against the lowest "
        f"grade (default {TARGETS[0]}){several}",
    )
    parser.add_argument(
        "--layer",
        nargs="+",
        choices=KINDS,
        default=(EXACT,),
        help="the map that adds up to the logit exactly, a finer one of an earlier stage by "
        "HiResCAM, or, combined, the finer one weighed by the exact one (default exact)"
        f"{several}",
    )
    parser.add_argument(
        "--tta",
        nargs="+",
        choices=tuple(VIEWS),
        default=("none",),
        help=f"views of an image whose maps are averaged (default none){several}",
    )
    parser.add_argument(
        "--upsampling",
        nargs="+",
        choices=tuple(UPSAMPLINGS),
        default=tuple(UPSAMPLINGS),
        help=f"how the places of a map become pixels (default: {', '.join(UPSAMPLINGS)}){several}",
    )
    parser.add_argument(
        "--checks",
        action="store_true",
        help="measure in place of this what deletion and shuffled weights do, in the first of the "
        "ways to look; takes eight times as long",
    )
    parser.add_argument(
        "--output_dir", type=folder, default=Path("evidence_results"), help="keeps the maps"
    )
    parser.add_argument(
        "--report_dir",
        type=folder,
        default=ROOT,
        help="where benchmarks/evidence.json, docs/evidence.md and its figures are written "
        "(default: this repository)",
    )
    parser.add_argument(
        "--cache_dir",
        type=known_folder,
        default=known_folder(default_of("cache_dir")),
        help="folder of decoded pixels",
    )
    parser.add_argument("--num_workers", type=int, default=1, help="threads that decode")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(default fp32)")
    parser.add_argument("--resamples", type=int, default=1000, help="for intervals (default 1000)")
    parser.add_argument(
        "--render_only",
        action="store_true",
        help="only lay out docs/evidence.md from benchmarks/evidence.json again",
    )
    args = parser.parse_args(argv)
    ways = (args.target, args.layer, args.tta)
    if args.checks and any(len(way) > 1 for way in ways):
        raise InputError(
            "--checks looks at maps in one way: expected one each of --target, --layer and --tta"
        )
    return args


def find_all(args: argparse.Namespace) -> list["Judged"]:
    """Find all models with their images; raises InputError where one has none."""
    from benchmarks.evidence_maps.judged import Search, find_judged

    if not args.results_dirs:
        raise InputError("expected --results_dirs, the models to judge, found none")
    folders = list(dict.fromkeys(path.resolve() for path in args.results_dirs))
    lesions = args.lesions
    if lesions is None:
        if args.dataset_path is None:
            raise InputError("expected --lesions CSV, or --dataset_path of a dataset that holds it")
        lesions = args.dataset_path / LESIONS_FILE
    search = Search(
        dataset=args.dataset_path,
        lesions=lesions,
        split=args.split,
        referable_from=args.referable_from,
        num_workers=args.num_workers,
    )
    found = [find_judged(path, search) for path in folders]
    if len({one.synthetic for one in found}) > 1:
        raise InputError(
            "--results_dirs: some models have learned from drawn pictures and some from "
            "photographs; judge them one after the other"
        )
    return found


def views_of(args: argparse.Namespace) -> list["View"]:
    """List the ways to look at maps: the first, then each with one thing changed."""
    from benchmarks.evidence_maps.maps import Look
    from benchmarks.evidence_tables.gather import View

    target, layer, tta, how = (
        list(dict.fromkeys(getattr(args, name)))
        for name in ("target", "layer", "tta", "upsampling")
    )
    return [
        View(target[0], Look(layer[0], tta[0]), how[0]),
        *(View(target[0], Look(layer[0], tta[0]), other) for other in how[1:]),
        *(View(other, Look(layer[0], tta[0]), how[0]) for other in target[1:]),
        *(View(target[0], Look(layer[0], other), how[0]) for other in tta[1:]),
        *(View(target[0], Look(other, tta[0]), how[0]) for other in layer[1:]),
    ]


def conditions_of(
    judged: Sequence["Judged"], view: "View", gatherer: "Gatherer", resamples: int
) -> Conditions:
    """Say what was measured on, and with."""
    from benchmarks.evidence_maps.judged import note_uneven

    boxes = {id_: len(own.lesions) for one in judged for id_, own in one.boxes.items()}
    groups = {group for one in judged for group in one.groups.values()}
    roots = dict.fromkeys(Path(one.split.paths[0]).parents[2] for one in judged)
    name = next(iter(roots)).name if len(roots) == 1 else f"{len(roots)} datasets (folds)"
    views = VIEWS[view.look.tta]
    return Conditions(
        dataset=name,
        split=", ".join(dict.fromkeys(one.split.name for one in judged)),
        images=len(boxes),
        groups=len(groups),
        boxes=sum(boxes.values()),
        note="; ".join(
            [*dict.fromkeys(one.note for one in judged if one.note), *note_uneven(judged)]
        ),
        target=view.target,
        look=f"{view.look.layer}, {views} view{'s' if views > 1 else ''} of each image",
        upsampling=view.upsampling,
        map_size=gatherer.map_size(next(iter(gatherer.methods)), view),
        resamples=resamples,
        versions=versions(),
        git_commit=git_commit(),
    )


@guarded
def main(argv: list[str] | None = None) -> int:
    """Ask all models for their maps, measure them, and write the tables."""
    args = parse_args(argv)
    page = args.report_dir / "docs" / "evidence.md"
    file = args.report_dir / "benchmarks" / "evidence.json"
    if args.render_only:
        report.write(page, results.load(file))
        return 0
    from benchmarks.evidence_maps.maps import Place
    from benchmarks.evidence_tables.gather import Gatherer, check, gather
    from common.system.device import resolve_precision, select_device

    bootstrap = BootstrapConfig(args.resamples)
    device = select_device(args.device)
    judged = find_all(args)
    place = Place(
        output_dir=args.output_dir,
        cache_dir=args.cache_dir,
        num_workers=args.num_workers,
        device=device,
        precision=resolve_precision(args.precision, True, device),
    )
    gatherer, views = Gatherer(judged, place, bootstrap), views_of(args)
    rows = check(gatherer, views[0]) if args.checks else gather(gatherer, views)
    conditions = conditions_of(judged, views[0], gatherer, args.resamples)
    section = Section(conditions, rows, gatherer.curves)
    name = ("drawn" if judged[0].synthetic else "photographs") + (CHECKS if args.checks else "")
    stored = results.store(file, section, name)
    report.write(page, stored)
    log(f"wrote {file} and {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
