#!/usr/bin/env python3
"""Compare evaluated models: results with intervals, significant differences, cost, gates.

    python compare_models.py --models densenet121 efficientnetb2 resnet50 seresnext50 coatnet \\
        convnext swinv2 --results_dirs ./v2.5-model-dr/*_5class_results

Reads what evaluate_ensemble.py has stored; writes tables, figures and validation.json.
"""

from common.cli import Parser, guarded, rare_collections

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.comparison.differences import (
    SIGNIFICANT,
    Compared,
    compare_metrics,
    correction_note,
    every_pair,
    few_images_note,
    verdict,
)
from common.data.patients import recognise_patients
from common.data.synthetic import synthetic_note
from common.evaluation.evaluate import Evaluation, evaluate
from common.evaluation.gates import (
    FAIL,
    NOT_MEASURED,
    PASS,
    Gate,
    Holdout,
    all_pass,
    check_gates,
    gate_input,
    rating,
    read_holdout,
    validation_content,
)
from common.fitting.ensemble import ModelResult, average_models
from common.fitting.stored import results_of
from common.flags.evaluation import add_analysis_flags
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import Classes, sum_up
from common.prediction.evaluated_models import EvaluatedModel, find_evaluated_models, metadata_of
from common.prediction.labels import views_text
from common.reporting import tables
from common.reporting.summary import gates_text
from common.reporting.table import format_table
from common.result_dir.csv_files import write_table
from common.result_dir.paths import ResultDir, of_split
from common.system.files import write_json
from common.system.log import log

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from common.figures.roc import RocCurve

SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "kappa",
    "macro_auc",
    "recall_1",
    "referable_sensitivity",
    "referable_specificity",
)
PLAIN_MEAN = (
    "the ensemble of these gates is the models' plain mean; the rating to quote is that of "
    "evaluate_ensemble.py, whose ensemble has its weights"
)


@dataclass(frozen=True)
class Model:
    """A model under the chosen vote, and how good it is."""

    result: ModelResult
    evaluation: Evaluation

    @property
    def label(self) -> str:
        """Its name."""
        return self.result.label


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_analysis_flags(parser, "./model_comparison")
    parser.add_argument("--require", action="store_true", help="exit 1 unless every gate passes")
    parser.add_argument("--verbose", action="store_true", help="print the long tables, too")
    return parser.parse_args(argv)


def compare_pairs(models: list[Model], bootstrap: BootstrapConfig) -> list[Compared]:
    """Test every pair of models on the main metrics, corrected over all pairs and metrics."""
    named = {model.label: model.result.classes for model in models}
    return compare_metrics(models[0].result.targets, named, every_pair(list(named)), bootstrap)


def pairs_table(rows: list[Compared], verbose: bool) -> str:
    """Lay out those that differ, verbose: all comparisons, the most certain first."""
    ordered = sorted(rows, key=lambda row: (row.metric, *np.nan_to_num(_certainty(row), nan=2)))
    cells = [
        [
            row.metric,
            f"{row.model} - {row.other}",
            tables.with_interval(row.difference),
            tables.probability(row.difference.p),
            tables.probability(row.difference.p_holm),
            verdict(row.difference),
        ]
        for row in ordered
        if verbose or row.differs
    ]
    count = f"{sum(row.differs for row in rows)} of {len(rows)} comparisons tell models apart"
    lines = [count + ("" if verbose else "; --verbose shows all, pairs.csv holds them")]
    header = ["metric", "models", "difference", "p", "p (Holm)", f"p (Holm) < {SIGNIFICANT}"]
    lines += [format_table(header, cells)] if cells else []
    return "\n".join([*lines, correction_note([row.difference for row in rows])])


def _certainty(row: Compared) -> list[float]:
    return [row.difference.p_holm, row.difference.p]


def combine_holdouts(found: list[EvaluatedModel], split: str) -> Holdout:
    """Tell whether every model's evaluation found the images independent, or which did not."""
    if split != "test":
        return Holdout(FAIL, f"{split} is not held out")
    holdouts = []
    for model in found:
        stored = read_holdout(model.directory, split, model.pairs.origin)
        again = Holdout(NOT_MEASURED, f"evaluate {model.label} again to compare images")
        holdouts.append(stored or again)
    return next((holdout for holdout in holdouts if holdout.status != PASS), holdouts[0])


def check(models: list[Model], bootstrap: BootstrapConfig, holdout: Holdout) -> list[Gate]:
    """Compare the models and their plain mean with the guide's thresholds."""
    pairs = models[0].result.pairs
    ensemble = None
    if len(models) > 1:
        results = [model.result for model in models]
        plain = np.full(len(models), 1 / len(models))
        mean = average_models(results, plain, any(result.calibrated for result in results))
        classes = sum_up(mean.classes, pairs.set_classes)
        ensemble = evaluate(pairs.targets, classes, bootstrap, pairs.scored).metrics
    found = [gate_input(model.result, model.evaluation.metrics) for model in models]
    coarser = pairs.set_classes is not None
    return check_gates(found, ensemble, pairs.scored, holdout, coarser)


def draw(models: list[Model], note: str, place: Callable[[str], Path], vector: str) -> None:
    """Draw results with intervals, ROC curves for referable DR, and accuracy against cost."""
    from common.figures.comparison import plot_cost, plot_intervals
    from common.figures.roc import RocPanel, plot_roc
    from common.figures.style import save_figure

    metrics = {model.label: model.evaluation.metrics for model in models}
    classes = models[0].result.pairs.scored
    intervals = {label: [found[name] for name in SHOWN] for label, found in metrics.items()}
    titles = [title_of(name, classes) for name in SHOWN]
    figure = plot_intervals(intervals, titles, f"models, 95 % intervals{note}")
    save_figure(figure, place("metrics"), vector)
    curves = referable_curves(models)
    if curves:
        panel = RocPanel(f"referable ({classes.referable})", curves)
        figure = plot_roc([panel], f"models, referable DR{note}")
        save_figure(figure, place("roc_referable"), vector)
    gflops = {model.label: model.result.pairs.cost.gflops for model in models}
    accuracies = {label: found["accuracy"] for label, found in metrics.items()}
    figure = plot_cost(gflops, accuracies, f"accuracy against cost{note}")
    save_figure(figure, place("accuracy_vs_cost"), vector)


def title_of(metric: str, classes: Classes) -> str:
    """Call a metric as a figure does."""
    title = classes.recall_1_title if metric == "recall_1" else classes.metric_title(metric)
    return metric.replace("auc", "AUC").replace("_", " ") if title == metric else title


def referable_curves(models: list[Model]) -> "dict[str, RocCurve]":
    """Compute each model's ROC curve for referable DR, by label; none where that has none."""
    from common.figures.roc import roc_of

    cut, targets = models[0].result.pairs.scored.referable_from, models[0].result.targets
    if cut is None:
        return {}
    curves = {}
    for model in models:
        score = model.result.classes.probabilities[:, cut:].sum(1)
        curve = roc_of(score, targets >= cut, model.evaluation.metrics["referable_auc"])
        if curve is not None:
            curves[model.label] = curve
    return curves


@guarded
@rare_collections()
def main(argv: list[str] | None = None) -> int:
    """Compare all models that are found."""
    args = parse_args(argv)
    found = find_evaluated_models(args.models, args.results_dirs, args.split, args.referable_from)
    first = found[0].pairs
    metadata = metadata_of(found[0], args.split)
    patients = recognise_patients(first.ids.tolist(), args.patient_regex, metadata)
    bootstrap = BootstrapConfig(args.resamples, args.seed, patients.clusters, patients.evidence)
    models = []
    for result in results_of(found, args.split, args.vote):
        models.append(
            Model(result, evaluate(first.targets, result.classes, bootstrap, first.scored))
        )
    note, output = synthetic_note(first.ids), ResultDir(args.output_dir)
    metrics = {model.label: model.evaluation.metrics for model in models}
    costs = {model.label: model.result.pairs.cost for model in models}
    tta = {model.label: model.result.pairs.origin.tta for model in models}
    evaluation = models[0].evaluation
    print(
        f"{len(models)} models on {args.split}{note}: {evaluation.images} images, {args.vote} vote,"
        f" 95 % intervals over {evaluation.resampled}\n{tables.classes_text(first)}\n"
    )
    if views_text(tta):
        print(f"{views_text(tta)}, which GFLOPs and images/s count\n")
    print(tables.metrics_table(metrics, "model").to_text(), end="\n\n")
    for model in models if args.verbose else []:
        print(f"{model.label}: temperature {model.result.calibration}")
    print(tables.cost_table(metrics, costs, first.scored).to_text())

    pairs = compare_pairs(models, bootstrap)
    few = few_images_note(evaluation.images_per_grade, first.scored)
    if pairs:
        print("\n" + "\n".join(filter(None, [pairs_table(pairs, args.verbose), few])))
        write_table(output.table(of_split("pairs", args.split)), [pair.to_row() for pair in pairs])
    gates = check(models, bootstrap, combine_holdouts(found, args.split))
    print("\n" + (tables.gates_table(gates).to_text() if args.verbose else gates_text(gates)))
    print(f"\nrating: {rating(gates)}")
    ensemble = {"ensemble": PLAIN_MEAN} if len(models) > 1 else {}
    if ensemble:
        print(PLAIN_MEAN)

    rows = tables.flat_rows(metrics)
    write_table(
        output.table(of_split("models", args.split)),
        [{**row, **vars(costs[row["name"]]), "tta": tta[row["name"]]} for row in rows],
    )
    tested = {"split": args.split, "synthetic": note}
    write_json(
        output.comparison(args.split),
        {
            **tested,
            "vote": args.vote,
            "images": evaluation.images,
            "scored_classes": first.scored.names,
            "referable": first.scored.referable,
            "undefined": evaluation.undefined,
            "models": metrics,
            "calibration": {model.label: model.result.calibration for model in models},
            "costs": costs,
            "tta": tta,
            "pairs": [pair.to_row() for pair in pairs],
            "few_images": few,
            "bootstrap": evaluation.to_json()["bootstrap"],
        },
    )
    write_json(output.validation(args.split), tested | ensemble | validation_content(gates))
    draw(models, note, lambda name: output.figure(of_split(name, args.split)), args.figure_format)
    names = f"{output.comparison(args.split).name}, {output.validation(args.split).name}"
    log(f"wrote {names}, tables and figures to {output.results}")
    return 1 if args.require and not all_pass(gates) else 0


if __name__ == "__main__":
    sys.exit(main())
