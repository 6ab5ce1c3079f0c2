#!/usr/bin/env python3
"""Tell which model leads at which grade, and which binary classifiers are weakest.

    python analyze_per_class_strengths.py --results_dirs ./v2.5-model-dr/*_5class_results

Reads what evaluate_ensemble.py has stored; suggests weights per grade from val where that was
evaluated, too. Writes tables and a heat map.
"""

import argparse
import sys
from typing import Any

import numpy as np

from common.cli import Parser, add_analysis_flags, find_members, guarded
from common.data.copies import patient_groups
from common.data.synthetic import synthetic_note
from common.evaluation.evaluate import evaluate
from common.evaluation.intervals import UNKNOWN, BootstrapConfig, Interval, Metrics
from common.evaluation.metrics import binary_metrics, confusion_matrix, f1_scores
from common.pairs import class_pairs, pair_name, pair_targets
from common.prediction.ensemble import ModelResult, apply_vote
from common.prediction.predictions import PairPredictions, load_predictions, same_images
from common.reporting import tables
from common.reporting.figures import plot_heatmaps
from common.result_dir import ResultDir, write_table
from common.system.files import write_json
from common.system.log import log

METRICS = ("recall", "precision", "f1", "auc")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_analysis_flags(parser, "./per_class_analysis")
    return parser.parse_args(argv)


def find_leaders(results: dict[str, Metrics], names: list[str]) -> list[dict[str, Any]]:
    """Name the best model for each grade and metric, with its interval.

    "" where nothing is defined or none is above zero. "overlapping" lists those that are not
    clearly behind: equal ones, and all where an interval is not known.
    """
    rows = []
    for k, grade in enumerate(names):
        for metric in METRICS:
            entries = {model: found[f"{metric}_{k}"] for model, found in results.items()}
            known = {m: e for m, e in entries.items() if not np.isnan(e.value)}
            leader = max(known, key=lambda model: known[model].value, default="")
            leader = leader if leader and known[leader].value > 0 else ""
            rows.append(
                {
                    "grade": grade,
                    "metric": metric,
                    "leader": leader,
                    **vars(known.get(leader, UNKNOWN)),
                    "overlapping": [
                        m
                        for m, e in known.items()
                        if leader and m != leader and not e.high < known[leader].low
                    ],
                }
            )
    return rows


def weakest_pairs(member: ModelResult) -> list[dict[str, Any]]:
    """Measure each binary classifier on its two grades, weakest first, with what it confuses.

    confused: images of the one grade that the whole model calls the other.
    """
    found, rows = member.found, []
    matrix = confusion_matrix(found.targets, member.classes.predicted, found.num_classes).astype(
        int
    )
    for column, (a, b) in enumerate(class_pairs(found.num_classes)):
        own = np.isin(found.targets, (a, b))
        measured = binary_metrics(
            found.pair_probabilities[own, column], pair_targets(found.targets[own], (a, b))
        )
        rows.append(
            {
                "model": member.label,
                "pair": pair_name((a, b)),
                **{key: measured[key] for key in ("balanced_accuracy", "auc")},
                "recall_low": measured["specificity"],
                "recall_high": measured["sensitivity"],
                "low_called_high": matrix[a, b],
                "high_called_low": matrix[b, a],
            }
        )
    return sorted(
        rows, key=lambda row: (np.isnan(row["balanced_accuracy"]), row["balanced_accuracy"])
    )


def stored_val(directory: ResultDir, found: PairPredictions) -> PairPredictions | None:
    """Read a model's predictions on val, if they are of the same checkpoints."""
    val = load_predictions(directory.predictions("val"))
    same = val is not None and val.origin["checkpoints"] == found.origin["checkpoints"]
    return val if same else None


def suggest_weights(members: list[ModelResult]) -> dict[str, list[float]]:
    """Share each grade's weight among the models by their F1 on it (rows sum to 1 per grade)."""
    scores = np.stack(
        [
            np.nan_to_num(
                f1_scores(
                    confusion_matrix(m.found.targets, m.classes.predicted, m.found.num_classes)
                )
            )
            for m in members
        ]
    )
    total = scores.sum(0)
    shares = np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / len(members))
    return {member.label: row.tolist() for member, row in zip(members, shares)}


def report(
    rows: dict[str, Any],
    leaders: list[dict[str, Any]],
    pairs: list[dict[str, Any]],
    weights: dict[str, list[float]],
    names: list[str],
) -> None:
    """Print everything as tables."""
    for metric in METRICS:
        cells = [
            [model, *(tables.with_interval(found[f"{metric}_{k}"]) for k in range(len(names)))]
            for model, found in rows.items()
        ]
        print(tables.format_table([metric, *(f"grade {name}" for name in names)], cells) + "\n")
    cells = [
        [
            row["grade"],
            row["metric"],
            row["leader"] or "n/a",
            tables.with_interval(Interval(row["value"], row["low"], row["high"])),
            ", ".join(row["overlapping"]),
        ]
        for row in leaders
    ]
    header = [
        "grade",
        "metric",
        "leader",
        "value",
        "not clearly behind (intervals overlap or unknown)",
    ]
    print(tables.format_table(header, cells) + "\n")
    cells = [
        [
            row["model"],
            row["pair"],
            tables.percent(row["balanced_accuracy"]),
            tables.decimal(row["auc"]),
            tables.percent(row["recall_low"]),
            tables.percent(row["recall_high"]),
            row["low_called_high"],
            row["high_called_low"],
        ]
        for row in pairs
    ]
    header = [
        "three weakest pairs of",
        "pair",
        "balanced",
        "AUC",
        "recall lower",
        "recall higher",
        "model calls lower higher",
        "higher lower",
    ]
    print(tables.format_table(header, cells) + "\n")
    if weights:
        cells = [[model, *map(tables.decimal, shares)] for model, shares in weights.items()]
        header = ["suggested weight (F1 on val)", *(f"grade {name}" for name in names)]
        print(tables.format_table(header, cells) + "\n")
    else:
        print(
            "no weights are suggested: not every model, as it is now, was evaluated on the same "
            "val images (evaluate_ensemble.py --split val)\n"
        )


@guarded
def main(argv: list[str] | None = None) -> int:
    """Analyse all models that are found."""
    args = parse_args(argv)
    found = find_members(args)
    members = [apply_vote(label, stored, None, args.vote, False) for label, _, stored in found]
    first = members[0].found
    note = synthetic_note(first.ids)
    names = first.class_names
    groups = patient_groups(first.ids, args.patient_regex)
    sampling = BootstrapConfig(args.resamples, args.seed, groups)
    rows = {m.label: evaluate(first.targets, m.classes, sampling).metrics for m in members}
    leaders = find_leaders(rows, names)
    pairs = [
        row for member in members if member.found.head == "ovo" for row in weakest_pairs(member)
    ]
    vals = [stored_val(directory, stored) for _, directory, stored in found]
    weights = {}
    if all(val is not None and same_images(vals[0], val) for val in vals):
        weights = suggest_weights(
            [
                apply_vote(label, val, None, args.vote, False)
                for (label, _, _), val in zip(found, vals)
            ]
        )
    worst = [
        row
        for member in members
        for row in [row for row in pairs if row["model"] == member.label][:3]
    ]
    print(
        f"{len(members)} models on {args.split}{note}: {len(first.ids)} images, "
        f"{args.vote} vote, 95 % intervals by bootstrap over "
        f"{sampling.units(len(first.ids))}\n"
    )
    report(rows, leaders, worst, weights, names)
    output = ResultDir(args.output_dir)
    write_json(
        output.results / "per_class.json",
        {
            "split": args.split,
            "synthetic": note,
            "vote": args.vote,
            "images": len(first.ids),
            "models": rows,
            "leaders": leaders,
            "pairs": pairs,
            "suggested_weights": weights,
        },
    )
    write_table(output.table("per_class"), tables.flat_rows(rows))
    if pairs:
        write_table(output.table("pairs"), pairs)
    shown = {
        metric: np.array(
            [[found[f"{metric}_{k}"].value for k in range(len(names))] for found in rows.values()]
        )
        for metric in METRICS
    }
    plot_heatmaps(
        shown,
        list(rows),
        [f"grade {name}" for name in names],
        f"models by grade{note}",
        output.figure("per_class"),
    )
    log(f"wrote per_class.json, per_class.csv and a heat map to {output.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
