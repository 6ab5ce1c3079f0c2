#!/usr/bin/env python3
"""Inspect trained pair classifiers, each on its own file; or watch trainings from their files.

    python model_analyzer.py --model ./coatnet_5class_results/models
    python model_analyzer.py --model ./coatnet_5class_results/models/*.pth
    python model_analyzer.py --watch ./*_5class_results

Prints one row per classifier, and one per pair of a network for all pairs (--head shared); writes
model_analysis.json, .csv and training curves. --watch prints one screen, again and again on a
terminal, and writes nothing.
"""

from common.cli import Parser, folder, guarded

import argparse
import math
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from common.architectures import stored_architecture
from common.evaluation.gates import PAIR, PASS
from common.flags.evaluation import add_figure_flags
from common.flags.finding import require_a_classifier
from common.models.checkpoint_file import CheckpointError, require_checkpoint
from common.pairs import pair_head, with_head
from common.prediction.labels import unique_labels
from common.reporting.table import format_table
from common.reporting.tables import decimal, percent
from common.result_dir.csv_files import write_table
from common.result_dir.paths import AnalysisFiles, ResultDir
from common.result_dir.run import MOST_CLASSES, read_config, recorded_files
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log
from common.watching.screen import all_done, screen
from common.watching.standing import find_runs_below, standing_of

_WATCH_EVERY = 5.0  # seconds
_CLEAR = "\x1b[H\x1b[2J"  # of a terminal

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from common.figures.training import Learned
    from common.models.checkpoint import PairCheckpoint


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--model",
        nargs="+",
        type=folder,  # or a file; an empty name is neither
        metavar="PATH",
        help="checkpoint files, folders of them or result directories",
    )
    asked.add_argument(
        "--watch",
        nargs="+",
        type=folder,
        metavar="DIR",
        help="say how far the trainings in result directories, or in all of a folder, are",
    )
    parser.add_argument(
        "--watch_every",
        type=positive_seconds,
        default=None,
        metavar="SECONDS",
        help=f"look again on a terminal (default {_WATCH_EVERY:g})",
    )
    parser.add_argument(
        "--output_dir",
        type=folder,
        default=None,
        help="(default results/ next to models/, or ./model_analysis)",
    )
    add_figure_flags(parser)
    args = parser.parse_args(argv)
    idle = ("output_dir", "figure_format") if args.watch else ("watch_every",)
    for name in idle:
        if getattr(args, name) != parser.get_default(name):
            with_which = "--watch" if args.watch else "--model"
            raise InputError(f"--{name} has no effect with {with_which}; leave out one of the two")
    return args


def positive_seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text!r}")
    return seconds


def watch(places: list[Path], every: float) -> None:
    """Print how far trainings are; on a terminal again and again, until all are done."""
    for place in places:  # a mistake is named at once; what is removed later, on the screen
        if not place.is_dir():
            raise InputError(f"--watch {place}: expected a folder, found none")
    while True:
        runs = [standing_of(directory) for directory in find_runs_below(places)]
        on_terminal = sys.stdout.isatty()
        shown = screen(runs, shutil.get_terminal_size().columns)
        print(f"{_CLEAR if on_terminal else ''}{shown}", flush=True)
        if not on_terminal or all_done(runs):
            return
        try:
            time.sleep(every)
        except KeyboardInterrupt:
            return


def find_files(paths: list[Path]) -> list[Path]:
    """Expand folders and result directories into their .pth files, each once."""
    files: dict[tuple[Path, str], Path] = {}  # by folder and name, however the folder is written
    for path in paths:
        place = path.parent if path.name == "models" else path
        require_a_classifier(ResultDir(place))
        folder = path / "models" if (path / "models").is_dir() else path
        found = [path]
        if folder.is_dir():
            found = sorted(folder.glob("*.pth"))
            if not found:
                raise InputError(f"{path}: expected *.pth files of train_ovo.py, found none")
            found = without_strangers(folder, found)
        for file in found:
            files.setdefault((file.parent.resolve(), file.name), file)
    return list(files.values())


def without_strangers(folder: Path, found: list[Path]) -> list[Path]:
    """Leave out, and name, what no evaluation of a run reads, such as a copy of a classifier.

    Of a folder that is not a run's, and of a run whose config.json cannot be used, all are left.
    """
    written = folder_of(folder / "*.pth")
    models = written if written.name == "models" else folder.resolve()
    directory = ResultDir(models.parent)
    if models != directory.models or (read := recorded_files(directory)) is None:
        return found
    for path in found:
        if path.name not in read:
            say_skipped(f"{path}: no evaluation of this run reads a file of this name")
    left = [path for path in found if path.name in read]
    if not left:
        raise InputError(f"{folder}: expected {min(read)} or another of the run's, found none")
    return left


def folder_of(path: Path) -> Path:
    """Return the folder that a file is in, or a link to it, in full."""
    return Path(os.path.abspath(path)).parent


def say_skipped(what: str) -> None:
    """Name a file that is not analysed, and why."""
    print(f"skipped: {what}", file=sys.stderr, flush=True)


ACCURACY_ALONE = "its training records no more of a pair than its accuracy on validation"


@dataclass(frozen=True)
class Analysis:
    """What is said of one classifier; the fields are the columns of model_analysis.csv."""

    file: str
    model: str
    pair: str  # such as "0-1 (none vs mild)", "shared", "shared 0-1 (none vs mild)" or "softmax"
    best_epoch: int
    epochs_run: int
    complete: bool
    val_accuracy: float
    val_auc: float
    sensitivity: float  # of a pair's second class; of referable DR for a head of all classes
    specificity: float
    overfitting_gap: float  # training minus validation accuracy at the epoch that was kept
    frozen: int
    trainable: int
    synthetic: bool
    size_mb: float
    status: str  # of the guide's gate on pairs; "" of what is no pair
    note: str  # why what is undefined is that
    label: str  # the model, and its folder where there are several
    head: str  # the pair without the names of its classes


@dataclass(frozen=True)
class Analysed:
    """What is said of one file."""

    row: Analysis
    pairs: list[Analysis]  # of a network with an output per pair, as far as they are known
    kind: str  # of the head
    learned: "Learned"


def analyse(path: Path, several: bool = False) -> Analysed:
    """Read one classifier and how it learned; InputError if it cannot be used.

    several: name the folder as well, because classifiers of more than one are analysed.
    """
    require_checkpoint(path)
    from common.figures.training import Learned
    from common.models.checkpoint import load_pair

    checkpoint = load_pair(path)
    require_usable(checkpoint, path)
    best = checkpoint.best.validation
    if best is None:
        raise CheckpointError(f"{path}: incomplete checkpoint (no validation)")
    binary = checkpoint.head.is_binary
    sensitivity = best.sensitivity if binary else best.referable_sensitivity
    specificity = best.specificity if binary else best.referable_specificity
    row = Analysis(
        file=str(path),
        model=checkpoint.model,
        head=checkpoint.head.name,
        pair=checkpoint.head.describe(checkpoint.class_names),
        best_epoch=checkpoint.best_epoch,
        epochs_run=len(checkpoint.history),
        complete=checkpoint.complete,
        val_accuracy=best.accuracy,
        val_auc=best.auc,
        sensitivity=math.nan if sensitivity is None else sensitivity,
        specificity=math.nan if specificity is None else specificity,
        overfitting_gap=checkpoint.best.train_accuracy - best.accuracy,
        frozen=checkpoint.frozen_parameters,
        trainable=checkpoint.trainable_parameters,
        synthetic=checkpoint.synthetic,
        size_mb=path.stat().st_size / 1e6,
        status=PAIR.verdict(best.accuracy) if binary else "",
        note="",
        label=checkpoint.model + (f" in {place_of(path)}" if several else ""),
    )
    learned = Learned(checkpoint.history, checkpoint.best_epoch)
    return Analysed(row, pairs_of(row, checkpoint), checkpoint.head.kind, learned)


def require_usable(checkpoint: "PairCheckpoint", path: Path) -> None:
    """Raise InputError for a file whose network an evaluation would refuse."""
    import torch

    from common.models.checkpoint import restore_pair
    from common.trained_networks.loading import require_names

    network = restore_pair(checkpoint, str(path))
    parameters = [*network.trunk.parameters(), *network.branch.parameters()]
    if not all(bool(torch.isfinite(weights).all()) for weights in parameters):
        raise InputError(f"{path}: holds weights that are not finite; train this classifier again")
    directory = ResultDir(place_of(path))
    if path.parent.name == "models" and directory.config.is_file():
        require_names(checkpoint, recorded_names(directory), directory, path)


def recorded_names(directory: ResultDir) -> tuple[str, ...]:
    """Read what the classes of a run are called; none where config.json does not say it."""
    try:
        config = read_config(directory)["config"]
    except InputError:  # a classifier can be looked at without it
        return ()
    names, count = config.get("class_names"), config.get("num_classes")
    if names and isinstance(names, list):
        return tuple(map(str, names))
    known = isinstance(count, int) and 0 < count <= MOST_CLASSES
    return tuple(map(str, range(count))) if known else ()


def pairs_of(row: Analysis, checkpoint: "PairCheckpoint") -> list[Analysis]:
    """Give each pair of a shared network a row of its own; only its accuracy is stored."""
    found = zip(checkpoint.head.pairs, checkpoint.pair_accuracies)
    heads = [(pair_head(pair), accuracy) for pair, accuracy in found if not row.status]
    return [
        replace(
            row,
            pair=f"{row.head} {head.describe(checkpoint.class_names)}",
            head=f"{row.head} {head.name}",
            val_accuracy=accuracy,
            val_auc=math.nan,
            sensitivity=math.nan,
            specificity=math.nan,
            overfitting_gap=math.nan,
            status=PAIR.verdict(accuracy),
            note=ACCURACY_ALONE,
        )
        for head, accuracy in heads
    ]


def place_of(path: Path) -> Path:
    """Return the result directory of a classifier, or the folder that it lies in."""
    return path.parent.parent if path.parent.name == "models" else path.parent


def by_model(found: list[Analysed]) -> "dict[str, dict[str, Learned]]":
    """Sort classifiers by the model that they belong to, each called as briefly as possible."""
    models: dict[tuple[Path, str], dict[str, Learned]] = {}
    for each in found:
        name = with_head(stored_architecture(each.row.model).alias, each.kind)
        own = models.setdefault((place_of(Path(each.row.file)), name), {})
        own[each.row.head] = each.learned
    directories = [ResultDir(place) for place, _ in models]
    labels = unique_labels([alias for _, alias in models], directories)
    return dict(zip(labels, models.values()))


def table(rows: list[Analysis]) -> str:
    """Lay the rows out for the terminal."""
    header = [
        "model",
        "pair",
        "epoch kept",
        "val acc",
        "AUC",
        "sens.",
        "spec.",
        "gap",
        "frozen M",
        "trained M",
        "MB",
        PAIR.asked,
    ]
    return format_table(header, [cells(row) for row in rows])


def cells(row: Analysis) -> list[str]:
    """Write one row of the table."""
    gap = row.overfitting_gap
    return [
        row.label,
        row.pair,
        f"{row.best_epoch}/{row.epochs_run}" + ("" if row.complete else " unfinished"),
        percent(row.val_accuracy),
        decimal(row.val_auc),
        percent(row.sensitivity),
        percent(row.specificity),
        "n/a" if math.isnan(gap) else f"{100 * gap:+z.1f}",
        f"{row.frozen / 1e6:.2f}",
        f"{row.trainable / 1e6:.2f}",
        f"{row.size_mb:.1f}",
        row.status or "n/a",
    ]


def save(rows: list[Analysis], found: list[Analysed], folder: Path, vector: str) -> None:
    """Write the table as JSON and CSV, and draw the training curves."""
    from common.figures.style import save_figure
    from common.figures.training import plot_training

    note = " (SYNTHETIC images)" if any(row.synthetic for row in rows) else ""
    content = [asdict(row) for row in rows]
    files = AnalysisFiles(folder)
    write_json(files.numbers, {"bar": PAIR.bound, "classifiers": content})
    write_table(files.table, content)
    figure = plot_training(by_model(found), f"training curves{note}")
    save_figure(figure, files.curves, vector)
    log(f"wrote {files.numbers}, {files.table.name} and {files.curves.name}")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Analyse every file that can be read; 2 if none can."""
    args = parse_args(argv)
    if args.watch:
        watch(args.watch, args.watch_every or _WATCH_EVERY)
        return 0
    files = find_files(args.model)
    places = {folder_of(path) for path in files}
    found: list[Analysed] = []
    for path in files:
        try:
            found.append(analyse(path, len(places) > 1))
        except InputError as error:
            if len(files) == 1:
                raise
            say_skipped(str(error))
    if not found:
        raise InputError(f"none of {len(files)} files could be analysed")
    rows = [row for each in found for row in (each.row, *each.pairs)]
    print(table(rows))
    asked = [row.status for row in rows if row.status]
    print(
        f"\n{asked.count(PASS)} of {len(asked)} classifiers of pairs are above "
        f"{100 * PAIR.bound:.0f} % on validation. "
        "Gap: training minus validation accuracy at the epoch that was kept, in points; training "
        "accuracy is measured on augmented images with dropout."
    )
    if any(row.note for row in rows):
        print(f"Pairs of a shared network: {ACCURACY_ALONE}; the rest is n/a.")
    one = next(iter(places)) if len(places) == 1 else None
    next_to_models = ResultDir(one.parent).results if one and one.name == "models" else None
    folder = args.output_dir or next_to_models or Path("model_analysis")
    save(rows, found, folder, args.figure_format)
    return 0


if __name__ == "__main__":
    sys.exit(main())
