#!/usr/bin/env python3
"""Say which model leads at which grade, if any does, and which binary classifiers are weakest.

    python analyze_per_class_strengths.py --results_dirs ./v2.5-model-dr/*_5class_results

Reads what evaluate_ensemble.py has stored; suggests weights per grade from val where that was
evaluated, too. Writes tables and a heat map.
"""

from common.cli import Parser, guarded, rare_collections

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.comparison.differences import SIGNIFICANT, compare_metrics, few_images_note
from common.data.patients import recognise_patients
from common.data.synthetic import synthetic_note
from common.evaluation.evaluate import evaluate
from common.fitting.ensemble import ModelResult, shared_fitted, why_not_fitted
from common.fitting.stored import results_of
from common.flags.evaluation import add_analysis_flags
from common.metrics.classification import binary_metrics
from common.metrics.intervals import UNKNOWN, BootstrapConfig, Interval, Metrics
from common.metrics.shares import Share, average_interval, confusion_matrix, f1_scores
from common.pairs import class_pairs, has_pair_outputs, pair_name, pair_targets
from common.prediction.classes import Classes
from common.prediction.evaluated_models import find_evaluated_models, metadata_of
from common.prediction.labels import views_text
from common.prediction.voting import ClassPredictions
from common.reporting import tables
from common.reporting.table import format_table
from common.result_dir.csv_files import write_table
from common.result_dir.paths import ResultDir, of_split
from common.system.files import write_json
from common.system.log import log

METRICS = ("recall", "precision", "f1", "auc")
WEAKEST = 3  # pairs of a model that are printed


@dataclass(frozen=True)
class Leader:
    """The model with the highest value at one grade in one metric, and whether it leads."""

    grade: str
    metric: str
    model: str  # "" where nothing is defined or none is above zero
    interval: Interval
    not_told_apart: list[str]  # those whose difference to it may be chance
    undefined: list[str]  # those without a value, such as a precision of what is never predicted

    def to_json(self) -> dict[str, Any]:
        """Return what per_class.json holds of it."""
        return {
            "grade": self.grade,
            "metric": self.metric,
            "leader": self.model,
            **vars(self.interval),
            "not_told_apart": self.not_told_apart,
            "undefined": self.undefined,
        }


@dataclass(frozen=True)
class PairStrength:
    """How well a binary classifier tells its two grades apart."""

    model: str
    pair: str
    balanced_accuracy: float
    low: float  # ends of its 95 % interval
    high: float
    below: int  # how many other pairs of the model have an interval that is wholly above its own
    auc: float
    recall_low: float  # of the lower grade
    recall_high: float
    low_called_high: int  # images of the lower grade that the whole model calls the higher
    high_called_low: int


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_analysis_flags(parser, "./per_class_analysis")
    return parser.parse_args(argv)


def find_leaders(
    results: dict[str, Metrics],
    targets: np.ndarray,
    models: dict[str, ClassPredictions],
    bootstrap: BootstrapConfig,
    class_names: list[str],
) -> list[Leader]:
    """Name the model with the highest value for each grade and metric, and who is not behind it.

    Tested as if every pair of models had been compared at every grade in every metric, since the
    highest was looked for among all.
    """
    names = [f"{metric}_{k}" for k in range(len(class_names)) for metric in METRICS]
    highest = {name: find_highest(results, name) for name in names}
    asked = [
        (name, best, model)
        for name, best in highest.items()
        for model, found in results.items()
        if best and model != best and not math.isnan(found[name].value)
    ]
    family = len(names) * math.comb(len(models), 2)
    compared = compare_metrics(targets, models, asked, bootstrap, family)
    leaders = []
    for name, best in highest.items():
        metric, _, k = name.rpartition("_")
        close = [row.other for row in compared if row.metric == name and not row.differs]
        interval = results[best][name] if best else UNKNOWN
        nothing = [m for m, found in results.items() if best and math.isnan(found[name].value)]
        leaders.append(Leader(class_names[int(k)], metric, best, interval, close, nothing))
    return leaders


def counts_of(targets: np.ndarray, classes: Classes) -> list[int]:
    """Count the images of each class."""
    return np.bincount(targets, minlength=len(classes)).tolist()


def find_highest(results: dict[str, Metrics], name: str) -> str:
    """Name the model of the highest value of a metric; "" where none is above zero."""
    known = {
        model: found[name].value
        for model, found in results.items()
        if not math.isnan(found[name].value)
    }
    best = max(known, key=lambda model: known[model], default="")
    return best if best and known[best] > 0 else ""


def rank_pairs(model: ModelResult, bootstrap: BootstrapConfig) -> list[PairStrength]:
    """Measure each binary classifier of a model on its two grades, the lowest first.

    None where the images are graded in fewer classes than the model's.
    """
    pairs, targets = model.pairs, model.targets
    if not has_pair_outputs(pairs.head) or pairs.set_classes is not None:
        return []
    matrix = confusion_matrix(targets, model.classes.predicted, pairs.num_classes).astype(int)
    rows = []
    for column, (a, b) in enumerate(class_pairs(pairs.num_classes)):
        own = np.isin(targets, (a, b))
        probabilities, is_high = pairs.pair_probabilities[:, column], targets == b
        measured = binary_metrics(probabilities[own], pair_targets(targets[own], (a, b)))
        right = (probabilities > 0.5) == is_high
        shares = [Share(right & of, of, of) for of in (targets == a, is_high)]
        interval = UNKNOWN
        if all(share.trials.any() for share in shares):
            interval = average_interval(shares, bootstrap.groups, bootstrap)
        rows.append(
            PairStrength(
                model=model.label,
                pair=pair_name((a, b)),
                balanced_accuracy=measured.balanced_accuracy,
                low=interval.low,
                high=interval.high,
                below=0,
                auc=measured.auc,
                recall_low=measured.specificity,
                recall_high=measured.sensitivity,
                low_called_high=int(matrix[a, b]),
                high_called_low=int(matrix[b, a]),
            )
        )
    rows = [replace(row, below=sum(row.high < other.low for other in rows)) for row in rows]
    return sorted(rows, key=lambda row: (math.isnan(row.balanced_accuracy), row.balanced_accuracy))


@dataclass(frozen=True)
class SuggestedWeights:
    """Each grade's weight shared among the models, and what that rests on."""

    by_model: dict[str, list[float]]  # (K,) of each; empty: none are suggested
    description: str  # the images, or why there are none


def suggest_weights(models: list[ModelResult]) -> SuggestedWeights:
    """Share each grade's weight by the models' F1 on the images for fitting; sums to 1 per grade.

    None unless every model has such images, and all the same.
    """
    if models[0].pairs.set_classes is not None:
        return SuggestedWeights({}, "the images are graded in fewer classes than the models'")
    fitted = shared_fitted(models)
    if not fitted:
        return SuggestedWeights({}, why_not_fitted(models))
    rows = []
    for each in fitted:
        matrix = confusion_matrix(
            each.images.targets, each.voted.predicted, each.images.num_classes
        )
        rows.append(np.nan_to_num(f1_scores(matrix)))
    scores = np.stack(rows)  # (models, grades)
    total = scores.sum(0)
    shares = np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / len(models))
    by_model = {model.label: row.tolist() for model, row in zip(models, shares)}
    images = fitted[0].images
    return SuggestedWeights(by_model, f"{images.name}, {len(images)} images")


def metric_table(metric: str, results: dict[str, Metrics], grades: list[str]) -> str:
    """Show one metric of every model at every grade."""
    cells = [
        [model, *(tables.with_interval(found[f"{metric}_{k}"]) for k in range(len(grades)))]
        for model, found in results.items()
    ]
    return format_table([metric, *grades], cells)


def leaders_table(leaders: list[Leader], models: int) -> str:
    """Show who has the highest value where, and who is not told apart from it."""
    cells = [
        [
            row.grade,
            row.metric,
            row.model or "n/a",
            tables.with_interval(row.interval),
            _not_told_apart(row, models),
        ]
        for row in leaders
    ]
    table = format_table(["grade", "metric", "highest", "value", "not told apart from it"], cells)
    return (
        f"{table}\nmodels are told apart where p (Holm) < {SIGNIFICANT}, corrected for every pair "
        "of models at every grade in every metric"
    )


def _not_told_apart(row: Leader, models: int) -> str:
    if not row.model or models < 2:
        return ""
    if len(row.not_told_apart) == models - 1:
        return "all others"
    close = row.not_told_apart + [f"{model} (n/a)" for model in row.undefined]
    return ", ".join(close) or "none: it leads"


def pairs_table(rows: list[PairStrength], classes: Classes) -> str:
    """Show how well binary classifiers tell their grades apart, and what the model confuses."""
    cells = [
        [
            row.model,
            classes.pair_title(row.pair),
            tables.with_interval(Interval(row.balanced_accuracy, row.low, row.high)),
            row.below,
            tables.decimal(row.auc),
            tables.percent(row.recall_low),
            tables.percent(row.recall_high),
            row.low_called_high,
            row.high_called_low,
        ]
        for row in rows
    ]
    header = [
        "three lowest pairs of",
        "pair",
        "balanced accuracy",
        "told apart from",
        "AUC",
        "recall lower",
        "recall higher",
        "model calls lower higher",
        "higher lower",
    ]
    return (
        f"{format_table(header, cells)}\ntold apart from: how many pairs of the model are better "
        "with their whole interval; the others may be as weak"
    )


def weights_text(weights: SuggestedWeights, grades: list[str]) -> str:
    """Show the suggested weights, or say why there are none."""
    if not weights.by_model:
        return f"no weights are suggested: {weights.description}"
    cells = [[model, *map(tables.decimal, shares)] for model, shares in weights.by_model.items()]
    return format_table([f"suggested weight (F1 on {weights.description})", *grades], cells)


def draw(
    results: dict[str, Metrics],
    grades: list[str],
    note: str,
    place: Callable[[str], Path],
    vector: str,
) -> None:
    """Draw each metric of every model at every grade."""
    from common.figures.matrices import Matrices, plot_heatmaps
    from common.figures.style import save_figure

    shown = {
        {"f1": "F1", "auc": "AUC"}.get(metric, metric): np.array(
            [
                [found[f"{metric}_{k}"].value for k in range(len(grades))]
                for found in results.values()
            ]
        )
        for metric in METRICS
    }
    values = Matrices("from 0 to 1, the higher the better", shown)
    figure = plot_heatmaps([values], list(results), grades, f"models by grade{note}")
    save_figure(figure, place("per_class"), vector)


@guarded
@rare_collections()
def main(argv: list[str] | None = None) -> int:
    """Analyse all models that are found."""
    args = parse_args(argv)
    found = find_evaluated_models(args.models, args.results_dirs, args.split, args.referable_from)
    models = results_of(found, args.split, args.vote)
    first = found[0].pairs
    metadata = metadata_of(found[0], args.split)
    patients = recognise_patients(first.ids.tolist(), args.patient_regex, metadata)
    bootstrap = BootstrapConfig(args.resamples, args.seed, patients.clusters, patients.evidence)
    scored = first.scored
    classes = {model.label: model.classes for model in models}
    results = {
        label: evaluate(first.targets, found, bootstrap, scored).metrics
        for label, found in classes.items()
    }
    leaders = find_leaders(results, first.targets, classes, bootstrap, list(scored.names))
    pairs = [rank_pairs(model, bootstrap) for model in models]
    weights = suggest_weights(models)

    note, images = synthetic_note(first.ids), len(first.ids)
    grades = list(scored.titles)
    print(
        f"{len(models)} models on {args.split}{note}: {images} images, {args.vote} vote, "
        f"95 % intervals over {bootstrap.resampled(images)}\n"
    )
    views = views_text({model.label: model.pairs.origin.tta for model in models})
    texts = [views] if views else []
    texts += [metric_table(metric, results, grades) for metric in METRICS]
    weakest = [row for own in pairs for row in own[:WEAKEST]]
    few = few_images_note(counts_of(first.targets, scored), scored)
    texts.append(leaders_table(leaders, len(models)) + f"\n{few}" * bool(few))
    if first.set_classes is None:
        texts += [pairs_table(weakest, scored), weights_text(weights, grades)]
    else:
        texts.append(
            f"{tables.classes_text(first)}\nbinary classifiers and weights per class need images "
            "that are graded in the models' classes"
        )
    print("\n\n".join(texts) + "\n")

    output = ResultDir(args.output_dir)
    rows = [vars(row) for own in pairs for row in own]
    write_json(
        output.per_class(args.split),
        {
            "split": args.split,
            "synthetic": note,
            "vote": args.vote,
            "images": images,
            "scored_classes": scored.names,
            "models": results,
            "few_images": few,
            "leaders": [leader.to_json() for leader in leaders],
            "pairs": rows,
            "suggested_weights": weights.by_model,
            "suggested_on": weights.description,
        },
    )
    write_table(output.table(of_split("per_class", args.split)), tables.flat_rows(results))
    if rows:
        write_table(output.table(of_split("pairs", args.split)), rows)
    draw(
        results,
        grades,
        note,
        lambda name: output.figure(of_split(name, args.split)),
        args.figure_format,
    )
    log(f"wrote {output.per_class(args.split).name}, tables and a heat map to {output.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
