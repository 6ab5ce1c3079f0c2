"""The main figures within subgroups of the images, by camera, site, sex, age and the like.

N images, K classes, V values of a column.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.comparison.differences import holm
from common.comparison.gaps import Counted, gap_p_values
from common.fitting.grader import Grader, Sample
from common.listing.column_values import Columns, ColumnValues, group_by_columns
from common.metrics.bounds import metrics_with_intervals
from common.metrics.classification import quadratic_weighted_kappa
from common.metrics.intervals import Interval, count_patients, number_patients
from common.metrics.shares import Share, ratio, share_intervals
from common.prediction.voting import ClassPredictions
from common.screening.operating_point import Decision

FEWEST = 10  # images; figures of fewer are marked, and make no gap
SIGNIFICANT = 0.05
_PER_TEST = 100  # permutations for each test that Holm's correction allows for
_LEAST = 2000


@dataclass(frozen=True)
class Figure:
    """A figure that subgroups are compared in: accuracy, kappa, or a share of referrals."""

    name: str  # in files
    title: str
    decision: Decision | None = None
    of_referable: bool = True  # sensitivity; else specificity


@dataclass(frozen=True)
class Subgroup:
    """How good predictions are on the images that a column says the same of."""

    column: str  # "" of all images
    value: str  # "" where it is not known
    images: int
    patients: int | None  # known ones; None where images are not known to share any
    referable: int | None  # images that are; None where that is not known
    metrics: dict[str, Interval]  # by the figure's name
    undefined: dict[str, str]  # figure: why it has no value

    @property
    def too_few(self) -> bool:
        """Tell whether all figures rest on too few images."""
        return self.images < FEWEST

    def images_of(self, figure: Figure) -> int:
        """Count the images that a figure is of: of a sensitivity those that are referable."""
        if figure.decision is None or self.referable is None:
            return self.images
        return self.referable if figure.of_referable else self.images - self.referable

    def rests_on_few(self, figure: Figure) -> bool:
        """Tell whether a figure rests on too few images."""
        return self.images_of(figure) < FEWEST

    def row(self) -> dict[str, Any]:
        """Return it as an entry of a JSON file."""
        row: dict[str, Any] = {
            "column": self.column,
            "value": self.value,
            "images": self.images,
            "patients": self.patients,
            "referable": self.referable,
            "too_few": self.too_few,
        }
        for name, found in self.metrics.items():
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return row | {"undefined_because": "; ".join(dict.fromkeys(self.undefined.values()))}


@dataclass(frozen=True)
class Gap:
    """By how much a figure differs between the values of a column that differ most."""

    figure: Figure
    column: str
    best: Subgroup
    worst: Subgroup
    difference: Interval  # of these two, as if they had been chosen beforehand
    p: float = math.nan  # of as large a gap between any two values, if the column meant nothing
    p_holm: float = math.nan  # corrected for all figures and columns

    @property
    def beyond_chance(self) -> bool:
        """Tell whether so many equal subgroups would rarely differ so much."""
        return self.p_holm < SIGNIFICANT

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {
            "figure": self.figure.name,
            "column": self.column,
            "best": self.best.value,
            "worst": self.worst.value,
            "difference": self.difference,
            "p": self.p,
            "p_holm": self.p_holm,
            "beyond_chance": self.beyond_chance,
        }


@dataclass(frozen=True)
class Subgroups:
    """The subgroups by every column, and the columns that make none."""

    figures: tuple[Figure, ...]
    overall: Subgroup
    groups: list[Subgroup]
    gaps: list[Gap]  # those beyond chance first, then by size
    notes: list[str]

    @property
    def largest_gap(self) -> Gap | None:
        """Return the largest gap beyond chance, or where there is none the largest."""
        return self.gaps[0] if self.gaps else None

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {
            "overall": self.overall.row(),
            "groups": [group.row() for group in self.groups],
            "gaps": [gap.to_json() for gap in self.gaps],
            "notes": self.notes,
        }


def measure_subgroups(
    grader: Grader, columns: Columns, decisions: Sequence[Decision]
) -> Subgroups | str:
    """Measure a grader on the images that each column says the same of.

    columns: what is known of the images that are judged, (N,) by name; decisions: who is referred.
    Says why not where nothing is known.
    """
    if not columns:
        return "nothing is known of the images: no metadata.csv with more than patient and eye"
    by_column, figures = group_by_columns(columns), _figures(decisions)
    overall = _measure(grader, figures, "", "", np.ones(len(grader.judged_on.ids), dtype=bool))
    groups = [
        _measure(grader, figures, name, value, cells == value)
        for name, cells in by_column.columns.items()
        for value in by_column.orders[name]
    ]
    gaps = _test(grader, by_column, _gaps(figures, by_column, groups))
    gaps.sort(key=lambda gap: (not gap.beyond_chance, -gap.difference.value))
    notes = [*by_column.notes, *_without_gap(figures, by_column, gaps)]
    if not decisions:
        notes.append(
            f"no sensitivity and specificity: what is referable is {grader.scored.referable}"
        )
    return Subgroups(figures, overall, groups, gaps, notes)


def _figures(decisions: Sequence[Decision]) -> tuple[Figure, ...]:
    """List accuracy, kappa, and the sensitivity and specificity of each decision to refer."""
    figures = [Figure("accuracy", "accuracy"), Figure("kappa", "kappa")]
    for decision in decisions:
        end = "" if decision.rule == "argmax" else f" at {decision.rule}"
        shown = f" at {decision.rule}" if len(decisions) > 1 else end
        for word, of_referable in (("sensitivity", True), ("specificity", False)):
            title = f"ref. {word[:4]}.{shown}"
            figures.append(Figure(f"referable_{word}{end}", title, decision, of_referable))
    return tuple(figures)


def _measure(
    grader: Grader, figures: Sequence[Figure], column: str, value: str, mask: np.ndarray
) -> Subgroup:
    """Measure a grader on the images of a mask (N,)."""
    sample, cut = grader.judged_on, grader.scored.referable_from
    groups = None if sample.groups is None else sample.groups[mask]
    targets, bootstrap = sample.targets[mask], replace(grader.bootstrap, groups=groups)
    part = ClassPredictions(sample.classes.probabilities[mask], sample.classes.predicted[mask])
    metrics = metrics_with_intervals(targets, part, bootstrap, cut, ("accuracy", "kappa"))
    shares = {f.name: _share(f, sample, mask) for f in figures if f.decision is not None}
    metrics |= share_intervals(shares, groups, bootstrap)
    undefined = {
        figure.name: _why_undefined(figure)
        for figure in figures
        if math.isnan(metrics[figure.name].value)
    }
    return Subgroup(
        column,
        value,
        int(mask.sum()),
        count_patients(groups),
        None if cut is None else int((targets >= cut).sum()),
        metrics,
        undefined,
    )


def _share(figure: Figure, sample: Sample, mask: np.ndarray) -> Share:
    """Say which of the images of a mask are right, of those that a share of referrals is of."""
    assert figure.decision is not None
    concerned = (sample.targets >= figure.decision.cut) == figure.of_referable
    right = figure.decision.refers(sample.classes) == figure.of_referable
    return Share((right & concerned)[mask], concerned[mask], concerned[mask])


def _why_undefined(figure: Figure) -> str:
    if figure.decision is None:
        return "the images are all of one grade, and are graded so"
    return "no image is referable" if figure.of_referable else "every image is referable"


def _gaps(
    figures: Sequence[Figure], by_column: ColumnValues, groups: Sequence[Subgroup]
) -> list[Gap]:
    """Find the two values of each column that differ most in each figure."""
    gaps = []
    for column in by_column.columns:
        for figure in figures:
            own = [g for g in groups if g.column == column and _is_compared(figure, g)]
            if len(own) < 2:
                continue
            # the ends of a list: two values, even where the figure is the same everywhere
            worst, *_, best = sorted(own, key=lambda group: group.metrics[figure.name].value)
            gap = _difference(best.metrics[figure.name], worst.metrics[figure.name])
            gaps.append(Gap(figure, column, best, worst, gap))
    return gaps


def _without_gap(
    figures: Sequence[Figure], by_column: ColumnValues, gaps: Sequence[Gap]
) -> list[str]:
    """Say which figures no two values of a column can be compared in, and why."""
    found, notes = {(gap.column, gap.figure.name) for gap in gaps}, []
    for column in by_column.columns:
        missing = [figure.title for figure in figures if (column, figure.name) not in found]
        if missing:
            notes.append(
                f"no gap by {column} in {', '.join(missing)}: it takes two known values with at "
                f"least {FEWEST} images each that the figure is of"
            )
    return notes


def _is_compared(figure: Figure, group: Subgroup) -> bool:
    """Tell whether a figure rests on enough images of a known value."""
    defined = not math.isnan(group.metrics[figure.name].value)
    return bool(group.value) and not group.rests_on_few(figure) and defined


def _difference(best: Interval, worst: Interval) -> Interval:
    """Subtract two independent estimates with their intervals (Newcombe 1998, method 10)."""
    value = best.value - worst.value
    below = math.hypot(best.value - best.low, worst.high - worst.value)
    above = math.hypot(best.high - best.value, worst.value - worst.low)
    return Interval(value, value - below, value + above)


def _test(grader: Grader, by_column: ColumnValues, gaps: list[Gap]) -> list[Gap]:
    """Say of each gap how often chance alone makes one as large, among so many comparisons."""
    sample, seed = grader.judged_on, grader.bootstrap.seed
    members = number_patients(len(sample.ids), sample.groups)
    most = max(_LEAST, _PER_TEST * len(gaps))
    p_values: dict[tuple[str, str], float] = {}
    for column, cells in by_column.columns.items():
        order = by_column.orders[column]
        own = [gap for gap in gaps if gap.column == column]
        counted = [_counted(gap.figure, sample, cells, order) for gap in own]
        places = np.array([order.index(cell) for cell in cells])
        found = gap_p_values(places, counted, members, most, seed)
        p_values |= {(column, gap.figure.name): float(p) for gap, p in zip(own, found)}
    p = np.array([p_values[gap.column, gap.figure.name] for gap in gaps])
    corrected = holm(p)
    return [
        replace(gap, p=float(own), p_holm=float(of_all))
        for gap, own, of_all in zip(gaps, p, corrected)
    ]


def _counted(figure: Figure, sample: Sample, cells: np.ndarray, order: Sequence[str]) -> Counted:
    """Lay a figure out as counts, so that it can be computed of any subgroups at once."""
    count = sample.classes.probabilities.shape[1]
    if figure.name == "kappa":
        counts_as = sample.targets * count + sample.classes.predicted
        compared = np.array([bool(v) and (cells == v).sum() >= FEWEST for v in order])
        return Counted(counts_as, count**2, _kappa, compared)
    everything = np.ones(len(sample.ids), dtype=bool)
    right, concerned = sample.targets == sample.classes.predicted, everything
    if figure.decision is not None:
        share = _share(figure, sample, everything)
        right, concerned = share.hits, share.trials
    counts_as = np.where(concerned, right.astype(int), 2)
    compared = np.array([bool(v) and concerned[cells == v].sum() >= FEWEST for v in order])
    return Counted(counts_as, 3, _share_of_right, compared)


def _kappa(counts: np.ndarray) -> np.ndarray:
    side = math.isqrt(counts.shape[-1])
    return quadratic_weighted_kappa(counts.reshape(*counts.shape[:-1], side, side))


def _share_of_right(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 1], counts[..., 0] + counts[..., 1])
