"""Tables for people, as CSV that no spreadsheet takes for formulas."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.system.files import atomic_write

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of equal keys as CSV; what is undefined stays empty."""
    write_csv(path, list(rows[0]), [list(row.values()) for row in rows])


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], previous: Path | None = None
) -> None:
    """Write rows below a header as CSV for people; what is undefined stays empty.

    previous: the name that the file now at `path` keeps.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow(map(plain_cell, row))
    with atomic_write(path, previous) as file:
        file.write(text.getvalue().encode())


def plain_cell(cell: Any) -> Any:
    """Keep a spreadsheet from taking text for a formula, by an apostrophe before it.

    As OWASP advises ("CSV Injection"); `without_apostrophe` undoes it.
    """
    if isinstance(cell, float) and cell != cell:
        return ""
    if not isinstance(cell, str):
        return cell
    cell = as_cell(cell)
    return f"'{cell}" if _looks_like_formula(cell) else cell


def as_cell(text: str) -> str:
    """Write text as a cell holds it: UTF-8, its lines ended as those of the table."""
    text = text.encode(errors="backslashreplace").decode()
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_apostrophe(cell: str) -> str:
    """Read a text cell that `write_csv` has written."""
    return cell[1:] if cell.startswith("'") and _looks_like_formula(cell[1:]) else cell


def _looks_like_formula(cell: str) -> bool:
    return cell.lstrip("'").startswith(_FORMULA) and not _NUMBER.fullmatch(cell)


def set_aside(path: Path) -> Path:
    """Return a name that is free for an earlier file at this path."""
    numbers = ("", *(f"_{number}" for number in range(2, 1000)))
    names = (path.with_name(f"{path.stem}_earlier{number}{path.suffix}") for number in numbers)
    return next(name for name in names if not name.exists())
