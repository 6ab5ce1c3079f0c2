#!/usr/bin/env python3
"""Measure what each script has in memory at most, and its processor time, on very many pictures.

    python -m benchmarks.large --images 10000 100000

Drawn pictures of 64 px (benchmarks/large_dataset.py), three fifths of them train, the rest val and
test. Each script runs in a process of its own on one thread, with the smallest network at 32 px.
What a script takes of memory whatever the number of pictures is that of its libraries; the bytes a
picture are what it takes beyond. Left out is what looks at every picture for a tenth of a second:
the audit and the comparison of test with train (benchmarks/audit_scale.py measures it), and
predict.py's doubts about pictures unlike the training's. Writes docs/scaling.md and scaling.json.
"""

from common.cli import Parser, folder, guarded, whole_number

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.many_images.large_dataset import link_pictures, write_large
from benchmarks.many_images.process_use import Used, run_command
from benchmarks.shared.pages import markdown_table, put_parts, put_section
from common.reporting.table import format_table
from common.result_dir.paths import ResultDir
from common.system.environment import versions
from common.system.errors import InputError
from common.system.log import log

ROOT = Path(__file__).parents[1]
IMAGES = (10_000, 100_000)
LEAST = 500  # images, so that each split has some of each grade
MODEL = "demo_convnext"
_FEW = 8  # pictures of explain.py and export_model.py
_CPU = "--device cpu --precision fp32 --num_workers 1"
_NETWORK = f"--base_models {MODEL} --img_size 32"
_TRAIN = (
    f"train_ovo.py {_NETWORK} --dataset_path dataset --cache_dir cache {_CPU} --no_pretrained "
    "--epochs 1 --warmup_epochs 0 --batch_size 64"
)
_EVALUATE = (
    "evaluate_ensemble.py --results_dirs model --dataset_path dataset --cache_dir cache "
    f"--holdout_check names --reference_pictures 0 {_CPU}"
)
_TWO = "--results_dirs model second_model"
_PREDICT = f"predict.py --results_dirs model --images new --csv predictions.csv {_CPU}"


@dataclass(frozen=True)
class Command:
    """A script as it is measured, in the folder that all is written into."""

    title: str
    line: str
    reads: str = "all"  # the images: all, those that are new, or few, whatever their number


COMMANDS = (  # each may need what those before it have written
    Command("prepare_dataset.py import", "prepare_dataset.py import labels.csv dataset imported"),
    Command(
        "prepare_dataset.py cache",
        f"prepare_dataset.py cache dataset {_NETWORK} --cache_dir cache --num_workers 1",
    ),
    Command("train_ovo.py --dry_run", f"{_TRAIN} --output_dir planned --dry_run"),
    Command("train_ovo.py, a pair, an epoch", f"{_TRAIN} --output_dir pair --pairs 0-1"),
    Command("evaluate_ensemble.py", _EVALUATE),
    Command("evaluate_ensemble.py, stored predictions", _EVALUATE),
    Command("compare_models.py", f"compare_models.py {_TWO} --output_dir compared"),
    Command(
        "analyze_ensemble_diversity.py",
        f"analyze_ensemble_diversity.py {_TWO} --output_dir diversity",
    ),
    Command(
        "analyze_per_class_strengths.py",
        f"analyze_per_class_strengths.py {_TWO} --output_dir strengths",
    ),
    Command("predict.py", _PREDICT, "new"),
    Command("predict.py --report, of rows that are there", f"{_PREDICT} --report page.html", "new"),
    Command(
        "explain.py",
        f"explain.py --results_dirs model --images few --output_dir evidence {_CPU}",
        "few",
    ),
    Command(
        "export_model.py",
        "export_model.py --results_dirs model --images few --output m.onnx",
        "few",
    ),
    Command("model_analyzer.py", "model_analyzer.py --model model", "few"),
)


@dataclass(frozen=True)
class Row:
    """What a script used with so many images."""

    title: str
    images: int
    used: Used


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; InputError for what cannot be."""
    parser = Parser(description=__doc__)
    parser.add_argument("--images", type=whole_number, nargs="+", default=list(IMAGES), metavar="N")
    parser.add_argument(
        "--most_predicted",
        type=whole_number,
        default=IMAGES[-1],
        metavar="N",
        help="pictures that predict.py is given at most (default 100000)",
    )
    parser.add_argument(
        "--scripts",
        nargs="+",
        default=[],
        metavar="WORD",
        help="measure only those whose name has such a word, and write nothing (default all)",
    )
    parser.add_argument(
        "--report_dir", type=folder, default=ROOT, help="(default: this repository)"
    )
    args = parser.parse_args(argv)
    if len(set(args.images)) < 2:
        raise InputError("--images: expected two numbers or more, to see how memory grows")
    if min(args.images) < LEAST or args.most_predicted < LEAST:
        raise InputError(f"--images and --most_predicted: expected {LEAST} or more")
    return args


def run_line(line: str, folder: Path) -> Used:
    """Run a script of the repository, as it would be called there, in a folder."""
    script, *words = line.split()
    return run_command([ROOT / script, *words], folder)


def train_model(folder: Path) -> ResultDir:
    """Train the ten classifiers that are evaluated and used on what lies in folder/dataset."""
    run_line(f"{_TRAIN} --output_dir model", folder)
    return ResultDir(folder / "model")


def measure(folder: Path, images: int, most_predicted: int, only: Sequence[str]) -> list[Row]:
    """Write so many images into a folder, and run each script on them."""
    write_large(folder, images, train_model)
    numbers = {"all": images, "new": min(images, most_predicted), "few": _FEW}
    for name in ("new", "few"):
        link_pictures(folder, name, numbers[name])
    log(f"{images:,} images are written")
    rows = []
    for each in COMMANDS:
        if _TWO in each.line and not (folder / "second_model").exists():
            write_second_model(folder)
        if only and not any(word in each.title for word in only):
            continue
        used = run_line(each.line, folder)
        rows.append(Row(each.title, numbers[each.reads], used))
        log(f"{each.title}: {used.peak / 1e6:.0f} MB, {used.processor_seconds:.1f} s")
    return rows


def write_second_model(folder: Path) -> None:
    """Copy an evaluated model, with drawn predictions in place of its own."""
    from benchmarks.many_images.stored_predictions import store_predictions
    from common.data.folders import scan_dataset
    from common.result_dir.run import find_run

    copy = ResultDir(shutil.copytree(folder / "model", folder / "second_model"))
    found = scan_dataset(folder / "dataset")
    for name in ("val", "test"):
        store_predictions(find_run(copy), found.split(name), 1)


def table_of(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Lay out each script's peaks and times with the fewest and the most images."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.title, []).append(row)
    header = ["script", "images", "memory at most", "bytes an image", "processor"]
    return header, [[title, *_cells(own[0], own[-1])] for title, own in found.items()]


def _cells(few: Row, many: Row) -> list[str]:
    peaks = f"{few.used.peak / 1e6:.0f} MB, {many.used.peak / 1e6:.0f} MB"
    seconds = [f"{row.used.processor_seconds:.1f} s" for row in (few, many)]
    if few.images == many.images:
        return [str(many.images or "any"), peaks, "-", ", ".join(seconds)]
    grown = (many.used.peak - few.used.peak) / (many.images - few.images)
    each = f"{grown:,.0f}" if grown > 0 else "none"
    return [f"{few.images:,}, {many.images:,}", peaks, each, ", ".join(seconds)]


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Measure with each number of images, then print the table and put it into the page."""
    args = parse_args(argv)
    rows = []
    for number in sorted(set(args.images)):
        with tempfile.TemporaryDirectory() as place:
            rows += measure(Path(place), number, args.most_predicted, args.scripts)
    header, table = table_of(rows)
    print(format_table(header, table))
    if args.scripts:
        return 0
    words = " ".join(map(str, args.images))
    command = f"python -m benchmarks.large --images {words} --most_predicted {args.most_predicted}"
    conditions = {"command": command} | versions()
    section = {"rows": [asdict(row) for row in rows], "conditions": conditions}
    put_section(args.report_dir / "benchmarks" / "scaling.json", "scripts", section, "scaling")
    page = args.report_dir / "docs" / "scaling.md"
    put_parts(page, "scaling", {"scripts": markdown_table(header, table)}, "")
    log(f"written: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
