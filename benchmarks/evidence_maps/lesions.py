"""Where lesions are in photographs: read from a table, and brought into the square of a model.

N images, B boxes, S pixels of the square's side. A table has a row for each box: image, finding,
and left, top, right and bottom in shares of the upright photograph's width and height.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.synthetic import DISC
from common.listing.picture_names import match_names
from common.listing.tables import Table, read_table
from common.pixels.preprocessing import Preprocessing, load_window
from common.pixels.retina import retina_mask
from common.system.errors import InputError
from common.system.log import printable

_SIDES = ("left", "top", "right", "bottom")
_BEYOND = 0.02  # of a side, by which a box may leave the photograph


@dataclass(frozen=True)
class Boxes:
    """What was marked in a photograph, in shares of its sides."""

    lesions: np.ndarray  # (B, 4): left, top, right, bottom
    discs: np.ndarray  # (B, 4)


@dataclass(frozen=True)
class Regions:
    """Where things are in the square that a model sees, each (S, S) bool."""

    retina: np.ndarray
    lesions: np.ndarray  # within the retina
    disc: np.ndarray  # within the retina; nowhere if it is not marked


def read_boxes(path: Path, ids: Sequence[str]) -> dict[str, Boxes]:
    """Read the boxes of images, by their ids (N,); images that the table does not name are absent.

    Raises InputError for a table without the columns, a box that is none, or a name that may be
    two of the images.
    """
    table = read_table(path)
    known = {name.casefold(): place for place, name in enumerate(table.columns)}
    missing = [name for name in ("image", "finding", *_SIDES) if name not in known]
    if missing:
        raise InputError(
            f"{path}: expected the columns image, finding, {', '.join(_SIDES)}, found "
            f"{printable(', '.join(table.columns))}"
        )
    names = table.column(known["image"])
    places = match_names(names, ids).found
    found: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for row, (name, own) in enumerate(zip(names, places)):
        if len(own) > 1:
            raise InputError(
                f"{path}: line {table.lines[row]}: {printable(name)} may be "
                f"{printable(ids[own[0]])} or {printable(ids[own[1]])}; write its folders, too"
            )
        for place in own:
            lesions, discs = found.setdefault(ids[place], ([], []))
            is_disc = table.rows[row][known["finding"]].strip().casefold() == DISC
            (discs if is_disc else lesions).append(_box(table, row, known))
    return {
        id_: Boxes(*(np.array(boxes, dtype=float).reshape(-1, 4) for boxes in own))
        for id_, own in found.items()
    }


def _box(table: Table, row: int, known: dict[str, int]) -> np.ndarray:
    cells = [table.rows[row][known[side]] for side in _SIDES]
    try:
        box = np.array([float(cell) for cell in cells])
    except ValueError:
        box = np.full(4, np.nan)
    left, top, right, bottom = box
    inside = ((box >= -_BEYOND) & (box <= 1 + _BEYOND)).all()
    if not inside or left >= right or top >= bottom:
        raise InputError(
            f"{table.path}: line {table.lines[row]}: expected left < right and top < bottom, each "
            "from 0 to 1 in shares of the photograph's sides, found "
            f"{printable(', '.join(cells))}"
        )
    return box


def mark(boxes: np.ndarray, size: int) -> np.ndarray:
    """Mark boxes (B, 4) in shares of a square as (S, S) bool; one that is there has a pixel."""
    marked = np.zeros((size, size), dtype=bool)
    for left, top, right, bottom in np.asarray(boxes, float) * size:
        if right <= 0 or bottom <= 0 or left >= size or top >= size:
            continue  # the crop has cut it off
        columns, rows = _pixels(left, right, size), _pixels(top, bottom, size)
        marked[rows, columns] = True
    return marked


def _pixels(low: float, high: float, size: int) -> slice:
    """Take the pixels whose middles lie between, or the one that holds the middle of both."""
    first, stop = round(max(low, 0)), round(min(high, size))
    if first < stop:
        return slice(first, stop)
    middle = min(int(max(low, 0) / 2 + min(high, size) / 2), size - 1)
    return slice(middle, middle + 1)


def regions_of(
    path: Path, pixels: np.ndarray, boxes: Boxes, preprocessing: Preprocessing
) -> Regions:
    """Bring the boxes of a photograph into the square; pixels (S, S, 3) uint8: what it shows."""
    window, retina = load_window(path, preprocessing), retina_mask(pixels)
    lesions, disc = (
        mark(window.to_square(own), len(pixels)) & retina for own in (boxes.lesions, boxes.discs)
    )
    return Regions(retina, lesions, disc)
