"""Make graded folders of pictures and a table of their grades.

A row of a table and a picture belong together by the picture's name. What is left out, row or
picture, is in the manifest with the reason.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path

from common.data.label_tables import (
    ColumnFlags,
    choose_columns,
    class_reader,
    is_ddr,
    numbers_as_places,
    read_labels,
)
from common.data.metadata import METADATA, metadata_columns, some
from common.listing.picture_files import is_picture
from common.listing.picture_names import match_names
from common.listing.split_folders import SPLITS, split_of
from common.listing.tables import Table, read_table
from common.listing.walking import by_ending, count_of, describe, leads_nowhere, list_tree
from common.preparation.new_dataset import MANIFEST, free_name, new_dataset, put_file, write_rows
from common.system.errors import InputError
from common.system.log import printable

NO_ROW = "no row in the table"
_NO_PICTURE = "no picture"
_AGAIN = "named twice"
_EXAMPLES = 3


@dataclass(frozen=True)
class LabelSource:
    """A table to import, and the split that all its rows belong to, "" if it does not say."""

    path: Path
    split: str = ""


@dataclass(frozen=True)
class ImportConfig:
    """How tables are read."""

    num_classes: int = 5
    class_names: tuple[str, ...] = ()
    columns: ColumnFlags = field(default_factory=ColumnFlags)
    keep: tuple[str, ...] = ()  # more columns for metadata.csv

    @property
    def folders(self) -> tuple[str, ...]:
        """Name the class folders in grade order."""
        return self.class_names or tuple(map(str, range(self.num_classes)))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: what it says of a picture."""

    where: str  # such as "line 7"
    name: str
    grade: int | None
    split: str
    left_out_because: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What became of a row or a picture; the fields are the columns of manifest.csv."""

    file: str  # in the new dataset, "" if it was left out
    source: str
    row: str
    name: str  # in the table
    grade: str
    split: str
    left_out_because: str


@dataclass(frozen=True)
class ImportPlan:
    """Which pictures are imported, and as what."""

    folders: tuple[str, ...]  # of the classes, in grade order
    splits: tuple[str, ...]  # ("",) without
    pictures: list[Path]
    used: list[tuple[Row, int]]  # with the index of the picture
    left_out: list[tuple[Row, int | None]]
    without_row: list[int]
    remarks: list[str]  # what was understood of the tables

    def counts(self, split: str) -> list[int]:
        """Count a split's pictures of each class."""
        found = Counter(row.grade for row, _ in self.used if row.split == split)
        return [found[grade] for grade in range(len(self.folders))]

    def reasons(self) -> dict[str, list[str]]:
        """List by reason which rows and pictures are left out."""
        found: dict[str, list[str]] = defaultdict(list)
        for row, _ in self.left_out:
            found[row.left_out_because].append(f"{row.name or 'no name'} ({row.where})")
        for i in self.without_row:
            found[NO_ROW].append(str(self.pictures[i]))
        return found


def plan_import(
    sources: Sequence[LabelSource], images: Sequence[Path], config: ImportConfig
) -> ImportPlan:
    """Match the rows of tables with the pictures in folders, opening no picture.

    Raises InputError where a table cannot be understood, a name means two pictures, a picture has
    two grades or splits, or nothing is left to import.
    """
    remarks: list[str] = []
    rows = [row for source in sources for row in _read_rows(source, config, remarks, len(sources))]
    pictures, broken, others = _list_pictures(images)
    if broken:
        remarks.append(f"note: links that lead nowhere: {some(broken)}")
    if others:
        remarks.append(
            f"note: {count_of(len(others), 'other file')} with the pictures, not read as one "
            f"({by_ending(others)})"
        )
    matches = match_names([row.name for row in rows], [str(path) for path in pictures])
    if matches.by_name_alone:
        remarks.append(
            f"note: {count_of(matches.by_name_alone, 'row')} name other folders than those of the "
            "pictures; the file names alone were matched"
        )
    found = _choose_pictures(rows, matches.found, pictures)
    used, left_out = _decide(rows, found, pictures)
    if not used:
        raise InputError(_nothing_left(sources, images, rows, pictures, left_out))
    splits = {row.split for row, _ in used}
    named = {i for i in found if i is not None}
    return ImportPlan(
        folders=config.folders,
        splits=tuple(s for s in SPLITS if s in splits) or ("",),
        pictures=pictures,
        used=used,
        left_out=left_out,
        without_row=[i for i in range(len(pictures)) if i not in named],
        remarks=remarks,
    )


def write_import(plan: ImportPlan, target: Path, way: str) -> tuple[str, ...]:
    """Write the dataset of a plan, whole or not at all; returns the columns of its metadata.csv.

    way: "copy", "hardlink" or "symlink". Raises InputError if `target` holds anything.
    """
    columns = tuple(dict.fromkeys(name for row, _ in plan.used for name in row.metadata))
    columns = tuple(c for c in columns if any(row.metadata.get(c) for row, _ in plan.used))
    with new_dataset(target) as folder:
        for split in plan.splits:
            for name in plan.folders:
                (folder / split / name).mkdir(parents=True)
        known, taken = [], set[str]()
        manifest: list[ManifestRow] = []
        for row, i in plan.used:
            place = f"{row.split}/{plan.folders[row.grade or 0]}".lstrip("/")
            file = free_name(place, plan.pictures[i].name, taken)
            put_file(plan.pictures[i], folder / file, way)
            manifest.append(_manifest_row(row, file, str(plan.pictures[i])))
            if columns:
                known.append([file, *(row.metadata.get(column, "") for column in columns)])
        for row, picture in plan.left_out:
            source = "" if picture is None else str(plan.pictures[picture])
            manifest.append(_manifest_row(row, "", source))
        nothing = Row("", "", None, "", NO_ROW, {})
        manifest += [_manifest_row(nothing, "", str(plan.pictures[i])) for i in plan.without_row]
        names = [column.name for column in fields(ManifestRow)]
        write_rows(folder / MANIFEST, names, map(astuple, manifest))
        if columns:
            write_rows(folder / METADATA, ["image", *columns], known)
    return columns


def _manifest_row(row: Row, file: str, source: str) -> ManifestRow:
    grade = "" if row.grade is None else str(row.grade)
    return ManifestRow(
        file, source, row.where, row.name, grade, row.split or "", row.left_out_because
    )


# -- tables ------------------------------------------------------------------------------------


def _read_rows(
    source: LabelSource, config: ImportConfig, remarks: list[str], tables: int
) -> list[Row]:
    """Read a table's rows; appends what was understood to `remarks`."""
    table = read_table(source.path)
    columns = choose_columns(table, config.columns)
    assert columns.image is not None
    labels = read_labels(
        table,
        columns,
        config.num_classes,
        class_reader(config.num_classes, config.class_names),
        config.columns,
    )
    splits = _splits(table, columns.split)
    if source.split and splits is not None:
        _require_split(table, columns.split, splits, source.split)
        splits = None
    held = (columns.image, columns.grade, columns.gradable, columns.split)
    taken = [i for i in held if i is not None]
    chosen = metadata_columns(table, config.keep, taken, known_only=True)
    roles = {"pictures": columns.image, "grades": columns.grade, "gradable": columns.gradable}
    roles |= {"split": columns.split} if splits is not None else {}
    named = [f"{role} in {table.columns[i]!r}" for role, i in roles.items() if i is not None]
    named += [
        f"{name} in {table.columns[i]!r}{'' if any(table.column(i)) else ' (empty)'}"
        for name, i in chosen.items()
    ]
    size = f"{count_of(len(table.rows), 'row')}, {table.form}"
    remarks.append(f"{source.path}: {size}; {printable(', '.join(named))}")
    if said := numbers_as_places(table.column(columns.grade), config.class_names):
        remarks.append(f"{source.path}: {said}")
    if is_ddr(table) and config.num_classes == 5 and "5" in table.column(columns.grade):
        remarks.append(f"{source.path}: in DDR's form, where 5 means ungradable")
    prefix = f"{source.path.name} " if tables > 1 else ""
    rows = []
    for k, (label, cells) in enumerate(zip(labels, table.rows)):
        split = splits[k] if splits is not None else source.split
        reason = label.left_out_because or ("" if split or splits is None else "no split")
        metadata = {name: cells[i] for name, i in chosen.items()}
        name = cells[columns.image]
        reason = reason if name else "no name of a picture"
        rows.append(Row(f"{prefix}line {label.line}", name, label.grade, split, reason, metadata))
    return rows


def _splits(table: Table, column: int | None) -> list[str] | None:
    """Read the split of each row, None where a table has none."""
    if column is None or not any(table.column(column)):
        return None
    found = [split_of(cell) for cell in table.column(column)]
    for line, cell, split in zip(table.lines, table.column(column), found):
        if cell and not split:
            raise InputError(
                f"{table.path}: line {line}: expected train, val, cal or test in "
                f"column {printable(table.columns[column])!r}, found {printable(cell)!r}; to do "
                "without it pass --split_column none"
            )
    return found


def _require_split(table: Table, column: int | None, found: list[str], split: str) -> None:
    """Raise InputError where a column puts a row into another split than the command line does."""
    assert column is not None
    name = printable(table.columns[column])
    for line, one in zip(table.lines, found):
        if one not in ("", split):
            raise InputError(
                f"{table.path}: line {line}: column {name!r} says {one}, the command line says "
                f"{split} of the whole table; leave {split}= away, or pass --split_column none"
            )


# -- pictures ----------------------------------------------------------------------------------


def _list_pictures(folders: Sequence[Path]) -> tuple[list[Path], list[str], list[str]]:
    """List the pictures in folders, however deep, the links that lead nowhere, and other files."""
    found, broken, others = {}, [], []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"expected a folder of pictures, found none at {folder}")
        for entry in list_tree(folder, past_our_results=True):
            if not is_picture(entry.name):
                others.append(entry.name)
            else:
                if leads_nowhere(entry):
                    broken.append(entry.path)
                elif entry.is_file():
                    found[os.path.abspath(entry.path)] = Path(os.path.abspath(entry.path))
    if not found:
        places = " and ".join(f"{folder} ({describe(folder)})" for folder in folders)
        raise InputError(f"expected pictures in {places}, found none")
    return sorted(found.values()), broken, others


def _choose_pictures(
    rows: Sequence[Row], found: Sequence[Sequence[int]], pictures: Sequence[Path]
) -> list[int | None]:
    """Return each row's picture; raises InputError where a name means several."""
    chosen: list[int | None] = []
    doubtful = []
    for row, candidates in zip(rows, found):
        if len(candidates) > 1 and row.split:  # the folder of the row's split decides
            inside = [i for i in candidates if _split_above(pictures[i]) == row.split]
            candidates = inside if len(inside) == 1 else candidates
        if len(candidates) > 1 and not row.left_out_because:
            doubtful.append((row, candidates))
        chosen.append(candidates[0] if len(candidates) == 1 else None)
    if doubtful:
        row, candidates = doubtful[0]
        more = f" ({len(doubtful)} such rows)" if len(doubtful) > 1 else ""
        raise InputError(
            f"{row.where}: {printable(row.name)!r} means {pictures[candidates[0]]} and "
            f"{pictures[candidates[1]]}{more}; give the folder that is meant alone, or write "
            "folders in the table"
        )
    return chosen


def _split_above(path: Path) -> str:
    """Tell the split of the nearest folder above that is called like one, "b. Testing Set" too."""
    names = (re.sub(r"^\w{1,2}[.)] *", "", part) for part in reversed(path.parts[:-1]))
    return next(filter(None, map(split_of, names)), "")


def _decide(
    rows: Sequence[Row], found: Sequence[int | None], pictures: Sequence[Path]
) -> tuple[list[tuple[Row, int]], list[tuple[Row, int | None]]]:
    """Say which rows are used, each with its picture, and which are left out."""
    used: dict[int, Row] = {}
    said: dict[int, Row] = {}  # the first row of a picture that says something of its grade
    left_out: list[tuple[Row, int | None]] = []
    conflicts = []
    for row, i in zip(rows, found):
        if i is None:
            reason = row.left_out_because or _NO_PICTURE
            left_out.append((replace(row, left_out_because=reason), None))
        elif row.left_out_because not in ("", "ungradable"):
            left_out.append((row, i))
        elif i in said:
            first = said[i]
            if _verdict(first) != _verdict(row) or _contradict(first, row):
                conflicts.append((first, row))
            left_out.append((replace(row, left_out_because=_AGAIN), i))
        else:
            said[i] = row
            if row.left_out_because:
                left_out.append((row, i))
            else:
                used[i] = row
    if conflicts:
        shown = "; ".join(
            f"{printable(b.name)!r}: {_verdict(a, b)} in {a.where}, {_verdict(b, a)} in {b.where}"
            for a, b in conflicts[:_EXAMPLES]
        )
        more = f" and {len(conflicts) - _EXAMPLES} more" if len(conflicts) > _EXAMPLES else ""
        raise InputError(f"expected one verdict for each picture, found {shown}{more}")
    return [(row, i) for i, row in used.items()], left_out


def _contradict(row: Row, other: Row) -> list[str]:
    """List the columns in which two rows of one picture say different things."""
    return [
        name
        for name, value in row.metadata.items()
        if value and other.metadata.get(name) and other.metadata[name] != value
    ]


def _verdict(row: Row, other: Row | None = None) -> str:
    """Say what a row says of a picture, and of its metadata what another row contradicts."""
    said = "ungradable" if row.grade is None else f"grade {row.grade}"
    said += f" in {row.split}" if row.split else ""
    for name in _contradict(row, other) if other is not None else ():
        said += f", {name} {printable(row.metadata[name])}"
    return said


def _nothing_left(
    sources: Sequence[LabelSource],
    images: Sequence[Path],
    rows: Sequence[Row],
    pictures: Sequence[Path],
    left_out: Sequence[tuple[Row, int | None]],
) -> str:
    """Say why no row is used."""
    reasons = Counter(row.left_out_because for row, _ in left_out)
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return (
        f"no row of {sources[0].path} can be used ({counted}): the table names "
        f"{some([row.name for row in rows if row.name])}; {images[0]} holds "
        f"{some([path.name for path in pictures])}"
    )
