#!/usr/bin/env python3
"""Inspect trained pair classifiers, each on its own file.

    python model_analyzer.py --model ./coatnet_5class_results/models
    python model_analyzer.py --model ./coatnet_5class_results/models/*.pth

Prints one row per classifier and writes model_analysis.json, .csv and training curves.
"""

from common.cli import Parser, folder, guarded

import argparse
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from common.evaluation.gates import PAIR, PASS
from common.figures.style import save_figure
from common.figures.training import Learned, plot_training
from common.flags import add_figure_flags
from common.models.backbones import resolve
from common.models.checkpoint import load_pair
from common.models.checkpoint_file import CheckpointError
from common.prediction.labels import unique_labels
from common.reporting.table import format_table
from common.reporting.tables import decimal, percent
from common.result_dir import AnalysisFiles, ResultDir, write_table
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--model",
        nargs="+",
        type=folder,  # or a file; an empty name is neither
        required=True,
        metavar="PATH",
        help="checkpoint files, folders of them or result directories",
    )
    parser.add_argument(
        "--output_dir",
        type=folder,
        default=None,
        help="(default results/ next to models/, or ./model_analysis)",
    )
    add_figure_flags(parser)
    return parser.parse_args(argv)


def find_files(paths: list[Path]) -> list[Path]:
    """Expand folders and result directories into their .pth files, each once."""
    files: list[Path] = []
    for path in paths:
        folder = path / "models" if (path / "models").is_dir() else path
        found = sorted(folder.glob("*.pth")) if folder.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: expected *.pth files of train_ovo.py, found none")
        files += [file for file in found if file not in files]
    return files


@dataclass(frozen=True)
class Analysis:
    """What is said of one classifier; the fields are the columns of model_analysis.csv."""

    file: str
    model: str
    pair: str  # such as "0-1 (none vs mild)", or "softmax"
    best_epoch: int
    epochs_run: int
    complete: bool
    val_accuracy: float
    val_auc: float
    sensitivity: float  # of a pair's second class; of referable DR for a softmax head
    specificity: float
    overfitting_gap: float  # training minus validation accuracy at the best epoch
    frozen: int
    trainable: int
    synthetic: bool
    size_mb: float
    status: str  # of the guide's gate on pairs
    label: str  # the model, and its folder where there are several
    head: str  # the pair without the names of its classes


def analyse(path: Path, several: bool = False) -> tuple[Analysis, Learned]:
    """Read one classifier: its row of the table and how it learned; CheckpointError if it cannot.

    several: name the folder as well, because classifiers of more than one are analysed.
    """
    checkpoint = load_pair(path)
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
        status=PAIR.verdict(best.accuracy),
        label=checkpoint.model + (f" in {place_of(path)}" if several else ""),
    )
    return row, Learned(checkpoint.history, checkpoint.best_epoch)


def place_of(path: Path) -> Path:
    """Return the result directory of a classifier, or the folder that it lies in."""
    return path.parent.parent if path.parent.name == "models" else path.parent


def alias_of(model: str) -> str:
    """Call a model as the command line does, if it is known there."""
    try:
        return resolve(model).alias
    except InputError:
        return model


def by_model(rows: list[Analysis], learned: list[Learned]) -> dict[str, dict[str, Learned]]:
    """Sort classifiers by the model that they belong to, each called as briefly as possible."""
    models: dict[tuple[Path, str], dict[str, Learned]] = {}
    for row, each in zip(rows, learned):
        models.setdefault((place_of(Path(row.file)), alias_of(row.model)), {})[row.head] = each
    directories = [ResultDir(place) for place, _ in models]
    labels = unique_labels([alias for _, alias in models], directories)
    return dict(zip(labels, models.values()))


def table(rows: list[Analysis]) -> str:
    """Lay the rows out for the terminal."""
    header = [
        "model",
        "pair",
        "best epoch",
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
        "n/a" if math.isnan(gap) else f"{100 * gap:+.1f}",
        f"{row.frozen / 1e6:.2f}",
        f"{row.trainable / 1e6:.2f}",
        f"{row.size_mb:.1f}",
        row.status,
    ]


def save(rows: list[Analysis], learned: list[Learned], folder: Path, vector: str) -> None:
    """Write the table as JSON and CSV, and draw the training curves."""
    note = " (SYNTHETIC images)" if any(row.synthetic for row in rows) else ""
    content = [asdict(row) for row in rows]
    files = AnalysisFiles(folder)
    write_json(files.numbers, {"bar": PAIR.bound, "classifiers": content})
    write_table(files.table, content)
    figure = plot_training(by_model(rows, learned), f"training curves{note}")
    save_figure(figure, files.curves, vector)
    log(f"wrote {files.numbers}, {files.table.name} and {files.curves.name}")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Analyse every file that can be read; 2 if none can."""
    args = parse_args(argv)
    files = find_files(args.model)
    several = len({path.resolve().parent for path in files}) > 1
    rows: list[Analysis] = []
    learned: list[Learned] = []
    for path in files:
        try:
            row, how_it_learned = analyse(path, several)
        except CheckpointError as error:
            print(f"skipped: {error}", file=sys.stderr, flush=True)
            continue
        rows.append(row)
        learned.append(how_it_learned)
    if not rows:
        raise InputError(f"none of {len(files)} files could be analysed")
    print(table(rows))
    passed = sum(row.status == PASS for row in rows)
    print(
        f"\n{passed} of {len(rows)} classifiers are above {100 * PAIR.bound:.0f} % on validation. "
        "Gap: training minus validation accuracy at the best epoch, in points; training "
        "accuracy is measured on augmented images with dropout."
    )
    parents = {path.resolve().parent for path in files}
    one = next(iter(parents)) if len(parents) == 1 else None
    next_to_models = ResultDir(one.parent).results if one and one.name == "models" else None
    folder = args.output_dir or next_to_models or Path("model_analysis")
    save(rows, learned, folder, args.figure_format)
    return 0


if __name__ == "__main__":
    sys.exit(main())
