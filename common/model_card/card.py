"""The model card: what a model is, what it was trained on, what it reaches, what it is not for.

One lies in each result directory, and one in that of an ensemble. Every figure in it is of the
evaluation that wrote it; what was not measured says so.
"""

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.evaluation.gates import FAIL, PASS, rating
from common.evidence.overlay import WORDS
from common.listing.walking import count_of
from common.model_card.card_file import Card
from common.model_card.sections import (
    Known,
    folder_name,
    how_trained,
    introduction,
    training_data,
    uses,
)
from common.reporting import checklist, summary
from common.reporting.summary import Report
from common.reporting.table import Table, escaped, make_table
from common.reporting.tables import calibration_notes
from common.reporting.weakness_tables import weaknesses
from common.result_dir.paths import ResultDir
from common.system.log import printable

_RESULTS = ("per_class", "confusion")  # tables of a report that a card shows
_ANSWERS = ("operating_points_referable", "operating_points_vision_threatening", "subgroups")
QUESTIONS = ("operating_points", "subgroups", "label_errors")  # whose answers a card shows
_UNANSWERED = {"operating_points": "Who is referred", "subgroups": "By what is known of the images"}
_HUB_METRICS = {  # by our name: the type in the head, and what it is
    "accuracy": ("accuracy", "Accuracy"),
    "kappa": ("cohen_kappa", "Kappa, quadratic weights"),
    "referable_sensitivity": ("recall", "Sensitivity for referable disease"),
    "referable_specificity": ("specificity", "Specificity for referable disease"),
    "referable_auc": ("roc_auc", "AUC for referable disease"),
    "brier": ("brier_score", "Brier score"),
}


def card_of_training(known: Known) -> Card:
    """Describe a model that was trained, and not evaluated yet."""
    folder = shlex.quote(f"./{known.name}")
    command = f"python evaluate_ensemble.py --results_dirs {folder} --dataset_path DATASET"
    sections = [
        f"# {escaped(known.name)}",
        introduction([known]),
        uses(),
        training_data([known]),
        how_trained([known]),
        "## Evaluation\n\n**Not evaluated**: how good it is is not known. This measures it and "
        f"writes it here:\n\n```\n{command}\n```",
        f"## Limits\n\n{summary.LIMITS}",
    ]
    return Card("training", _head(), "\n\n".join(sections))


def card_of_evaluation(
    directory: ResultDir, report: Report, models: Sequence[Known], why_no_maps: str
) -> Card:
    """Describe a model, or an ensemble of models, that was evaluated.

    directory: where the card goes. why_no_maps: why no evidence maps of its mistakes were made; ""
    where there is a figure of them.
    """
    sections = [
        f"# {escaped(folder_name(directory))}",
        introduction(models),
        uses(),
        training_data(models),
        how_trained(models),
        *_evaluation(report),
        _evidence(directory, report, why_no_maps),
        _limits(report),
        _how_to_use(directory, models),
    ]
    head = _head() | _figures_in_head(directory, report)
    return Card(report.split.name, head, "\n\n".join(sections))


def _head() -> dict[str, Any]:
    return {"library_name": "pytorch", "pipeline_tag": "image-classification"}


def _figures_in_head(directory: ResultDir, report: Report) -> dict[str, Any]:
    """Return the hub's `metrics` and `model-index`: of `test` alone, unless it is known to leak."""
    leaks = any(gate.key == "holdout" and gate.status == FAIL for gate in report.gates)
    if report.split.name != "test" or leaks:
        return {}
    found = report.findings.evaluation
    metrics = []
    for key, (kind, title) in _HUB_METRICS.items():
        interval = found.metrics[key]
        if math.isnan(interval.value):
            continue
        known = not math.isnan(interval.low)
        bounds = f"95 % interval {interval.low:.3f} to {interval.high:.3f}, " if known else ""
        name = f"{title} ({bounds}{count_of(found.images, 'image')})"
        metrics.append({"type": kind, "value": round(interval.value, 4), "name": name})
    result = {
        "task": {"type": "image-classification", "name": "Diabetic-retinopathy grading"},
        "dataset": {"type": "imagefolder", "name": _dataset_name(report), "split": "test"},
        "metrics": metrics,
    }
    return {
        "metrics": sorted(str(metric["type"]) for metric in metrics),
        "model-index": [{"name": folder_name(directory), "results": [result]}],
    }


def _dataset_name(report: Report) -> str:
    return printable(Path(report.dataset_path).resolve().name)


def _evaluation(report: Report) -> Iterator[str]:
    """Say what was measured on which images, with intervals, by class and by subgroup."""
    found = report.findings.evaluation
    facts = [
        f"Images: split {report.split.name} of {_dataset_name(report)}, "
        f"{summary.tested_on(report)}",
        f"Whether they are new to the model: {checklist.holdout_text(report.gates)}",
        f"Referable: {found.classes.referable}",
        f"Intervals: 95 %, over {found.resampled}",
        f"From pairs to classes: {report.vote}",
        f"Chosen on: {summary.chosen_on(report)}",
        *([f"Gain: {report.gain}"] if report.gain else []),
    ]
    rows = [
        [each.name, each.shown.value, each.shown.interval or "-", each.meaning]
        for each in summary.headlines(report)
    ]
    first = make_table("headlines", "", ["figure", "value", "95 % interval", "of"], rows)
    listed = "\n".join(f"- {escaped(fact)}." for fact in facts)
    yield f"## Evaluation\n\n{listed}\n\n{first.to_markdown()}"
    yield from (_titled(table) for table in report.results.tables if table.name in _RESULTS)
    yield from (_titled(table) for table in report.questions.tables if table.name in _ANSWERS)
    for question, why in report.answers.unanswered.items():
        if question in _UNANSWERED:
            yield f"### {_UNANSWERED[question]}\n\nNot measured: {escaped(why)}."
    notes = calibration_notes(report.findings) or ["not looked at"]
    yield "\n\n".join(["### Calibration", *(escaped(f"{note}.") for note in notes)])
    passed = sum(gate.status == PASS for gate in report.gates)
    yield (
        f"### Rating\n\n{rating(report.gates)}: {passed} of {len(report.gates)} gates passed, by "
        "this software's rule and on these images; no claim of regulatory clearance."
    )


def _titled(table: Table) -> str:
    return f"### {escaped(table.title)}\n\n{table.to_markdown()}"


def _evidence(directory: ResultDir, report: Report, why_none: str) -> str:
    if why_none:
        return f"## Evidence\n\nNo evidence maps of mistakes were made: {escaped(why_none)}."
    link = directory.mistakes(report.split.name).relative_to(directory.root).as_posix()
    return (
        f"## Evidence\n\n![Mistakes with their evidence maps]({link})\n\nThe worst mistakes, each "
        "with a map of what spoke for the class that was given and against that of the label: "
        f"{WORDS}. How much of such evidence lies on lesions was not measured by this evaluation."
    )


def _limits(report: Report) -> str:
    known = [*summary.warnings(report), *weaknesses(report.answers), *report.results.remarks]
    listed = "\n".join(f"- {escaped(line)}" for line in known)
    return f"## Limits\n\n{summary.LIMITS}\n\n{listed}".strip()


def _how_to_use(directory: ResultDir, models: Sequence[Known]) -> str:
    """Say by which commands new pictures are graded as they were here: by the card's directory.

    All that was chosen lies in it, whether it is a model's own or an ensemble's.
    """
    name = folder_name(directory)
    folder = shlex.quote(f"./{name}")
    images = f"--results_dirs {folder} --images ./photographs"
    said = (
        f"## How to use it\n\nWith this software, in the folder that {escaped(name)} lies in:\n\n"
        f"```\npython predict.py {images} --csv grades.csv\n"
        f"python explain.py {images} --output_dir ./evidence\n```"
    )
    if len(models) == 1 and models[0].run.directory.root.resolve() == directory.root.resolve():
        return said
    folders = shlex.join(f"./{known.name}" for known in models)
    grader = shlex.quote(f"./{name}/{directory.grader.relative_to(directory.root).as_posix()}")
    return (
        f"{said}\n\nThe classifiers are looked for where they were, as seen from there. Where they "
        f"lie elsewhere, name them in place of {escaped(name)}:\n\n```\n"
        f"--results_dirs {folders} --grader {grader}\n```"
    )
