"""Tables of what was found out about models and ensembles.

K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from common.evaluation.findings import Findings, VersusBest
from common.evaluation.gates import Gate
from common.metrics.agreement import Consistency
from common.metrics.intervals import UNKNOWN, Interval, Metrics
from common.prediction.classes import Classes
from common.prediction.predictions import Cost, PairPredictions
from common.reporting.table import Cell, Column, Table, make_table, save_table
from common.result_dir.paths import REVIEWED, ResultDir
from common.screening.prevalence import Restated

_DIFFERENCES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "kappa": "kappa",
    "macro_auc": "macro AUC",
}
_CONFIDENCE_TITLES = {"ece": "ECE", "brier": "Brier", "nll": "log loss"}
_HEADLINES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "kappa": "kappa",
    "macro_auc": "macro AUC",
    "referable_sensitivity": "ref. sens.",
    "referable_specificity": "ref. spec.",
    "ece": "ECE",
    "ece_null": "ECE if calibrated",
}
_RESTATED = {"ppv": "PPV", "npv": "NPV", "referrals_per_1000": "referrals"}


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share as a percentage, "n/a" if undefined."""
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def decimal(value: float | None) -> str:
    """Write a number with three decimals, "n/a" if undefined."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.3f}"


def probability(value: float) -> str:
    """Write a p value with three decimals, never as 0; "n/a" where nothing was tested."""
    if math.isnan(value):
        return "n/a"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def with_interval(entry: Interval, digits: int = 3) -> str:
    """Write a value with its 95 % interval."""
    if math.isnan(entry.value):
        return "n/a"
    if math.isnan(entry.low):
        return f"{entry.value:.{digits}f}"
    return f"{entry.value:.{digits}f} [{entry.low:.{digits}f}, {entry.high:.{digits}f}]"


def metrics_table(results: dict[str, Metrics], title: str) -> Table:
    """Show the main metrics of several models or votes, one to a row; title: what a row is."""
    shown = _HEADLINES
    rows = [[name, *(found.get(key, UNKNOWN) for key in shown)] for name, found in results.items()]
    columns = [title, *(Column(short, name) for name, short in shown.items())]
    return make_table(f"main_figures_by_{title}", "Main figures", columns, rows)


def evaluation_tables(findings: Findings, kind: str) -> list[Table]:
    """Lay out what was found of a model or an ensemble; kind: what is compared, such as "vote"."""
    found = findings.evaluation
    classes = found.classes
    notes = [f"referable (ref.): {classes.referable}"]
    notes += calibration_notes(findings)
    tables = [
        replace(metrics_table(findings.compared, kind), notes=tuple(notes)),
        per_class_table(found.metrics, classes, found.images_per_grade),
        confusion_table(found.confusion_matrix, classes),
    ]
    if findings.restated is not None:
        tables.append(prevalence_table(findings.restated))
    if findings.consistency is not None:
        tables.append(consistency_table(findings.consistency, classes))
    if findings.versus is not None:
        tables.append(differences_table(findings.versus))
    undefined = undefined_table(findings)
    return [*tables, undefined] if undefined.rows else tables


def undefined_table(findings: Findings) -> Table:
    """Say which figures have no value and why, a reason to a row."""
    found = findings.evaluation
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.undefined.items():
        by_reason.setdefault(reason, []).append(found.classes.metric_title(name))
    restated = findings.restated.prevalence_undefined if findings.restated else {}
    for name, reason in restated.items():
        title = _RESTATED.get(name, f"{name} at the population's grade mix")
        by_reason.setdefault(reason, []).append(title)
    rows = [[reason, ", ".join(names)] for reason, names in by_reason.items()]
    return make_table("undefined", "What is not defined", ["n/a because", "figures"], rows)


def write_tables(directory: ResultDir, split: str, tables: Sequence[Table]) -> None:
    """Write tables as CSV files, and remove those that an earlier evaluation of the split left.

    The one that people write in is none of them: see `update_review_sheet`.
    """
    for path in directory.tables.glob(f"*_{split}.csv"):
        if path != directory.split_table(REVIEWED, split):
            path.unlink(missing_ok=True)
    for table in tables:
        if table.name != REVIEWED:
            save_table(directory.split_table(table.name, split), table)


def classes_text(pairs: PairPredictions) -> str:
    """Say what is referable, and in which classes images are graded if not in the models'."""
    line = f"referable (ref.): {pairs.scored.referable}"
    if pairs.set_classes is None:
        return line
    return (
        f"the images are graded as {', '.join(pairs.scored.names)} only, to which the models' "
        f"{pairs.num_classes} classes are summed up; {line}"
    )


def calibration_notes(findings: Findings) -> list[str]:
    """Say at which temperature probabilities are given, and how good they were before it."""
    calibration, metrics = findings.calibration, findings.evaluation.metrics
    if calibration is None:
        return []
    if calibration.temperature.fitted:
        before = ", ".join(
            f"{_CONFIDENCE_TITLES[name]} {decimal(raw.value)} -> {decimal(metrics[name].value)}"
            for name, raw in calibration.raw.items()
        )
        line = f"calibrated: temperature {calibration.description}; on what is judged {before}"
    else:
        line = f"probabilities are as the vote gives them; temperature {calibration.description}"
    return [line, calibration.pairs] if calibration.pairs else [line]


def cost_table(metrics: dict[str, Metrics], costs: dict[str, Cost], classes: Classes) -> Table:
    """Show the second class's recall and a model's cost: parameters, GFLOPs, measured images/s."""
    rows = [
        [
            name,
            metrics[name]["recall_1"],
            metrics[name]["referable_auc"],
            cost.parameters / 1e6,
            cost.gflops,
            cost.images_per_second,
            cost.device,
        ]
        for name, cost in costs.items()
    ]
    columns = [
        "model",
        Column(classes.recall_1_title, "recall_1"),
        Column("ref. AUC", "referable_auc"),
        Column("parameters M", decimals=1),
        Column("GFLOPs / image", decimals=1),
        Column("images/s", decimals=1),
        "measured on",
    ]
    return make_table("cost", "Cost", columns, rows)


def flat_rows(results: dict[str, Metrics]) -> list[dict[str, Any]]:
    """Spread metrics with intervals over columns, a row per model or vote, for a CSV file."""
    rows = []
    for name, metrics in results.items():
        row: dict[str, Any] = {"name": name}
        for metric, found in metrics.items():
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
        rows.append(row)
    return rows


def differences_table(versus: VersusBest) -> Table:
    """Show how models differ from the best single one, with paired 95 % intervals."""
    rows = []
    for name, found in versus.differences.items():
        row: list[Cell] = [name]
        for key in _DIFFERENCES:
            row += [found.differences[key], found.differences[key].p_holm]
        rows.append([*row, f"{found.mcnemar.only_first} : {found.mcnemar.only_second}"])
    columns = [Column(f"minus {versus.best}", "model")]
    for key, short in _DIFFERENCES.items():
        columns += [Column(short, key), Column("p (Holm)", f"{key}_p_holm", kind="p")]
    columns.append(Column("right alone", "right_alone"))
    title = "Differences to the best single model"
    notes = filter(None, [gain_text(versus), *versus.notes])
    return make_table("versus_best", title, columns, rows, list(notes))


def gain_text(versus: VersusBest) -> str:
    """Say in a sentence whether an ensemble gains over its best model; "" if that was not asked."""
    if not versus.gain:
        return ""
    figures = ", ".join(
        f"{_DIFFERENCES[name]} {with_interval(found)}" for name, found in versus.gain.items()
    )
    proven = [f"a gain of {_DIFFERENCES[name]}" for name in versus.gains]
    proven += [f"a loss of {_DIFFERENCES[name]}" for name in versus.losses]
    return (
        f"the ensemble minus its best model by accuracy, {versus.best}: {figures}; "
        f"{' and '.join(proven) or 'no gain'} is proven (Holm's correction for "
        f"{versus.gain_tests} tests)"
    )


def prevalence_table(restated: Restated) -> Table:
    """Show models at a population's grade mix, one to a row."""
    shares = ("accuracy", "kappa", "ppv", "npv")
    rows = [
        [name, *(found[key] for key in shares), found["referrals_per_1000"]]
        for name, found in restated.prevalence.items()
    ]
    mix = " / ".join(f"{100 * share:.3g}" for share in restated.grade_mix)
    columns = [
        f"at grades of {mix} %",
        "accuracy",
        "kappa",
        Column("PPV", "ppv"),
        Column("NPV", "npv"),
        Column("referrals / 1,000", "referrals_per_1000", decimals=0),
    ]
    notes = [f"grade mix of {restated.grade_mix_source}"]
    return make_table("prevalence", "At a population's grade mix", columns, rows, notes)


def consistency_table(consistency: Consistency, classes: Classes) -> Table:
    """Say what the vote hides: ties, cycles, and votes on grades that a pair never saw."""
    note = (
        f"{consistency.tied_images} images have tied votes (accuracy on them "
        f"{percent(consistency.accuracy_of_tied)}), {consistency.images_with_cycles} "
        f"have cycles, a > b > c > a ({percent(consistency.accuracy_of_cyclic)})."
    )
    return replace(pair_votes_table(consistency.votes_for_higher_class, classes), notes=(note,))


def pair_votes_table(votes: dict[str, list[float]], classes: Classes) -> Table:
    """Show what share of each class a pair gives to its higher class; its own are marked."""
    rows = [[classes.pair_title(pair), *shares] for pair, shares in votes.items()]
    own = {
        (row, place + 1) for row, pair in enumerate(votes) for place in map(int, pair.split("-"))
    }
    columns = ["pair", *(Column(title, kind="percent") for title in classes.titles)]
    title = f"Share of each {classes.word} that a pair gives to its higher class ([its own])"
    return replace(make_table("pair_votes", title, columns, rows), marked=frozenset(own))


def gates_table(gates: list[Gate]) -> Table:
    """Show the gates: asked, measured with interval, verdict of the point and of the bound."""
    rows = [
        [gate.name, gate.asked, measured(gate), gate.status, gate.lower_bound, gate.remark]
        for gate in gates
    ]
    columns = ["gate", "asked", "measured", "status", "lower bound", "remark"]
    return make_table("gates", "Gates", columns, rows)


def measured(gate: Gate) -> Cell:
    """Return what a gate measured as a table shows it: families are counted."""
    counted = gate.kind == "diversity" and not math.isnan(gate.measured.value)
    return int(gate.measured.value) if counted else gate.measured


def per_class_table(metrics: Metrics, classes: Classes, counts: list[int]) -> Table:
    """Show precision, recall, F1 and AUC of each class with 95 % intervals."""
    keys = ("precision", "recall", "f1", "auc")
    rows = [
        [name, count, *(metrics[f"{key}_{k}"] for key in keys)]
        for k, (name, count) in enumerate(zip(classes.names, counts))
    ]
    columns = [
        classes.word,
        "images",
        "precision",
        "recall",
        Column("F1", "f1"),
        Column("AUC", "auc"),
    ]
    return make_table("per_class", f"By {classes.word}", columns, rows)


def confusion_table(matrix: list[list[int]], classes: Classes) -> Table:
    """Show a confusion matrix, true grades in rows; the right ones are marked."""
    rows = [[name, *map(int, row)] for name, row in zip(classes.names, matrix)]
    title = f"Images by true and predicted {classes.word}"
    table = make_table("confusion", title, ["true \\ predicted", *classes.names], rows)
    right = frozenset((k, k + 1) for k in range(len(matrix)))
    notes = ("[ ] or shaded: right.",)
    return replace(table, marked=right, matrix_of=classes.word, notes=notes)
