"""Write the reporting checklist: what a paper must say, filled in as far as a run can tell.

Numbers of items are those of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378), STARD-AI
(Sounderajah et al. 2025, Nature Medicine 31:3283) and the 2024 update of CLAIM (Tejani et al. 2024,
Radiology: Artificial Intelligence 6:e240300). Their topics are put in this tool's own words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from common.evaluation.gates import Gate
from common.in_force import TrainedWith
from common.reporting.summary import (
    Report,
    asked_points,
    chosen_on,
    headlines,
    population,
    tested_on,
)
from common.reporting.table import escaped
from common.result_dir.paths import ResultDir, of_split
from common.system.environment import versions
from common.system.files import write_text

_HEAD = """# Reporting checklist

{title}

What a paper on this evaluation has to say, by TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378),
STARD-AI (Sounderajah et al. 2025, Nature Medicine 31:3283-3289) and CLAIM (2024 update, Tejani et
al., Radiology: Artificial Intelligence 6:e240300). The topics are paraphrased, the numbers are
theirs: read the originals before submitting. What this run measured, or was set to, is filled in;
**you** marks what only you know. A filled cell is a start, not a sentence for your paper.

"""
_COLUMNS = ("topic", "TRIPOD+AI", "STARD-AI", "CLAIM", "from this run", "yours to add")
# settings of a training that a reader asks for
RECIPE = (
    "recipe",
    "head",
    "epochs",
    "learning_rate",
    "head_lr_factor",
    "layer_decay",
    "ema_decay",
    "scheduler",
    "warmup_epochs",
    "weight_decay",
    "batch_size",
    "gradient_accumulation_steps",
    "label_smoothing",
    "rotation_range",
    "horizontal_flip",
    "vertical_flip",
    "scale_range",
    "shift_range",
    "brightness_range",
    "contrast_range",
    "ovo_dropout",
    "seed",
)
PIXELS = ("img_size", "enable_clahe", "clahe_clip_limit", "clahe_tile_grid_size")
IMBALANCE = (
    "enable_class_weights",
    "class_weight_power",
    "prior_correction",
    "enable_focal_loss",
    "focal_loss_gamma",
    "focal_loss_alpha",
)
START = (
    "pretrained",
    "weights",
    "freeze_weights",
    "frozen_stages",
    "pooled_stages",
    "classifier_init",
)
CHOICE = ("monitor", "patience", "min_delta")


@dataclass(frozen=True)
class Item:
    """What a paper must say, and what is known of it."""

    topic: str
    tripod: str  # numbers of the item in each guideline, "" for none
    stard: str
    claim: str
    found: str  # what this run says, "" for nothing
    yours: str  # what only the author knows, "" for nothing

    def row(self) -> str:
        """Write it as a row of a Markdown table."""
        numbers = [number or "-" for number in (self.tripod, self.stard, self.claim)]
        yours = f"**you**: {escaped(self.yours)}" if self.yours else ""
        cells = [escaped(self.topic), *numbers, escaped(self.found) or "-", yours]
        return f"| {' | '.join(cells)} |"


def write_checklist(directory: ResultDir, report: Report) -> None:
    """Write checklist.md of an evaluation."""
    head = _HEAD.format(title=escaped(report.results.title))
    table = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    lines = [*table, *(item.row() for item in items(report))]
    write_text(directory.checklist(report.split.name), head + "\n".join(lines) + "\n")


def items(report: Report) -> Iterator[Item]:
    """List the items in the order of a paper."""
    yield from _introduction()
    yield from _data(report)
    yield from _model(report)
    yield from _analysis(report)
    yield from _results(report)
    yield Item("limitations and their effect", "26", "33", "40", "", "discuss them")
    yield Item("use in practice, next steps", "25, 27a-c", "34", "41", "", "discuss them")
    yield Item("registration, protocol", "18c-d", "36, 37", "34, 42", "", "where they are")
    yield Item("funding, interests", "18a-b", "38, 39", "44", "", "declare them")
    yield Item("data and code to be had", "18e-f", "40a-b", "43", "", "where they are")
    yield Item(
        "patients' and public's part", "19", "", "", "", "what it was, or that there was none"
    )


def _introduction() -> Iterator[Item]:
    yield Item("title and abstract", "1, 2", "1, 2", "1, 2", "", "name design, people, outcome")
    yield Item("context, intended use", "3a-c", "3", "3", "", "who would use it, on whom, where")
    yield Item("objectives", "4", "4", "4", "", "what was to be shown")
    yield Item(
        "design; ethics", "17", "5, 6", "5", "", "planned before or after; approval, consent"
    )


def _data(report: Report) -> Iterator[Item]:
    found = report.findings.evaluation
    known = "; ".join(population(report))
    cameras = next((line for line in population(report) if line.startswith("camera: ")), "")
    images = f"split {report.split.name} of {report.dataset_path}"
    yield Item("source of the data", "5a", "11", "7", images, "where the images come from, and why")
    yield Item("dates, setting, who was eligible", "5b, 6a-c", "7-10", "8", "", "all of it")
    yield Item("cameras", "", "13", "13", cameras, "" if cameras else "devices and protocol")
    yield Item(
        "preparation of the images",
        "7, 9a-c",
        "14",
        "9",
        settings_text(report.recipes, PIXELS),
        "checks of quality before the dataset was made",
    )
    grades = f"labels are the folders: {', '.join(found.classes.titles)}; "
    grades += f"referable is {found.classes.referable}"
    yield Item("reference standard", "8a-c", "12, 16a-c", "14-18", grades, "who graded, and how")
    doubtful = report.answers.label_errors
    if doubtful is not None:
        count = f"{len(doubtful.found)} of {doubtful.images}"
        text = f"{count} labels contradicted with confidence: table label_errors"
        yield Item("doubtful labels", "8a", "16a", "18", text, "what a second grader says of them")
    yield Item("sample size", "10", "22", "21", tested_on(report), "whether that is enough")
    left_out = [text for text in report.results.remarks if text.startswith("left out")]
    missing = "; ".join(left_out) or "no image was left out by this evaluation"
    before = "what was left out before"
    yield Item("missing and ungradable data", "11", "19, 20", "12", missing, before)
    yield Item(
        "who is in which split",
        "12a",
        "15b",
        "19, 20",
        f"{holdout_text(report.gates)}; {found.resampled}",
        "how the splits were drawn",
    )
    more = "age, sex and the like of each split" if not known else "the same of the training images"
    yield Item("who was photographed", "20b", "25, 26a", "36", known, more)


def _model(report: Report) -> Iterator[Item]:
    vote = f"{report.tested}; from pairs to grades: {report.vote}"
    yield Item("model", "12c, 22", "15a", "22", vote, "version and where it can be had")
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield Item("software", "12g", "13", "23", packages, "")
    start, recipe, choice, imbalance = (
        settings_text(report.recipes, names) for names in (START, RECIPE, CHOICE, IMBALANCE)
    )
    yield Item("where the weights start", "12c", "15b", "24", start, "")
    yield Item("training", "12b-c", "15b", "25", recipe, "")
    yield Item("choice of the final model", "12c", "15b", "26", choice, "")
    weights = [text for text in report.results.remarks if text.startswith("weights")]
    yield Item("ensemble", "12c", "15a", "27", "; ".join(weights) or "one model, no ensemble", "")
    yield Item("imbalance of the classes", "13", "15b", "25", imbalance, "")
    output = (
        f"a probability for each {report.grader.scored.word}; referral by "
        f"{', '.join(_decisions(report))}; chosen on: {chosen_on(report)}"
    )
    yield Item("output and thresholds", "15", "15c", "22", output, "")
    yield Item("who uses it, and how", "27b", "15d", "", "", "expertise that is needed")


def _analysis(report: Report) -> Iterator[Item]:
    found = report.findings.evaluation
    bootstrap = found.bootstrap
    how = (
        f"sensitivity, specificity, kappa, accuracy, AUC, calibration; 95 % intervals over "
        f"{found.resampled}, {bootstrap.resamples} resamples, seed {bootstrap.seed}"
    )
    yield Item("measures and uncertainty", "12e", "18", "28, 29", how, "why these")
    calibration = report.findings.calibration
    scaled = f"temperature {calibration.description}" if calibration else "none"
    yield Item("recalibration", "12f, 24", "", "", scaled, "")
    yield Item("robustness", "", "21", "30", _answer(report, "robustness"), "")
    yield Item("fairness", "14", "23", "", _answer(report, "subgroups"), "why these groups")
    known = [recipe.values for recipe in report.recipes.values() if recipe.values]
    trained = {str(values.get("dataset_path", "")) for values in known}
    elsewhere = f"trained on {', '.join(sorted(trained))}; judged on {report.dataset_path}"
    yield Item(
        "internal or external test",
        "16, 20c",
        "28, 29",
        "32, 33",
        elsewhere if trained else "",
        "how those images differ from these",
    )


def _results(report: Report) -> Iterator[Item]:
    flow = "from those eligible to those tested"
    yield Item("flow of participants", "20a, 21", "24", "35", tested_on(report), flow)
    table = f"table confusion_{report.split.name}.csv"
    yield Item("label against prediction", "", "30", "38", table, "")
    for each in headlines(report):
        interval = each.shown.interval
        bounds = f" (95 % interval {interval.strip('[]').replace(',', ' to')})" if interval else ""
        text = f"{each.shown.value}{bounds}: {each.meaning}"
        yield Item(each.name, "23a", "31", "37, 38", text, "")
    yield Item("results in subgroups", "23a-b", "31", "37", _answer(report, "subgroups"), "")
    sample = report.grader.judged_on
    wrong = int((sample.classes.predicted != sample.targets).sum())
    failures = (
        f"{wrong} of {len(sample.targets)} images graded wrongly; "
        f"{of_split('report', report.split.name)}.html shows the worst"
    )
    yield Item("analysis of failures", "", "", "39", failures, "what they have in common")


def _decisions(report: Report) -> Iterator[str]:
    """Name each decision to refer with its threshold, as the first figures do."""
    yield f"the predicted {report.grader.scored.word} (highest probability)"
    for point in asked_points(report):
        threshold = f"threshold {point.threshold.value:.3f}"
        yield f"{point.rule} ({'no threshold' if point.threshold.why_none else threshold})"


def settings_text(recipes: Mapping[str, TrainedWith], names: Sequence[str]) -> str:
    """Say how models, by label, were trained: once what all have in common, else by model."""
    said = {label: each.listed(names) for label, each in recipes.items() if each.values}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{label}: {text}" for label, text in said.items())


def holdout_text(gates: Sequence[Gate]) -> str:
    """Say whether the images are new to the models, and how that is known."""
    found = [gate for gate in gates if gate.key == "holdout"]
    return "; ".join(f"hold-out {gate.status}: {gate.remark}" for gate in found)


def _answer(report: Report, question: str) -> str:
    """Say where a question is answered, or why it is not."""
    if question in report.answers.unanswered:
        return f"not measured: {report.answers.unanswered[question]}"
    start = question.removesuffix("s")
    names = [table.name for table in report.tables if table.name.startswith(start)]
    return f"tables {', '.join(names)}" if names else "not measured"
