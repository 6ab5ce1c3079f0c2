"""Text tables for the terminal and the log."""

import math
from typing import Any

from common.evaluation.findings import Findings, VersusBest
from common.evaluation.gates import Gate
from common.evaluation.subgroups import FEWEST, FIGURES, Subgroups
from common.metrics.agreement import Consistency, Referral
from common.metrics.intervals import UNKNOWN, Interval, Metrics
from common.prediction.classes import Classes
from common.prediction.predictions import Cost, PairPredictions
from common.reporting.table import format_table
from common.screening.prevalence import Restated
from common.system.log import printable

_DIFFERENCES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "kappa": "kappa",
    "macro_auc": "macro AUC",
}
_HEADLINES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "kappa": "kappa",
    "macro_auc": "macro AUC",
    "referable_sensitivity": "ref. sens.",
    "referable_specificity": "ref. spec.",
    "ece": "ECE",
}


def percent(value: float | None) -> str:
    """Write a share as a percentage with one decimal, "n/a" if undefined."""
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def decimal(value: float | None) -> str:
    """Write a number with three decimals, "n/a" if undefined."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.3f}"


def probability(value: float) -> str:
    """Write a p value with three decimals, never as 0."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def with_interval(entry: Interval, digits: int = 3) -> str:
    """Write a value with its 95 % interval."""
    if math.isnan(entry.value):
        return "n/a"
    if math.isnan(entry.low):
        return f"{entry.value:.{digits}f}"
    return f"{entry.value:.{digits}f} [{entry.low:.{digits}f}, {entry.high:.{digits}f}]"


def metrics_table(results: dict[str, Metrics], title: str) -> str:
    """Show the main metrics of several models or votes, one to a row, with 95 % intervals."""
    rows = [
        [name, *(with_interval(metrics[key]) for key in _HEADLINES)]
        for name, metrics in results.items()
    ]
    return format_table([title, *_HEADLINES.values()], rows)


def evaluation_tables(title: str, findings: Findings, kind: str) -> list[str]:
    """Lay out what was found of a model or an ensemble; kind: what is compared, such as "vote"."""
    found = findings.evaluation
    classes = found.classes
    tables = [
        f"{title}: {found.images} images, 95 % intervals by bootstrap over {found.resampled}",
        metrics_table(findings.compared, kind),
        f"referable (ref.): {classes.referable}",
        f"{title}, by {classes.word}",
        per_class_table(found.metrics, classes, found.images_per_grade),
        confusion_table(found.confusion_matrix, classes),
    ]
    if findings.temperature != 1.0:
        tables.append(_temperature_line(findings.temperature))
    if findings.restated is not None:
        tables.append(prevalence_table(findings.restated))
    if findings.subgroups is not None:
        tables.append(subgroups_table(findings.subgroups))
    if findings.consistency is not None:
        tables.append(consistency_text(findings.consistency, classes))
    if findings.versus is not None:
        tables.append(differences_table(findings.versus))
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.undefined.items():
        by_reason.setdefault(reason, []).append(classes.metric_title(name))
    if findings.restated is not None and classes.referable_from is None:
        by_reason[found.undefined["referable_auc"]] += ["PPV", "NPV", "referrals"]
    return tables + [f"n/a because {r}: {', '.join(names)}" for r, names in by_reason.items()]


def classes_text(pairs: PairPredictions) -> str:
    """Say what is referable, and in which classes images are graded if not in the models'."""
    line = f"referable (ref.): {pairs.scored.referable}"
    if pairs.set_classes is None:
        return line
    return (
        f"the images are graded as {', '.join(pairs.scored.names)} only, to which the models' "
        f"{pairs.num_classes} classes are summed up; {line}"
    )


def subgroups_table(subgroups: Subgroups) -> str:
    """Show the main figures of each subgroup, one to a row; * marks those of few images."""
    rows = [
        [
            printable(f"{group.column} {group.value or '(not known)'}") + " *" * group.too_few,
            group.images,
            "-" if group.patients is None else group.patients,
            *(with_interval(group.metrics.get(name, UNKNOWN)) for name in FIGURES),
        ]
        for group in subgroups.groups
    ]
    header = ["subgroup", "images", "patients", *(_HEADLINES[name] for name in FIGURES)]
    lines = [format_table(header, rows)] if rows else []
    if any(group.too_few for group in subgroups.groups):
        lines.append(f"* fewer than {FEWEST} images")
    reasons: dict[str, list[str]] = {}
    for group in subgroups.groups:
        for name, reason in group.undefined.items():
            named = f"{_HEADLINES[name]} of {group.column} {group.value or '(not known)'}"
            reasons.setdefault(reason, []).append(printable(named))
    lines += [f"n/a because {reason}: {', '.join(names)}" for reason, names in reasons.items()]
    return "\n".join(lines + subgroups.notes)


def _temperature_line(temperature: float) -> str:
    at_limit = temperature > 19 or temperature < 0.053
    note = " (at the limit of the search)" if at_limit else ""
    return f"temperature, fitted on val: {temperature:.2f}{note}"


def cost_table(metrics: dict[str, Metrics], costs: dict[str, Cost], classes: Classes) -> str:
    """Show the second class's recall and a model's cost: parameters, GFLOPs, measured images/s."""
    rows = [
        [
            name,
            with_interval(metrics[name]["recall_1"]),
            with_interval(metrics[name]["referable_auc"]),
            f"{cost.parameters / 1e6:.1f}",
            f"{cost.gflops:.1f}",
            f"{cost.images_per_second:.1f} ({cost.device})",
        ]
        for name, cost in costs.items()
    ]
    recall = classes.recall_1_title
    header = ["model", recall, "ref. AUC", "parameters M", "GFLOPs / image", "images/s"]
    return format_table(header, rows)


def flat_rows(results: dict[str, Metrics]) -> list[dict[str, Any]]:
    """Spread metrics with intervals over columns, a row per model or vote, for a CSV file."""
    rows = []
    for name, metrics in results.items():
        row: dict[str, Any] = {"name": name}
        for metric, found in metrics.items():
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
        rows.append(row)
    return rows


def differences_table(versus: VersusBest) -> str:
    """Show how models differ from the best single one, with paired 95 % intervals."""
    rows = []
    for name, found in versus.differences.items():
        differences = [with_interval(found.differences[key]) for key in _DIFFERENCES]
        right_alone = f"{found.mcnemar.only_first} : {found.mcnemar.only_second}"
        rows.append([name, *differences, right_alone, probability(found.mcnemar.p)])
    header = [f"minus {versus.best}", *_DIFFERENCES.values(), "right alone", "McNemar p"]
    return format_table(header, rows)


def prevalence_table(restated: Restated) -> str:
    """Show models at a population's grade mix, one to a row."""
    shares = ("accuracy", "kappa", "ppv", "npv")
    rows = [
        [
            name,
            *(with_interval(found[key]) for key in shares),
            with_interval(found["referrals_per_1000"], digits=0),
        ]
        for name, found in restated.prevalence.items()
    ]
    mix = " / ".join(f"{100 * share:.3g}" for share in restated.grade_mix)
    header = [f"at grades of {mix} %", "accuracy", "kappa", "PPV", "NPV", "referrals / 1,000"]
    return f"{format_table(header, rows)}\ngrade mix of {printable(restated.grade_mix_source)}"


def referral_table(rows: list[Referral]) -> str:
    """Show the accuracy of what is kept when the most inconsistent images are referred."""
    cells = [
        [
            f"{100 * row.referred:.0f} %",
            row.images,
            percent(row.accuracy),
            percent(row.accuracy_of_referred),
        ]
        for row in rows
    ]
    return format_table(["referred", "images kept", "accuracy kept", "accuracy referred"], cells)


def consistency_text(consistency: Consistency, classes: Classes) -> str:
    """Say what the vote hides: ties, cycles, referral, and votes on grades never seen."""
    return "\n".join(
        [
            f"{consistency.tied_images} images have tied votes (accuracy on them "
            f"{percent(consistency.accuracy_of_tied)}), {consistency.images_with_cycles} "
            f"have cycles, a > b > c > a ({percent(consistency.accuracy_of_cyclic)}).",
            "Referring the most inconsistent images:",
            referral_table(consistency.referral),
            "",
            f"Share of each {classes.word} that a pair gives to its higher class ([its own]):",
            pair_votes_table(consistency.votes_for_higher_class, classes),
        ]
    )


def pair_votes_table(votes: dict[str, list[float]], classes: Classes) -> str:
    """Show what share of each class a pair gives to its higher class; [own classes]."""
    rows = [
        [
            classes.pair_title(pair),
            *(
                f"[{percent(share)}]" if str(k) in pair.split("-") else f" {percent(share)}"
                for k, share in enumerate(shares)
            ),
        ]
        for pair, shares in votes.items()
    ]
    return format_table(["pair", *classes.titles], rows)


def gates_table(gates: list[Gate]) -> str:
    """Show the gates: asked, measured with interval, verdict of the point and of the bound."""
    rows = []
    for gate in gates:
        measured = with_interval(gate.measured, digits=0 if gate.kind == "diversity" else 3)
        rows.append([gate.name, gate.asked, measured, gate.status, gate.lower_bound, gate.remark])
    header = ["gate", "asked", "measured", "status", "lower bound", "remark"]
    return format_table(header, rows)


def per_class_table(metrics: Metrics, classes: Classes, counts: list[int]) -> str:
    """Show precision, recall, F1 and AUC of each class with 95 % intervals."""
    rows = [
        [
            name,
            count,
            *(with_interval(metrics[f"{key}_{k}"]) for key in ("precision", "recall", "f1", "auc")),
        ]
        for k, (name, count) in enumerate(zip(classes.names, counts))
    ]
    return format_table([classes.word, "images", "precision", "recall", "F1", "AUC"], rows)


def confusion_table(matrix: list[list[int]], classes: Classes) -> str:
    """Show a confusion matrix, true grades in rows."""
    rows = [[name, *map(int, row)] for name, row in zip(classes.names, matrix)]
    return format_table(["true \\ predicted", *classes.names], rows)
