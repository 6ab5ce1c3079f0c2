#!/usr/bin/env python3
"""Measure what the audit's search for copies takes among many pictures, and what it finds there.

    python -m benchmarks.audit_scale --dataset_path ./my_graded_photographs \\
        --pictures 2000 10000 100000

Altered copies of real photographs lie among made-up pictures (benchmarks/hidden_copies.py says how
these are made). Each number of pictures is searched by a process of its own on one thread. A whole
audit of 100,000 takes hours of a core: a sample of them and all copies are asked for, and seconds
are of the processor. Vocabularies of other numbers are tried, too: of fewer pictures among the
most, of more among the second most. Writes docs/scaling.md and benchmarks/scaling.json.
"""

from common.cli import Parser, folder, guarded, known_folder, whole_number

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.copies.audit_findings import (
    HEADER,
    WORDS_HEADER,
    Found,
    rows_of_pictures,
    rows_of_words,
    table_of_million,
)
from benchmarks.copies.audit_steps import measure
from benchmarks.copies.hidden_copies import write_hidden
from benchmarks.shared.pages import markdown_table, put_parts, put_section
from benchmarks.speed.timing import in_own_process
from common.data.folders import IMAGE_SUFFIXES
from common.reporting.table import format_table
from common.system.environment import versions
from common.system.errors import InputError
from common.system.log import log

ROOT = Path(__file__).parents[1]
PICTURES = (2_000, 10_000, 100_000)
VOCABULARIES = (10_000, 1_000_000)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; InputError for what cannot be."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--dataset_path", type=known_folder, required=True, help="photographs, at any depth"
    )
    parser.add_argument(
        "--pictures", type=whole_number, nargs="+", default=list(PICTURES), metavar="N"
    )
    parser.add_argument(
        "--vocabularies",
        type=whole_number,
        nargs="*",
        default=list(VOCABULARIES),
        metavar="N",
        help="for so many pictures, tried among others (default 10000 1000000)",
    )
    parser.add_argument(
        "--photographs", type=whole_number, default=60, help="that are copied (default 60)"
    )
    parser.add_argument(
        "--copies", type=whole_number, default=3, help="of each, altered in turn (default 3)"
    )
    parser.add_argument(
        "--sample", type=whole_number, default=512, help="made-up ones asked for (default 512)"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="of what is drawn (default 0)")
    parser.add_argument(
        "--work_dir",
        type=folder,
        default=Path("audit_scale"),
        help="keeps what was made up, 66 kB a picture (default ./audit_scale)",
    )
    parser.add_argument(
        "--report_dir", type=folder, default=ROOT, help="(default: this repository)"
    )
    args = parser.parse_args(argv)
    if len(set(args.pictures)) < 2:
        raise InputError("--pictures: expected two numbers or more, to see how the search grows")
    for name in ("photographs", "copies", "sample"):
        if not getattr(args, name):
            raise InputError(f"--{name} 0: expected 1 or more")
    if not all(args.vocabularies):
        raise InputError("--vocabularies: expected numbers of 1 or more")
    return args


def find_photographs(root: Path) -> list[Path]:
    """List the pictures of a folder; InputError if there are none."""
    paths = (path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    found = sorted(path for path in paths if path.is_file())
    if not found:
        raise InputError(f"{root}: expected photographs, found none")
    return found


def measure_all(args: argparse.Namespace) -> list[Found]:
    """Measure each number of pictures, then the other vocabularies."""
    numbers = sorted(set(args.pictures))
    hidden = write_hidden(
        args.work_dir,
        find_photographs(args.dataset_path),
        args.photographs,
        args.copies,
        numbers[-1],
        args.seed,
    )
    if numbers[0] <= hidden.real:
        raise InputError(
            f"--pictures {numbers[0]}: expected more than the {hidden.real} photographs and copies"
        )
    most, second = numbers[-1], numbers[-2]
    runs = [(number, number) for number in numbers]
    runs += [(most if each < most else second, each) for each in args.vocabularies if each != most]
    found = []
    for number, vocabulary_of in runs:
        one = in_own_process(measure, hidden, number, vocabulary_of, args.sample)
        found.append(Found.of(one, hidden))
        log(
            f"{number:,} pictures, vocabulary for {vocabulary_of:,}: "
            f"{sum(one.points.among)} of {len(hidden.sources)} copies among the candidates, "
            f"{1e3 * one.points.asking:.1f} ms a question, {one.own / 1e9:.1f} GB"
        )
    return found


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, then print the tables and put them into the page."""
    args = parse_args(argv)
    found = measure_all(args)
    tables = {
        "audit": (HEADER, rows_of_pictures(found)),
        "audit vocabularies": (WORDS_HEADER, rows_of_words(found)),
        "audit million": table_of_million(found),
    }
    for header, rows in tables.values():
        print(format_table(list(header), rows), end="\n\n")
    words = " ".join(map(str, args.pictures))
    conditions = {"command": f"python -m benchmarks.audit_scale --pictures {words}"} | versions()
    section = {"runs": [asdict(each) for each in found], "conditions": conditions}
    put_section(args.report_dir / "benchmarks" / "scaling.json", "audit", section, "scaling")
    page = args.report_dir / "docs" / "scaling.md"
    put_parts(page, "scaling", {k: markdown_table(*table) for k, table in tables.items()}, "")
    log(f"written: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
