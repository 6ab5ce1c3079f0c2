"""Text tables for the terminal and the log."""

import math
from typing import Any

Intervals = dict[str, dict[str, float]]

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
        all(row[i][:1] in "+-0123456789" or row[i] == "n/a" for row in cells[1:] if row[i])
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


def with_interval(entry: dict[str, float], scale: float = 1.0, digits: int = 3) -> str:
    """Write a value with its 95 % interval."""
    if math.isnan(entry["value"]):
        return "n/a"
    value, low, high = (entry[key] * scale for key in ("value", "low", "high"))
    if math.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def metrics_table(results: dict[str, Intervals], title: str) -> str:
    """Show the main metrics of several graders, one to a row, with 95 % intervals."""
    rows = [
        [name, *(with_interval(metrics[key]) for key in _HEADLINES)]
        for name, metrics in results.items()
    ]
    return format_table([title, *_HEADLINES.values()], rows)


def per_class_table(metrics: Intervals, class_names: list[str], counts: list[int]) -> str:
    """Show precision, recall, F1 and AUC of each class with 95 % intervals."""
    rows = [
        [name, count, *(with_interval(metrics[f"{key}_{k}"])
                        for key in ("precision", "recall", "f1", "auc"))]
        for k, (name, count) in enumerate(zip(class_names, counts))
    ]  # fmt: skip
    return format_table(["grade", "images", "precision", "recall", "F1", "AUC"], rows)


def confusion_table(matrix: list[list[int]], class_names: list[str]) -> str:
    """Show a confusion matrix, true grades in rows."""
    rows = [[name, *map(int, row)] for name, row in zip(class_names, matrix)]
    return format_table(["true \\ predicted", *class_names], rows)
