#!/usr/bin/env python3
"""Grade new photographs with a trained model or an ensemble, and say which a person must see.

    python predict.py --results_dirs ./*_5class_results --images ./new_photographs \\
        --csv ./predictions.csv --report ./predictions.html

Writes a row for each picture, as CSV and as JSONL, and one for each patient who can be told. What
evaluate_ensemble.py has chosen decides who is referred and what is unsure. The same command again
goes on where a run ended, however it ended.
"""

from common.cli import Parser, guarded, named_file

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.doubts.known_doubts import COPY, load_doubts
from common.flags.evaluation import (
    add_grader_flags,
    add_images_flag,
    add_patient_regex,
    add_worker_flag,
)
from common.flags.finding import find_graded_by
from common.grading.finding import DEFAULT_ENSEMBLE
from common.grading.networks import Networks
from common.grading.stored_grader import StoredGrader
from common.listing.walking import count_of
from common.new_pictures.answers import REVIEW_SHARE, Answers, Doubts, choose_asked
from common.new_pictures.description import (
    Arithmetic,
    facts_of,
    settings_of,
    warnings_of,
    words_of,
)
from common.new_pictures.journal import (
    Journal,
    JournalPart,
    RunFiles,
    RunSettings,
    open_journal,
    read_rows,
    require_ours,
)
from common.new_pictures.listing import Listing, NewPicture, list_pictures
from common.new_pictures.page import count_rows, headlines, is_page, write_page
from common.new_pictures.patients import read_metadatas, recognise_people, tabulate_patients
from common.new_pictures.rows import UNREADABLE, RowFormat
from common.new_pictures.run import Kept, Work, grade_pictures
from common.release.contract import reference_files
from common.release.onnx_grader import open_networks
from common.result_dir.paths import ResultDir
from common.sharing.launcher import Place, find_place
from common.sharing.session import clear_away, follow, lead
from common.sharing.shares import ranges
from common.system.errors import InputError
from common.system.log import log
from common.system.threads import allocate_in_one_heap, require_threads, use_threads


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_images_flag(parser)
    add_grader_flags(parser)
    parser.add_argument(
        "--onnx",
        type=named_file,
        default=None,
        metavar="FILE",
        help="in place of --results_dirs: what export_model.py --format onnx has written; PyTorch "
        "and timm are not needed then",
    )
    parser.add_argument(
        "--csv",
        type=named_file,
        default=Path("predictions.csv"),
        metavar="FILE",
        help="the table; beside it lie FILE.jsonl with the same rows, FILE.run.json with what they "
        "rest on, and FILE_patients.csv (default predictions.csv)",
    )
    parser.add_argument(
        "--report", type=named_file, default=None, metavar="FILE", help="a page of all pictures"
    )
    parser.add_argument(
        "--operating_point",
        default="",
        metavar="RULE",
        help="who is referred: one of the rules that the evaluation has chosen a threshold for, "
        "such as sensitivity=0.90, or argmax (default: the first of its thresholds, else argmax)",
    )
    parser.add_argument(
        "--review_share",
        type=float,
        default=None,
        metavar="SHARE",
        help="of the pictures, the least certain of which are to be reviewed: one of the shares "
        f"that the evaluation has chosen thresholds for, 0.05, 0.1 or 0.2 (default {REVIEW_SHARE})",
    )
    add_patient_regex(parser)
    add_worker_flag(parser, "threads that read pictures, at most the cores")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew where there are rows already, and write over files of others",
    )
    return parser.parse_args(argv)


@dataclass(frozen=True)
class GraderToRun:
    """Who grades, and what runs it."""

    grader: StoredGrader
    networks: Networks
    arithmetic: Arithmetic
    doubts: Doubts


def open_grader(args: argparse.Namespace, place: Place) -> GraderToRun:
    """Load the models in PyTorch, which is imported only here, with what was chosen for them.

    What can be refused without it comes first.
    """
    if args.onnx:
        return open_exported(args, place)
    found = find_graded_by(args.results_dirs, args.base_models, args.grader)
    use_threads(args.threads, place.leads)
    from common.grading.loading import load_grader_and_models
    from common.system.device import resolve_precision, select_device

    device = select_device(args.device, place.local_rank)
    precision = resolve_precision(args.precision, True, device)
    loaded = load_grader_and_models(found.runs, found.given, args.tta, device, precision)
    tta = tuple(model.tta for model in loaded.networks.models)
    models = loaded.networks.models
    kept = [model.run.directory.reference for model in models]
    doubts = load_doubts(kept, [model.loaded.fingerprint for model in models])
    arithmetic = Arithmetic("PyTorch", str(device), precision, tta)
    return GraderToRun(loaded.grader, loaded.networks, arithmetic, doubts)


def open_exported(args: argparse.Namespace, place: Place) -> GraderToRun:
    """Open a file of export_model.py, in which all that was chosen is already."""
    for name in ("results_dirs", "base_models", "grader", "tta"):
        if getattr(args, name):
            raise InputError(
                f"--onnx {args.onnx} holds the models, with all that was chosen for them; leave "
                f"out --{name}"
            )
    if args.precision != "auto":
        raise InputError(f"--onnx {args.onnx} has a precision of its own; leave out --precision")
    use_threads(args.threads, place.leads, probe=False)
    networks = open_networks(args.onnx, args.device)
    tta = tuple(member.tta for member in networks.contract.members)
    arithmetic = Arithmetic("onnxruntime", networks.device, networks.contract.weights, tta)
    prints = [member.checkpoints for member in networks.grader.members]
    doubts = load_doubts(reference_files(args.onnx, len(prints)), prints, COPY)
    return GraderToRun(networks.grader, networks, arithmetic, doubts)


def require_different_files(files: RunFiles, report: Path | None) -> None:
    """Raise InputError where one file would take the place of another."""
    names = [path.resolve() for path in files.all]
    if files.csv.suffix.lower() in (".jsonl", ".json", ".html") or files.csv.is_dir():
        raise InputError(f"--csv {files.csv}: expected the name of a CSV file")
    if report is not None and (report.resolve() in names or report.is_dir()):
        raise InputError(f"--report {report}: expected a file of its own, such as predictions.html")


def files_read(args: argparse.Namespace) -> list[Path]:
    """List what is read beside the pictures: of the models, of their ensemble, or of an export."""
    found = [path for path in (args.onnx, args.grader) if path]
    if args.onnx:
        found += [args.onnx.with_suffix(".json"), args.onnx.with_name(f"{args.onnx.name}.data")]
        start, files = f"{args.onnx.stem}_reference", args.onnx.parent.glob("*.npz")
        return [*found, *(each for each in files if each.name.startswith(start))]
    for root in [*args.results_dirs, DEFAULT_ENSEMBLE]:
        directory = ResultDir(Path(root))
        found += [directory.grader, directory.reference, directory.config, directory.model_card]
        found += directory.models.glob("*")
    return found


def require_free_places(
    files: RunFiles, report: Path | None, listing: Listing, args: argparse.Namespace
) -> None:
    """Raise InputError where something would be lost: a picture, or what others have written."""
    outputs = dict.fromkeys(files.all, "--csv")
    if report is not None:
        outputs[report] = "--report"
    listing.require_apart(outputs, files_read(args))
    if args.overwrite:
        return
    require_ours(files)
    if report is not None and os.path.lexists(report) and not is_page(report):
        raise InputError(
            f"--report {report} is there and predict.py has not written it; choose another name, "
            "or write over it with --overwrite"
        )


def say_who_they_are_of(listing: Listing, patient_regex: str) -> None:
    """Say what tells the patients."""
    metadata = read_metadatas(listing)
    for each in metadata.values():
        for line in each.remarks:
            log(line)
    names = [picture.name for picture in listing.pictures]
    people = recognise_people(names, listing, patient_regex, metadata)
    log(f"patients: {people.patients.evidence}")


def say_what_is_there(journal: Journal, listing: Listing, kept: Kept) -> None:
    """Say how far an earlier process came."""
    done = sum(picture.name in journal.done for picture in listing.pictures)
    if done:
        left = len(listing) - done
        log(f"{journal.files.csv}: {count_of(done, 'row')} are there, {left} to be made")
    if kept.renamed:
        log(f"note: {count_of(kept.renamed, 'picture')} renamed as --images lists them now")
    if kept.gone:
        log(f"note: {count_of(kept.gone, 'row')} of pictures that are not there any more stay")


@dataclass(frozen=True)
class Launch:
    """What a process of several, or one alone, knows of the work that it shares."""

    place: Place
    listing: Listing
    settings: RunSettings

    def own_pictures(self, chunk: int) -> Sequence[NewPicture]:
        """Return the pictures that this process grades, whole chunks of the networks."""
        rows = ranges(len(self.listing), self.place.size, chunk)[self.place.rank]
        return self.listing.pictures[rows.start : rows.stop]


def grade_for_the_first(launch: Launch, files: RunFiles, form: RowFormat, work: Work) -> None:
    """Grade a part of the pictures for the process that holds the journal."""
    settings, rank = launch.settings, launch.place.rank
    with follow(files.parts, launch.place, settings.fingerprint) as session:
        part = JournalPart(files, form, session.path(settings.part, rank))
        grade_pictures(launch.own_pictures(work.networks.chunk), part, work)


def grade_all(launch: Launch, journal: Journal, work: Work) -> None:
    """Grade the pictures, with the rows that other processes bring, if there are any."""
    place, settings, folder = launch.place, launch.settings, journal.files.parts
    if place.alone:
        clear_away(folder)
    else:
        with lead(folder, place, settings.fingerprint, keep=True) as session:
            grade_pictures(launch.own_pictures(work.networks.chunk), journal, work)
            listed = {picture.name for picture in launch.listing.pictures}
            for rank in sorted(session.present):
                session.wait_for_end(rank)
                journal.add_part(session.path(settings.part, rank), listed)
    grade_pictures(launch.listing.pictures, journal, work)


def write_patients(
    files: RunFiles, form: RowFormat, listing: Listing, answers: Answers, args: argparse.Namespace
) -> None:
    """Write the table of patients, if any are known."""
    images = [row.image for row in read_rows(files.jsonl, form)]
    rows, names = read_rows(files.jsonl, form), answers.grader.scored.names
    metadata = read_metadatas(listing)
    table = tabulate_patients(images, rows, listing, names, args.patient_regex, metadata)
    if table.rows:
        table.write(files.patients)
        others = f"; {count_of(table.others, 'picture')} of nobody known" if table.others else ""
        log(f"wrote {files.patients}, {count_of(len(table.rows), 'patient')}{others}")
    else:
        files.patients.unlink(missing_ok=True)


def say_counts(counts: Counter[str], files: RunFiles) -> None:
    """Say what came out."""
    found = [f"{each.count} {each.name}" for each in headlines(counts) if each.count]
    log(f"{count_of(counts['all'], 'picture')}: {', '.join(found)}")
    log(f"wrote {files.csv} and {files.jsonl}; {files.settings} says what the rows rest on")


def require_one_that_was_read(counts: Counter[str], files: RunFiles) -> None:
    """Raise InputError where all pictures are unusable: what was asked for was not done."""
    if counts[UNREADABLE] == counts["all"]:
        raise InputError(
            f"expected a picture that can be read, found none among {counts['all']}; "
            f"{files.csv} has the reason of each"
        )


@partial(guarded, shares=True)
def main(argv: list[str] | None = None) -> int:
    """List the pictures, load the grader, grade what has no row yet, then sum up.

    2 if no picture can be read; the rows then say why.
    """
    args, place = parse_args(argv), find_place()
    require_threads(args.threads)
    allocate_in_one_heap()
    files = RunFiles(args.csv)
    require_different_files(files, args.report)
    listing = list_pictures(args.images)
    if place.leads:
        for line in [*listing.remarks, f"{count_of(len(listing), 'picture')} to be graded"]:
            log(line)
        require_free_places(files, args.report, listing, args)
        say_who_they_are_of(listing, args.patient_regex)  # first: a mistake is named at once
    run = open_grader(args, place)
    asked = choose_asked(run.grader, args.operating_point, args.review_share)
    answers = Answers(run.grader, asked, run.doubts)
    form = RowFormat(run.grader.scored.names)
    work = Work(run.networks, answers.judge, answers.refuse, answers.doubts.look, args.num_workers)
    settings = settings_of(answers, form, run.arithmetic, args.images)
    launch = Launch(place, listing, settings)
    if not place.leads:
        grade_for_the_first(launch, files, form, work)
        return 0
    for name, text in facts_of(answers, run.arithmetic):
        log(f"{name.lower()}: {text}")
    for line in warnings_of(answers, run.arithmetic):
        log(f"note: {line}")

    kept = Kept(listing, files)
    with open_journal(files, form, settings, args.overwrite, kept) as journal:
        say_what_is_there(journal, listing, kept)
        grade_all(launch, journal, work)
        journal.finish([picture.name for picture in listing.pictures])
        write_patients(files, form, listing, answers, args)
        counts = count_rows(read_rows(files.jsonl, form))
        if args.report:
            words = words_of(answers, run.arithmetic, counts["all"])
            write_page(args.report, files, read_rows(files.jsonl, form), words, args.num_workers)
            log(f"wrote {args.report}")
    say_counts(counts, files)
    require_one_that_was_read(counts, files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
