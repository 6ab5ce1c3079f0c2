"""Draw an evaluation: what a grader said of a split, and its answers to a programme's questions.

N images, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from common.data.class_names import GRADES
from common.evaluation.questions import Answers
from common.figures.comparison import plot_intervals
from common.figures.matrices import plot_confusion
from common.figures.reliability import Reliability, plot_reliability
from common.figures.roc import RocCurve, RocPanel, RocPoint, plot_roc, roc_of
from common.figures.screening import (
    ForestRow,
    ReferralCurve,
    ReferralPanel,
    SetsOfGrade,
    plot_forest,
    plot_referral,
    plot_sets,
)
from common.fitting.calibration import Temperature
from common.fitting.grader import Grader
from common.listing.walking import count_of
from common.metrics.auc import auc_interval, roc_auc
from common.metrics.calibration_error import calibrated_level, expected_calibration_error
from common.metrics.intervals import Interval
from common.metrics.shares import confusion_matrix
from common.prediction.classes import MODERATE
from common.prediction.voting import ClassPredictions
from common.screening.abstention import Abstention
from common.screening.conformal import ConformalSets
from common.screening.operating_point import Detection, OperatingPoint, OperatingPoints
from common.screening.robustness import Robustness
from common.screening.subgroups import Subgroups

# that may be drawn
FIGURES = (
    "confusion",
    "roc",
    "roc_grades",
    "reliability",
    "referral",
    "subgroups",
    "sets",
    "robustness",
)
_FEW_FIGURES = 4  # of subgroups that fit beside each other


@dataclass(frozen=True)
class Before:
    """What a grader said before its confidence was calibrated, if it was."""

    classes: ClassPredictions
    calibration: Temperature  # of the calibration
    description: str  # what it was fitted on, or why it was not


def draw_evaluation(
    grader: Grader, title: str, answers: Answers | None = None, before: Before | None = None
) -> dict[str, Figure]:
    """Draw a grader's predictions, and its answers if it was asked, by the figure's name."""
    sample, classes = grader.judged_on, grader.scored
    points = answers.operating_points if answers is not None else None
    drawn = {
        "confusion": plot_confusion(
            confusion_matrix(sample.targets, sample.classes.predicted, len(classes)),
            classes.titles,
            title,
        ),
        "roc_grades": plot_roc([grades_panel(grader)], title),
        "reliability": plot_reliability(reliability_of(grader, before), title),
    }
    referral = list(referral_panels(grader, points))
    if referral:
        drawn["roc"] = plot_roc(referral, title)
    return drawn | (_draw_answers(answers, title) if answers is not None else {})


def _draw_answers(answers: Answers, title: str) -> dict[str, Figure]:
    """Draw the answers that have a figure of their own."""
    drawn = {}
    if answers.abstention is not None:
        drawn["referral"] = plot_referral(abstention_panels(answers.abstention), title)
    if answers.subgroups is not None and answers.subgroups.groups:
        drawn["subgroups"] = _draw_subgroups(answers.subgroups, title)
    if answers.robustness is not None:
        drawn["robustness"] = _draw_robustness(answers.robustness, title)
    if answers.conformal_sets is not None:
        rows = sets_of(answers.conformal_sets)
        drawn["sets"] = plot_sets(rows, answers.conformal_sets.level, title)
    return drawn


def abstention_panels(found: Abstention) -> list[ReferralPanel]:
    """Compute what referring the least certain gains, by each measure of uncertainty.

    Intervals are those of the measure that was chosen, or of the first.
    """
    names = [ranking.measure for ranking in found.rankings]
    chosen = found.best if found.best in names else names[0]
    labels = {}
    for ranking in found.rankings:
        where = f" (chosen on {found.chosen_on})" if ranking.measure == found.best else ""
        labels[ranking.measure] = f"{ranking.measure}{where}, AURC {_written(ranking.aurc)}"
    accuracies = {
        labels[each.measure]: ReferralCurve(1 - each.curve.coverage, 1 - each.curve.risk)
        for each in found.rankings
    }
    panels = [ReferralPanel("accuracy", accuracies)]
    for rate in ("sensitivity", "specificity"):
        curves = {}
        for each in found.rankings:
            intervals: list[Interval] = [getattr(row, rate) for row in each.rows]
            referred = np.array([row.referred for row in each.rows])
            values = np.array([interval.value for interval in intervals])
            shown = intervals if each.measure == chosen else ()
            curves[labels[each.measure]] = ReferralCurve(referred, values, shown)
        if any(np.isfinite(curve.values).any() for curve in curves.values()):
            panels.append(ReferralPanel(f"{rate} (referable)", curves))
    return panels


def _draw_subgroups(found: Subgroups, title: str) -> Figure:
    """Draw the figures of subgroups that fit beside each other; the table has all."""
    figures = found.figures[:_FEW_FIGURES]
    blocks: dict[str, list[ForestRow]] = {}
    for group in found.groups:
        intervals = [group.metrics[figure.name] for figure in figures]
        few = [group.rests_on_few(figure) for figure in figures]
        name, count = group.value or "not known", count_of(group.images, "image")
        row = ForestRow(name, count, intervals, few)
        blocks.setdefault(group.column, []).append(row)
    overall = [found.overall.metrics[figure.name] for figure in figures]
    names = [figure.name.replace("_", " ").replace("=", " = ") for figure in figures]
    return plot_forest(names, overall, blocks, title)


def _draw_robustness(found: Robustness, title: str) -> Figure:
    """Draw what alterations of the photographs change, by the first decision to refer."""
    groups = ["referrals that change", "grades that change", "change in kappa"]
    rows: dict[str, list[Interval]] = {}
    for each in found.alterations:
        referrals = [one.flipped for one in each.referrals[:1]]
        rows[each.name.replace("_", " ")] = [*referrals, each.flipped, each.kappa]
    return plot_intervals(rows, groups[-len(next(iter(rows.values()))) :], title)


def sets_of(found: ConformalSets) -> list[SetsOfGrade]:
    """Return what was measured of the sets of each grade's images."""
    return [
        SetsOfGrade(each.grade, count_of(each.images, "image"), each.coverage, each.size)
        for each in [*found.grades, found.all_measured]
    ]


def reliability_of(grader: Grader, before: Before | None) -> dict[str, Reliability]:
    """Return how confident the predictions are and whether they are right, raw and calibrated."""
    sample = grader.judged_on
    if before is None:
        return {"predictions": _reliability(grader, sample.classes)}
    if not before.calibration.fitted:
        return {f"not calibrated ({before.description})": _reliability(grader, sample.classes)}
    return {
        "as voted": _reliability(grader, before.classes),
        f"temperature {before.description}": _reliability(grader, sample.classes),
    }


def _reliability(grader: Grader, classes: ClassPredictions) -> Reliability:
    confidence = classes.probabilities[np.arange(len(classes.predicted)), classes.predicted]
    correct = classes.predicted == grader.judged_on.targets
    error = float(expected_calibration_error(confidence, correct))
    level = calibrated_level(confidence, grader.bootstrap)
    note = f"error {error:.3f} (by chance {level.low:.3f} to {level.high:.3f})"
    return Reliability(confidence, correct, note)


def grades_panel(grader: Grader) -> RocPanel:
    """Compute the curve of each grade against the rest; what all images are, or none, has none."""
    sample, curves = grader.judged_on, {}
    for k, title in enumerate(grader.scored.titles):
        curve = curve_of(grader, sample.classes.probabilities[:, k], sample.targets == k)
        if curve is not None:
            curves[title] = curve
    return RocPanel(f"each {grader.scored.word} against the rest", curves)


def referral_panels(grader: Grader, points: OperatingPoints | None) -> Iterator[RocPanel]:
    """Compute the curve of each kind of disease that is looked for, with its operating points.

    points: none where nobody was asked for any.
    """
    sample, cut = grader.judged_on, grader.scored.referable_from
    cuts = {"referable": cut} if cut is not None else {}
    detections = {} if points is None else {each.name: each for each in points.detections}
    for name, first in (cuts | {each.name: each.cut for each in detections.values()}).items():
        score = sample.classes.probabilities[:, first:].sum(1)
        curve = curve_of(grader, score, sample.targets >= first)
        detection = detections.get(name)
        definition = detection.definition if detection else grader.scored.referable
        yield RocPanel(
            f"{name} ({definition})",
            {} if curve is None else {name: curve},
            list(_points(detection, points)),
            list(_references(grader, detection, points)),
        )


def curve_of(grader: Grader, scores: np.ndarray, positive: np.ndarray) -> RocCurve | None:
    """Compute a ROC curve with its area; None where all images are positive, or none."""
    area = auc_interval(float(roc_auc(scores, positive)), positive, grader.bootstrap.groups)
    return roc_of(scores, positive, area)


def _points(detection: Detection | None, found: OperatingPoints | None) -> Iterator[RocPoint]:
    """Name the operating points that were measured."""
    if detection is None or found is None:
        return
    for point in detection.points:
        if point.judged is not None:
            rates = point.judged
            label = (
                f"{_how(point, found.chosen_on)}: sensitivity {_written(rates.sensitivity)}, "
                f"specificity {_written(rates.specificity)}"
            )
            yield RocPoint(label, rates.sensitivity, rates.specificity)


def _how(point: OperatingPoint, chosen_on: str) -> str:
    if np.isnan(point.threshold.value):
        return "as graded (no threshold)"
    return f"{point.rule} on {chosen_on}, threshold {point.threshold.value:.3f}"


def _references(
    grader: Grader, detection: Detection | None, found: OperatingPoints | None
) -> Iterator[RocPoint]:
    """Name what trials of other systems asked and found, on other people.

    Not where what is referable here is not what was looked for there: more than mild.
    """
    if detection is None or found is None or len(grader.scored) != GRADES:
        return
    if detection.name == "referable" and detection.cut != MODERATE:
        return
    for trial in found.trials:
        if trial.detection == detection.name:
            label = f"{trial.system}'s trial, other people"
            found_there = (trial.sensitivity, trial.specificity)
            yield RocPoint(f"{label}: found", *found_there, trial.system)
            if trial.asked_rates is not None:
                rates = (Interval(rate, rate, rate) for rate in trial.asked_rates)
                sensitivity, specificity = rates
                text = f"{label}: asked for more than this"
                yield RocPoint(text, sensitivity, specificity, trial.system, asked=True)


def _written(interval: Interval) -> str:
    if not np.isfinite([interval.low, interval.high]).all():
        return "n/a" if np.isnan(interval.value) else f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
