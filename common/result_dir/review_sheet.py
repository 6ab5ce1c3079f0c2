"""The sheet of likely label errors, in which a grader writes what is found.

What a person has written there outlives every evaluation.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.listing.tables import read_table
from common.result_dir.csv_files import as_cell, set_aside, without_apostrophe, write_csv
from common.result_dir.paths import REVIEWED, ResultDir
from common.system.errors import InputError

FILE, LISTED = "file", "listed"  # tells rows apart; "no" of an image that is kept for its review
TO_FILL = ("reviewed_grade", "comment")
_FORM = "separated by commas, UTF-8"  # as it is written here


@dataclass(frozen=True)
class Review:
    """What people have written in a sheet."""

    columns: tuple[str, ...] = ()  # of the sheet
    rows: tuple[dict[str, str], ...] = ()
    problem: str = ""  # why the file cannot be read, or is none of ours any more


def update_review_sheet(
    directory: ResultDir, split: str, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[str]:
    """Write the images that are listed now, with all that people wrote in the sheet before.

    header, rows: as of `Table.to_csv`, with the columns FILE and TO_FILL. Rows are told by their
    file; one with a review whose image is not listed any more is kept. A file that cannot be read
    is kept under another name. Returns what is to be said of it.
    """
    path, earlier = directory.review_sheet(split), directory.split_table(REVIEWED, split)
    if earlier.is_file() and not path.exists():  # where it lay before
        os.replace(earlier, path)
    ours = [*(name for name in header if name not in TO_FILL), LISTED, *TO_FILL]
    before = _read(path)
    added = [name for name in before.columns if name not in ours]
    sheet = [dict(zip(header, row)) | {LISTED: "yes"} for row in rows]
    open_rows = {as_cell(row[FILE]).strip(): row for row in reversed(sheet)}
    kept: list[dict[str, Any]] = []
    reviewed = [row for row in before.rows if any(row[name] for name in (*TO_FILL, *added))]
    for row in reviewed:
        now = open_rows.pop(row[FILE], None)
        if now is None:
            kept.append(row | {"rank": "", LISTED: "no"})
        else:
            now.update({name: row[name] for name in (*TO_FILL, *added)})
    columns = [*ours, *added]
    cells = [[row.get(name, "") for name in columns] for row in [*sheet, *kept]]
    previous = set_aside(path) if before.problem else None
    write_csv(path, columns, cells, previous)
    said = []
    if previous is not None:
        said.append(f"note: {path.name} {before.problem}; it is kept as {previous}")
    if reviewed:
        more = f", of which {len(kept)} are not listed any more" if kept else ""
        said.append(f"{path}: kept what was written in {len(reviewed)} rows{more}")
    return said


def _read(path: Path) -> Review:
    """Read a sheet that people may have changed; none is an empty one."""
    if not path.exists():
        return Review()
    try:
        table = read_table(path)
    except InputError as error:
        if path.is_file() and len(path.read_bytes().splitlines()) < 2:  # no row to lose
            return Review()
        return Review(problem=f"cannot be read any more ({error})")
    columns = tuple(map(without_apostrophe, table.columns))
    missing = [name for name in (FILE, *TO_FILL) if name not in columns]
    if missing or len(set(columns)) < len(columns):
        found = f"has no column {missing[0]}" if missing else "has two columns of one name"
        return Review(problem=f"cannot be read any more (it {found})")
    rows = tuple(dict(zip(columns, map(without_apostrophe, row))) for row in table.rows)
    changed = f"is {table.form} now, not {_FORM}, and was read so"
    return Review(columns, rows, "" if table.form == _FORM else changed)
