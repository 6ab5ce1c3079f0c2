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

from common import reporting
from common.artifacts import ResultDir, write_table
from common.cli import Parser, add_analysis_flags, find_members, guarded
from common.evaluation import Sampling, evaluate_classes, patient_groups
from common.inference import Predictions, load_predictions, same_images
from common.judging import Judged, judge
from common.metrics import binary_metrics, confusion_matrix, f1_scores
from common.pairs import class_pairs, pair_name, pair_targets
from common.plots import plot_heatmaps
from common.runtime import log, write_json
from common.synthetic import synthetic_note

METRICS = ("recall", "precision", "f1", "auc")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_analysis_flags(parser, "./per_class_analysis")
    return parser.parse_args(argv)


def find_leaders(results: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    """Name the best model for each grade and metric, with its interval.

    "" where nothing is defined or none is above zero. "overlapping" lists those that are not
    clearly behind: equal ones, and all where an interval is not known.
    """
    rows = []
    for k, grade in enumerate(names):
        for metric in METRICS:
            entries = {model: found[f"{metric}_{k}"] for model, found in results.items()}
            known = {m: e for m, e in entries.items() if not np.isnan(e["value"])}
            leader = max(known, key=lambda model: known[model]["value"], default="")
            leader = leader if leader and known[leader]["value"] > 0 else ""
            rows.append({"grade": grade, "metric": metric, "leader": leader,
                         **known.get(leader, dict.fromkeys(("value", "low", "high"), np.nan)),
                         "overlapping": [m for m, e in known.items() if leader and m != leader
                                         and not e["high"] < known[leader]["low"]]})  # fmt: skip
    return rows


def weakest_pairs(member: Judged) -> list[dict[str, Any]]:
    """Measure each binary classifier on its two grades, weakest first, with what it confuses.

    confused: images of the one grade that the whole model calls the other.
    """
    found, rows = member.found, []
    matrix = confusion_matrix(found.targets, member.grader[1], found.num_classes).astype(int)
    for column, (a, b) in enumerate(class_pairs(found.num_classes)):
        own = np.isin(found.targets, (a, b))
        measured = binary_metrics(
            found.pair_probabilities[own, column], pair_targets(found.targets[own], (a, b))
        )
        rows.append({"model": member.label, "pair": pair_name((a, b)),
                     **{key: measured[key] for key in ("balanced_accuracy", "auc")},
                     "recall_low": measured["specificity"],
                     "recall_high": measured["sensitivity"],
                     "low_called_high": matrix[a, b], "high_called_low": matrix[b, a]})  # fmt: skip
    return sorted(rows, key=lambda row: (np.isnan(row["balanced_accuracy"]),
                                         row["balanced_accuracy"]))  # fmt: skip


def stored_val(directory: ResultDir, found: Predictions) -> Predictions | None:
    """Read a model's predictions on val, if they are of the same checkpoints."""
    val = load_predictions(directory.predictions("val"))
    same = val is not None and val.origin["checkpoints"] == found.origin["checkpoints"]
    return val if same else None


def suggest_weights(members: list[Judged]) -> dict[str, list[float]]:
    """Share each grade's weight among the models by their F1 on it (rows sum to 1 per grade)."""
    scores = np.stack([
        np.nan_to_num(f1_scores(confusion_matrix(m.found.targets, m.grader[1],
                                                 m.found.num_classes)))
        for m in members
    ])  # fmt: skip
    total = scores.sum(0)
    shares = np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / len(members))
    return {member.label: row.tolist() for member, row in zip(members, shares)}


def report(
    rows: dict[str, Any], leaders: list[dict[str, Any]], pairs: list[dict[str, Any]],
    weights: dict[str, list[float]], names: list[str],
) -> None:  # fmt: skip
    """Print everything as tables."""
    for metric in METRICS:
        cells = [[model, *(reporting.with_interval(found[f"{metric}_{k}"])
                           for k in range(len(names)))]
                 for model, found in rows.items()]  # fmt: skip
        print(reporting.format_table([metric, *(f"grade {name}" for name in names)], cells) + "\n")
    cells = [[row["grade"], row["metric"], row["leader"] or "n/a", reporting.with_interval(row),
              ", ".join(row["overlapping"])] for row in leaders]  # fmt: skip
    header = [
        "grade",
        "metric",
        "leader",
        "value",
        "not clearly behind (intervals overlap or unknown)",
    ]
    print(reporting.format_table(header, cells) + "\n")
    cells = [[row["model"], row["pair"], reporting.percent(row["balanced_accuracy"]),
              reporting.decimal(row["auc"]), reporting.percent(row["recall_low"]),
              reporting.percent(row["recall_high"]), row["low_called_high"],
              row["high_called_low"]] for row in pairs]  # fmt: skip
    header = ["three weakest pairs of", "pair", "balanced", "AUC", "recall lower", "recall higher",
              "model calls lower higher", "higher lower"]  # fmt: skip
    print(reporting.format_table(header, cells) + "\n")
    if weights:
        cells = [[model, *map(reporting.decimal, shares)] for model, shares in weights.items()]
        header = ["suggested weight (F1 on val)", *(f"grade {name}" for name in names)]
        print(reporting.format_table(header, cells) + "\n")
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
    members = [judge(label, stored, None, args.vote, False) for label, _, stored in found]
    first = members[0].found
    note = synthetic_note(first.ids)
    names = first.class_names
    groups = patient_groups(first.ids, args.patient_regex)
    sampling = Sampling(args.resamples, args.seed, groups)
    rows = {m.label: evaluate_classes(first.targets, *m.grader, sampling)["metrics"]
            for m in members}  # fmt: skip
    leaders = find_leaders(rows, names)
    pairs = [row for member in members if member.found.head == "ovo"
             for row in weakest_pairs(member)]  # fmt: skip
    vals = [stored_val(directory, stored) for _, directory, stored in found]
    weights = {}
    if all(val is not None and same_images(vals[0], val) for val in vals):
        weights = suggest_weights(
            [judge(label, val, None, args.vote, False) for (label, _, _), val in zip(found, vals)]
        )
    worst = [row for member in members for row in
             [row for row in pairs if row["model"] == member.label][:3]]  # fmt: skip
    print(f"{len(members)} models on {args.split}{note}: {len(first.ids)} images, "
          f"{args.vote} vote, 95 % intervals by bootstrap over "
          f"{sampling.units(len(first.ids))}\n")  # fmt: skip
    report(rows, leaders, worst, weights, names)
    output = ResultDir(args.output_dir)
    write_json(output.results / "per_class.json", {
        "split": args.split, "synthetic": note, "vote": args.vote, "images": len(first.ids),
        "models": rows,
        "leaders": leaders, "pairs": pairs, "suggested_weights": weights,
    })  # fmt: skip
    write_table(output.table("per_class"), reporting.flat_rows(rows))
    if pairs:
        write_table(output.table("pairs"), pairs)
    shown = {metric: np.array([[found[f"{metric}_{k}"]["value"] for k in range(len(names))]
                               for found in rows.values()]) for metric in METRICS}  # fmt: skip
    plot_heatmaps(shown, list(rows), [f"grade {name}" for name in names],
                  f"models by grade{note}", output.figure("per_class"))  # fmt: skip
    log(f"wrote per_class.json, per_class.csv and a heat map to {output.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
