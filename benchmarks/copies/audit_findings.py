"""What was measured of an audit among many pictures, in tables, and what follows for a million.

N pictures. What the steps take grows as a power of N, fitted on the two largest numbers measured.
Three steps depend on the vocabulary, of which a million pictures have a larger one: where that was
tried, learning it and encoding a picture are taken as they were measured, and a question takes a
time that is linear in the pictures for each word, fitted on all that was measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.copies.audit_steps import Measured
from benchmarks.copies.hidden_copies import Hidden
from common.metrics.intervals import BootstrapConfig, Interval
from common.metrics.shares import share_interval

MILLION = 1_000_000
HEADER = (
    "pictures",
    "words",
    "learning",
    "encoding a picture",
    "asking",
    "hashes",
    "comparing",
    "in all",
    "copies among the candidates",
    "copies found",
    "memory of its own",
    "with views of files",
)
WORDS_HEADER = (
    "pictures",
    "vocabulary for",
    "words",
    "learning",
    "encoding a picture",
    "asking",
    "copies among the candidates",
    "memory of its own",
)

Table = tuple[tuple[str, ...], list[list[str]]]  # its header and its rows


@dataclass(frozen=True)
class Found:
    """What was measured among N pictures, with intervals by photograph for the copies."""

    measured: Measured
    among: Interval  # share of the copies whose photograph is among their candidates
    found: Interval | None  # share of those that are linked with it
    copies: int

    @classmethod
    def of(cls, measured: Measured, hidden: Hidden) -> "Found":
        """Bound the shares; copies of one photograph are no independent ones."""
        groups, bootstrap = np.unique(hidden.sources, return_inverse=True)[1], BootstrapConfig()
        among, others = np.array(measured.points.among), measured.others
        found = None if others is None else np.array(others.found)
        return cls(
            measured,
            share_interval(among, groups, bootstrap),
            None if found is None else share_interval(found, groups, bootstrap),
            len(among),
        )

    @property
    def pictures(self) -> int:
        """Count the pictures."""
        return self.measured.pictures

    @property
    def steps(self) -> dict[str, float]:
        """Say what each step takes for all pictures, in seconds of the processor."""
        one, points, others = self.pictures, self.measured.points, self.measured.others
        found = {
            "reading what is kept": self.measured.reading,
            "learning the vocabulary": points.learning,
            "encoding, as they are and mirrored": 2 * one * points.encoding,
            "ordering by words": points.indexing,
            "asking for neighbours, twice": 2 * one * points.asking,
        }
        if others is None:
            return found
        return found | {
            "candidates of hashes": others.hashing,
            "correlating them": others.correlating,
            "comparing points with candidates": one * others.candidates * others.comparing,
        }


def rows_of_pictures(found: Sequence[Found]) -> list[list[str]]:
    """Lay out what was measured with the pictures' own vocabularies; times of a picture in ms."""
    rows = []
    for each in found:
        points, others = each.measured.points, each.measured.others
        if others is None:
            continue
        hashes = (others.hashing + others.correlating) / each.pictures
        rows.append(
            [
                f"{each.pictures:,}",
                f"{points.words:,}",
                _seconds(points.learning),
                _ms(2 * points.encoding),
                _ms(2 * points.asking),
                _ms(hashes),
                _ms(others.candidates * others.comparing),
                _ms(sum(each.steps.values()) / each.pictures),
                _share(each.among, each.copies),
                "" if each.found is None else _share(each.found, each.copies),
                _bytes(each.measured.own),
                _bytes(each.measured.peak),
            ]
        )
    return rows


def rows_of_words(found: Sequence[Found]) -> list[list[str]]:
    """Lay out what other vocabularies do, beside the pictures' own."""
    tried = {each.pictures for each in found if each.measured.others is None}
    chosen = [each for each in found if each.pictures in tried]
    return [
        [
            f"{each.pictures:,}",
            f"{each.measured.vocabulary_of:,} pictures",
            f"{each.measured.points.words:,}",
            _seconds(each.measured.points.learning),
            _ms(2 * each.measured.points.encoding),
            _ms(2 * each.measured.points.asking),
            _share(each.among, each.copies),
            _bytes(each.measured.own),
        ]
        for each in sorted(chosen, key=lambda each: (each.pictures, each.measured.vocabulary_of))
    ]


def table_of_million(found: Sequence[Found]) -> Table:
    """Say how each step grows and what it takes at a million pictures, in time of one core."""
    small, large = [each for each in found if each.measured.others][-2:]
    as_million = [each for each in found if each.measured.vocabulary_of == MILLION]
    taken = _with_words_of_million(found, as_million[-1]) if as_million else {}
    rows, total = [], 0.0
    for name, seconds in large.steps.items():
        power = _power(small.pictures, small.steps[name], large.pictures, seconds)
        estimate = seconds * (MILLION / large.pictures) ** power
        estimate, source = taken.get(name, (estimate, "the power"))
        total += estimate
        rows.append(
            [
                name,
                _hours(small.steps[name]),
                _hours(seconds),
                f"N^{power:.2f}",
                _hours(estimate),
                source,
            ]
        )
    sums = [sum(each.steps.values()) for each in (small, large)]
    power = _power(small.pictures, sums[0], large.pictures, sums[1])
    rows.append(["all", *map(_hours, sums), f"N^{power:.2f}", _hours(total), "their sum"])
    own = [each.measured.own for each in (small, large)]
    each_one = (own[1] - own[0]) / (large.pictures - small.pictures)
    estimate = own[1] + each_one * (MILLION - large.pictures)
    grows = f"{each_one / 1e3:.0f} kB a picture"
    rows.append(["memory of its own", *map(_bytes, own), grows, _bytes(estimate), "a line"])
    numbers = [f"{each.pictures:,} pictures" for each in (small, large)]
    return ("step", *numbers, "grows as", "a million", "from"), rows


def _with_words_of_million(found: Sequence[Found], tried: Found) -> dict[str, tuple[float, str]]:
    """Estimate the steps that depend on the vocabulary by that of a million pictures."""
    points = [each.measured.points for each in found]
    loads = [each.pictures / one.words for each, one in zip(found, points)]
    slope, base = np.polyfit(loads, [one.asking for one in points], 1).tolist()
    words = tried.measured.points.words
    asking = base + slope * MILLION / words
    measured = "its vocabulary, measured"
    return {
        "learning the vocabulary": (tried.measured.points.learning, measured),
        "encoding, as they are and mirrored": (
            2 * MILLION * tried.measured.points.encoding,
            measured,
        ),
        "asking for neighbours, twice": (
            2 * MILLION * asking,
            f"a line in pictures a word ({MILLION / words:.0f} there)",
        ),
    }


def _power(small: int, before: float, large: int, after: float) -> float:
    if min(before, after) <= 0:
        return 0.0
    return math.log(after / before) / math.log(large / small)


def _share(found: Interval, copies: int) -> str:
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}] of {copies}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
