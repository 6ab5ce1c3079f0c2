"""What is known of images beside their grades: patient, eye, camera, site, age, sex, ...

It lies in metadata.csv beside the class folders: a column `image` with an image's path in the
dataset, or its file name where only one has it, and any other columns. The import of label tables
writes it; it may be written by hand.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.class_names import plain
from common.data.label_tables import find_image_column, is_label_column
from common.listing.picture_files import is_picture
from common.listing.picture_names import match_names
from common.listing.tables import Table, read_table
from common.listing.walking import count_of, list_tree
from common.system.errors import InputError
from common.system.log import printable

METADATA = "metadata.csv"
# what columns of these names hold, in any case and spacing; BRSET's and mBRSET's among them
ROLES = {
    "patient": re.compile(
        "(?:patient|subject|person|participant)(?:id|no|nr|number|key|code)?|pid|mrn"
    ),
    "eye": re.compile("(?:exam)?(?:eye|laterality|eyeside|side)"),
    "camera": re.compile("(?:fundus)?(?:camera|device|scanner)(?:id|model|type|name)?"),
    "site": re.compile("(?:site|center|centre|hospital|clinic|institution)(?:id|name|code)?"),
    "age": re.compile("(?:patient)?age(?:years|atexam)?"),
    "sex": re.compile("(?:patient)?(?:sex|gender)"),
}
_EXAMPLES = 3


@dataclass(frozen=True)
class Metadata:
    """What metadata.csv says of a dataset's images."""

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]  # by image id; cells in the order of `columns`
    remarks: tuple[str, ...] = ()  # what was understood of the file, for the log

    def column(self, name: str, ids: Sequence[str]) -> list[str]:
        """Return a column's values for these images, "" where they are not known."""
        if name not in self.columns:
            return [""] * len(ids)
        place = self.columns.index(name)
        blank = ("",) * len(self.columns)
        return [self.rows.get(id_, blank)[place] for id_ in ids]

    def others(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the columns that subgroups of these images are made of: not patient, not eye."""
        kept = [name for name in self.columns if name not in ("patient", "eye")]
        return {name: self.column(name, ids) for name in kept}


def read_metadata(root: Path) -> Metadata | None:
    """Read a dataset's metadata.csv; None if there is none.

    Raises InputError for a file that is no table, has no column of images, two rows for one image,
    a name that two images have, or no row for any image.
    """
    path = root / METADATA
    if not path.is_file():
        return None
    table = read_table(path)
    image = find_image_column(
        table, "rename one to 'image' (or the file, if it is of another kind)"
    )
    columns = metadata_columns(table, (), {image})
    ids = sorted(
        Path(entry.path).relative_to(root).as_posix()
        for entry in list_tree(root, past_our_results=True)
        if is_picture(entry.name)
    )
    names = table.column(image)
    matches = _matches(names, ids)
    rows: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    for line, name, found, cells in zip(table.lines, names, matches, table.rows):
        if len(found) > 1:
            raise InputError(
                f"{path}: line {line}: {printable(name)!r} is the name of {len(found)} images, "
                f"{printable(ids[found[0]])} and {printable(ids[found[1]])}; write their paths in "
                "the dataset"
            )
        for i in found:
            if ids[i] in rows:
                raise InputError(
                    f"{path}: expected one row for each image, found two for {printable(ids[i])} "
                    f"in lines {lines[ids[i]]} and {line}"
                )
            rows[ids[i]] = tuple(cells[index] for index in columns.values())
            lines[ids[i]] = line
    strange = [name for name, found in zip(names, matches) if not found]
    if not rows:
        raise InputError(
            f"{path}: expected images of {root} in column {table.columns[image]!r}, found "
            f"{some(strange)}; an image is written as its path in the dataset, or its file name"
        )
    remarks = [
        f"{METADATA}: {' '.join(columns) or 'no column'} for {len(rows)} of "
        f"{count_of(len(ids), 'picture')}"
    ]
    if strange:
        remarks.append(
            f"note: {METADATA}: {count_of(len(strange), 'row')} of no image that is here, such as "
            f"{some(strange)}"
        )
    return Metadata(tuple(columns), rows, tuple(remarks))


def _matches(names: Sequence[str], ids: Sequence[str]) -> list[list[int]]:
    """Find the image of each name: by its path in the dataset, or by a file name alone."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, id_ in enumerate(ids):
        places[id_].append(i)
        if _alike(id_) != id_:
            places[_alike(id_)].append(i)
    exact = [places.get(name) or places.get(_alike(name)) for name in names]
    if all(exact):
        return [there or [] for there in exact]
    bare = match_names(["" if there else name for name, there in zip(names, exact)], ids).found
    return [
        there or ([] if "/" in name else found) for name, there, found in zip(names, exact, bare)
    ]


def _alike(path: str) -> str:
    """Reduce a path to what two spellings of it share."""
    return unicodedata.normalize("NFC", path).casefold().removeprefix("./")


def metadata_columns(
    table: Table, keep: Sequence[str], taken: Iterable[int], known_only: bool = False
) -> dict[str, int]:
    """Choose the columns of metadata, by the name that each is to have.

    Columns of a usual name are called by what they hold: "patient" for `Patient ID`. keep: more
    columns, NAME, or NEW=NAME such as patient=subject_no. taken: columns that hold something else.
    known_only: without --keep, take those with a usual name only. Raises InputError where two
    columns could be the patient, say, or there is no such column.
    """
    left = [i for i in range(len(table.columns)) if i not in set(taken)]
    chosen: dict[str, int] = {}
    for word in keep:
        index = _kept(table, word)
        role = word.partition("=")[0].strip() if "=" in word and _index(table, word) is None else ""
        chosen[role or _role(table.columns[index]) or table.columns[index]] = index
    for role, pattern in ROLES.items():
        found = [i for i in left if pattern.fullmatch(plain(table.columns[i]))]
        if role in chosen or not found:
            continue
        if len(found) > 1:
            names = " and ".join(repr(printable(table.columns[i])) for i in found)
            raise InputError(
                f"{table.path}: {names} could each be the {role}; say which with --keep "
                f"{role}=NAME (in {METADATA}: rename the other)"
            )
        chosen[role] = found[0]
    if "image" in chosen:
        raise InputError(
            f"{table.path}: {METADATA} names the images in its column 'image'; keep the table's "
            "column of that name under another: --keep NEW=image"
        )
    if not known_only:
        others = [i for i in left if i not in chosen.values()]
        for i in others:
            if not is_label_column(table.columns[i]) and any(table.column(i)):
                chosen.setdefault(table.columns[i], i)
    return {name: i for name, i in chosen.items() if any(table.column(i)) or known_only}


def _role(name: str) -> str:
    return next((role for role, each in ROLES.items() if each.fullmatch(plain(name))), "")


def _kept(table: Table, word: str) -> int:
    """Find the column of NAME or NEW=NAME."""
    found = _index(table, word)
    if found is None and "=" in word:
        found = _index(table, word.partition("=")[2])
    if found is None:
        raise InputError(
            f"{table.path}: --keep {word!r}: expected one of the columns "
            f"{', '.join(map(printable, table.columns[:40]))}"
        )
    return found


def _index(table: Table, name: str) -> int | None:
    exact = [i for i, column in enumerate(table.columns) if column == name.strip()]
    found = exact or [i for i, c in enumerate(table.columns) if plain(c) == plain(name)]
    return found[0] if len(found) == 1 else None


def some(names: Sequence[str]) -> str:
    """Show the first of many names."""
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return ", ".join(map(printable, names[:_EXAMPLES])) + more
