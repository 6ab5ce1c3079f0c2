#!/usr/bin/env python3
"""Make demo_photographs/: draw some of IDRiD's photographs, shrink them, deal them to splits.

    python -m dev.make_demo_photographs labels.csv ./idrid ./demo_photographs

The table's first column names a photograph ("IDRiD_001"); the column with "grade" in its name holds
its grade. The photographs are looked for in the folder and in all below it. The draw depends on the
names and grades alone.
"""

from common.cli import Parser, guarded

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path
from random import Random

from PIL import Image

from common.preparation.new_dataset import MANIFEST
from common.system.errors import InputError

# photographs per grade in each split; grade 1 has 17 eyes that were photographed once
SHARES = {
    "train": (20, 9, 19, 17, 16),
    "val": (4, 3, 4, 3, 3),
    "test": (10, 5, 9, 8, 7),
}
# eyes of which the data set holds two photographs (docs/audit.md): a split must not part them
REPEATED = {
    *(21, 391, 28, 327, 45, 333, 73, 375, 79, 279, 13, 397, 404, 46),
    *(38, 126, 319, 338, 43, 401, 133, 282, 354, 339),
}
HEIGHT = 448  # pixels
QUALITY = 85  # of JPEG
TRIES = 1000  # to deal whole groups to the splits


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("table", type=Path, help="names and grades of the photographs, CSV")
    parser.add_argument("photographs", type=Path, help="folder that holds them")
    parser.add_argument("destination", type=Path, help="new folder")
    return parser.parse_args(argv)


def read_grades(table: Path) -> dict[str, int]:
    """Read the grade of each photograph that shows an eye which no other one shows."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    grade = next((name for name in rows[0] if "grade" in name.lower()), "") if rows else ""
    if not grade:
        raise InputError(f"{table}: expected a column with 'grade' in its name")
    repeated = {f"IDRiD_{number:03d}" for number in REPEATED}
    grades = {next(iter(row.values())): int(row[grade]) for row in rows}
    return {name: grades[name] for name in sorted(grades) if name and name not in repeated}


def draw(grades: dict[str, int]) -> list[tuple[str, int, str]]:
    """Choose the photographs and deal them; returns (split, grade, name) of each.

    Those with neighbouring numbers, which may be of one patient, are in one split.
    """
    chosen: list[str] = []
    for grade, wanted in enumerate(map(sum, zip(*SHARES.values()))):
        names = [name for name, own in grades.items() if own == grade]
        if len(names) < wanted:
            raise InputError(f"too few photographs of grade {grade}: {len(names)}, not {wanted}")
        Random(grade).shuffle(names)
        chosen += names[:wanted]
    groups = neighbours(chosen)
    for seed in range(TRIES):
        split = deal(groups, grades, Random(seed))
        if len(split) == len(chosen):
            return sorted((split[name], grades[name], name) for name in chosen)
    raise InputError(f"{TRIES} tries to deal neighbours to one split each failed")


def neighbours(names: list[str]) -> list[list[str]]:
    """Group photographs whose numbers follow one another, the largest groups first."""
    groups: list[list[str]] = []
    for name in sorted(names):
        if groups and number_of(name) == number_of(groups[-1][-1]) + 1:
            groups[-1].append(name)
        else:
            groups.append([name])
    return sorted(groups, key=len, reverse=True)


def number_of(name: str) -> int:
    """Read the number in "IDRiD_001"."""
    return int(name.rpartition("_")[2])


def deal(groups: list[list[str]], grades: dict[str, int], lot: Random) -> dict[str, str]:
    """Give each group to a split, by lot, that has room for all of it; leaves out what has none."""
    room = {split: list(shares) for split, shares in SHARES.items()}
    dealt: dict[str, str] = {}
    for group in groups:
        needed = Counter(grades[name] for name in group)
        fits = [s for s, left in room.items() if all(left[g] >= n for g, n in needed.items())]
        if fits:
            split = lot.choices(fits, [sum(room[s]) for s in fits])[0]
            dealt |= dict.fromkeys(group, split)
            for grade, count in needed.items():
                room[split][grade] -= count
    return dealt


def shrink(source: Path, target: Path) -> None:
    """Save a photograph again with fewer pixels; nothing of it is cut off."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as picture:
        size = (round(picture.width * HEIGHT / picture.height), HEIGHT)
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.save(target, quality=QUALITY, optimize=True)


@guarded
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    chosen = draw(read_grades(args.table))
    sources = {path.stem: path for path in args.photographs.rglob("*.jpg")}
    missing = [name for _, _, name in chosen if name not in sources]
    if missing:
        raise InputError(f"{args.photographs}: {len(missing)} photographs lack: {missing[:3]}")
    rows = [("file", "source", "grade", "split")]
    for split, grade, name in chosen:
        file = f"{split}/{grade}/{name}.jpg"
        shrink(sources[name], args.destination / file)
        rows.append((file, sources[name].name, str(grade), split))
    with (args.destination / MANIFEST).open("w", newline="") as table:
        csv.writer(table, lineterminator="\n").writerows(rows)
    print(f"{len(chosen)} photographs in {args.destination}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
