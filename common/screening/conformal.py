"""Sets of grades that hold the true one in 90 % of the images of every grade.

N images, K classes. Class-conditional (Mondrian) split conformal prediction: for each grade k the
images of that grade on val or cal say how improbable the true grade may look (Vovk 2012; Sadinle,
Lei & Wasserman 2019). An image's set holds each grade that looks no less probable than that.

What is promised: for a new image that is exchangeable with those of its grade on val or cal, the
set holds its grade with a probability of at least 90 %, on average over such calibrations. It
holds for the score used, 1 - p_k. Each set is given the predicted grade, too, and made contiguous
by filling gaps; both only add grades, so that the promise still holds. A grade of too few images to
know from which probability on it is plausible is never ruled out: it is in every set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.fitting.grader import Grader, Sample
from common.metrics.intervals import (
    Interval,
)
from common.metrics.shares import Share, mean_interval, share_intervals
from common.prediction.voting import ClassPredictions
from common.screening.operating_point import fewer_models

LEVEL = 0.9  # of coverage, in each grade
# so many images are needed for the quantile to be finite: ceil(0.9 (n + 1)) <= n
FEWEST = math.ceil(LEVEL / (1 - LEVEL) - 1e-9)


@dataclass(frozen=True)
class GradeCoverage:
    """How often the sets of a grade's images hold it, and how large they are."""

    grade: str
    calibrated_on: int  # images of it on val or cal
    threshold: float  # least probability with which it is in a set; NaN: too few images
    images: int  # of it that are judged
    coverage: Interval
    size: Interval  # mean number of grades in a set
    single: Interval  # share of sets of one grade
    why_not_measured: str


@dataclass(frozen=True)
class ConformalSets:
    """The sets of the images that are judged, and whether they keep their promise there."""

    level: float
    chosen_on: str  # the images that they were calibrated on
    grades: list[GradeCoverage]  # (K,)
    all_measured: GradeCoverage  # of all images of the grades that are measured
    sets: np.ndarray  # (N, K) bool
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it; sets follow from the thresholds."""
        return {name: value for name, value in vars(self).items() if name != "sets"}


def measure_conformal_sets(grader: Grader) -> ConformalSets | str:
    """Calibrate sets of grades and measure them; says why where nothing can be calibrated."""
    chosen, judged, titles = grader.chosen_on, grader.judged_on, grader.scored.titles
    thresholds = choose_thresholds(grader)
    if chosen is None or isinstance(thresholds, str):
        return str(thresholds)
    counts = np.bincount(chosen.targets, minlength=len(titles))
    sets = make_sets(judged.classes, thresholds)
    grades = []
    for k, title in enumerate(titles):
        why = ""
        if counts[k] < FEWEST:
            why = f"{counts[k]} images of it on {chosen.name}, {FEWEST} are needed"
        elif not (judged.targets == k).any():
            why = "no image of it is judged"
        mine = judged.targets == k
        grades.append(
            _coverage(grader, sets, mine, (title, int(counts[k]), float(thresholds[k]), why))
        )
    measured = ~np.isnan(thresholds)[judged.targets]
    why = "" if measured.any() else "no image of a calibrated grade is judged"
    whole = ("all measured", int(counts[~np.isnan(thresholds)].sum()), math.nan, why)
    always = never_ruled_out(titles, counts.tolist(), thresholds, chosen.name)
    return ConformalSets(
        LEVEL,
        chosen.name,
        grades,
        _coverage(grader, sets, measured, whole),
        sets,
        [*(f"{said}, and counts in its size." for said in always), *_notes(grader, chosen)],
    )


def choose_thresholds(grader: Grader) -> np.ndarray | str:
    """Return `fit_thresholds` of where things are chosen; says why where no grade has one."""
    chosen, titles = grader.chosen_on, grader.scored.titles
    if chosen is None:
        return grader.why_nothing_is_chosen
    thresholds = fit_thresholds(chosen.classes.probabilities, chosen.targets)
    if np.isnan(thresholds).all():
        counts = np.bincount(chosen.targets, minlength=len(titles))
        most = f"{counts.max()} of {titles[counts.argmax()]}"
        return f"{FEWEST} images of a grade are needed; {chosen.name} has at most {most}"
    return thresholds


def fit_thresholds(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (K,) the least probability that a grade may have to be in a set; NaN: too few images.

    probabilities (N, K), targets (N,). Of the n images of grade k it is the probability of k that
    is ceil((n + 1) 0.9)-th from the top.
    """
    thresholds = np.full(probabilities.shape[1], math.nan)
    for k in range(len(thresholds)):
        own = np.sort(probabilities[targets == k, k])[::-1]
        place = math.ceil(LEVEL * (len(own) + 1) - 1e-9)
        if place <= len(own):
            thresholds[k] = own[place - 1]
    return thresholds


def make_sets(classes: ClassPredictions, thresholds: np.ndarray) -> np.ndarray:
    """Make sets (N, K) bool, each with the predicted grade and without gaps.

    NaN: a grade of which too little is known to rule it out. It is in every set, and may lie apart
    from the others, which would say nothing any more if the gap to it were filled.
    """
    unknown = np.isnan(thresholds)
    inside = classes.probabilities >= np.where(unknown, math.inf, thresholds)
    inside[np.arange(len(inside)), classes.predicted] = True
    from_below = np.logical_or.accumulate(inside, axis=1)
    from_above = np.logical_or.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
    return from_below & from_above | unknown


def never_ruled_out(
    titles: Sequence[str], counts: Sequence[int], thresholds: np.ndarray, name: str
) -> list[str]:
    """Say which classes (K,) are in every set, and why; counts: images of each, () if not known.

    name: that of the images that sets were calibrated on. Nothing where no class has a threshold.
    """
    unknown = np.isnan(thresholds)
    return [
        f"{title}: too few images on {name or 'val'} ({f'{counts[k]}, ' if counts else ''}{FEWEST} "
        "are needed) to rule it out, so it is in every set"
        for k, title in enumerate(titles)
        if unknown[k] and not unknown.all()
    ]


def _coverage(
    grader: Grader, sets: np.ndarray, mine: np.ndarray, what: tuple[str, int, float, str]
) -> GradeCoverage:
    """Measure the sets of some images (N,) bool; what: name, calibrated on, threshold, why not."""
    name, calibrated_on, threshold, why = what
    targets, bootstrap = grader.judged_on.targets, grader.bootstrap
    sizes = sets.sum(1)
    among = mine if not why else np.zeros_like(mine)
    hit = sets[np.arange(len(targets)), targets]
    groups = None if bootstrap.groups is None else bootstrap.groups[among]
    found = share_intervals(
        {
            "coverage": Share(hit & among, among, among),
            "single": Share((sizes == 1) & among, among, among),
        },
        bootstrap.groups,
        bootstrap,
    )
    return GradeCoverage(
        grade=name,
        calibrated_on=calibrated_on,
        threshold=threshold,
        images=int(mine.sum()),
        coverage=found["coverage"],
        size=mean_interval(sizes[among], groups, bootstrap, 1, sets.shape[1]),
        single=found["single"],
        why_not_measured=why,
    )


def _notes(grader: Grader, chosen: Sample) -> list[str]:
    name, differs = chosen.name, fewer_models(grader)
    notes = [
        "A set holds the true grade in 90 % of the images of each grade that was calibrated, if "
        f"new images are like those of {name}; the predicted grade is in each, and gaps are filled."
    ]
    if name != "cal":
        notes.append(
            f"Calibrated on {name}, on which epochs were chosen, too: coverage may be lower than "
            "promised. A split of its own is better: prepare_dataset.py split --cal 0.1."
        )
    if differs:
        notes.append(f"The promise is weaker here: {differs}.")
    if chosen.groups is not None:
        notes.append("Several images of a patient count as independent in the calibration.")
    return notes
