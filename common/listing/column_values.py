"""Put the cells of a table's column into few values: bands of numbers, one spelling of a word."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Columns = Mapping[str, Sequence[str]]  # what is known of images, (N,) cells by the column's name
_MOST_VALUES = 20  # of a column; numbers are put into bands before that
_BAND = 10  # years of age
_MOST_ARE_NUMBERS = 0.8  # of the cells of a column of numbers
_ODD = "not a number"  # the group of the others
_NAMED = 3  # of these in a note
# 61, 61.5, 61,5, 061Y, 65+, >89, 61 years old
_NUMBER = re.compile(
    r"[<>~\u2264\u2265=]*\s*(-?\d+(?:[.,]\d+)?)\s*\+?\s*(?:y|yo|y/o|yrs?|years?)?\.?(?:[ -]?old)?",
    re.IGNORECASE,
)
_NOT_KNOWN = {
    *("", "-", "--", "?", ".", "na", "n/a", "n.a.", "n.a", "nan", "none", "null", "nil"),
    *("unknown", "unk", "not known", "not available", "not recorded", "not given", "missing"),
}


@dataclass(frozen=True)
class ColumnValues:
    """The columns that divide images into groups, and why others do not."""

    columns: dict[str, np.ndarray]  # (N,) str by the column's name; "" where it is not known
    orders: dict[str, list[str]]  # the values of each column, in the order to list them
    notes: list[str]


def group_by_columns(columns: Columns) -> ColumnValues:
    """Reduce each column to at most twenty values; one that has more, or but one, makes none."""
    kept, orders, notes = {}, {}, []
    for name, cells in columns.items():
        values = group_cells(name, cells)
        order = _in_order(values)
        odd = _no_numbers(_spelled_alike(cells))
        named = f"{', '.join(map(repr, odd[:_NAMED]))}{' and more' if len(odd) > _NAMED else ''}"
        if _ODD in order:
            notes.append(f"{name}: {named}: {_ODD}")
        known = [value for value in order if value]
        if len(order) > _MOST_VALUES:
            why = f", since {named} are no numbers" if name == "age" else ""
            notes.append(f"no subgroups by {name}: it has {len(order)} values{why}")
        elif not known:
            notes.append(f"no subgroups by {name}: it is not known of any image")
        elif len(order) < 2:
            notes.append(f"no subgroups by {name}: all images have {known[0]}")
        else:
            kept[name], orders[name] = np.array(values, dtype=object), order
    return ColumnValues(kept, orders, notes)


def group_cells(name: str, cells: Sequence[str]) -> list[str]:
    """Say (N,) which group each cell of a column belongs to, "" where it is not known."""
    return _values(name, _spelled_alike(cells))


def _no_numbers(cells: Sequence[str]) -> list[str]:
    """List once what is known and is no number."""
    return [cell for cell in dict.fromkeys(cells) if cell and not _NUMBER.fullmatch(cell)]


def _spelled_alike(cells: Sequence[str]) -> list[str]:
    """Write what differs in case and spaces alone as it is written most often."""
    plain = [" ".join(cell.split()).casefold() for cell in cells]
    spellings: dict[str, Counter[str]] = {}
    for key, cell in zip(plain, cells):
        spellings.setdefault(key, Counter())[" ".join(cell.split())] += 1
    usual = {key: counts.most_common(1)[0][0] for key, counts in spellings.items()}
    return ["" if key in _NOT_KNOWN else usual[key] for key in plain]


def _values(name: str, cells: list[str]) -> list[str]:
    """Put ages into bands of ten years and other numbers, if they are many, into quarters.

    The few cells of such a column that are no number are a group of their own.
    """
    matches = [_NUMBER.fullmatch(cell) for cell in cells]
    known_cells, found = sum(map(bool, cells)), sum(match is not None for match in matches)
    if not found or found < _MOST_ARE_NUMBERS * known_cells:
        return cells
    others = [_ODD if cell else "" for cell in cells]
    numbers = np.array([float(m[1].replace(",", ".")) if m else np.nan for m in matches])
    if name == "age":
        starts = [int(number // _BAND) * _BAND if number == number else None for number in numbers]
        return [o if s is None else f"{s}-{s + _BAND - 1}" for s, o in zip(starts, others)]
    known = numbers[~np.isnan(numbers)]
    if len(np.unique(known)) <= _MOST_VALUES // 2:
        return cells
    cuts = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    places = np.clip(np.searchsorted(cuts, numbers, side="right") - 1, 0, len(cuts) - 2)
    bands = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
    return [
        bands[place] if number == number else other
        for place, number, other in zip(places, numbers, others)
    ]


def _in_order(values: Sequence[str]) -> list[str]:
    """List the values once: bands and numbers by size, words by how many images have them."""
    counts = Counter(values)

    def key(value: str) -> tuple[bool, float, int, str]:
        number = re.match(r"-?\d+(?:\.\d+)?", value)
        size = float(number[0]) if number else float("inf")
        return value == "", size, -counts[value], value

    return sorted(counts, key=key)
