"""accuracy.json: what was measured of methods, and of single changes of the recipe."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shared.over_seeds import Figure
from benchmarks.shared.pages import figure_from, intervals_from, number_of, put_section
from common.data.patients import AUTO
from common.metrics.intervals import Interval
from common.system.errors import InputError
from common.system.files import read_json

Differences = dict[str, Interval]  # by metric


@dataclass(frozen=True)
class Grid:
    """Seeds that all have the same folds."""

    seeds: tuple[int, ...]
    folds: tuple[int, ...]


@dataclass(frozen=True)
class MethodResult:
    """What a method reaches, and how it differs from those that all are compared with."""

    name: str
    title: str
    note: str
    grid: Grid
    images: int
    figures: dict[str, Figure]
    against: dict[str, Differences] = field(default_factory=dict)  # by the other's name
    members: list[str] = field(default_factory=list)  # their names, where it is a mean of methods
    minutes: float | None = None  # of a training; None: it is a mean


@dataclass(frozen=True)
class ChangeResult:
    """What the recipe reaches with one setting changed, beside the recipe on the same folds."""

    setting: str
    to: str
    grid: Grid
    images: int
    figures: dict[str, Figure]
    spread: dict[str, float]  # standard deviation over single folds and seeds
    difference: Differences  # to the recipe as it is; empty for that itself
    minutes: float


@dataclass(frozen=True)
class Conditions:
    """What the figures were measured on, and with."""

    dataset: str
    grades: list[int]  # images of each
    left_out: int
    units: int  # groups of images that belong together
    models: list[str]
    train_flags: str
    processor: str
    versions: dict[str, str]
    git_commit: str
    date: str = ""
    patient_regex: str = AUTO  # which names the folds keep together


@dataclass(frozen=True)
class Methods:
    """How methods compare."""

    conditions: Conditions
    rows: list[MethodResult]


@dataclass(frozen=True)
class Changes:
    """What single settings of the recipe are worth; the recipe as it is comes first."""

    conditions: Conditions
    rows: list[ChangeResult]


@dataclass(frozen=True)
class Results:
    """All that accuracy.json holds; None: not measured."""

    methods: Methods | None
    together: Methods | None  # where folds keep more photographs together (--patient_regex)
    changes: Changes | None
    changes_together: Changes | None  # on the folds of `together`
    pixels: Changes | None  # the same of a probe's pixels
    learning: Changes | None  # the recipe and a probe with fewer images to learn from
    divisions: Changes | None  # one model of one division, and those of folds together


def store(file: Path, found: Methods | Changes, section_name: str) -> Results:
    """Put one section into accuracy.json, with its date; returns all that it then holds.

    section_name: a field of Results.
    """
    put_section(file, section_name, asdict(found), "accuracy")
    return load(file)


def load(file: Path) -> Results:
    """Read accuracy.json; raises InputError for anything else."""
    try:
        content = read_json(file)
        return Results(
            _read_methods(content.get("methods")),
            _read_methods(content.get("together")),
            _read_changes(content.get("changes")),
            _read_changes(content.get("changes_together")),
            _read_changes(content.get("pixels")),
            _read_changes(content.get("learning")),
            _read_changes(content.get("divisions")),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: expected figures of accuracy, found {error!r}") from error


def _read_methods(content: Mapping[str, Any] | None) -> Methods | None:
    if not content:
        return None
    rows = [MethodResult(**_read(row)) for row in content["rows"]]
    return Methods(Conditions(**content["conditions"]), rows)


def _read_changes(content: Mapping[str, Any] | None) -> Changes | None:
    if not content:
        return None
    rows = [ChangeResult(**_read(row)) for row in content["rows"]]
    return Changes(Conditions(**content["conditions"]), rows)


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    """Make the values of a row what they were; an undefined number is stored as none."""
    found = dict(row)
    found["grid"] = Grid(**{name: tuple(own) for name, own in row["grid"].items()})
    found["figures"] = {name: figure_from(own) for name, own in row["figures"].items()}
    if "against" in row:
        found["against"] = {name: intervals_from(own) for name, own in row["against"].items()}
    if "difference" in row:
        found["difference"] = intervals_from(row["difference"])
        found["spread"] = {k: number_of(v) for k, v in row["spread"].items()}
    return found
