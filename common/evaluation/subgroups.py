"""The main figures within subgroups of the images: by camera, site, sex, age and the like.

N images, K classes.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from common.evaluation.evaluate import evaluate
from common.metrics.intervals import BootstrapConfig, Interval
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions

FIGURES = ("accuracy", "kappa", "referable_sensitivity", "referable_specificity")
FEWEST = 10  # images; figures of fewer are marked
Columns = Mapping[str, Sequence[str]]  # what is known of the images, (N,) by the column's name
_MOST_VALUES = 20  # of a column; numbers are put into bands before that
_BAND = 10  # years of age
_NUMBER = re.compile(r"(-?\d+(?:[.,]\d+)?)\s*(?:y|yrs?|years?)?", re.IGNORECASE)  # 61, 61.5, 061Y


@dataclass(frozen=True)
class Subgroup:
    """How good predictions are on the images that a column says the same of."""

    column: str
    value: str  # "" where it is not known
    images: int
    patients: int | None  # None where images are not known to share any
    metrics: dict[str, Interval]  # of FIGURES
    undefined: dict[str, str]  # figure: why it has no value

    @property
    def too_few(self) -> bool:
        """Tell whether the figures rest on too few images."""
        return self.images < FEWEST

    def row(self) -> dict[str, Any]:
        """Return it as a row of a CSV file, or an entry of a JSON file."""
        row: dict[str, Any] = {
            "column": self.column,
            "value": self.value,
            "images": self.images,
            "patients": self.patients,
            "too_few": self.too_few,
        }
        for name, found in self.metrics.items():
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        reasons = {reason: None for reason in self.undefined.values()}
        return row | {"undefined_because": "; ".join(reasons)}


@dataclass(frozen=True)
class Subgroups:
    """The subgroups by every column, and the columns that make none."""

    groups: list[Subgroup]
    notes: list[str]


def measure_subgroups(
    targets: np.ndarray,
    predictions: ClassPredictions,
    bootstrap: BootstrapConfig,
    classes: Classes,
    columns: Columns,
) -> Subgroups:
    """Measure predictions against targets (N,) on the images of each value of each column, (N,)."""
    groups, notes = [], []
    for name, cells in columns.items():
        values = np.array(_values(name, cells), dtype=object)
        found = _in_order(values.tolist())
        if len(found) > _MOST_VALUES:
            notes.append(f"no subgroups by {name}: it has {len(found)} values")
            continue
        if len(found) < 2:
            notes.append(f"no subgroups by {name}: all images have {found[0] or 'no value'}")
            continue
        for value in found:
            mask = values == value
            mine = None if bootstrap.groups is None else bootstrap.groups[mask]
            part = ClassPredictions(predictions.probabilities[mask], predictions.predicted[mask])
            whole = evaluate(targets[mask], part, replace(bootstrap, groups=mine), classes)
            metrics = {
                figure: whole.metrics[figure] for figure in FIGURES if figure in whole.metrics
            }
            undefined = {
                figure: why for figure, why in whole.undefined.items() if figure in metrics
            }
            patients = None if mine is None else len(np.unique(mine))
            groups.append(Subgroup(name, value, int(mask.sum()), patients, metrics, undefined))
    return Subgroups(groups, notes)


def _values(name: str, cells: Sequence[str]) -> list[str]:
    """Put ages into bands of ten years and other numbers, if they are many, into quarters."""
    matches = [_NUMBER.fullmatch(cell) for cell in cells]
    if not any(cells) or any(cell and not match for cell, match in zip(cells, matches)):
        return list(cells)
    numbers = np.array([float(m[1].replace(",", ".")) if m else np.nan for m in matches])
    if name == "age":
        starts = [int(number // _BAND) * _BAND if number == number else None for number in numbers]
        return ["" if s is None else f"{s}-{s + _BAND - 1}" for s in starts]
    known = numbers[~np.isnan(numbers)]
    if len(np.unique(known)) <= _MOST_VALUES // 2:
        return list(cells)
    cuts = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    places = np.clip(np.searchsorted(cuts, numbers, side="right") - 1, 0, len(cuts) - 2)
    bands = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
    return [bands[place] if number == number else "" for place, number in zip(places, numbers)]


def _in_order(values: Sequence[str]) -> list[str]:
    """List the values once: bands and numbers by size, words by how many images have them."""
    counts = Counter(values)

    def key(value: str) -> tuple[bool, float, int, str]:
        number = re.match(r"-?\d+(?:\.\d+)?", value)
        size = float(number[0]) if number else float("inf")
        return value == "", size, -counts[value], value

    return sorted(counts, key=key)
