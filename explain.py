#!/usr/bin/env python3
"""Show where in photographs the evidence lies that a trained model or an ensemble used.

    python explain.py --results_dirs ./*_5class_results --images ./new_photographs \\
        --output_dir ./evidence

Writes a page (evidence.html), the drawings and the maps in numbers. The maps add up to the logits:
the mean of a map plus a constant is the score that stands beside it. They show evidence used by the
network, not lesions.
"""

from common.cli import Parser, folder, guarded

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from common.evidence.ending import LINEARISED
from common.evidence.exact import EXACT
from common.evidence.explanation import (
    Explained,
    ExplainedChunk,
    How,
    explain_pictures,
    require_one_square,
)
from common.evidence.overlay import choose_scale, draw_overlay, in_logits
from common.evidence.page import PageWords, ShownPicture, write_page
from common.flags import add_grader_flags, add_images_flag, add_worker_flag, find_graded_by
from common.grading.loading import LoadedGrader, load_grader_and_models
from common.listing.walking import count_of
from common.new_pictures.description import Arithmetic, facts_of_grader
from common.new_pictures.listing import Listing, list_pictures
from common.new_pictures.run import ReadPicture, read_ahead
from common.pairs import class_pairs
from common.prediction.altered import AlteredPixels
from common.result_dir import EvidenceDir, write_predictions
from common.system.device import resolve_precision, select_device
from common.system.errors import InputError
from common.system.files import atomic_write
from common.system.log import log, printable, progress_bar

_OURS = re.compile(r"\d{5}_.*\.(jpg|png|npz)")
_LETTERS = 60  # of a picture's name in the names of its files


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
        "--finer",
        action="store_true",
        help="maps of an earlier stage with twice the positions or more to a side (HiResCAM): a "
        "first-order account in place of the exact maps",
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
    args = parser.parse_args(argv)
    if args.scale is not None and not 0 < args.scale < np.inf:
        parser.error(f"--scale: expected logits above 0, found {args.scale:g}")
    return args


@dataclass
class Output:
    """What is written, and what the page will need of it."""

    place: EvidenceDir
    shown: list[ShownPicture] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)  # of the shown pictures' files
    written: set[Path] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)  # why pictures could not be explained
    methods: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()


def open_grader(args: argparse.Namespace, how: How) -> LoadedGrader:
    """Load the models with what an evaluation has chosen for them."""
    chosen = find_graded_by(args.results_dirs, args.base_models, args.grader)
    loaded = load_grader_and_models(chosen.runs, chosen.given, args.tta, how.device, how.precision)
    require_one_square(loaded.networks.models)
    return loaded


def choose_how(args: argparse.Namespace) -> How:
    """Choose the device, the arithmetic and the kind of maps."""
    device = select_device(args.device)
    precision = resolve_precision(args.precision, True, device)
    return How(device, precision, args.finer, args.occlusion)


def explain_all(
    listing: Listing, loaded: LoadedGrader, how: How, num_workers: int, output: Output
) -> None:
    """Explain all pictures, a chunk at a time, and write their maps."""
    places = {picture.name: place for place, picture in enumerate(listing.pictures)}
    networks = loaded.networks
    preprocessings = networks.preprocessings
    bar = progress_bar(None, "explain", len(listing))
    found = read_ahead(listing.pictures, preprocessings, num_workers, networks.chunk)
    for chunk in chunks_of(found, networks.chunk, output):
        pixels = [
            AlteredPixels(np.stack([each.squares[model] for each in chunk]), own)
            for model, own in enumerate(preprocessings)
        ]
        names = [each.picture.name for each in chunk]
        explained = explain_pictures(names, pixels, networks.models, loaded.grader, how)
        for row, each in enumerate(chunk):
            stem = stem_of(names[row], places[names[row]])
            save_picture(output, stem, each.squares[0], explained.pictures[row])
            save_maps(output, stem, explained, row, loaded)
        output.methods = tuple(dict.fromkeys(own.method for own in explained.evidence))
        output.positions = explained.pictures[0].evidence[0].whole.values.shape
        bar.update(len(chunk))
    bar.close()
    if not output.shown:
        raise InputError(f"--images: none can be read: {'; '.join(output.refused[:3])}")


def chunks_of(
    found: Iterator[ReadPicture], size: int, output: Output
) -> Iterator[list[ReadPicture]]:
    """Gather readable pictures, and why the others are none."""
    chunk: list[ReadPicture] = []
    for each in found:
        if each.error:
            output.refused.append(f"{printable(each.picture.name)}: {each.error}")
            log(f"note: left out, {output.refused[-1]}")
            continue
        chunk.append(each)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def stem_of(name: str, place: int) -> str:
    """Name a picture's files alike in each run over the same pictures, whatever it is called."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).stem)[:_LETTERS]
    return f"{place:05}_{plain or 'picture'}"


def save_picture(output: Output, stem: str, square: np.ndarray, explained: Explained) -> None:
    """Keep the square that the networks saw, and what was found on it."""
    path = output.place.picture(stem)
    with atomic_write(path) as file:
        Image.fromarray(square).save(file, "JPEG", quality=95)
    output.written.add(path)
    output.shown.append(ShownPicture(explained, path))
    output.stems.append(stem)


def save_maps(
    output: Output, stem: str, chunk: ExplainedChunk, row: int, loaded: LoadedGrader
) -> None:
    """Write all that the maps of a picture are made from, and the sums."""
    grader, explained = loaded.grader, chunk.pictures[row]
    arrays = {"pairs": np.array(class_pairs(len(grader.class_names))), "weights": grader.weights}
    for number, own in enumerate(chunk.evidence):
        arrays[f"maps_{number}"] = own.maps[row]
        arrays[f"constants_{number}"] = own.constants[row]
        arrays[f"logits_{number}"] = own.logits[row]
    for number, falls in enumerate(chunk.falls):
        arrays[f"occlusion_{number}"] = falls[row]
    for each in explained.evidence:
        arrays[f"map_{each.decision.key}"] = each.whole.values
    details = {
        "image": explained.name,
        "model": grader.fingerprint,
        "members": [member.label for member in grader.members],
        "method": [own.method for own in chunk.evidence],
        "class_names": list(grader.class_names),
        "scored": list(grader.scored.names),
        "of_model": list(grader.of_model),
        "probabilities": explained.probabilities.tolist(),
        "predicted": explained.predicted,
        "decisions": [
            {
                "key": each.decision.key,
                "title": each.decision.title,
                "positive_speaks_for": each.decision.speaks_for,
                "negative_speaks_for": each.decision.speaks_against,
                "constant": each.whole.constant,
                "score": each.whole.score,
            }
            for each in explained.evidence
        ],
    }
    path = output.place.maps(stem)
    write_predictions(path, arrays, details)
    output.written.add(path)


def draw(output: Output, scale: float, titles: Sequence[str]) -> None:
    """Draw the evidence for each decision over its picture, all on one scale."""
    for shown, stem in zip(output.shown, output.stems):
        explained = shown.explained
        square = np.asarray(Image.open(shown.square))
        share = 100 * explained.probabilities[explained.predicted]
        graded = f"{explained.name}: {titles[explained.predicted]} ({share:.0f} %)"
        for each in explained.evidence:
            lines = [
                graded,
                f"{each.decision.title}: {each.whole.describe()}",
                f"orange for {each.decision.speaks_for}, blue for {each.decision.speaks_against}",
            ]
            picture = draw_overlay(square, each.whole.values, scale, lines)
            path = output.place.overlay(stem, each.decision.key)
            with atomic_write(path) as file:
                picture.save(file, "PNG", compress_level=1)  # a quarter of the time
            output.written.add(path)


def remove_others(output: Output) -> None:
    """Remove what an earlier run left of pictures that this one has not explained."""
    for part in output.place.parts:
        for path in part.glob("*"):
            if path not in output.written and _OURS.fullmatch(path.name):
                path.unlink()


def facts_of(output: Output, loaded: LoadedGrader, how: How) -> list[tuple[str, str]]:
    """Say what graded and how, and what the maps are."""
    grader, size = loaded.grader, " x ".join(map(str, output.positions))
    tta = tuple(model.tta for model in loaded.networks.models)
    arithmetic = Arithmetic("PyTorch", str(how.device), how.precision, tta)
    facts = facts_of_grader(grader, arithmetic, "; their maps are turned back and averaged")
    methods = "; ".join(_METHODS.get(method, method) for method in output.methods)
    facts.append(("Maps", f"{size} positions, {methods}"))
    if output.methods == (EXACT,):
        facts.append(("A position's value", _VALUE))
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
_METHODS = {
    EXACT: "exact: their mean over the positions plus the constant is the score",
    LINEARISED: "by the tangent: the hidden layers behind the average are taken as the straight "
    "line that they are near the picture's values, and the constant is another for each picture",
}


def warnings_of(loaded: LoadedGrader, how: How) -> list[str]:
    """Say what the maps do not say."""
    grader = loaded.grader
    found = ["all pictures are graded here; which of them should not be, predict.py says"]
    if not grader.evaluated:
        found.append(f"nothing is known of how good the grades are: {grader.chosen_on.why_none}")
    if how.finer:
        found.append(
            "the finer maps are a first-order account: they need not add up to the score, and the "
            "constant holds what is left"
        )
    if len(grader.members) > 1:
        found.append("an ensemble averages probabilities; its maps are those of the mean logits")
    if how.precision != "fp32":
        found.append(
            f"in {how.precision}, maps add up to about 1 %; with --precision fp32 to rounding"
        )
    return found


@guarded
def main(argv: list[str] | None = None) -> int:
    """Explain pictures."""
    args = parse_args(argv)
    how, output = choose_how(args), Output(EvidenceDir(args.output_dir))
    listing = list_pictures(args.images)
    for line in listing.remarks:
        log(line)
    args.output_dir.mkdir(parents=True, exist_ok=True)  # a mistake is found before time is spent
    loaded = open_grader(args, how)
    log(
        f"explaining {count_of(len(listing), 'picture')} with {loaded.grader.label}, "
        f"{how.precision} on {how.device}"
    )
    explain_all(listing, loaded, how, args.num_workers, output)
    shown = [each for picture in output.shown for each in picture.explained.evidence]
    scale = args.scale or choose_scale([each.whole.values for each in shown])
    scored = loaded.grader.scored
    draw(output, scale, scored.titles)
    remove_others(output)
    words = PageWords(
        title=f"Evidence used on {count_of(len(output.shown), 'picture')}",
        classes=scored,
        members=tuple(member.label for member in loaded.grader.members),
        facts=facts_of(output, loaded, how),
        warnings=warnings_of(loaded, how),
    )
    write_page(output.place.page, output.shown, scale, words, output.refused)
    log(
        f"explained {count_of(len(output.shown), 'picture')}, {len(output.refused)} left out; full "
        f"colour is {in_logits(scale)}; wrote {output.place.page}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
