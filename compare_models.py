#!/usr/bin/env python3
"""Compare evaluated models: results with intervals, significant differences, cost, gates.

    python compare_models.py --models densenet121 efficientnetb2 resnet50 seresnext50 coatnet \\
        convnext swinv2 --results_dirs ./v2.5-model-dr/*_5class_results

Reads what evaluate_ensemble.py has stored; writes tables, figures and validation.json.
"""

import argparse
import dataclasses
import sys
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from common.cli import Parser, add_analysis_flags, find_members, guarded
from common.data.copies import patient_groups
from common.data.synthetic import synthetic_note
from common.evaluation import gates
from common.evaluation.comparison import COMPARED, holm, paired_metrics
from common.evaluation.evaluate import Evaluation, evaluate
from common.evaluation.gates import gate_input
from common.evaluation.intervals import BootstrapConfig, Interval
from common.evaluation.metrics import REFERABLE_GRADE
from common.prediction.ensemble import ModelResult, apply_vote
from common.prediction.predictions import PairPredictions
from common.prediction.voting import combine_models
from common.reporting import tables
from common.reporting.figures import plot_bars, plot_cost, plot_roc
from common.result_dir import ResultDir, read_holdout, write_table
from common.system.files import write_json
from common.system.log import log

BARS = (
    "accuracy",
    "balanced_accuracy",
    "kappa",
    "macro_auc",
    "recall_1",
    "referable_sensitivity",
    "referable_specificity",
)
SIGNIFICANT = 0.05


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_analysis_flags(parser, "./model_comparison")
    parser.add_argument("--require", action="store_true", help="exit 1 unless every gate passes")
    return parser.parse_args(argv)


def compare_pairs(members: list[ModelResult], sampling: BootstrapConfig) -> list[dict[str, Any]]:
    """Test every pair of models on the main metrics, Holm-corrected over all pairs of a metric.

    Takes 100 resamples per pair at least: fewer cannot give a p small enough for the correction.
    """
    targets = members[0].found.targets
    count = len(members) * (len(members) - 1) // 2
    enough = dataclasses.replace(sampling, resamples=max(sampling.resamples, 100 * count))
    paired = paired_metrics(targets, [member.classes for member in members], COMPARED, enough)
    rows = []
    for metric in COMPARED:
        pairs = list(combinations(range(len(members)), 2))
        found = [paired[metric].difference(*pair) for pair in pairs]
        corrected = holm(np.array([entry.p for entry in found]))
        rows += [
            {
                "metric": metric,
                "model": members[a].label,
                "other": members[b].label,
                **vars(entry),
                "p_holm": float(p),
                "critical": bool(p < SIGNIFICANT),
            }
            for (a, b), entry, p in zip(pairs, found, corrected)
        ]
    return rows


def pairs_table(rows: list[dict[str, Any]]) -> str:
    """Lay the comparisons out for the terminal, the most certain first."""
    cells = [
        [
            row["metric"],
            f"{row['model']} - {row['other']}",
            tables.with_interval(Interval(row["value"], row["low"], row["high"])),
            tables.probability(row["p"]),
            tables.probability(row["p_holm"]),
            "differs" if row["critical"] else "",
        ]
        for row in sorted(rows, key=lambda row: (row["metric"], row["p_holm"], row["p"]))
    ]
    header = ["metric", "models", "difference", "p", "p (Holm)", f"p < {SIGNIFICANT}"]
    return tables.format_table(header, cells)


def draw(members: list[ModelResult], results: list[Evaluation], output: ResultDir) -> None:
    """Draw bars with intervals, ROC curves for referable DR, and accuracy against cost."""
    names = [member.label for member in members]
    note = synthetic_note(members[0].found.ids)
    bars = {
        name: [result.metrics[metric] for metric in BARS] for name, result in zip(names, results)
    }
    plot_bars(
        bars,
        [b.replace("_", " ") for b in BARS],
        f"models, 95 % intervals{note}",
        output.figure("metrics"),
    )
    targets = members[0].found.targets >= REFERABLE_GRADE
    if 0 < targets.sum() < len(targets):
        curves = {
            f"{member.label}, AUC {result.metrics['referable_auc'].value:.3f}": roc_curve(
                targets, member.classes.probabilities[:, REFERABLE_GRADE:].sum(1)
            )[:2]
            for member, result in zip(members, results)
        }
        plot_roc(curves, f"referable DR (grade >= 2){note}", output.figure("roc_referable"))
    gflops = {member.label: member.found.cost["gflops"] for member in members}
    accuracies = {name: result.metrics["accuracy"] for name, result in zip(names, results)}
    plot_cost(gflops, accuracies, f"accuracy against cost{note}", output.figure("accuracy_vs_cost"))


def holdout_of(found: list[tuple[str, ResultDir, PairPredictions]], split: str) -> tuple[str, str]:
    """Tell whether every model's evaluation found the images independent, or which did not."""
    if split != "test":
        return gates.FAIL, f"{split} is not held out"
    verdicts = []
    for label, directory, stored in found:
        said = read_holdout(directory, split, stored.origin)
        verdicts.append(said or (gates.NOT_MEASURED, f"evaluate {label} again to compare images"))
    return next((v for v in verdicts if v[0] != gates.PASS), verdicts[0])


def check(
    members: list[ModelResult],
    results: list[Evaluation],
    sampling: BootstrapConfig,
    holdout: tuple[str, str],
) -> list[gates.Gate]:
    """Hold the models and their plain mean against the guide's gates."""
    first = members[0].found
    ensemble = None
    if len(members) > 1:
        mean = combine_models([member.classes.probabilities for member in members])
        ensemble = evaluate(first.targets, mean, sampling).metrics
    found = [gate_input(m, result.metrics) for m, result in zip(members, results)]
    return gates.check_gates(found, ensemble, first.num_classes, holdout)


@guarded
def main(argv: list[str] | None = None) -> int:
    """Compare all models that are found."""
    args = parse_args(argv)
    found = find_members(args)
    members = [apply_vote(label, stored, None, args.vote, False) for label, _, stored in found]
    first = members[0].found
    note = synthetic_note(first.ids)
    groups = patient_groups(first.ids, args.patient_regex)
    sampling = BootstrapConfig(args.resamples, args.seed, groups)
    results = [evaluate(first.targets, member.classes, sampling) for member in members]
    output = ResultDir(args.output_dir)
    rows = {member.label: result.metrics for member, result in zip(members, results)}
    costs = {member.label: member.found.cost for member in members}
    print(
        f"{len(members)} models on {args.split}{note}: {len(first.ids)} images, "
        f"{args.vote} vote, 95 % intervals by bootstrap over "
        f"{sampling.units(len(first.ids))}\n"
    )
    print(tables.metrics_table(rows, "model"))
    print(f"\n{tables.cost_table(rows, costs)}")
    comparisons = compare_pairs(members, sampling)
    if comparisons:
        print(f"\n{pairs_table(comparisons)}")
        write_table(output.table("pairs"), comparisons)
    checked = check(members, results, sampling, holdout_of(found, args.split))
    print(f"\n{tables.gates_table(checked)}\n\ngrade: {gates.rating(checked)}")
    flat = tables.flat_rows(rows)
    write_table(output.table("models"), [{**row, **costs[row["name"]]} for row in flat])
    write_json(
        output.results / "comparison.json",
        {
            "split": args.split,
            "synthetic": note,
            "vote": args.vote,
            "images": len(first.ids),
            "models": rows,
            "costs": costs,
            "pairs": comparisons,
            "bootstrap": results[0].to_json()["bootstrap"],
        },
    )
    tested = {"split": args.split, "synthetic": note}
    write_json(output.validation, tested | gates.validation_content(checked))
    draw(members, results, output)
    log(f"wrote comparison.json, models.csv, validation.json and figures to {output.results}")
    return 1 if args.require and any(gate.status != gates.PASS for gate in checked) else 0


if __name__ == "__main__":
    sys.exit(main())
