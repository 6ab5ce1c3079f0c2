"""Tables of what a screening programme asks of a grader."""

import math
from collections.abc import Iterator
from dataclasses import replace

from common.evaluation.questions import Answers
from common.reporting.table import Cell, Column, Table, make_table
from common.reporting.weakness_tables import label_errors_table, robustness_tables, subgroup_tables
from common.screening.abstention import MEANINGS, Abstention, Rest
from common.screening.conformal import ConformalSets
from common.screening.operating_point import Detection, OperatingPoint, OperatingPoints
from common.screening.patients import PatientResults
from common.screening.prevalence import DecisionsAtGradeMix

_RATES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
}
_PATIENT_RULES = {
    "worst": "by the worst of the patient's images",
    "mean": "by the mean probabilities of the patient's images",
}


def answers_tables(answers: Answers) -> list[Table]:
    """Lay out all answers; each question without one is named with the reason."""
    tables: list[Table] = []
    if answers.operating_points is not None:
        tables += [*_operating_points(answers.operating_points), _trials(answers.operating_points)]
    if answers.at_grade_mix is not None:
        tables.append(_at_grade_mix(answers.at_grade_mix))
    if answers.subgroups is not None:
        tables += subgroup_tables(answers.subgroups)
    if answers.robustness is not None:
        tables += robustness_tables(answers.robustness)
    if answers.label_errors is not None:
        tables.append(label_errors_table(answers.label_errors))
    if answers.patients is not None:
        tables += _patients(answers.patients)
    if answers.abstention is not None:
        tables += _abstention(answers.abstention)
    if answers.conformal_sets is not None:
        tables.append(_conformal_sets(answers.conformal_sets))
    if answers.unanswered:
        tables.append(_unanswered(answers.unanswered))
    return tables


def _unanswered(reasons: dict[str, str]) -> Table:
    rows = [[name.replace("_", " "), why] for name, why in reasons.items()]
    return make_table("unanswered", "Questions without an answer", ["question", "why"], rows)


def _operating_points(found: OperatingPoints) -> Iterator[Table]:
    """Show each operating point, where it was chosen and on the images that are judged."""
    for detection in found.detections:
        yield make_table(
            f"operating_points_{detection.name.replace('-', '_')}",
            f"Who is referred, and how right that is: {detection.name} is {detection.definition}",
            [
                "operating point",
                "images",
                "patients",
                f"are {detection.name}",
                f"called {detection.name}",
                "threshold",
                *_RATES.values(),
            ],
            [row for point in detection.points for row in _rows(found, point)],
            _notes_on(found, detection),
        )


def _at_grade_mix(found: DecisionsAtGradeMix) -> Table:
    """Show what each operating point would do in a population."""
    columns = [
        "operating point",
        Column("PPV", "ppv"),
        Column("NPV", "npv"),
        Column("referrals / 1,000", "referrals_per_1000", decimals=0),
    ]
    rows: list[list[Cell]] = [[rule, *metrics.values()] for rule, metrics in found.by_rule.items()]
    title = "Who would be referred in a population, and how right that would be (referable)"
    notes = [f"grade mix of {found.source}"]
    return make_table("operating_points_at_grade_mix", title, columns, rows, notes)


def _rows(found: OperatingPoints, point: OperatingPoint) -> Iterator[list[Cell]]:
    """Show what an operating point reached where it was chosen, then what it achieves."""
    for place, rates in ((f" on {found.chosen_on}", point.where_chosen), ("", point.judged)):
        if rates is not None and (not place or point.rule.kind != "argmax"):
            threshold = None if math.isnan(point.threshold.value) else point.threshold.value
            counts: list[Cell] = [rates.count, rates.patients, rates.positives, rates.referred]
            yield [
                f"{point.rule}{place and ', reached'}{place}",
                *counts,
                threshold,
                *(getattr(rates, name) for name in _RATES),
            ]
    if point.judged is None:
        yield [f"{point.rule}: no threshold", *[None] * 5, *[math.nan] * 4]


def _notes_on(found: OperatingPoints, detection: Detection) -> list[str]:
    notes = ["PPV and NPV hold at the mix of grades of these images, not of a population."]
    if any(point.rule.kind != "argmax" for point in detection.points) and found.chosen_on:
        notes.append(f"Thresholds were chosen on {found.chosen_on}, never on what is judged.")
        notes += [f"Note: {found.note}."] if found.note else []
    for point in detection.points:
        if point.threshold.why_none:
            notes.append(f"{point.rule}: no threshold ({point.threshold.why_none})")
        if point.note:
            notes.append(f"{point.rule}: {point.note}")
        for name, why in point.judged.undefined.items() if point.judged else ():
            notes.append(f"{_RATES[name]} of {point.rule} is n/a because {why}")
    return notes


def _trials(found: OperatingPoints) -> Table:
    """Show what others asked and achieved: on other people, so nothing here passes or fails."""
    return make_table(
        "trials",
        "For orientation: what trials of other systems asked and achieved, on other people",
        [
            "system",
            "found",
            "people",
            "asked",
            Column("sensitivity", kind="percent"),
            Column("specificity", kind="percent"),
            "gradable",
            "source",
        ],
        [
            [
                trial.system,
                trial.found,
                trial.people,
                trial.asked,
                trial.sensitivity,
                trial.specificity,
                trial.imageability,
                trial.source,
            ]
            for trial in found.trials
        ],
        [
            "Other people, cameras, graders and units: figures on the images judged here are no "
            "claim to match them."
        ],
    )


def _patients(found: PatientResults) -> Iterator[Table]:
    """Show results per image, eye and patient: the grades, then who is referred."""
    notes = [f"The truth of a patient is the worst grade of any image ({found.evidence})."]
    for each in found.results:
        if each.alone:
            what = "patient" if each.unit == "patient" else "patient or eye"
            notes.append(
                f"{each.alone} images count by themselves as {each.unit}s: their {what} is not "
                "known."
            )
        notes += [
            f"{name} per {each.unit} is n/a because {why}" for name, why in each.undefined.items()
        ]
    yield make_table(
        "patients",
        f"Grades per patient, {_PATIENT_RULES[found.rule]}",
        ["per", "number", "images", "accuracy", "kappa"],
        [[each.unit, each.units, each.images, each.accuracy, each.kappa] for each in found.results],
        [*notes, *found.notes],
    )
    rows = [
        [
            f"{row.detection}, {row.rule}, per {each.unit}",
            row.rates.count,
            row.rates.positives,
            row.rates.referred,
            *(getattr(row.rates, name) for name in _RATES),
        ]
        for each in found.results
        for row in each.found
    ]
    rows.sort(key=lambda row: str(row[0]).rpartition(",")[0])
    if rows:
        header = ["referral", "number", "have it", "called so", *_RATES.values()]
        title = f"Referral per patient, {_PATIENT_RULES[found.rule]}"
        yield make_table("patients_referral", title, header, rows)


def _abstention(found: Abstention) -> Iterator[Table]:
    """Show how well each uncertainty finds wrong grades, and what referring by it gains."""
    title = (
        "Which uncertainty finds wrong grades: the area under the risk-coverage curve, 0 is best"
    )
    notes = [f"{name} is n/a: {why}" for name, why in found.not_measured.items()]
    if found.rankings[0].why_no_interval:
        notes.append(f"The areas have no interval: {found.rankings[0].why_no_interval}.")
    if found.best:
        notes.append(f"Chosen on {found.chosen_on}: {found.best}; {found.note}.")
    else:
        notes.append(f"No uncertainty is chosen: {found.note}.")
    columns: list[str | Column] = [
        "uncertainty",
        Column("area", "aurc"),
        Column("above the oracle", "excess"),
    ]
    rows: list[list[Cell]] = [[each.measure, each.aurc, each.excess] for each in found.rankings]
    if found.chosen_on:
        columns.append(Column(f"area on {found.chosen_on}", "area_where_chosen"))
        rows = [[*row, each.where_chosen] for row, each in zip(rows, found.rankings)]
    yield make_table("uncertainty", title, columns, rows, notes)
    ordered = sorted(found.rankings, key=lambda each: each.measure != found.best)
    table = make_table(
        "referral",
        "What holds for the rest when the least certain images are referred",
        ["uncertainty", *_REST],
        [[each.measure, *_rest(row)] for each in ordered for row in each.rows],
        ["Equally uncertain images are referred together, so the share may be less than asked."],
    )
    yield replace(table, most_shown=len(ordered[0].rows))
    if found.reviews:
        yield make_table(
            "review",
            f"Thresholds for review by {MEANINGS[found.best]}, chosen on {found.chosen_on}",
            [
                "share asked",
                Column("threshold", decimals=4),
                Column(f"referred on {found.chosen_on}", "referred_where_chosen", kind="percent"),
                *_REST[1:],
            ],
            [
                [
                    f"{100 * each.judged.asked:g} %",
                    None if math.isinf(each.judged.threshold) else each.judged.threshold,
                    each.where_chosen,
                    *_rest(each.judged)[1:],
                ]
                for each in found.reviews
            ],
            [
                "An image is referred if its uncertainty is at least the threshold.",
                *_shares_without(found),
            ],
        )


def _shares_without(found: Abstention) -> list[str]:
    """Name the shares that have no threshold."""
    shares = [
        f"{100 * each.judged.asked:g} %"
        for each in found.reviews
        if math.isinf(each.judged.threshold)
    ]
    why = f"so many images of {found.chosen_on} would be less than one, or are equally uncertain"
    return [f"No threshold for {' and '.join(shares)}: {why}."] if shares else []


_REST: tuple[str | Column, ...] = (
    Column("share asked", "asked", kind="percent", decimals=0),
    Column("referred", kind="percent"),
    Column("images kept", "images"),
    Column("accuracy kept", "accuracy"),
    Column("accuracy referred", "accuracy_of_referred"),
    Column("ref. sens. kept", "sensitivity"),
    Column("ref. spec. kept", "specificity"),
)


def _rest(row: Rest) -> list[Cell]:
    return [
        row.asked,
        row.referred,
        row.images,
        row.accuracy,
        row.accuracy_of_referred,
        row.sensitivity,
        row.specificity,
    ]


def _conformal_sets(found: ConformalSets) -> Table:
    """Show for each grade whether the sets hold it, and how large they are."""
    rows = [
        [
            each.grade,
            each.calibrated_on,
            None if math.isnan(each.threshold) else each.threshold,
            each.images,
            each.coverage,
            each.size,
            each.single,
        ]
        for each in (*found.grades, found.all_measured)
    ]
    why = [
        f"{each.grade} is not measured: {each.why_not_measured}"
        for each in (*found.grades, found.all_measured)
        if each.why_not_measured
    ]
    return make_table(
        "conformal_sets",
        f"Sets of grades that are to hold the true one in {100 * found.level:.0f} % of each grade",
        [
            "grade",
            Column(f"images on {found.chosen_on}", "calibrated_on"),
            Column("least probability", "threshold"),
            "images",
            "coverage",
            Column("grades in a set", "size"),
            Column("sets of one grade", "single"),
        ],
        rows,
        [*why, *found.notes],
    )
