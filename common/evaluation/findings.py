"""All that is found out about a model or an ensemble of models.

K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.comparison.differences import (
    Comparison,
    compare_to_best,
    correction_note,
    few_images_note,
)
from common.evaluation.evaluate import Evaluation, evaluate
from common.fitting.ensemble import Ensemble, ModelResult, best_single, combine_by_every_vote
from common.metrics.agreement import Consistency, measure_consistency
from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import BootstrapConfig, Metrics
from common.prediction.voting import ClassPredictions
from common.screening.prevalence import Restated, restate_models


@dataclass(frozen=True)
class VersusBest:
    """How other models differ from the best single one."""

    best: str  # its name and what it was chosen on
    differences: dict[str, Comparison]  # by model
    notes: tuple[str, ...] = ()  # what to mind when they are read


@dataclass(frozen=True)
class Findings:
    """All that is found out about a model or an ensemble."""

    evaluation: Evaluation
    compared: dict[str, Metrics]  # the votes of a model; the models and means of an ensemble
    temperature: float = 1.0  # of the class probabilities, fitted on val
    restated: Restated | None = None
    consistency: Consistency | None = None  # of a model's pairs
    versus: VersusBest | None = None  # of an ensemble and its models

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        content = {"temperature": self.temperature, **self.evaluation.to_json()}
        if self.restated is not None:
            content |= vars(self.restated)
        if self.consistency is not None:
            content["consistency"] = self.consistency.to_json()
        if self.versus is not None:
            differences = {name: each.to_json() for name, each in self.versus.differences.items()}
            content |= {"best_single": self.versus.best, "differences": differences}
            content["differences_notes"] = list(self.versus.notes)
        return content


def measure_model(
    model: ModelResult,
    bootstrap: BootstrapConfig,
    grade_mix: GradeMix | None = None,
) -> Findings:
    """Measure a model under every vote; also at a population's grade mix.

    A softmax head has no votes: it is measured as it is, and so is a calibrated model. Pairs are
    not looked at where the images are graded in fewer classes than these.
    """
    scored = model.pairs.scored
    evaluations: dict[str, Evaluation] = {}
    consistency = None
    chosen = model.vote
    if model.pairs.head == "ovo":
        for vote, classes in combine_by_every_vote(model).items():
            evaluations[vote] = evaluate(model.targets, classes, bootstrap, scored)
        if model.pairs.set_classes is None:
            consistency = measure_consistency(model.pairs, model.voted)
    if model.pairs.head != "ovo" or model.calibrated:
        chosen = f"{model.vote}, calibrated" if model.pairs.head == "ovo" else model.pairs.head
        evaluations[chosen] = evaluate(model.targets, model.classes, bootstrap, scored)
    restated = None
    if grade_mix is not None:
        classes_by_model = {model.label: model.classes}
        cut = scored.referable_from
        restated = restate_models(model.targets, classes_by_model, grade_mix, bootstrap, cut)
    return Findings(
        evaluation=evaluations[chosen],
        compared={name: evaluation.metrics for name, evaluation in evaluations.items()},
        temperature=model.temperature,
        restated=restated,
        consistency=consistency,
    )


def measure_ensemble(
    ensemble: Ensemble,
    models: Sequence[ModelResult],
    model_metrics: dict[str, Metrics],
    bootstrap: BootstrapConfig,
    grade_mix: GradeMix | None = None,
) -> Findings:
    """Measure the means of models, and compare models and means with the best single model.

    model_metrics: of each model alone, by its label.
    """
    targets, scored = models[0].targets, models[0].pairs.scored
    classes = {model.label: model.classes for model in models} | ensemble.means
    evaluations = {
        name: evaluate(targets, mean, bootstrap, scored) for name, mean in ensemble.means.items()
    }
    versus = compare_with_best(models, classes, bootstrap)
    restated = None
    if grade_mix is not None:
        cut = scored.referable_from
        restated = restate_models(targets, classes, grade_mix, bootstrap, cut)
    return Findings(
        evaluation=evaluations[ensemble.final],
        compared=model_metrics | {name: found.metrics for name, found in evaluations.items()},
        temperature=ensemble.temperature,
        restated=restated,
        versus=versus,
    )


def compare_with_best(
    models: Sequence[ModelResult], classes: dict[str, ClassPredictions], bootstrap: BootstrapConfig
) -> VersusBest:
    """Compare models and their means with the best single model; classes: what each predicts."""
    first, best = models[0], best_single(models)
    differences = compare_to_best(first.targets, classes, best.label, bootstrap)
    notes = [correction_note(sum(len(found.differences) for found in differences.values()))]
    val = first.val
    if "same images" in best.chosen or (
        val is not None and np.array_equal(val.pairs.ids, first.pairs.ids)
    ):
        notes.append(
            f"{best.label} was chosen on these same images: it leads by luck, too, and p values "
            "against it are too small"
        )
    scored = first.pairs.scored
    counts = np.bincount(first.targets, minlength=len(scored)).tolist()
    notes += filter(None, [few_images_note(counts, scored)])
    return VersusBest(str(best), differences, tuple(notes))
