"""The grade mix of a population: shares that the user gives, or counts of a label table.

K classes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.class_names import plain
from common.data.label_tables import (
    ColumnFlags,
    Label,
    choose_columns,
    class_reader,
    numbers_as_places,
    read_labels,
)
from common.listing.tables import Table, read_table
from common.listing.walking import count_of
from common.system.errors import InputError
from common.system.log import printable

_COUNTS = re.compile(
    "counts?|n|number|frequency|images|pictures|eyes|patients|shares?|proportion|percent"
)
_EXAMPLE = "0.735,0.07,0.15,0.025,0.02"


@dataclass(frozen=True)
class GradeMix:
    """How many of a population have each grade."""

    shares: np.ndarray  # (K,), sums to 1
    source: str  # what it was read from, such as "3662 rows, column 'diagnosis' of train.csv"


def parse_prevalence(
    text: str,
    num_classes: int,
    column: str = "",
    class_names: Sequence[str] = (),
) -> GradeMix:
    """Read a grade mix: shares such as "0.735,0.07,0.15,0.025,0.02", or a label table.

    column: of the table's grades, where its name does not tell. Rows without grade, or ungradable,
    are left out. Raises InputError for anything else, and where two columns could be meant.
    """
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # too long for a name
        is_file = False
    if is_file:
        flags = ColumnFlags(grade=column, grade_flag="--prevalence_column", mark_flag="")
        return _mix_of_table(path, num_classes, flags, class_names)
    if column:
        raise InputError(f"--prevalence_column names a column of a table; {text!r} is no file")
    try:
        shares = np.array([float(part) for part in text.split(",")])
    except ValueError as error:
        raise InputError(
            f"--prevalence: expected {num_classes} shares such as {_EXAMPLE} or the file of a "
            f"label table, found {printable(text)!r}"
        ) from error
    if not abs(shares.sum() - 1) < 0.011:
        raise InputError(f"--prevalence: expected shares with sum 1, found {shares.sum():g}")
    if len(shares) != num_classes or not (shares >= 0).all():
        raise InputError(f"--prevalence: expected {num_classes} shares >= 0, found {text!r}")
    return GradeMix(shares / shares.sum(), "shares as given")


def _mix_of_table(
    path: Path, num_classes: int, flags: ColumnFlags, class_names: Sequence[str]
) -> GradeMix:
    """Count the grades of a label table."""
    try:
        table = read_table(path)
        columns = choose_columns(table, flags, pictures=False)
        reader = class_reader(num_classes, class_names)
        labels = read_labels(table, columns, num_classes, reader, flags)
    except InputError as error:
        raise InputError(f"--prevalence {error}") from error
    name = printable(table.columns[columns.grade])
    grades = [label.grade for label in labels if label.grade is not None]
    if not grades:
        raise InputError(f"--prevalence {path}: column {name!r} holds no grade")
    weighed = _counts_column(table, columns.grade)
    if weighed is not None and len(set(grades)) == len(grades):
        return _mix_of_counts(table, labels, columns.grade, weighed, num_classes)
    if sorted(grades) == list(range(num_classes)) and len(table.columns) > 1:
        raise InputError(
            f"--prevalence {path}: every grade of column {name!r} occurs once; expected a row per "
            "picture, or a column 'count' with how many pictures or eyes have the grade"
        )
    counts = np.bincount(grades, minlength=num_classes)
    left_out = ""
    for reason in ("ungradable", "no grade"):
        count = sum(label.left_out_because == reason for label in labels)
        left_out += f", {count} {reason} left out" if count else ""
    source = f"{count_of(int(counts.sum()), 'row')}, column {name!r} of {path}{left_out}"
    if said := numbers_as_places(table.column(columns.grade), class_names):
        source += f"; {said}"
    return GradeMix(counts / counts.sum(), source)


def _counts_column(table: Table, grade: int) -> int | None:
    """Find the one column that says how many pictures have each grade, if there is one."""
    found = [i for i, c in enumerate(table.columns) if i != grade and _COUNTS.fullmatch(plain(c))]
    return found[0] if len(found) == 1 else None


def _mix_of_counts(
    table: Table, labels: Sequence[Label], grade: int, weighed: int, num_classes: int
) -> GradeMix:
    """Take the mix from a table of grades and how many pictures, or which share, have each."""
    names = [printable(table.columns[i]) for i in (weighed, grade)]
    counts = np.zeros(num_classes)
    for label, cell in zip(labels, table.column(weighed)):
        try:
            value = float(cell.replace("%", "").replace(",", "."))
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e12:
            raise InputError(
                f"--prevalence {table.path}: line {label.line}: expected a number of 0 or more in "
                f"column {names[0]!r}, found {printable(cell)!r}"
            )
        if label.grade is not None:
            counts[label.grade] += value
    if not counts.sum():
        raise InputError(f"--prevalence {table.path}: column {names[0]!r} sums to 0")
    source = f"column {names[0]!r} for each grade of column {names[1]!r} of {table.path}"
    return GradeMix(counts / counts.sum(), source)
