#!/usr/bin/env python3
"""Show where in photographs the evidence lies that a trained model or an ensemble used.

    python explain.py --results_dirs ./*_5class_results --images ./new_photographs \\
        --output_dir ./evidence

Writes a page (evidence.html), the drawings and the maps in numbers. The maps add up to the logits:
the mean of a map plus a constant is the score that stands beside it (--maps combined meet lesions
better, and add up to nothing). They show evidence used by the network, not lesions. A run that was
interrupted goes on where it ended.
"""

from common.cli import Parser, folder, guarded

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from common.evidence.maps import COMBINED, EXACT, FINER, KINDS
from common.evidence.overlay import choose_scale, draw_overlay, in_logits
from common.flags.evaluation import add_grader_flags, add_images_flag, add_worker_flag
from common.flags.finding import GradedBy, find_graded_by
from common.listing.walking import count_of
from common.new_pictures.description import Arithmetic, facts_of_grader, fingerprint_choices
from common.new_pictures.journal import RunSettings
from common.new_pictures.listing import list_pictures
from common.result_dir.paths import EvidenceDir
from common.system.environment import versions
from common.system.errors import InputError
from common.system.files import atomic_write
from common.system.log import log, utc_now
from common.system.threads import allocate_in_one_heap, require_threads, use_threads

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from common.evidence.explanation import Explained, How, Sources
    from common.explaining.kept_maps import KeptMaps
    from common.grading.loading import LoadedGrader


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_images_flag(parser)
    add_grader_flags(parser)
    parser.add_argument(
        "--output_dir",
        type=folder,
        default=Path("evidence"),
        help="where the page, the drawings and the maps go (default evidence)",
    )
    parser.add_argument(
        "--maps",
        choices=KINDS,
        default=EXACT,
        help="exact: the mean of a map plus a constant is the score; finer: of an earlier stage "
        "with twice the positions or more to a side, a first-order account (HiResCAM); combined: "
        "the finer map weighed by the exact one, which met lesions in photographs best "
        "(docs/evidence.md), but does not add up to the score (default exact)",
    )
    parser.add_argument(
        "--occlusion",
        action="store_true",
        help="check the maps by hiding each of 8 x 8 parts of the picture in turn; takes 65 "
        "predictions of each",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=None,
        metavar="LOGITS",
        help="evidence of full colour, the same for all pictures (default: a round number that "
        "nearly all of the run's values lie within, at least 1); give one to compare runs",
    )
    add_worker_flag(parser, "threads that read pictures, at most the cores")
    parser.add_argument(
        "--overwrite", action="store_true", help="start anew where there are maps already"
    )
    args = parser.parse_args(argv)
    if args.scale is not None and not 0 < args.scale < np.inf:
        parser.error(f"--scale: expected logits above 0, found {args.scale:g}")
    return args


def open_grader(chosen: GradedBy, tta: str, how: "How") -> "LoadedGrader":
    """Load the models with what an evaluation has chosen for them."""
    from common.evidence.explanation import require_one_square
    from common.grading.loading import load_grader_and_models

    loaded = load_grader_and_models(chosen.runs, chosen.given, tta, how.device, how.precision)
    require_one_square(loaded.networks.models)
    return loaded


def choose_how(args: argparse.Namespace) -> "How":
    """Choose the device, the arithmetic and the kind of maps."""
    from common.evidence.explanation import How
    from common.system.device import resolve_precision, select_device

    device = select_device(args.device)
    precision = resolve_precision(args.precision, True, device)
    return How(device, precision, args.maps, args.occlusion)


@dataclass(frozen=True)
class Deciding:
    """What a run that goes on must have alike, in the order in which it is stored."""

    model: str  # fingerprint of the networks
    device: str
    precision: str
    tta: tuple[str, ...]
    maps: str
    occlusion: bool
    chosen: str  # fingerprint of what the evaluation chose


@dataclass(frozen=True)
class Telling:
    """What a reader of the maps wants to know beside that."""

    images: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    begun: str
    versions: dict[str, str]


def settings_of(loaded: "LoadedGrader", how: "How", places: Sequence[str]) -> RunSettings:
    """Say what maps are made with; a run that goes on must have the first part alike."""
    grader, models = loaded.grader, loaded.networks.models
    deciding = Deciding(
        model=grader.fingerprint,
        device=str(how.device),
        precision=how.precision,
        tta=tuple(model.tta for model in models),
        maps=how.maps,
        occlusion=how.occlusion,
        chosen=fingerprint_choices(grader),
    )
    telling = Telling(
        images=tuple(places),
        label=grader.label,
        classes=tuple(grader.scored.names),
        begun=utc_now(),
        versions=versions(),
    )
    return RunSettings(deciding, telling)


def read_explained(
    names: Sequence[str], loaded: "LoadedGrader", kept: "KeptMaps"
) -> "list[Explained]":
    """Put together what was found on each picture, in whichever process it was made."""
    from common.evidence.explanation import explain_picture

    return [explain_picture(name, kept.sources(name), loaded.grader) for name in names]


def draw(explained: "Explained", scale: float, titles: Sequence[str], kept: "KeptMaps") -> None:
    """Draw the evidence for each decision over its picture."""

    square = np.asarray(Image.open(kept.square(explained.name)))
    share = 100 * explained.probabilities[explained.predicted]
    graded = f"{explained.name}: {titles[explained.predicted]} ({share:.0f} %)"
    for each in explained.evidence:
        lines = [
            graded,
            f"{each.decision.title}: {each.whole.describe()}",
            f"orange for {each.decision.speaks_for}, blue for {each.decision.speaks_against}",
        ]
        picture = draw_overlay(square, each.whole.values, scale, lines)
        path = kept.place.overlay(kept.stem(explained.name), each.decision.key)
        with atomic_write(path) as file:
            picture.save(file, "PNG", compress_level=1)  # a quarter of the time
        kept.drawn.add(path)


def facts_of(first: "Sources", loaded: "LoadedGrader", how: "How") -> list[tuple[str, str]]:
    """Say what graded and how, and what the maps are; first: of any picture."""
    from common.evidence.ending import LINEARISED

    grader, models = loaded.grader, loaded.networks.models
    tta = tuple(model.tta for model in models)
    arithmetic = Arithmetic("PyTorch", str(how.device), how.precision, tta)
    facts = facts_of_grader(grader, arithmetic, "; their maps are turned back and averaged")
    shown = first.finer or first.evidence
    size = max((own.maps.shape[2:] for own in shown), key=lambda sides: sides[0] * sides[1])
    methods = tuple(dict.fromkeys(first.methods))
    texts = {
        EXACT: "exact: their mean over the positions plus the constant is the score",
        LINEARISED: "by the tangent: the hidden layers behind the average are taken as the "
        "straight line that they are near the picture's values, and the constant is another for "
        "each picture",
    }
    said = "; ".join(texts.get(method, method) for method in methods)
    facts.append(("Maps", f"{' x '.join(map(str, size))} positions, {said}"))
    if methods == (EXACT,):
        facts.append(("A position's value", _VALUE))
    if how.maps == COMBINED:
        facts.append(("A position's value", _COMBINED_VALUE))
    facts.append(
        (
            "A decision",
            "the mean over the pairs with one class on each side of it, each turned towards it and "
            "weighted by how likely the picture is of its two classes",
        )
    )
    if len(grader.members) > 1:
        facts.append(("Several models", f"mean of theirs, weights {grader.weighting}"))
    facts.append(("Referable", grader.scored.referable))
    return facts


_VALUE = "the score that the picture would have, less the constant, if all of it were like this"
_COMBINED_VALUE = (
    "the finer map's, times the exact map's there over the largest in the picture; nothing where "
    "the two speak for different sides"
)


def warnings_of(loaded: "LoadedGrader", how: "How") -> list[str]:
    """Say what the maps do not say."""
    grader = loaded.grader
    found = ["all pictures are graded here; which of them should not be, predict.py says"]
    if not grader.evaluated:
        found.append(f"nothing is known of how good the grades are: {grader.chosen_on.why_none}")
    if how.maps == FINER:
        found.append(
            "the finer maps are a first-order account: they need not add up to the score, and the "
            "constant holds what is left"
        )
    if how.maps == COMBINED:
        found.append(
            "the maps do not add up to the score: of finer maps, a first-order account, only that "
            "is left which the exact maps agree with; the exact maps show what the score is made of"
        )
    if len(grader.members) > 1:
        found.append("an ensemble averages probabilities; its maps are those of the mean logits")
    if how.precision != "fp32" and how.maps == EXACT:
        found.append(
            f"in {how.precision}, maps add up to about 1 %; with --precision fp32 to rounding"
        )
    return found


@guarded
def main(argv: list[str] | None = None) -> int:
    """List the pictures, load the grader, make the maps that are not there, then draw them all."""
    args = parse_args(argv)
    require_threads(args.threads)
    allocate_in_one_heap()
    listing, place = list_pictures(args.images), EvidenceDir(args.output_dir)
    for line in listing.remarks:
        log(line)
    args.output_dir.mkdir(parents=True, exist_ok=True)  # a mistake is found before time is spent
    models = find_graded_by(args.results_dirs, args.base_models, args.grader)
    from common.evidence.page import PageWords, ShownPicture, write_page
    from common.explaining.chunks import explain_all
    from common.explaining.kept_maps import open_kept_maps

    how = choose_how(args)
    use_threads(args.threads)
    loaded = open_grader(models, args.tta, how)
    settings = settings_of(loaded, how, args.images)
    with open_kept_maps(place, settings, listing, args.overwrite) as kept:
        left = len(listing) - sum(picture.name in kept.done for picture in listing.pictures)
        there = f", maps of {len(listing) - left} of them are there" if left < len(listing) else ""
        log(
            f"explaining {count_of(len(listing), 'picture')} with {loaded.grader.label}, "
            f"{how.precision} on {how.device}{there}"
        )
        refused = explain_all(listing, loaded, how, args.num_workers, kept)
        names = kept.in_order(listing)
        if not names:
            raise InputError(f"--images: none can be read: {'; '.join(refused[:3])}")
        explained = read_explained(names, loaded, kept)
        found = [each.whole.values for picture in explained for each in picture.evidence]
        scale = args.scale or choose_scale(found)
        scored = loaded.grader.scored
        for picture in explained:
            draw(picture, scale, scored.titles, kept)
        kept.remove_others()
        words = PageWords(
            title=f"Evidence used on {count_of(len(names), 'picture')}",
            classes=scored,
            members=tuple(member.label for member in loaded.grader.members),
            facts=facts_of(kept.sources(names[0]), loaded, how),
            warnings=warnings_of(loaded, how),
        )
        shown = [ShownPicture(picture, kept.square(picture.name)) for picture in explained]
        write_page(place.page, shown, scale, words, refused)
    log(
        f"explained {count_of(len(names), 'picture')}, {len(refused)} left out; full colour is "
        f"{in_logits(scale)}; wrote {place.page}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
