"""Who is referred: a threshold on the probability of referable disease, and what it achieves.

N images, K classes. A threshold is chosen on val or cal and then applied, as it is, to the images
that are judged. An image whose probability is at least the threshold is referred.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.data.class_names import GRADES, grades_of
from common.fitting.grader import Grader, Sample
from common.fitting.threshold import (
    Rule,
    Threshold,
    choose_threshold,
    rates_by_threshold,
)
from common.metrics.intervals import BootstrapConfig, Interval, count_patients
from common.metrics.shares import Share, share_intervals
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions

SEVERE = 3  # the least grade that threatens the vision (severe NPDR, International Clinical scale)
FEW = 30  # positives (or negatives) of val below which a threshold is called uncertain


@dataclass(frozen=True)
class Rates:
    """What a decision to refer achieves on a set of images, eyes or patients."""

    sensitivity: Interval
    specificity: Interval
    ppv: Interval  # at the set's own mix of grades
    npv: Interval
    positives: int  # those to be referred
    negatives: int
    referred: int
    patients: int | None  # those that are known; None: nothing tells who they are of
    undefined: dict[str, str]  # rate: why it has no value

    @property
    def count(self) -> int:
        """Count the images, eyes or patients."""
        return self.positives + self.negatives


def measure_rates(
    positive: np.ndarray, referred: np.ndarray, bootstrap: BootstrapConfig, what: str = "image"
) -> Rates:
    """Compare who is referred (N,) bool with who should be (N,) bool; what: one of these."""
    right = {
        "sensitivity": Share(positive & referred, positive, positive),
        "specificity": Share(~positive & ~referred, ~positive, ~positive),
        "ppv": Share(positive & referred, referred, positive),
        "npv": Share(~positive & ~referred, ~referred, ~positive),
    }
    reasons = {
        "sensitivity": f"no {what} is to be referred",
        "specificity": f"every {what} is to be referred",
        "ppv": f"no {what} is referred",
        "npv": f"every {what} is referred",
    }
    found, groups = share_intervals(right, bootstrap.groups, bootstrap), bootstrap.groups
    return Rates(
        **found,
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        referred=int(referred.sum()),
        patients=count_patients(groups),
        undefined={name: reasons[name] for name, each in right.items() if not each.trials.any()},
    )


@dataclass(frozen=True)
class Roc:
    """The ROC curve of the images that are judged, from nobody referred to all."""

    sensitivity: np.ndarray  # (T + 1,)
    specificity: np.ndarray  # (T + 1,)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it achieves."""

    rule: Rule
    threshold: Threshold
    where_chosen: Rates | None  # what it reached there; None: nothing was chosen
    judged: Rates | None  # None: there is no threshold

    @property
    def note(self) -> str:
        """Say on how few images the threshold rests, if they are few."""
        found = self.where_chosen
        if found is None or self.rule.kind == "argmax":
            return ""
        rests_on = {
            "sensitivity": {"with the disease": found.positives},
            "specificity": {"without it": found.negatives},
            "youden": {"with the disease": found.positives, "without it": found.negatives},
        }[self.rule.kind]
        few = [f"{count} images {what}" for what, count in rests_on.items() if count < FEW]
        return f"the threshold rests on only {' and '.join(few)}" if few else ""

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        content: dict[str, Any] = {"rule": str(self.rule), "threshold": self.threshold.value}
        if self.threshold.why_none:
            content["not_reached"] = self.threshold.why_none
        if self.note:
            content["note"] = self.note
        return content | {"where_chosen": self.where_chosen, "judged": self.judged}


@dataclass(frozen=True)
class Detection:
    """What is to be found, such as referable disease, and how well each operating point does."""

    name: str
    definition: str  # such as "grade 2 or worse"
    cut: int  # the first class of it
    points: list[OperatingPoint]
    roc: Roc | None  # None: the images judged are all of one side

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it; the curve follows from the predictions."""
        points = [point.to_json() for point in self.points]
        return {"definition": self.definition, "operating_points": points}


@dataclass(frozen=True)
class Trial:
    """What a trial of another system asked and achieved, on other people."""

    system: str
    source: str
    found: str  # what was to be found, and in what unit
    people: str
    asked: str | None  # None: nothing
    sensitivity: Interval
    specificity: Interval
    imageability: str
    detection: str  # which of ours is like it
    asked_rates: tuple[float, float] | None = None  # sensitivity and specificity


TRIALS = (
    Trial(
        "IDx-DR",
        "Abramoff et al. 2018, npj Digital Medicine 1:39",
        "more than mild DR, per patient",
        "900 people in primary care, 23.8 % with it",
        "sensitivity above 85 %, specificity above 82.5 %",
        Interval(0.872, 0.818, 0.912),
        Interval(0.907, 0.883, 0.927),
        "96.1 % of patients",
        "referable",
        (0.85, 0.825),
    ),
    Trial(
        "EyeArt 2.1",
        "Ipp et al. 2021, JAMA Network Open 4(11):e2134254",
        "more than mild DR, per eye",
        "942 people at 15 centres",
        None,
        Interval(0.96, math.nan, math.nan),
        Interval(0.88, math.nan, math.nan),
        "more than 97 % of eyes",
        "referable",
    ),
    Trial(
        "EyeArt 2.1",
        "Ipp et al. 2021, JAMA Network Open 4(11):e2134254",
        "vision-threatening DR, per eye",
        "942 people at 15 centres",
        None,
        Interval(0.97, math.nan, math.nan),
        Interval(0.90, math.nan, math.nan),
        "more than 97 % of eyes",
        "vision-threatening",
    ),
)


@dataclass(frozen=True)
class OperatingPoints:
    """How well referable, and vision-threatening, disease is found."""

    detections: list[Detection]
    chosen_on: str  # the images that thresholds were chosen on; "" for none
    note: str = ""  # how the grader differs there from the one that is judged
    trials: tuple[Trial, ...] = TRIALS  # of others, for orientation

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        found = {detection.name: detection.to_json() for detection in self.detections}
        note = {"note": self.note} if self.note else {}
        return {"chosen_on": self.chosen_on, **note, **found, "others_in_trials": self.trials}


def find_operating_points(grader: Grader, rules: tuple[Rule, ...]) -> OperatingPoints | str:
    """Choose a threshold by each rule and measure it; says why where nothing can be referred."""
    cuts = cuts_of(grader.scored)
    if not cuts:
        return f"what is referable is {grader.scored.referable}"
    detections = [_detect(grader, name, cut, rules) for name, cut in cuts.items()]
    name = grader.chosen_on.name if grader.chosen_on else ""
    note = fewer_models(grader)
    if note:
        note += (
            "; their mean is steadier, so that a sensitivity or specificity that is asked for is "
            "exceeded, at the cost of the other"
        )
    return OperatingPoints(detections, name, note)


def fewer_models(grader: Grader) -> str:
    """Say where images that things are chosen on have the answer of fewer models; "" if not.

    So it is with the models of folds, each of which grades its own val.
    """
    if grader.chosen_on is None or len(grader.chosen_on.members) == len(grader.judged_on.members):
        return ""
    asked, judging = len(grader.chosen_on.members), len(grader.judged_on.members)
    return (
        f"each image of {grader.chosen_on.name} has the answer of {asked} "
        f"{'model' if asked == 1 else 'models'}, those that are judged the mean of {judging}"
    )


def cuts_of(scored: Classes) -> dict[str, int]:
    """Return the first class of each kind of disease that is looked for.

    Vision-threatening is severe or worse; it is looked for where all five grades are scored.
    """
    if scored.referable_from is None:
        return {}
    cuts = {"referable": scored.referable_from}
    if len(scored) == GRADES and (_single_grades(scored) or scored.note):
        cuts["vision-threatening"] = SEVERE
    return cuts


def _single_grades(scored: Classes) -> bool:
    return grades_of(scored.names) == [(grade, grade) for grade in range(GRADES)]


def _detect(grader: Grader, name: str, cut: int, rules: tuple[Rule, ...]) -> Detection:
    definition = grader.scored.from_on(cut)
    judged = grader.judged_on
    positive = judged.targets >= cut
    roc = None
    if positive.any() and not positive.all():
        _, sensitivity, specificity = rates_by_threshold(score_of(judged, cut), positive)
        roc = Roc(np.append(0.0, sensitivity), np.append(1.0, specificity))
    return Detection(name, definition, cut, [_point(grader, cut, rule) for rule in rules], roc)


def score_of(sample: Sample, cut: int) -> np.ndarray:
    """Return (N,) the probability of the classes from `cut` on."""
    return sample.classes.probabilities[:, cut:].sum(1)


def choose(grader: Grader, cut: int, rule: Rule) -> Threshold:
    """Choose the threshold of a rule where things are chosen, or say why there is none."""
    chosen = grader.chosen_on
    if rule.kind == "argmax":
        return Threshold(math.nan)
    if chosen is None:
        return Threshold(math.nan, grader.why_nothing_is_chosen)
    found = choose_threshold(score_of(chosen, cut), chosen.targets >= cut, rule)
    return Threshold(math.nan, f"{chosen.name}: {found.why_none}") if found.why_none else found


def _point(grader: Grader, cut: int, rule: Rule) -> OperatingPoint:
    chosen, judged, threshold = grader.chosen_on, grader.judged_on, choose(grader, cut, rule)
    if threshold.why_none:
        return OperatingPoint(rule, threshold, None, None)
    where_chosen = None
    if chosen is not None:
        bootstrap = BootstrapConfig(
            grader.bootstrap.resamples, grader.bootstrap.seed, chosen.groups
        )
        where_chosen = _measure(chosen, cut, threshold.value, bootstrap)
    return OperatingPoint(
        rule, threshold, where_chosen, _measure(judged, cut, threshold.value, grader.bootstrap)
    )


def _measure(sample: Sample, cut: int, threshold: float, bootstrap: BootstrapConfig) -> Rates:
    referred = refers(cut, threshold, score_of(sample, cut), sample.classes.predicted)
    return measure_rates(sample.targets >= cut, referred, bootstrap)


def refers(cut: int, threshold: float, scores: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Tell (N,) who is referred: by scores (N,), or without threshold by predicted classes (N,)."""
    return predicted >= cut if math.isnan(threshold) else scores >= threshold


@dataclass(frozen=True)
class Decision:
    """Who is referred: those whose probability reaches a threshold that was chosen before."""

    rule: str
    cut: int  # the first class that is to be referred
    threshold: float  # NaN: those that are graded as that class or a higher one

    def refers(self, classes: ClassPredictions) -> np.ndarray:
        """Tell (N,) bool who is referred by what a grader says of the images."""
        scores = classes.probabilities[:, self.cut :].sum(1)
        return refers(self.cut, self.threshold, scores, classes.predicted)


def decisions_of(found: OperatingPoints | str) -> list[Decision]:
    """List the decisions to refer referable disease that were chosen; none where nothing is."""
    if isinstance(found, str):
        return []
    return [
        Decision(str(point.rule), detection.cut, point.threshold.value)
        for detection in found.detections
        if detection.name == "referable"
        for point in detection.points
        if not point.threshold.why_none
    ]
