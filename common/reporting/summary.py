"""What an evaluation found, in short: what a report starts with and what the terminal shows."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.data.folders import Split
from common.evaluation.findings import Findings
from common.evaluation.gates import FAIL, NOT_MEASURED, PASS, Gate, rating
from common.evaluation.questions import Answers
from common.fitting.grader import Grader
from common.in_force import TrainedWith
from common.listing.column_values import group_cells
from common.listing.walking import count_of
from common.metrics.intervals import UNKNOWN
from common.reporting.table import Column, Shown, Table, make_table, wrapped
from common.reporting.tables import gain_text, gates_table, measured
from common.reporting.weakness_tables import weaknesses
from common.result_dir.paths import of_split
from common.screening.operating_point import OperatingPoint
from common.system.log import printable

_SHARE, _NUMBER = Column("", kind="percent"), Column("")
_COMPARED = {
    "accuracy": "accuracy",
    "kappa": "kappa",
    "referable_sensitivity": "ref. sens.",
    "referable_specificity": "ref. spec.",
}
_BY_GRADE = "highest probability"  # how it is decided who is referred, where nothing else is asked
NOT_FOR = (
    "Diagnosis or treatment of patients: this is research software, no medical device, and no "
    "claim of regulatory clearance. It says nothing of macular oedema or other diseases, and "
    "nothing of photographs from other cameras, patients or graders than those tested here."
)
LIMITS = (
    "Research software: no medical device, no claim of regulatory clearance. The figures hold for "
    "photographs like these, from these cameras and patients, graded by these graders; elsewhere "
    "they must be measured again. Intervals describe the chance in drawing a sample, not a bias of "
    "the set: on a set that is balanced by copies, or that shares patients with training, results "
    "look better than they are. The software grades diabetic retinopathy only and sees neither "
    "macular oedema nor other diseases. Confidence is that of the model, not of a physician."
)
FEW = 20  # images of a grade; figures on fewer are hardly known
_OF_EACH_MODEL = {"single": "accuracy alone", "pairs": "every pair's val accuracy"}  # gates
_MOST_NAMED = 3  # models whose gates are named one by one
_MOST_VALUES = 6  # of what metadata says of the images


@dataclass(frozen=True)
class Part:
    """The tables of a model or of an ensemble."""

    title: str
    tables: Sequence[Table]
    remarks: Sequence[str] = ()

    def to_text(self) -> str:
        """Lay all of it out for a terminal."""
        blocks = [table.to_text() for table in self.tables]
        return "\n\n".join([f"== {printable(self.title)} ==", *blocks, *map(wrapped, self.remarks)])


@dataclass(frozen=True)
class Report:
    """What a report shows of the evaluation of one model or of an ensemble."""

    models: Sequence[str]  # as they are called in the tables
    dataset_path: str
    split: Split
    vote: str
    grader: Grader
    findings: Findings
    answers: Answers
    gates: list[Gate]
    results: Part
    questions: Part  # what the answers say
    members: Sequence[Part] = ()  # of an ensemble
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of metadata.csv
    recipes: Mapping[str, TrainedWith] = field(default_factory=dict)  # settings, by model
    views: str = ""  # in words, over which views of an image the models average, if several

    @property
    def tested(self) -> str:
        """The models, and over which views of an image they average."""
        return "; ".join(filter(None, [", ".join(self.models), self.views]))

    @property
    def gain(self) -> str:
        """Whether an ensemble gains over its best model, in words; "" of one model."""
        return gain_text(self.findings.versus) if self.findings.versus is not None else ""

    @property
    def parts(self) -> list[Part]:
        """All tables: those of each member, then those of the whole."""
        return [*self.members, self.results, self.questions, Part("gates", [self.gates_table])]

    @property
    def gates_table(self) -> Table:
        """What is asked of the models and of the ensemble, and what was measured."""
        return gates_table(self.gates)

    @property
    def tables(self) -> list[Table]:
        """The tables of the whole, without those of members."""
        return [*self.results.tables, *self.questions.tables, self.gates_table]


@dataclass(frozen=True)
class Headline:
    """One of the figures that come first."""

    name: str
    shown: Shown
    meaning: str  # what it is a share of, with counts, or why it is undefined


def headlines(report: Report) -> list[Headline]:
    """Return sensitivity and specificity for referable DR, kappa, accuracy, AUC, calibration."""
    found = report.findings.evaluation
    classes, matrix = found.classes, found.confusion_matrix
    cut = classes.referable_from
    sick = well = ""
    if cut is not None:
        sick = _share_of(matrix[cut:], range(cut, len(matrix)), "images that are referable")
        well = _share_of(matrix[:cut], range(cut), "images that are not")
    right = sum(matrix[k][k] for k in range(len(matrix)))
    chance = _NUMBER.show(found.metrics.get("ece_null", UNKNOWN)).interval
    calibrated = "of stated confidence" + (f"; {chance} if well calibrated" if chance else "")
    ask = f"{right} of {found.images} images got the {classes.word} of their label"
    rows: list[tuple[str, str, Column, str]] = [
        ("referable_sensitivity", f"Sensitivity, referable DR ({_BY_GRADE})", _SHARE, sick),
        ("referable_specificity", f"Specificity, referable DR ({_BY_GRADE})", _SHARE, well),
        ("kappa", "Kappa, quadratic", _NUMBER, "agreement beyond chance; 1 is best"),
        ("accuracy", "Accuracy", _SHARE, ask),
        ("referable_auc", "AUC, referable DR", _NUMBER, "0.5 is a coin toss; 1 is best"),
        ("ece", "Calibration error", _NUMBER, calibrated),
    ]
    first, second, *others = [
        Headline(title, column.show(found.metrics[key]), found.undefined.get(key, meaning))
        for key, title, column, meaning in rows
    ]
    return [first, second, *_first_asked(report), *others]


def asked_points(report: Report) -> list[OperatingPoint]:
    """List the operating points for referable disease that were asked for, beside the argmax."""
    found = report.answers.operating_points
    return [
        point
        for detection in (found.detections if found is not None else [])
        if detection.name == "referable"
        for point in detection.points
        if point.rule.kind != "argmax"
    ]


def _first_asked(report: Report) -> list[Headline]:
    """Return sensitivity and specificity of the first operating point that was asked for."""
    return [
        Headline(
            f"{title}, referable DR (at {point.rule})",
            _SHARE.show(getattr(point.judged, rate) if point.judged else UNKNOWN),
            _meaning_at(report, point, rate),
        )
        for point in asked_points(report)[:1]
        for rate, title in (("sensitivity", "Sensitivity"), ("specificity", "Specificity"))
    ]


def _meaning_at(report: Report, point: OperatingPoint, rate: str) -> str:
    """Say what a rate of an operating point is a share of, and where its threshold is from."""
    rates, found = point.judged, report.answers.operating_points
    if rates is None or found is None:
        return f"no threshold: {point.threshold.why_none}"
    if rate in rates.undefined:
        return rates.undefined[rate]
    of = rates.positives if rate == "sensitivity" else rates.negatives
    what = "images that are referable" if rate == "sensitivity" else "images that are not"
    right = round(getattr(rates, rate).value * of)
    return (
        f"{right} of {of} {what}; threshold {point.threshold.value:.3f}, chosen on "
        f"{found.chosen_on}"
    )


def _share_of(rows: Sequence[Sequence[int]], columns: range, of: str) -> str:
    """Say "57 of 60 images that are referable" of rows of a confusion matrix."""
    found = sum(row[column] for row in rows for column in columns)
    return f"{found} of {sum(map(sum, rows))} {of}"


def tested_on(report: Report) -> str:
    """Say how many images of how many patients were graded, and of which grades."""
    found = report.findings.evaluation
    counts = ", ".join(
        f"{count} of {title}" for title, count in zip(found.classes.titles, found.images_per_grade)
    )
    units = "" if report.grader.judged_on.groups is None else f" of {found.units}"
    return f"{found.images} images{units} ({counts})"


def population(report: Report) -> list[str]:
    """Say what metadata tells of the images, the commonest values of each column first."""
    lines = []
    for name, cells in report.columns.items():
        counts = Counter(cell or "not known" for cell in group_cells(name, cells))
        if len(counts) > 4 * _MOST_VALUES:
            continue
        named = [f"{value} {count}" for value, count in counts.most_common(_MOST_VALUES)]
        more = len(counts) - len(named)
        lines.append(f"{name}: {', '.join(named)}{f' and {more} more' if more else ''}")
    return lines


def chosen_on(report: Report) -> str:
    """Say on which images thresholds and the like were chosen."""
    sample = report.grader.chosen_on
    if sample is None:
        return f"nothing was chosen: {report.grader.why_nothing_is_chosen}"
    return f"{sample.name}, {len(sample.ids)} images; nothing on {report.grader.judged_on.name}"


def warnings(report: Report) -> list[str]:
    """Say what a reader must know before quoting a figure."""
    found = report.findings.evaluation
    holdout = next((gate for gate in report.gates if gate.key == "holdout"), None)
    said = []
    if holdout is not None and holdout.status != PASS:
        said.append(f"hold-out {holdout.status}: {holdout.remark}")
    chosen = report.grader.chosen_on
    if chosen is not None and len(chosen.ids) < FEW:
        said.append(
            f"temperatures, weights and thresholds rest on {count_of(len(chosen.ids), 'image')} of "
            f"{chosen.name}"
        )
    said += [
        f"{point.rule} has no threshold ({point.threshold.why_none})"
        for point in asked_points(report)
        if point.threshold.why_none
    ]
    few = [
        f"{title} ({count})"
        for title, count in zip(found.classes.titles, found.images_per_grade)
        if count < FEW
    ]
    if few:
        said.append(f"fewer than {FEW} images, so wide intervals: {', '.join(few)}")
    return said


def verdict(gates: Sequence[Gate]) -> list[str]:
    """Say which gates failed or were not measured."""
    passed = sum(gate.status == PASS for gate in gates)
    lines = [f"gates: {passed} of {len(gates)} passed"]
    for status in (FAIL, NOT_MEASURED):
        found = [gate for gate in gates if gate.status == status]
        alike = {key: [gate for gate in found if gate.key == key] for key in _OF_EACH_MODEL}
        many = {key: group for key, group in alike.items() if len(group) > _MOST_NAMED}
        named = [f"{_OF_EACH_MODEL[key]} of {_all_of(group)}" for key, group in many.items()]
        named += [_with_value(gate) for gate in found if gate.key not in many]
        lines += [f"  {status}: {'; '.join(named)}"] if named else []
    return lines


def _all_of(gates: Sequence[Gate]) -> str:
    """Say what many models reached in one gate, such as "7 models (0.465 to 0.750)"."""
    values = [gate.measured.value for gate in gates if not math.isnan(gate.measured.value)]
    reached = f" ({min(values):.3f} to {max(values):.3f})" if values else ""
    return f"{len(gates)} models{reached}"


def gates_text(gates: Sequence[Gate]) -> str:
    """Say for a terminal which gates failed or were not measured."""
    return _wrapped(verdict(gates))


def _with_value(gate: Gate) -> str:
    known = not math.isnan(gate.measured.value)
    return f"{gate.name} {_NUMBER.show(measured(gate))}" if known else gate.name


def summary_text(report: Report) -> str:
    """Write a screen's worth: what was tested, the main figures, the rating, what to mind."""
    found = report.findings.evaluation
    head = [
        report.results.title,
        f"tested: {report.tested}",
        f"on: {tested_on(report)} of {report.dataset_path}",
        f"95 % intervals over {found.resampled}; referable is {found.classes.referable}",
        f"chosen on: {chosen_on(report)}",
    ]
    tail = [
        *([report.gain] if report.gain else []),
        *weaknesses(report.answers),
        *verdict(report.gates),
        *(f"note: {text}" for text in [*warnings(report), *report.results.remarks]),
        f"rating: {rating(report.gates)} (by the rule in "
        f"{of_split('validation', report.split.name)}.json; thresholds on these "
        "images, no claim of regulatory clearance)",
    ]
    tables = [_headline_table(report)]
    if report.members:
        tables.append(_members_table(report))
    blocks = [_wrapped(head), *(table.to_text() for table in tables), _wrapped(tail)]
    return "\n\n".join(blocks)


def _headline_table(report: Report) -> Table:
    rows = [[each.name, str(each.shown), each.meaning] for each in headlines(report)]
    return make_table("headlines", "", ["figure", "value [95 % interval]", ""], rows)


def _members_table(report: Report) -> Table:
    rows = [
        [name, *(metrics[key] for key in _COMPARED)]
        for name, metrics in report.findings.compared.items()
    ]
    return make_table("members", "", ["model", *_COMPARED.values()], rows)


def _wrapped(lines: Sequence[str]) -> str:
    return "\n".join(map(wrapped, lines))
