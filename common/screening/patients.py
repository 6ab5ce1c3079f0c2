"""Results per patient and per eye, beside those per image: a programme refers people.

N images, U units (images, eyes or patients), K classes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.fitting.grader import Grader
from common.fitting.threshold import Rule
from common.metrics.bounds import metrics_with_intervals
from common.metrics.intervals import BootstrapConfig, Interval
from common.prediction.voting import ClassPredictions
from common.screening.operating_point import OperatingPoints, Rates, measure_rates, refers

PATIENT_RULES = ("worst", "mean")  # how the images of a patient become one decision


@dataclass(frozen=True)
class People:
    """Who images are of, and which eye they show, as far as that is known."""

    patients: np.ndarray  # (N,) a number for each patient; an image of nobody known has its own
    known: np.ndarray  # (N,) bool, whether the patient is known
    eyes: np.ndarray  # (N,) str, "" where not known
    evidence: str  # what tells, such as "38 patients in 76 names by 'n_left/n_right'"


@dataclass(frozen=True)
class UnitRates:
    """How well units in need of referral are found at an operating point."""

    detection: str  # such as "referable"
    rule: Rule
    rates: Rates


@dataclass(frozen=True)
class UnitResults:
    """How good a grader is for one kind of unit."""

    unit: str  # "image", "eye" or "patient"
    units: int
    images: int
    alone: int  # images that count by themselves, since their patient, or eye, is not known
    accuracy: Interval
    kappa: Interval
    found: list[UnitRates]
    undefined: dict[str, str]  # figure: why it has no value

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        found = [
            {"detection": each.detection, "rule": str(each.rule), **vars(each.rates)}
            for each in self.found
        ]
        return {**vars(self), "found": found}


@dataclass(frozen=True)
class PatientResults:
    """The results per image, per eye where eyes are known, and per patient."""

    rule: str  # of PATIENT_RULES
    evidence: str
    results: list[UnitResults]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        results = [each.to_json() for each in self.results]
        return {"rule": self.rule, "patients": self.evidence, "results": results}


def measure_patients(
    grader: Grader, people: People | None, rule: str, points: OperatingPoints | None
) -> PatientResults | str:
    """Measure a grader per patient, and per eye, with its operating points; or say why not.

    The truth of a patient is the worst grade of any image. rule "worst": the worst predicted grade
    and the greatest probability of any image decide; "mean": the mean of the probabilities.
    """
    if people is None or not people.known.any():
        return people.evidence if people else "nothing tells who the images are of"
    targets, names = grader.judged_on.targets, np.unique(people.patients, return_inverse=True)[1]
    each = np.arange(len(targets))
    eyes = _eye_units(people)
    notes = []
    results = [_measure(grader, "image", each, grader.bootstrap, rule, points, 0)]
    if eyes is not None:
        of_patient = names[np.unique(eyes, return_index=True)[1]]  # two eyes are of one patient
        shared = of_patient if len(np.unique(of_patient)) < len(of_patient) else None
        unsure = int((~people.known | (people.eyes == "")).sum())
        bootstrap = replace(grader.bootstrap, groups=shared)
        results.append(_measure(grader, "eye", eyes, bootstrap, rule, points, unsure))
    else:
        notes.append("No results per eye: nothing tells which eye an image shows.")
    unknown = int((~people.known).sum())
    bootstrap = replace(grader.bootstrap, groups=None)
    results.append(_measure(grader, "patient", names, bootstrap, rule, points, unknown))
    if results[-1].units == len(targets):
        notes.append("Every patient has one image: results per patient are those per image.")
    return PatientResults(rule, people.evidence, results, notes)


def _eye_units(people: People) -> np.ndarray | None:
    """Number (N,) the eye of each image; an image whose eye is not known has its own."""
    sure = people.known & (people.eyes != "")
    if not sure.any():
        return None
    keys = [
        f"{patient} {eye}" if known else f"image {place}"
        for place, (patient, eye, known) in enumerate(zip(people.patients, people.eyes, sure))
    ]
    return np.unique(keys, return_inverse=True)[1]


def _measure(
    grader: Grader,
    unit: str,
    units: np.ndarray,
    bootstrap: BootstrapConfig,
    rule: str,
    points: OperatingPoints | None,
    alone: int,
) -> UnitResults:
    """Measure a grader on units, numbered (N,); bootstrap: of the units."""
    sample = grader.judged_on
    targets = highest(sample.targets, units)
    predicted = _decide(sample.classes, units, rule)
    count = len(grader.scored)
    decided = ClassPredictions(np.eye(count)[predicted], predicted)
    grades = metrics_with_intervals(targets, decided, bootstrap, None, ("accuracy", "kappa"))
    undefined = {}
    if np.isnan(grades["kappa"].value):
        undefined["kappa"] = f"all of them are graded as {grader.scored.titles[targets[0]]}"
    found = []
    for detection in points.detections if points else []:
        scores = _scores(sample.classes.probabilities, units, detection.cut, rule)
        for point in detection.points:
            if point.judged is not None:
                referred = refers(detection.cut, point.threshold.value, scores, predicted)
                rates = measure_rates(targets >= detection.cut, referred, bootstrap, unit)
                found.append(UnitRates(detection.name, point.rule, rates))
    return UnitResults(
        unit=unit,
        units=len(targets),
        images=len(units),
        alone=alone,
        **grades,
        found=found,
        undefined=undefined,
    )


def highest(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the highest value (N,) of each unit's images, (U,); units (N,) in 0..U-1."""
    result = np.full(int(units.max()) + 1, values.min())
    np.maximum.at(result, units, values)
    return result


def _decide(classes: ClassPredictions, units: np.ndarray, rule: str) -> np.ndarray:
    if rule == "worst":
        return highest(classes.predicted, units)
    return _mean(classes.probabilities, units).argmax(1)


def _scores(probabilities: np.ndarray, units: np.ndarray, cut: int, rule: str) -> np.ndarray:
    scores = probabilities[:, cut:].sum(1)
    if rule == "worst":
        return highest(scores, units)
    return _mean(scores[:, None], units)[:, 0]


def _mean(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Average rows (N, C) over each unit's images, (U, C); one image keeps its very bits."""
    counts = np.bincount(units)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, units, values)
    return sums / counts[:, None]
