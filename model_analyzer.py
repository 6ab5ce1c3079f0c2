#!/usr/bin/env python3
"""Inspect trained pair classifiers, each on its own file.

    python model_analyzer.py --model ./coatnet_5class_results/models
    python model_analyzer.py --model ./coatnet_5class_results/models/*.pth

Prints one row per classifier and writes model_analysis.json, .csv and training curves.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from common.cli import Parser, guarded
from common.models.checkpoint import CheckpointError, load_pair_content
from common.pairs import head_from_classes
from common.reporting.figures import plot_training
from common.reporting.tables import decimal, format_table, percent
from common.result_dir import ResultDir, write_table
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log

BAR = 0.90  # the guide's: every binary classifier above 90 % validation accuracy


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--model",
        nargs="+",
        type=Path,
        required=True,
        metavar="PATH",
        help="checkpoint files, folders of them or result directories",
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=None,
        help="(default results/ beside models/ or ./model_analysis)",
    )
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


def analyse(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read one classifier: its row of the table and its history; CheckpointError if it cannot."""
    content = load_pair_content(path)
    try:
        best, history = content["metrics"], [_curve_point(row) for row in content["history"]]
        head = head_from_classes([int(c) for c in content["pair"]])
        row = {
            "file": str(path),
            "model": str(content["model"]),
            "pair": head.describe(content["class_names"]),
            "best_epoch": int(content["best_epoch"]),
            "epochs_run": len(history),
            "complete": bool(content["complete"]),
            "val_accuracy": float(best["val_accuracy"]),
            "val_auc": float(best["val_auc"]),
            "sensitivity": float(best["val_sensitivity"]),
            "specificity": float(best["val_specificity"]),
            "overfitting_gap": float(best["train_accuracy"] - best["val_accuracy"]),
            "frozen": int(content["parameters"]["frozen"]),
            "trainable": int(content["parameters"]["trainable"]),
            "synthetic": bool(content.get("synthetic")),
            "size_mb": path.stat().st_size / 1e6,
        }
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{path}: incomplete checkpoint ({error!r})") from error
    row["status"] = "PASS" if row["val_accuracy"] > BAR else "FAIL"
    return row, history


def _curve_point(row: dict[str, Any]) -> dict[str, float]:
    """Read what the curves show of an epoch."""
    names = [f"{part}_{what}" for part in ("train", "val") for what in ("loss", "accuracy")]
    return {"epoch": int(row["epoch"])} | {n: float(row[n]) for n in names if n in row}


def table(rows: list[dict[str, Any]]) -> str:
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
        "> 90 %",
    ]
    cells = [
        [
            row["label"],
            row["pair"],
            f"{row['best_epoch']}/{row['epochs_run']}" + ("" if row["complete"] else " unfinished"),
            percent(row["val_accuracy"]),
            decimal(row["val_auc"]),
            percent(row["sensitivity"]),
            percent(row["specificity"]),
            "n/a" if math.isnan(row["overfitting_gap"]) else f"{100 * row['overfitting_gap']:+.1f}",
            f"{row['frozen'] / 1e6:.2f}",
            f"{row['trainable'] / 1e6:.2f}",
            f"{row['size_mb']:.1f}",
            row["status"],
        ]
        for row in rows
    ]
    return format_table(header, cells)


def save(rows: list[dict[str, Any]], histories: dict[str, Any], folder: Path) -> None:
    """Write the table as JSON and CSV and the training curves as PNG."""
    note = " (SYNTHETIC images)" if any(row["synthetic"] for row in rows) else ""
    write_json(folder / "model_analysis.json", {"bar": BAR, "classifiers": rows})
    write_table(folder / "model_analysis.csv", rows)
    plot_training(histories, f"training curves{note}", folder / "training_curves.png")
    log(f"wrote {folder / 'model_analysis.json'}, .csv and training_curves.png")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Analyse every file that can be read; 2 if none can."""
    args = parse_args(argv)
    files = find_files(args.model)
    several = len({path.resolve().parent for path in files}) > 1
    rows, histories = [], {}
    for path in files:
        try:
            row, history = analyse(path)
        except CheckpointError as error:
            print(f"skipped: {error}", file=sys.stderr, flush=True)
            continue
        place = path.parent.parent if path.parent.name == "models" else path.parent
        row["label"] = row["model"] + (f" in {place}" if several else "")
        rows.append(row)
        histories[f"{row['label']} {row['pair'].split()[0]}"] = history
    if not rows:
        raise InputError(f"none of {len(files)} files could be analysed")
    print(table(rows))
    passed = sum(row["status"] == "PASS" for row in rows)
    print(
        f"\n{passed} of {len(rows)} classifiers are above {100 * BAR:.0f} % on validation. "
        "Gap: training minus validation accuracy at the best epoch, in points; training "
        "accuracy is measured on augmented images with dropout."
    )
    parents = {path.resolve().parent for path in files}
    one = next(iter(parents)) if len(parents) == 1 else None
    beside = ResultDir(one.parent).results if one and one.name == "models" else None
    save(rows, histories, args.output_dir or beside or Path("model_analysis"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
