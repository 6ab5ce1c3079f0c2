#!/usr/bin/env python3
"""Measure how differently the models of an ensemble err, and what each adds to it.

    python analyze_ensemble_diversity.py --models densenet121 efficientnetb2 resnet50 coatnet \\
        convnext swinv2

Reads what evaluate_ensemble.py has stored; writes tables, heat maps and a dendrogram.
"""

import argparse
import sys
from typing import Any

import numpy as np

from common.cli import Parser, add_analysis_flags, find_members, guarded
from common.data.copies import patient_groups
from common.data.synthetic import synthetic_note
from common.evaluation.agreement import ensemble_diversity, pairwise_diversity
from common.evaluation.comparison import PairedMetric, paired_metrics
from common.evaluation.intervals import BootstrapConfig
from common.models.backbones import resolve
from common.prediction.ensemble import ModelResult, apply_vote
from common.prediction.voting import combine_models
from common.reporting import tables
from common.reporting.figures import plot_dendrogram, plot_heatmaps
from common.result_dir import ResultDir, write_table
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log

FAMILIES_WANTED = 4  # the guide's criterion


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_analysis_flags(parser, "./diversity_analysis")
    return parser.parse_args(argv)


def measure_gains(members: list[ModelResult], sampling: BootstrapConfig) -> dict[str, Any]:
    """Compare the plain mean with its members, and with itself less one member.

    Differences in accuracy with 95 % paired-bootstrap intervals.
    """
    targets = members[0].found.targets
    classes = [member.classes for member in members]
    scores = [each.probabilities for each in classes]
    mixes = [scores, *(scores[:i] + scores[i + 1 :] for i in range(len(scores)))]
    classes += [combine_models(parts) for parts in mixes]
    measured = paired_metrics(targets, classes, ["accuracy"], sampling)["accuracy"]
    accuracy, sampled, count = measured.values, measured.draws, len(members)
    best = int(accuracy[:count].argmax())
    # one more column: the members' mean accuracy
    accuracy = np.append(accuracy, accuracy[:count].mean())
    sampled = np.column_stack([sampled, sampled[:, :count].mean(1)])
    paired = PairedMetric(accuracy, sampled)
    return {
        "ensemble_accuracy": float(accuracy[count]),
        "mean_accuracy": float(accuracy[-1]),
        "best_member": members[best].label,
        "best_accuracy": float(accuracy[best]),
        "gain_over_mean": paired.difference(count, len(accuracy) - 1),
        "gain_over_best": paired.difference(count, best),
        "leave_one_out": {
            member.label: paired.difference(count, count + 1 + i)
            for i, member in enumerate(members)
        },
    }


def measure_criteria(members: list[ModelResult]) -> dict[str, Any]:
    """Hold the ensemble against the guide's diversity criteria."""
    families = sorted({resolve(member.found.model).family for member in members})
    sizes = [member.found.cost["parameters"] / 1e6 for member in members]
    return {
        "families": families,
        "families_wanted": FAMILIES_WANTED,
        "families_status": "PASS" if len(families) >= FAMILIES_WANTED else "FAIL",
        "parameters_millions": [min(sizes), max(sizes)],
        "parameters_ratio": max(sizes) / min(sizes),
    }


def report(content: dict[str, Any], pairwise: list[dict[str, Any]]) -> None:
    """Print everything as tables."""
    print(
        tables.format_table(
            ["models", *(key.replace("_", " ") for key in list(pairwise[0])[2:])],
            [
                [f"{row['model']} - {row['other']}", *map(tables.decimal, list(row.values())[2:])]
                for row in pairwise
            ],
        )
    )
    whole, gains, criteria = content["ensemble"], content["gains"], content["criteria"]
    print(
        "\n"
        + tables.format_table(
            ["the ensemble as a whole", ""],
            [[name.replace("_", " "), tables.decimal(value)] for name, value in whole.items()],
        )
    )
    rows = [
        [
            "mean of the members",
            tables.decimal(gains["mean_accuracy"]),
            tables.with_interval(gains["gain_over_mean"]),
        ],
        [
            f"best member ({gains['best_member']}, on these images)",
            tables.decimal(gains["best_accuracy"]),
            tables.with_interval(gains["gain_over_best"]),
        ],
        *(
            [
                f"without {name}",
                tables.decimal(gains["ensemble_accuracy"] - entry.value),
                tables.with_interval(entry),
            ]
            for name, entry in gains["leave_one_out"].items()
        ),
    ]
    title = f"plain mean, accuracy {tables.decimal(gains['ensemble_accuracy'])}, against"
    print("\n" + tables.format_table([title, "accuracy", "gain of the ensemble"], rows))
    low, high = criteria["parameters_millions"]
    print(
        f"\narchitecture families: {len(criteria['families'])} ({', '.join(criteria['families'])})"
        f", asked {FAMILIES_WANTED}: {criteria['families_status']}\n"
        f"parameters: {low:.1f} to {high:.1f} million, a ratio of "
        f"{criteria['parameters_ratio']:.1f}\n"
    )


@guarded
def main(argv: list[str] | None = None) -> int:
    """Analyse all models that are found."""
    args = parse_args(argv)
    found = find_members(args)
    if len(found) < 2:
        raise InputError(f"expected two or more models, found {found[0][0]} alone")
    members = [apply_vote(label, stored, None, args.vote, False) for label, _, stored in found]
    first = members[0].found
    note = synthetic_note(first.ids)
    sampling = BootstrapConfig(
        args.resamples, args.seed, patient_groups(first.ids, args.patient_regex)
    )
    correct = np.stack([member.classes.predicted == first.targets for member in members], axis=1)
    matrices = pairwise_diversity(correct)
    names = [member.label for member in members]
    pairwise = [
        {
            "model": names[i],
            "other": names[j],
            **{key: float(matrix[i, j]) for key, matrix in matrices.items()},
        }
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    content = {
        "split": args.split,
        "synthetic": note,
        "vote": args.vote,
        "images": len(first.ids),
        "models": names,
        "pairs": pairwise,
        "ensemble": ensemble_diversity(correct),
        "gains": measure_gains(members, sampling),
        "criteria": measure_criteria(members),
    }
    print(
        f"{len(names)} models on {args.split}{note}: {len(first.ids)} images, {args.vote} vote, "
        f"95 % intervals by bootstrap over {sampling.units(len(first.ids))}\n"
    )
    report(content, pairwise)
    output = ResultDir(args.output_dir)
    write_json(output.results / "diversity.json", content)
    write_table(output.table("diversity"), pairwise)
    shown = {
        key.replace("_", " "): np.where(np.eye(len(names), dtype=bool), np.nan, matrix)
        for key, matrix in matrices.items()
    }
    plot_heatmaps(shown, names, names, f"pairs of models{note}", output.figure("diversity"))
    plot_dendrogram(
        matrices["disagreement"],
        names,
        f"which models err alike{note}",
        output.figure("dendrogram"),
    )
    log(f"wrote diversity.json, diversity.csv and figures to {output.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
