"""Read tables of text as people have them: any separator, encoding and header."""

import codecs
import csv
import io
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.listing.picture_files import is_picture
from common.system.errors import InputError
from common.system.log import printable

_MAX_BYTES = 2**28  # 50,000 rows of BRSET take 8 MB
_SAMPLE = 50  # lines that decide on the separator
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "blanks"}
NUMBER = re.compile(r"([+-]?\d+)(?:[.,]0*)?")  # 2, 2.0, or 2,0 as Excel writes it in much of Europe


@dataclass(frozen=True)
class Table:
    """A table as it was read: named columns, stripped cells."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # each as long as `columns`
    lines: tuple[int, ...]  # of the file, where each row ends
    header: bool  # whether the file names the columns; else they are "column 1", ...
    form: str  # such as "commas, UTF-8"

    def column(self, index: int) -> list[str]:
        """Return the cells of a column."""
        return [row[index] for row in self.rows]


def read_table(path: Path) -> Table:
    """Read a table of text; raises InputError for what is none, or has no rows."""
    text, encoding = _decode(path)
    text, separator = _separator(text)
    try:
        found = list(_split_rows(text, separator))
    except csv.Error as error:
        raise InputError(f"{path}: expected a table, found a damaged one ({error})") from error
    if not found:
        raise InputError(f"{path}: expected a table with a row per picture, found an empty file")
    header = not _is_data(found[0][1])
    names = found.pop(0)[1] if header else []
    width = len(_without_blank_end(names)) or max(len(cells) for _, cells in found)
    filled = max((len(_without_blank_end(cells)) for _, cells in found), default=0)
    for line, cells in found:
        if header and len(_without_blank_end(cells)) > len(names):
            raise InputError(
                f"{path}: line {line} has {len(_without_blank_end(cells))} cells, the header "
                f"{printable(' | '.join(names[:9]))!r} has {len(names)} (the first line is the "
                "header; a cell that holds a separator needs quotes around it)"
            )
    width = max(width, filled)
    names = (names + [""] * width)[:width]
    columns = tuple(" ".join(name.split()) or f"column {i}" for i, name in enumerate(names, 1))
    rows = tuple(tuple((cells + [""] * width)[:width]) for _, cells in found)
    if not rows:
        raise InputError(f"{path}: expected a row per picture, found only {', '.join(columns)}")
    form = f"separated by {_SEPARATORS[separator]}, {encoding}" if len(columns) > 1 else encoding
    return Table(path, columns, rows, tuple(line for line, _ in found), header, form)


def _decode(path: Path) -> tuple[str, str]:
    """Return a file's text and how it is encoded."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path}: expected a table, found no regular file")
        if found.st_size > _MAX_BYTES:
            raise InputError(f"{path}: expected a table, found {found.st_size / 2**20:.0f} MB")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a table ({error.strerror})") from error
    if content.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):
        raise InputError(f"{path}: a workbook; save its sheet as CSV (UTF-8) and give that")
    zeros = content[:4000].count(0), content[1:4000:2].count(0)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif zeros[0] > len(content[:4000]) / 4:  # every other byte of plain text
        encodings = ["utf-16-le" if zeros[1] * 2 > zeros[0] else "utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        names = {"utf-8-sig": "UTF-8", "cp1252": "Latin-1 (it is not UTF-8)"}
        return text.removeprefix("\ufeff"), names.get(encoding, encoding.upper())
    raise InputError(f"{path}: expected a table of text, found other bytes; save it as CSV (UTF-8)")


def _separator(text: str) -> tuple[str, str]:
    """Find what separates the cells; also removes Excel's first line `sep=;`."""
    told = re.match(r"\s*\"?sep=(.)\"?[ \t]*\r?\n", text, re.IGNORECASE)
    if told and told[1] in _SEPARATORS:
        return text[told.end() :], told[1]
    lines = [line for line in text[:100_000].splitlines() if line.strip()][:_SAMPLE]
    scores = {}
    for separator in ",;\t":
        counts = [len(_without_blank_end(row)) for row in csv.reader(lines, delimiter=separator)]
        if counts and counts[0] > 1:
            alike = sum(1 < count <= counts[0] for count in counts) / len(counts)
            scores[separator] = (round(alike, 1), counts[0])
    if scores:
        return text, max(scores, key=lambda separator: scores[separator])
    parts = {len(line.split()) for line in lines}
    last_is_number = all(NUMBER.fullmatch(line.split()[-1]) for line in lines[1:])
    two = last_is_number and min(parts, default=0) > 1
    return text, " " if two or (parts and parts == {max(parts)} and max(parts) > 1) else ","


def _split_rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Give the stripped cells of all rows that are not blank, and the line where each ends."""
    if separator == " ":
        lines = text.splitlines()
        parts = {len(line.split()) for line in lines if line.strip()}
        for number, line in enumerate(lines, 1):  # names may hold blanks, the label does not
            if line.strip():
                yield number, line.split() if len(parts) == 1 else line.rsplit(None, 1)
        return
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    before = 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
            before = reader.line_num
    except csv.Error as error:
        reason = "a quote is not closed" if "end of data" in str(error) else error
        raise csv.Error(f"line {before + 1}: {reason}") from error


def _without_blank_end(cells: Sequence[str]) -> list[str]:
    kept = list(cells)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def _is_data(cells: Sequence[str]) -> bool:
    """Tell a first row of data from a header: it names a picture, or ends in a number."""
    full = _without_blank_end(cells)
    number = len(full) == 2 and NUMBER.fullmatch(full[1]) is not None
    return number or any(is_picture(cell) for cell in full)
