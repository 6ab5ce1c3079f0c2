"""Text tables for the terminal and the log."""

import math
from typing import Any

from common.evaluation.comparison import Comparison
from common.evaluation.gates import Gate
from common.evaluation.intervals import Interval, Metrics

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


def format_table(header: list[str], rows: list[list[Any]]) -> str:
    """Lay out rows under a header: text to the left, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [
        all(row[i][:1] in "+-<0123456789" or row[i] == "n/a" for row in cells[1:] if row[i])
        for i in range(len(header))
    ]
    lines = [
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric)).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def percent(value: float) -> str:
    """Write a share as a percentage with one decimal, "n/a" if undefined."""
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def decimal(value: float) -> str:
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
    """Show the main metrics of several graders, one to a row, with 95 % intervals."""
    rows = [
        [name, *(with_interval(metrics[key]) for key in _HEADLINES)]
        for name, metrics in results.items()
    ]
    return format_table([title, *_HEADLINES.values()], rows)


def evaluation_tables(
    title: str, content: dict[str, Any], rows: dict[str, Metrics], kind: str
) -> list[str]:
    """Lay an evaluation out as text tables.

    content: of metrics_<split>.json; rows: what to compare, by name, and of which kind it is.
    """
    names = content["class_names"]
    tables = [
        f"{title}: {content['images']} images, 95 % intervals by bootstrap over "
        f"{content['bootstrap']['units']}",
        metrics_table(rows, kind),
        f"{title}, by grade",
        per_class_table(content["metrics"], names, content["images_per_grade"]),
        confusion_table(content["confusion_matrix"], names),
    ]
    if content.get("temperature", 1.0) != 1.0:
        edge = content["temperature"] > 19 or content["temperature"] < 0.053
        tables.append(
            f"temperature, fitted on val: {content['temperature']:.2f}"
            f"{' (at the limit of the search)' if edge else ''}"
        )
    if content.get("prevalence"):
        tables.append(prevalence_table(content["prevalence"], content["grade_mix"]))
    if "consistency" in content:
        tables.append(consistency_text(content["consistency"], names))
    if content.get("differences"):
        tables.append(differences_table(content["differences"], content["best_single"]))
    by_reason: dict[str, list[str]] = {}
    for name, reason in content["undefined"].items():
        by_reason.setdefault(reason, []).append(name)
    return tables + [f"n/a because {r}: {', '.join(names)}" for r, names in by_reason.items()]


def cost_table(results: dict[str, Metrics], costs: dict[str, dict[str, Any]]) -> str:
    """Show class-1 recall and what a model costs: parameters, GFLOPs, images/s as measured."""
    rows = [
        [
            name,
            with_interval(metrics["recall_1"]),
            with_interval(metrics["referable_auc"]),
            f"{costs[name]['parameters'] / 1e6:.1f}",
            f"{costs[name]['gflops']:.1f}",
            f"{costs[name]['images_per_second']:.1f} ({costs[name]['device']})",
        ]
        for name, metrics in results.items()
    ]
    header = ["model", "class-1 recall", "ref. AUC", "parameters M", "GFLOPs / image", "images/s"]
    return format_table(header, rows)


def flat_rows(results: dict[str, Metrics]) -> list[dict[str, Any]]:
    """Spread metrics with intervals over columns, a row per grader, for a CSV file."""
    return [
        {
            "name": name,
            **{
                f"{metric}{end}": value
                for metric, entry in metrics.items()
                for end, value in (("", entry.value), ("_low", entry.low), ("_high", entry.high))
            },
        }
        for name, metrics in results.items()
    ]


def differences_table(differences: dict[str, Comparison], best: str) -> str:
    """Show how graders differ from the best single model, with paired 95 % intervals."""
    rows = [
        [
            name,
            *(with_interval(found.differences[key]) for key in _DIFFERENCES),
            f"{found.mcnemar.only_first} : {found.mcnemar.only_second}",
            probability(found.mcnemar.p),
        ]
        for name, found in differences.items()
    ]
    header = [f"minus {best}", *_DIFFERENCES.values(), "right alone", "McNemar p"]
    return format_table(header, rows)


def prevalence_table(restated: dict[str, Metrics], grade_mix: list[float]) -> str:
    """Show graders at a population's grade mix, one to a row."""
    rows = [
        [
            name,
            *(with_interval(found[key]) for key in ("accuracy", "kappa", "ppv", "npv")),
            with_interval(found["referrals_per_1000"], digits=0),
        ]
        for name, found in restated.items()
    ]
    mix = " / ".join(f"{100 * share:.3g}" for share in grade_mix)
    header = [f"at grades of {mix} %", "accuracy", "kappa", "PPV", "NPV", "referrals / 1,000"]
    return format_table(header, rows)


def referral_table(consistency: dict[str, Any]) -> str:
    """Show the accuracy of what is kept when the most inconsistent images are referred."""
    rows = [
        [
            f"{100 * row['referred']:.0f} %",
            row["images"],
            percent(row["accuracy"]),
            percent(row.get("accuracy_of_referred", math.nan)),
        ]
        for row in consistency["referral"]
    ]
    return format_table(["referred", "images kept", "accuracy kept", "accuracy referred"], rows)


def consistency_text(consistency: dict[str, Any], class_names: list[str]) -> str:
    """Say what the vote hides: ties, cycles, referral, and votes on grades never seen."""
    return "\n".join(
        [
            f"{consistency['tied_images']} images have tied votes (accuracy on them "
            f"{percent(consistency['accuracy_of_tied'])}), {consistency['images_with_cycles']} "
            f"have cycles, a > b > c > a ({percent(consistency['accuracy_of_cyclic'])}).",
            "Referring the most inconsistent images:",
            referral_table(consistency),
            "",
            "Share of each grade that a pair gives to its higher class ([its own grades]):",
            pair_votes_table(consistency["votes_for_higher_class"], class_names),
        ]
    )


def pair_votes_table(votes: dict[str, list[float]], class_names: list[str]) -> str:
    """Show what share of each grade a pair gives to its higher class; [own grades]."""
    rows = [
        [
            pair,
            *(
                f"[{percent(share)}]" if str(k) in pair.split("-") else f" {percent(share)}"
                for k, share in enumerate(shares)
            ),
        ]
        for pair, shares in votes.items()
    ]
    return format_table(["pair", *(f"grade {name}" for name in class_names)], rows)


def gates_table(gates: list[Gate]) -> str:
    """Show the gates: asked, measured with interval, verdict of the point and of the bound."""
    rows = []
    for gate in gates:
        measured = "n/a"
        if not math.isnan(gate.value):
            whole = gate.kind == "diversity"
            entry = Interval(gate.value, gate.low, gate.high)
            measured = f"{gate.value:.0f}" if whole else with_interval(entry)
        rows.append(
            [gate.name, gate.expected, measured, gate.status, gate.lower_bound, gate.remark]
        )
    header = ["gate", "asked", "measured", "status", "lower bound", "remark"]
    return format_table(header, rows)


def per_class_table(metrics: Metrics, class_names: list[str], counts: list[int]) -> str:
    """Show precision, recall, F1 and AUC of each class with 95 % intervals."""
    rows = [
        [
            name,
            count,
            *(with_interval(metrics[f"{key}_{k}"]) for key in ("precision", "recall", "f1", "auc")),
        ]
        for k, (name, count) in enumerate(zip(class_names, counts))
    ]
    return format_table(["grade", "images", "precision", "recall", "F1", "AUC"], rows)


def confusion_table(matrix: list[list[int]], class_names: list[str]) -> str:
    """Show a confusion matrix, true grades in rows."""
    rows = [[name, *map(int, row)] for name, row in zip(class_names, matrix)]
    return format_table(["true \\ predicted", *class_names], rows)
