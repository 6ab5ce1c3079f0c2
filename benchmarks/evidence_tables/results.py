"""evidence.json: how well evidence meets lesions, in photographs and in drawn pictures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.over_seeds import Figure
from benchmarks.shared.pages import figure_from, intervals_from, put_section
from common.metrics.intervals import Interval
from common.system.errors import InputError
from common.system.files import read_json

CHECKS = "_checks"  # after the kind of pictures: of what deletion and shuffled weights do
KINDS = ("photographs", "drawn")
SECTIONS = (*KINDS, *(kind + CHECKS for kind in KINDS))
TARGETS = ("referable", "grade", "pair")  # what a map is evidence for


@dataclass(frozen=True)
class Row:
    """What was measured of the maps of a method, looked at in one way."""

    method: str
    setting: str  # what differs from the method's first row; "": this is it
    to: str
    seeds: int  # of shuffled weights, the random orders of each seed
    images: int
    positive: int  # of them with any positive evidence, in some seed
    figures: dict[str, Figure]
    difference: dict[str, Interval]  # to the method's first row; empty for that itself


@dataclass(frozen=True)
class Curve:
    """How the score falls, in logits, while more of the retina is deleted; means over images."""

    method: str
    shares: list[float]  # of the retina
    whole: float  # with nothing deleted
    curves: dict[str, list[float]]  # by whose order is deleted


@dataclass(frozen=True)
class Conditions:
    """What the figures were measured on, and with."""

    dataset: str
    split: str
    images: int
    groups: int  # of images that belong together
    boxes: int  # of lesions
    note: str
    target: str
    look: str
    upsampling: str
    map_size: list[int]
    resamples: int
    versions: dict[str, str]
    git_commit: str
    date: str = ""


@dataclass(frozen=True)
class Section:
    """All that was measured of one kind of pictures."""

    conditions: Conditions
    rows: list[Row]
    curves: list[Curve]


Results = dict[str, Section]  # by SECTIONS; what was not measured is absent


def store(file: Path, section: Section, name: str) -> Results:
    """Put one section into evidence.json, with its date; returns all that it then holds."""
    put_section(file, name, asdict(section), "evidence")
    return load(file)


def load(file: Path) -> Results:
    """Read evidence.json; raises InputError for anything else."""
    try:
        content = read_json(file)
        return {name: _section(content[name]) for name in SECTIONS if name in content}
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: expected figures of evidence, found {error!r}") from error


def _section(content: Mapping[str, Any]) -> Section:
    return Section(
        Conditions(**content["conditions"]),
        [_row(row) for row in content["rows"]],
        [Curve(**curve) for curve in content["curves"]],
    )


def _row(content: Mapping[str, Any]) -> Row:
    figures = {name: figure_from(own) for name, own in content["figures"].items()}
    return Row(
        **{**content, "figures": figures, "difference": intervals_from(content["difference"])}
    )
