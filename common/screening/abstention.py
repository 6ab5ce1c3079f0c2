"""What is gained when the images that a grader is least sure of are referred to a physician.

N images, K classes, L models, T distinct uncertainties, R resamples. Images that are equally
uncertain are referred together or not at all.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.fitting.grader import Grader, Sample
from common.metrics.intervals import (
    BootstrapConfig,
    Interval,
    number_patients,
    posterior_weights,
    typical_size,
)
from common.metrics.shares import Share, ratio, share_intervals
from common.screening.operating_point import fewer_models

SHARES = (0.05, 0.10, 0.20, 0.30, 0.50)  # of the images that are referred, in the table
REVIEW_SHARES = (0.05, 0.10, 0.20)  # for which thresholds are chosen on val
_LEAST = 1e-12
_MANY = 64.0  # images from which on harmonic numbers are computed by their series
_SAME = 1e-9  # uncertainties that differ by less differ by rounding


def max_probability(sample: Sample) -> np.ndarray:
    """Return (N,) one minus the probability of the likeliest class."""
    return 1 - sample.classes.probabilities.max(1)


def entropy(sample: Sample) -> np.ndarray:
    """Return (N,) the entropy of the class probabilities, in nats."""
    return _entropy(sample.classes.probabilities)


def disagreement(sample: Sample) -> np.ndarray | None:
    """Return (N,) the mutual information between the class and the model, in nats.

    The entropy of the plain mean of the models minus the mean of their entropies (Houlsby et al.
    2011). None for a single model.
    """
    if len(sample.members) < 2:
        return None
    mean = sample.members.mean(0)
    return np.maximum(_entropy(mean) - _entropy(sample.members).mean(0), 0)


def cycles(sample: Sample) -> np.ndarray | None:
    """Return (N,) how often the models' pairs contradict each other; None without pairs."""
    return None if sample.cycles is None else sample.cycles.astype(float)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return -(probabilities * np.log(np.maximum(probabilities, _LEAST))).sum(-1)


# name -> (the uncertainty, why there may be none)
MEASURES = {
    "max-probability": (max_probability, ""),
    "entropy": (entropy, ""),
    "disagreement": (disagreement, "one model has nobody to disagree with"),
    "cycles": (cycles, "there are no pairs that could contradict each other"),
}


MEANINGS = {  # in words, where a value of it is given
    "max-probability": "one minus the greatest probability",
    "entropy": "entropy",
    "disagreement": "disagreement",
    "cycles": "cycles",
}


@dataclass(frozen=True)
class Rest:
    """What holds for the images that are not referred, at one threshold of the uncertainty."""

    asked: float  # share of the images to be referred, at most
    threshold: float  # images at least as uncertain are referred; inf: none
    referred: float  # share that is referred
    images: int  # that are kept
    accuracy: Interval  # of those
    accuracy_of_referred: Interval
    sensitivity: Interval  # for referable disease, of the grades, among those that are kept
    specificity: Interval


@dataclass(frozen=True)
class RiskCoverage:
    """The share of wrong grades among the images kept, by the share that is kept."""

    coverage: np.ndarray  # (T,) ascending to 1
    risk: np.ndarray  # (T,)


@dataclass(frozen=True)
class Ranking:
    """How well a measure of uncertainty tells wrong grades from right ones."""

    measure: str  # of MEASURES
    aurc: Interval  # area under the risk-coverage curve: 0 is best
    excess: Interval  # that area minus the one of an oracle that refers the wrong ones first
    where_chosen: float  # the area on val or cal; NaN without
    curve: RiskCoverage
    rows: list[Rest]  # at SHARES, on the images that are judged
    why_no_interval: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it; the curve follows from the predictions."""
        return {name: value for name, value in vars(self).items() if name != "curve"}


@dataclass(frozen=True)
class Review:
    """A threshold of the uncertainty that was chosen where things are chosen, and its effect."""

    where_chosen: float  # share that it refers there
    judged: Rest


@dataclass(frozen=True)
class Abstention:
    """What referring the least certain images gains, by every measure of uncertainty."""

    rankings: list[Ranking]
    not_measured: dict[str, str]  # measure: why
    best: str  # the measure of the least area on val or cal; "" where there is none
    chosen_on: str  # name of those images, "" for none
    note: str  # why nothing is chosen, or on what little the choice rests
    reviews: list[Review]  # by the best measure, at REVIEW_SHARES

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {**vars(self), "rankings": [ranking.to_json() for ranking in self.rankings]}


def measure_abstention(grader: Grader) -> Abstention:
    """Rank the images that are judged by each uncertainty; choose the best on val or cal."""
    judged, areas, review = grader.judged_on, areas_where_chosen(grader), choose_review(grader)
    rankings, missing = [], {}
    for name, (measure, why_none) in MEASURES.items():
        uncertainty = measure(judged)
        if uncertainty is None:
            missing[name] = why_none
        else:
            rankings.append(_rank(grader, name, uncertainty, areas.get(name, math.nan)))
    if isinstance(review, str):
        return Abstention(rankings, missing, "", "", review, [])
    found = Abstention(rankings, missing, "", "", "", [])
    here = MEASURES[review.measure][0](judged)
    assert here is not None
    reviews = [
        Review(each.where_chosen, measure_rest(grader, here, each.value, each.share))
        for each in review.thresholds
    ]
    return replace(
        found, best=review.measure, chosen_on=review.chosen_on, note=review.note, reviews=reviews
    )


def areas_where_chosen(grader: Grader) -> dict[str, float]:
    """Return the area under the curve of each measure that is known on val or cal."""
    chosen, differs, areas = grader.chosen_on, fewer_models(grader), {}
    for name, (measure, _) in MEASURES.items():
        if chosen is None or measure(grader.judged_on) is None:
            continue
        if name == "cycles" and differs:  # counts over more models are larger
            continue
        there = measure(chosen)
        if there is not None:
            areas[name] = _area_of(chosen, there)
    return areas


@dataclass(frozen=True)
class ReviewThreshold:
    """From which uncertainty on an image is referred to a physician."""

    share: float  # of the images that may be referred, at most
    value: float  # inf: none is
    where_chosen: float  # share that it refers there


@dataclass(frozen=True)
class ChosenReview:
    """The best measure of uncertainty and its thresholds, with what they were chosen on."""

    measure: str  # of MEASURES
    chosen_on: str
    note: str  # on what little the choice rests
    thresholds: list[ReviewThreshold]  # at REVIEW_SHARES


def choose_review(grader: Grader) -> ChosenReview | str:
    """Choose the measure of the least area on val or cal, and its thresholds there.

    A measure that is the same for all images there tells none apart, and is not chosen. One of few
    values (cycles, above all) can have so many images at its greatest that a share cannot be met;
    it is only chosen where others cannot meet more of them. Says why where nothing is chosen.
    """
    chosen, areas, differs = grader.chosen_on, areas_where_chosen(grader), fewer_models(grader)
    if chosen is None or not areas:
        return grader.why_nothing_is_chosen
    found = {name: MEASURES[name][0](chosen) for name in areas}
    told = {name: u for name, u in found.items() if u is not None and np.ptp(u) > _SAME}
    if not told:
        return f"all images of {chosen.name} are equally uncertain"
    met = {name: _shares_met(uncertainty) for name, uncertainty in told.items()}
    best = min(told, key=lambda name: (-met[name], areas[name]))
    there, count = told[best], len(chosen.targets)
    wrong = int((chosen.classes.predicted != chosen.targets).sum())
    notes = [f"the choice rests on {wrong} wrong grades among {count} of {chosen.name}"]
    for name in areas:
        if areas[name] < areas[best]:
            notes.append(f"not {name}, by which too many of these are equally uncertain")
    thresholds = []
    for share in REVIEW_SHARES:
        value = threshold_for(there, share)
        thresholds.append(ReviewThreshold(share, value, float((there >= value).mean())))
    notes += [differs] if differs else []
    return ChosenReview(best, chosen.name, "; ".join(notes), thresholds)


def _shares_met(uncertainty: np.ndarray) -> int:
    """Count the shares of which a threshold refers at least half of what it might (of N images)."""
    count, met = len(uncertainty), 0
    for share in REVIEW_SHARES:
        referred = int((uncertainty >= threshold_for(uncertainty, share)).sum())
        met += 2 * referred >= math.floor(share * count + 1e-9)
    return met


def why_no_threshold(share: float, count: int, name: str) -> str:
    """Say why no image is referred for a share, of a number of images of this name."""
    where = f"the {count} images of {name}" if count else name or "the images it was chosen on"
    if count and share * count < 1 - 1e-9:
        return f"{share:.0%} of {where} is less than one"
    return f"the most uncertain of {where} are equally so, and more than {share:.0%}"


def _rank(grader: Grader, name: str, uncertainty: np.ndarray, where_chosen: float) -> Ranking:
    sample = grader.judged_on
    wrong = sample.classes.predicted != sample.targets
    aurc, excess = aurc_with_intervals(uncertainty, wrong, grader.bootstrap)
    thresholds = [math.inf] + [threshold_for(uncertainty, share) for share in SHARES]
    return Ranking(
        measure=name,
        aurc=aurc,
        excess=excess,
        where_chosen=where_chosen,
        curve=risk_coverage(uncertainty, wrong),
        rows=[
            measure_rest(grader, uncertainty, threshold, share)
            for threshold, share in zip(thresholds, (0.0, *SHARES))
        ],
        why_no_interval="" if wrong.any() else "no image is graded wrong",
    )


def threshold_for(uncertainty: np.ndarray, share: float) -> float:
    """Return the least uncertainty (of N,) from which on at most this share is referred.

    Infinite where even the images that are most uncertain, being equally so, are more than that.
    """
    values, counts = np.unique(uncertainty, return_counts=True)
    referred = np.cumsum(counts[::-1])[::-1] / len(uncertainty)  # from each value on
    fitting = values[referred <= share + 1e-9]
    return float(fitting[0]) if len(fitting) else math.inf


def measure_rest(grader: Grader, uncertainty: np.ndarray, threshold: float, share: float) -> Rest:
    """Measure the images (N,) that are less uncertain than a threshold, and those that are not."""
    sample, cut = grader.judged_on, grader.scored.referable_from
    right = sample.classes.predicted == sample.targets
    kept = uncertainty < threshold
    shares = {
        "accuracy": Share(right & kept, kept, kept),
        "accuracy_of_referred": Share(right & ~kept, ~kept, ~kept),
    }
    if cut is None:
        nobody = np.zeros_like(kept)
        shares |= dict.fromkeys(("sensitivity", "specificity"), Share(nobody, nobody, nobody))
    else:
        sick, called = sample.targets >= cut, sample.classes.predicted >= cut
        shares["sensitivity"] = Share(sick & called & kept, sick & kept, sick & kept)
        shares["specificity"] = Share(~sick & ~called & kept, ~sick & kept, ~sick & kept)
    found = share_intervals(shares, grader.bootstrap.groups, grader.bootstrap)
    return Rest(share, threshold, float((~kept).mean()), int(kept.sum()), **found)


def risk_coverage(uncertainty: np.ndarray, wrong: np.ndarray) -> RiskCoverage:
    """Return the risk-coverage curve (Geifman & El-Yaniv 2017) of N images."""
    _, inverse, counts = np.unique(uncertainty, return_inverse=True, return_counts=True)
    kept = np.cumsum(counts)
    errors = np.cumsum(np.bincount(inverse, wrong, len(counts)))
    return RiskCoverage(kept / len(wrong), errors / kept)


def aurc_with_intervals(
    uncertainty: np.ndarray, wrong: np.ndarray, bootstrap: BootstrapConfig
) -> tuple[Interval, Interval]:
    """Return the area under the risk-coverage curve and its excess over an oracle's.

    Bounded as all figures of patients are (see `metrics.shares.share_intervals`): with one more
    patient of whose images the grader is surest, and whose grades are all right, or all wrong.
    """
    order = np.argsort(uncertainty, kind="stable")
    starts = _blocks(uncertainty[order], wrong[order])
    count = len(wrong)
    members = number_patients(count, bootstrap.groups)[order]
    wrong = wrong[order]

    def areas(weights: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Return areas and excesses (2, 2, R) where one more patient is right, and wrong.

        weights (R, N) in this order, first (R,): that patient's.
        """
        kept = np.empty((len(weights), len(starts) + 1))
        errors = np.zeros_like(kept)
        kept[:, 0] = first
        np.add.reduceat(weights, starts, axis=1, out=kept[:, 1:])
        np.add.reduceat(weights * wrong, starts, axis=1, out=errors[:, 1:])
        images, mistakes, right = kept.sum(1), errors.sum(1), area_of_blocks(kept, errors)
        # the block of a wrong patient has `first` more errors, and each later one as many before it
        more = first * (1 + _harmonic(images) - _harmonic(first))
        area = np.stack([right, right + ratio(more, images)])
        oracle = np.stack([oracle_area(images, mistakes), oracle_area(images, mistakes + first)])
        return np.stack([area, area - oracle])

    size = float(typical_size(np.bincount(members)))
    values = areas(np.ones((1, count)), np.zeros(1))[:, 0, 0]
    draws = []
    for patients, more in posterior_weights(int(members.max()) + 1, bootstrap):
        weights, first = patients[:, members], more[:, 0] * size
        scale = (count + size) / (weights.sum(1) + first)  # areas depend on how many images
        draws.append(areas(weights * scale[:, None], first * scale))
    low, high = np.concatenate(draws, axis=2).swapaxes(0, 1)  # (2, R)
    lows, highs = np.percentile(low, 2.5, axis=1), np.percentile(high, 97.5, axis=1)
    area, excess = (
        Interval(float(value), min(float(value), float(a)), max(float(value), float(b)))
        for value, a, b in zip(values, lows, highs)
    )
    return area, excess


def _blocks(uncertainty: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return where blocks of images (N,), the least uncertain first, begin.

    Images that are equally uncertain are of one block. So are neighbours without an error, which
    leaves the area as it is: there the risk only falls with the coverage.
    """
    starts = np.flatnonzero(np.diff(uncertainty, prepend=-math.inf) > 0)
    faultless = np.add.reduceat(wrong.astype(int), starts) == 0
    return starts[~(faultless & np.append(False, faultless[:-1]))]


def _area_of(sample: Sample, uncertainty: np.ndarray) -> float:
    """Return the area under the curve on the images that things are chosen on."""
    wrong = sample.classes.predicted != sample.targets
    _, inverse, counts = np.unique(uncertainty, return_inverse=True, return_counts=True)
    errors = np.bincount(inverse, wrong, len(counts))
    return float(area_of_blocks(counts.astype(float), errors))


def area_of_blocks(kept: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Average the risk over all coverages 1/N, 2/N, ..., 1 (Geifman & El-Yaniv 2017).

    kept, errors (..., T): images, and wrong ones, of each uncertainty, the least first. Images that
    are equally uncertain come in a random order; this is the mean over all of these. With C images
    and E errors before a block of w images, e of them wrong, the j-th of it has the mean risk
    (E + e j / w) / (C + j), whose sum over j is e + (E - C e / w) (H(C + w) - H(C)) with the
    harmonic numbers H.
    """
    counted = np.cumsum(kept, -1)
    before, wrong_before = counted - kept, np.cumsum(errors, -1) - errors
    rate = np.where(kept > 0, errors / np.maximum(kept, _LEAST), 0)
    spread = np.diff(_harmonic(counted), axis=-1, prepend=0)  # of none it is 0
    sums = (errors + (wrong_before - rate * before) * spread).sum(-1)
    return ratio(sums, counted[..., -1])


def oracle_area(images: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the area of an oracle that refers the wrong grades first."""
    right = images - errors
    sums = errors - right * (_harmonic(images) - _harmonic(right))
    return ratio(sums, images)


def _harmonic(counts: np.ndarray) -> np.ndarray:
    """Return 1 + 1/2 + ... + 1/n, also between whole numbers n.

    The digamma function, or, many times faster and for so many equal to rounding, its asymptotic
    series (Abramowitz & Stegun 1964, 6.3.18).
    """
    from scipy.special import digamma

    counts = np.asarray(counts, float)
    inverse = 1 / np.maximum(counts, _MANY)
    square = inverse * inverse
    found = np.array(inverse / 2 - square / 12 * (1 - square / 10) - np.log(inverse))
    few = counts < _MANY
    found[few] = digamma(counts[few] + 1)
    return found + np.euler_gamma
