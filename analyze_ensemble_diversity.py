#!/usr/bin/env python3
"""Measure how differently the models of an ensemble err, and what each adds to it.

    python analyze_ensemble_diversity.py --models densenet121 efficientnetb2 resnet50 coatnet \\
        convnext swinv2

Reads what evaluate_ensemble.py has stored; writes tables, heat maps and a dendrogram.
"""

from common.cli import Parser, guarded, rare_collections

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from common.architectures import stored_architecture
from common.comparison.differences import (
    SIGNIFICANT,
    Difference,
    compare_shares,
    correction_note,
    few_images_note,
    verdict,
)
from common.data.patients import recognise_patients
from common.data.synthetic import synthetic_note
from common.evaluation.gates import FAMILIES
from common.fitting.ensemble import ModelResult
from common.fitting.stored import results_of
from common.flags.evaluation import add_analysis_flags
from common.metrics.agreement import (
    EnsembleDiversity,
    PairwiseDiversity,
    ensemble_diversity,
    pairwise_diversity,
)
from common.metrics.intervals import BootstrapConfig
from common.prediction.classes import sum_up
from common.prediction.evaluated_models import find_evaluated_models, metadata_of
from common.prediction.labels import views_text
from common.prediction.voting import combine_models
from common.reporting import tables
from common.reporting.table import format_table
from common.result_dir.csv_files import write_table
from common.result_dir.paths import ResultDir, of_split
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log


@dataclass(frozen=True)
class PairDiversity:
    """How two models err."""

    model: str
    other: str
    measures: dict[str, float]  # by name

    def to_row(self) -> dict[str, Any]:
        """Return the row of diversity.csv and diversity.json."""
        return {"model": self.model, "other": self.other, **self.measures}


@dataclass(frozen=True)
class Gains:
    """What the plain mean gains over its models, and over itself without one of them."""

    ensemble_accuracy: float
    mean_accuracy: float  # of the models
    best_member: str
    best_accuracy: float
    gain_over_mean: Difference
    gain_over_best: Difference
    leave_one_out: dict[str, Difference]  # by the model that is left out


@dataclass(frozen=True)
class Criteria:
    """The guide's criteria of diversity, and what was found."""

    families: list[str]
    families_wanted: int
    families_status: str
    parameters_millions: tuple[float, float]  # smallest and largest model
    parameters_ratio: float


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_analysis_flags(parser, "./diversity_analysis")
    return parser.parse_args(argv)


def measure_gains(models: list[ModelResult], bootstrap: BootstrapConfig) -> Gains:
    """Compare the plain mean with its models, and with itself without one model.

    Differences in accuracy with 95 % intervals, tested together.
    """
    targets, count = models[0].targets, len(models)
    classes = [model.classes for model in models]
    scores = [model.of_model.probabilities for model in models]
    means = [combine_models(scores)]
    means += [combine_models(scores[:i] + scores[i + 1 :]) for i in range(count)]
    classes += [sum_up(mean, models[0].pairs.set_classes) for mean in means]
    correct = np.stack([each.predicted == targets for each in classes], axis=1)
    accuracies = correct.mean(0)
    best = int(accuracies[:count].argmax())
    # columns: the models, their ensemble, the ensemble without each; in parts of 1 / count
    weights = np.zeros((2 + count, 2 * count + 1), dtype=int)
    weights[:, count] = count
    weights[0, :count] = -1
    weights[1, best] = -count
    weights[2:, count + 1 :] = -count * np.eye(count, dtype=int)
    over_mean, over_best, *without = compare_shares(correct, weights, count, bootstrap)
    return Gains(
        ensemble_accuracy=float(accuracies[count]),
        mean_accuracy=float(accuracies[:count].mean()),
        best_member=models[best].label,
        best_accuracy=float(accuracies[best]),
        gain_over_mean=over_mean,
        gain_over_best=over_best,
        leave_one_out={model.label: gain for model, gain in zip(models, without)},
    )


def measure_criteria(models: list[ModelResult]) -> Criteria:
    """Compare the set of models with the guide's criteria of diversity."""
    families = sorted({stored_architecture(model.pairs.model).family for model in models})
    sizes = [model.pairs.cost.parameters / 1e6 for model in models]
    return Criteria(
        families=families,
        families_wanted=int(FAMILIES.bound),
        families_status=FAMILIES.verdict(len(families)),
        parameters_millions=(min(sizes), max(sizes)),
        parameters_ratio=max(sizes) / min(sizes),
    )


def compare_pairs(names: list[str], pairwise: PairwiseDiversity) -> list[PairDiversity]:
    """List how each two models err."""
    return [
        PairDiversity(names[i], names[j], pairwise.of(i, j))
        for i, j in combinations(range(len(names)), 2)
    ]


def pairwise_table(rows: list[PairDiversity]) -> str:
    """Show how each two models err."""
    cells = [
        [f"{row.model} - {row.other}", *map(tables.decimal, row.measures.values())] for row in rows
    ]
    measures = [name.replace("_", " ") for name in rows[0].measures]
    return format_table(["models", *measures], cells)


def ensemble_table(diversity: EnsembleDiversity) -> str:
    """Show how the models err together."""
    cells = [
        [name.replace("_", " "), tables.decimal(value)] for name, value in vars(diversity).items()
    ]
    return format_table(["the ensemble as a whole", ""], cells)


def gains_table(gains: Gains) -> str:
    """Show what the ensemble gains over its models and by each of them."""
    best = f"best member ({gains.best_member}, on these images)"
    compared = [
        ("mean of the members", gains.mean_accuracy, gains.gain_over_mean),
        (best, gains.best_accuracy, gains.gain_over_best),
        *(
            (f"without {name}", gains.ensemble_accuracy - gain.value, gain)
            for name, gain in gains.leave_one_out.items()
        ),
    ]
    cells = [
        [
            name,
            tables.decimal(accuracy),
            tables.with_interval(gain),
            tables.probability(gain.p_holm),
            verdict(gain),
        ]
        for name, accuracy, gain in compared
    ]
    title = f"plain mean, accuracy {tables.decimal(gains.ensemble_accuracy)}, against"
    header = [title, "accuracy", "gain of the ensemble", "p (Holm)", f"p (Holm) < {SIGNIFICANT}"]
    note = "the best member was chosen on these same images: the gain over it is understated"
    return "\n".join(
        [format_table(header, cells), correction_note([gain for _, _, gain in compared]), note]
    )


def criteria_text(criteria: Criteria) -> str:
    """Say whether the guide's criteria of diversity are met."""
    low, high = criteria.parameters_millions
    return (
        f"architecture families: {len(criteria.families)} ({', '.join(criteria.families)}), "
        f"asked {criteria.families_wanted}: {criteria.families_status}\n"
        f"parameters: {low:.1f} to {high:.1f} million, a ratio of {criteria.parameters_ratio:.1f}\n"
    )


def draw(
    names: list[str],
    pairwise: PairwiseDiversity,
    note: str,
    place: Callable[[str], Path],
    vector: str,
) -> None:
    """Draw a heat map of each measure, and which models err alike."""
    from common.figures.matrices import Matrices, plot_dendrogram, plot_heatmaps
    from common.figures.style import save_figure

    shares = {
        "one of the two alone is right": pairwise.disagreement,
        "both are wrong": pairwise.double_fault,
    }
    related = {
        "Yule's Q": pairwise.q,
        "correlation": pairwise.correlation,
        "kappa of who is right": pairwise.error_kappa,
    }
    groups = [
        Matrices("share of images", shares, symmetric=True),
        Matrices("likeness of errors", related, around_zero=True, symmetric=True),
    ]
    figure = plot_heatmaps(groups, names, names, f"pairs of models{note}")
    save_figure(figure, place("diversity"), vector)
    figure = plot_dendrogram(pairwise.disagreement, names, f"which models err alike{note}")
    save_figure(figure, place("dendrogram"), vector)


@guarded
@rare_collections()
def main(argv: list[str] | None = None) -> int:
    """Analyse all models that are found."""
    args = parse_args(argv)
    found = find_evaluated_models(args.models, args.results_dirs, args.split, args.referable_from)
    if len(found) < 2:
        raise InputError(f"expected two or more models, found {found[0].label} alone")
    models = results_of(found, args.split, args.vote)
    names, first = [model.label for model in models], models[0].pairs
    metadata = metadata_of(found[0], args.split)
    patients = recognise_patients(first.ids.tolist(), args.patient_regex, metadata)
    bootstrap = BootstrapConfig(args.resamples, args.seed, patients.clusters, patients.evidence)

    correct = np.stack([model.classes.predicted == first.targets for model in models], axis=1)
    pairwise, whole = pairwise_diversity(correct), ensemble_diversity(correct)
    pairs = compare_pairs(names, pairwise)
    rows = [pair.to_row() for pair in pairs]
    gains, criteria = measure_gains(models, bootstrap), measure_criteria(models)

    note, images = synthetic_note(first.ids), len(first.ids)
    print(
        f"{len(names)} models on {args.split}{note}: {images} images, {args.vote} vote, "
        f"95 % intervals over {bootstrap.resampled(images)}\n"
    )
    if first.set_classes is not None:
        print(f"{tables.classes_text(first)}\n")
    views = views_text({model.label: model.pairs.origin.tta for model in models})
    if views:
        print(f"{views}\n")
    counts = np.bincount(first.targets, minlength=len(first.scored)).tolist()
    few = few_images_note(counts, first.scored)
    texts = [pairwise_table(pairs), ensemble_table(whole), gains_table(gains)]
    texts += [few] if few else []
    print("\n\n".join([*texts, criteria_text(criteria)]))

    output = ResultDir(args.output_dir)
    write_json(
        output.diversity(args.split),
        {
            "split": args.split,
            "synthetic": note,
            "vote": args.vote,
            "images": images,
            "models": names,
            "pairs": rows,
            "ensemble": whole,
            "gains": gains,
            "few_images": few,
            "criteria": criteria,
        },
    )
    write_table(output.table(of_split("diversity", args.split)), rows)
    draw(
        names,
        pairwise,
        note,
        lambda name: output.figure(of_split(name, args.split)),
        args.figure_format,
    )
    log(f"wrote {output.diversity(args.split).name}, a table and figures to {output.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
