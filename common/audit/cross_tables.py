"""What metadata.csv says of the images of each grade: a camera or site that only one grade has.

N images, K grades, V values of a column.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.data.metadata import Metadata

_MOST_VALUES = 12  # of a column that is shown as a table
_PATIENT = "patient"


@dataclass(frozen=True)
class CrossTable:
    """How many images of each grade have each value of a column."""

    column: str
    values: list[str]  # (V,), the most frequent first; "" where it is not known
    counts: list[list[int]]  # (V, K)


def cross_tables(
    metadata: Metadata, ids: Sequence[str], grades: np.ndarray, num_classes: int
) -> list[CrossTable]:
    """Count images (N,) by the columns of few values and by grade (N,)."""
    tables = []
    for name in metadata.columns:
        cells = metadata.column(name, ids)
        found = Counter(cells)
        if name == _PATIENT or not 1 < len(found) <= _MOST_VALUES or not any(cells):
            continue
        counts = {value: [0] * num_classes for value, _ in found.most_common()}
        for cell, grade in zip(cells, grades):
            counts[cell][grade] += 1
        tables.append(CrossTable(name, list(counts), list(counts.values())))
    return tables


def column_statistics(metadata: Metadata, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Write each column but the patient as numbers (N,), for the search for shortcuts.

    Numbers stay; words are numbered in alphabetical order; -1 where nothing is known. Columns in
    which nearly every image has a value of its own, and no number, say nothing and are left out.
    """
    columns = {}
    for name in metadata.columns:
        cells = metadata.column(name, ids)
        known = [cell for cell in cells if cell]
        if name == _PATIENT or not known:
            continue
        numbers = [_number(cell) for cell in cells]
        if all(number is not None for number, cell in zip(numbers, cells) if cell):
            columns[name] = np.array([-1.0 if n is None else n for n in numbers])
        elif 3 * len(set(known)) <= 2 * len(known):
            places = {cell: float(place) for place, cell in enumerate(sorted(set(known)))}
            columns[name] = np.array([places.get(cell, -1.0) for cell in cells])
    return columns


def _number(cell: str) -> float | None:
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None
