"""One table for the terminal, for the page, for Markdown and for a spreadsheet."""

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.metrics.intervals import Interval
from common.result_dir.csv_files import write_csv
from common.system.log import printable

Cell = str | int | float | Interval | None
WIDTH = 110  # letters in a line of the terminal
_NARROW = 24  # letters; no narrower is a column made
UNDEFINED, NOT_KNOWN = "n/a", "-"


@dataclass(frozen=True)
class Column:
    """What stands above a column, and how its numbers are written."""

    title: str
    name: str = ""  # in the CSV file; "": the title
    kind: Literal["number", "percent", "p"] = "number"  # p: a p value, never written as 0
    decimals: int | None = None  # None: 3, of a percentage 1
    csv_only: bool = False  # such as the reason why a row's values are undefined

    def show(self, cell: Cell) -> "Shown":
        """Write a cell: text and whole numbers as they are, others rounded, NaN as "n/a"."""
        if cell is None:
            return Shown(NOT_KNOWN)
        if isinstance(cell, str):
            return Shown(printable(cell))
        if isinstance(cell, int):
            return Shown(str(cell) if self.kind == "number" else self._number(cell))
        if not isinstance(cell, Interval):
            return Shown(self._number(cell))
        if math.isnan(cell.value) or math.isnan(cell.low):
            return Shown(self._number(cell.value))
        low, high = (self._number(bound).removesuffix(" %") for bound in (cell.low, cell.high))
        return Shown(self._number(cell.value), f"[{low}, {high}]")

    def _number(self, value: float) -> str:
        if math.isnan(value):
            return UNDEFINED
        if self.kind == "percent":
            return f"{100 * value:.{1 if self.decimals is None else self.decimals}f} %"
        decimals = 3 if self.decimals is None else self.decimals
        if self.kind == "p" and value < 10**-decimals:
            return f"< {10**-decimals:.{decimals}f}"
        return f"{round(value, decimals) + 0.0:.{decimals}f}"  # never -0.000


@dataclass(frozen=True)
class Shown:
    """A cell as it is read."""

    value: str
    interval: str = ""  # "[low, high]"
    marked: bool = False

    def __str__(self) -> str:
        text = f"{self.value} {self.interval}".strip()
        return f"[{text}]" if self.marked else text


@dataclass(frozen=True)
class Table:
    """Rows of cells under titled columns; the first column names the row.

    An interval is three columns of the CSV file: value, low and high. What is undefined (NaN) or
    not known (None) stays empty there; the notes or a column say why.
    """

    name: str  # of its file, without split and ending: "per_class"
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()  # sentences below it
    marked: frozenset[tuple[int, int]] = frozenset()  # rows and columns of cells to point out
    most_shown: int | None = None  # rows that a reader sees; the CSV file has all
    matrix_of: str = ""  # "grade" where rows are the true ones and columns the predicted ones

    def __post_init__(self) -> None:
        odd = [len(row) for row in self.rows if len(row) != len(self.columns)]
        if odd:
            raise ValueError(f"{self.name}: {len(self.columns)} columns, but a row of {odd[0]}")

    @property
    def shown_columns(self) -> list[Column]:
        """The columns that a reader sees."""
        return [column for column in self.columns if not column.csv_only]

    @property
    def numeric(self) -> list[bool]:
        """Whether each shown column holds numbers alone."""
        places = [place for place, column in enumerate(self.columns) if not column.csv_only]
        return [not any(isinstance(row[place], str) for row in self.rows) for place in places]

    def shown_rows(self) -> list[list[Shown]]:
        """Write the cells that a reader sees."""
        return [
            [
                Shown(shown.value, shown.interval, (number, place) in self.marked)
                for place, (column, cell) in enumerate(zip(self.columns, row))
                if not column.csv_only
                for shown in [column.show(cell)]
            ]
            for number, row in enumerate(self.rows[: self.most_shown])
        ]

    def to_text(self) -> str:
        """Lay it out for a terminal: title, columns, notes."""
        header = [printable(column.title) for column in self.shown_columns]
        lines = [printable(self.title)] if self.title else []
        if self.rows:
            lines.append(format_table(header, self.shown_rows(), WIDTH))
        return "\n".join([*lines, *map(wrapped, self.notes)])

    def to_markdown(self) -> str:
        """Lay it out for a Markdown file: columns and rows, then the notes."""
        rows = [markdown_row(map(str, row)) for row in self.shown_rows()]
        sides = ["---:" if numeric else "---" for numeric in self.numeric]
        lines = [markdown_row(column.title for column in self.shown_columns)]
        lines += [f"| {' | '.join(sides)} |", *rows]
        notes = [f"\n{escaped(note)}" for note in self.notes]
        return "\n".join([*(lines if rows else []), *notes])

    def to_csv(self) -> tuple[list[str], list[list[str | float]]]:
        """Return the header and the rows of its CSV file, with all digits."""
        places = range(len(self.columns))
        spread = [any(isinstance(row[place], Interval) for row in self.rows) for place in places]
        header = [
            f"{column.name or column.title}{end}"
            for column, wide in zip(self.columns, spread)
            for end in (("", "_low", "_high") if wide else ("",))
        ]
        return header, [list(_spread(row, spread)) for row in self.rows]


def make_table(
    name: str,
    title: str,
    columns: Sequence[object],
    rows: Sequence[Sequence[object]],
    notes: Sequence[str] = (),
) -> Table:
    """Make a table of lists.

    columns: `Column`s, or titles of columns of text and plain numbers. rows: of `Cell`s, or NumPy's
    numbers. Raises TypeError for anything else.
    """
    full = tuple(each if isinstance(each, Column) else Column(str(each)) for each in columns)
    cells = tuple(tuple(map(_cell, row)) for row in rows)
    return Table(name, title, full, cells, tuple(notes))


def _cell(value: object) -> Cell:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float | Interval):
        return value
    raise TypeError(f"expected text, a number, an interval or None, found {value!r}")


def markdown_row(cells: Iterable[str]) -> str:
    """Write a row of a Markdown table."""
    return f"| {' | '.join(map(escaped, cells))} |"


def escaped(text: str) -> str:
    """Escape what Markdown and HTML would take for markup."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)


def save_table(path: Path, table: Table) -> None:
    """Write a table as a CSV file."""
    write_csv(path, *table.to_csv())


def wrapped(line: str, indent: str = "  ") -> str:
    """Break a line for a terminal, between words; what follows is indented."""
    return textwrap.fill(
        printable(line),
        WIDTH,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], most: int | None = None
) -> str:
    """Lay out rows under a header: text to the left, numbers to the right.

    most: letters in a line; where there are more, columns of text are broken, the last one first.
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [
        all(row[i][:1] in "+-<[0123456789" or row[i] == UNDEFINED for row in cells[1:] if row[i])
        for i in range(len(header))
    ]
    broken = [[[cell] for cell in row] for row in cells]
    for i in reversed(range(len(header))):
        excess = sum(widths) + 2 * (len(widths) - 1) - (most or math.inf)
        if excess > 0 and not numeric[i] and widths[i] > _NARROW:
            for row, words in zip(broken, cells):
                row[i] = _broken(words[i], max(int(widths[i] - excess), _NARROW))
            widths[i] = max(len(line) for row in broken for line in row[i])
    blocks = [
        "\n".join(
            "  ".join(
                c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric)
            ).rstrip()
            for line in zip_longest(*row, fillvalue="")
        )
        for row in broken
    ]
    return "\n".join([blocks[0], "  ".join("-" * width for width in widths), *blocks[1:]])


def _broken(text: str, width: int) -> list[str]:
    """Break a cell between words."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return lines or [""]


def _spread(row: Sequence[Cell], spread: Sequence[bool]) -> Iterator[str | float]:
    """Yield the CSV cells of a row."""
    for cell, wide in zip(row, spread):
        if isinstance(cell, Interval):
            yield from (cell.value, cell.low, cell.high)
        else:
            yield "" if cell is None else cell
            yield from [""] * (2 * wide)
