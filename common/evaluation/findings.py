"""All that is found out about a model or an ensemble of models.

K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.comparison.differences import (
    Comparison,
    Difference,
    compare_to_best,
    correct,
    correction_note,
    every_pair,
    few_images_note,
)
from common.evaluation.evaluate import Evaluation, evaluate
from common.fitting.calibration import FEWEST_OF_A_PAIR, Temperature
from common.fitting.ensemble import (
    TEMPERED,
    Ensemble,
    ModelResult,
    best_single,
    combine_by_every_vote,
)
from common.listing.walking import count_of
from common.metrics.agreement import Consistency, measure_consistency
from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import BootstrapConfig, Metrics
from common.pairs import has_pair_outputs
from common.prediction.voting import ClassPredictions
from common.screening.prevalence import Restated, restate_models

CONFIDENCE = ("ece", "brier", "nll")  # the figures that a temperature is there for
GAIN_IN = ("accuracy", "kappa", "macro_auc")  # in which an ensemble is asked for a gain


@dataclass(frozen=True)
class VersusBest:
    """How other models differ from the best single one."""

    best: str  # its name and what it was chosen on
    differences: dict[str, Comparison]  # by model
    notes: tuple[str, ...] = ()  # what to mind when they are read
    gain: dict[str, Difference] = field(default_factory=dict)  # of the ensemble, over that model
    gain_tests: int = 0  # for how many its p values are corrected

    @property
    def gains(self) -> list[str]:
        """Name the figures in which the ensemble is proven to be better than its best model."""
        return [name for name, found in self.gain.items() if found.differs and found.value > 0]

    @property
    def losses(self) -> list[str]:
        """Name the figures in which the ensemble is proven to be worse than its best model."""
        return [name for name, found in self.gain.items() if found.differs and found.value < 0]

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {
            "best_single": self.best,
            "differences": {name: each.to_json() for name, each in self.differences.items()},
            "differences_notes": list(self.notes),
            "gain_over_best": self.gain,
            "gain_is_proven_in": self.gains,
        }


@dataclass(frozen=True)
class Calibration:
    """How the class probabilities were calibrated, and how good they were before."""

    temperature: Temperature
    description: str  # what it was fitted on, or why it was not
    raw: Metrics  # CONFIDENCE without it
    pairs: str = ""  # which pairs of the tempered coupling keep their probabilities, if any

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        content = {"temperature": self.temperature.value, "calibration": self.description}
        return content | ({"raw": self.raw} if self.temperature.fitted else {})


@dataclass(frozen=True)
class Findings:
    """All that is found out about a model or an ensemble."""

    evaluation: Evaluation
    compared: dict[str, Metrics]  # the votes of a model; the models and means of an ensemble
    calibration: Calibration | None = None
    restated: Restated | None = None
    consistency: Consistency | None = None  # of a model's pairs
    versus: VersusBest | None = None  # of an ensemble and its models

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        content = self.calibration.to_json() if self.calibration else {}
        content |= self.evaluation.to_json()
        if self.restated is not None:
            content |= vars(self.restated)
        if self.consistency is not None:
            content["consistency"] = vars(self.consistency)
        if self.versus is not None:
            content |= self.versus.to_json()
        return content


def measure_model(
    model: ModelResult,
    bootstrap: BootstrapConfig,
    grade_mix: GradeMix | None = None,
) -> Findings:
    """Measure a model under every vote; also at a population's grade mix.

    A softmax head has no votes: it is measured as it is. A calibrated model is measured once more.
    Pairs are not looked at where the images are graded in fewer classes than these.
    """
    scored = model.pairs.scored
    evaluations: dict[str, Evaluation] = {}
    consistency = None
    votes = has_pair_outputs(model.pairs.head)
    chosen = raw = model.vote if votes else model.pairs.head
    if votes:
        for vote, classes in combine_by_every_vote(model).items():
            evaluations[vote] = evaluate(model.targets, classes, bootstrap, scored)
        if model.pairs.set_classes is None:
            consistency = measure_consistency(model.pairs, model.voted)
    else:
        evaluations[raw] = evaluate(model.targets, model.voted, bootstrap, scored)
    if model.calibrated:
        chosen = f"{raw}, calibrated"
        evaluations[chosen] = evaluate(model.targets, model.classes, bootstrap, scored)
    restated = None
    if grade_mix is not None:
        classes_by_model = {model.label: model.classes}
        restated = restate_models(model.targets, classes_by_model, grade_mix, bootstrap, scored)
    return Findings(
        evaluation=evaluations[chosen],
        compared={name: evaluation.metrics for name, evaluation in evaluations.items()},
        calibration=Calibration(
            model.temperature,
            model.calibration,
            _confidence(evaluations[raw]),
            _pairs_kept(model),
        ),
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
    versus = compare_with_best(models, classes, bootstrap, ensemble.final)
    raw = evaluations[ensemble.final]
    if ensemble.temperature.fitted:
        raw = evaluate(targets, ensemble.raw, bootstrap, scored)
    restated = None
    if grade_mix is not None:
        restated = restate_models(targets, classes, grade_mix, bootstrap, scored)
    return Findings(
        evaluation=evaluations[ensemble.final],
        compared=model_metrics | {name: found.metrics for name, found in evaluations.items()},
        calibration=Calibration(ensemble.temperature, ensemble.calibration, _confidence(raw)),
        restated=restated,
        versus=versus,
    )


def compare_with_best(
    models: Sequence[ModelResult],
    classes: dict[str, ClassPredictions],
    bootstrap: BootstrapConfig,
    ensemble: str,
) -> VersusBest:
    """Compare models and their means with the best single model.

    classes: what each predicts; ensemble: which of the means is asked for its gain. That is one
    question, so its p values are corrected for its figures alone; and for the number of models,
    where the best of them was chosen on these same images.
    """
    first, best = models[0], best_single(models)
    here = "same images" in best.chosen
    differences = compare_to_best(first.targets, classes, best.label, bootstrap, here)
    tested = [each for found in differences.values() for each in found.differences.values()]
    notes = [correction_note(tested, len(every_pair(list(classes))) if here else 0)]
    if here:
        notes.append(f"{best.label} was chosen on these same images: it leads by luck, too")
    scored = first.pairs.scored
    counts = np.bincount(first.targets, minlength=len(scored)).tolist()
    notes += filter(None, [few_images_note(counts, scored)])
    asked = [differences[ensemble].differences[metric] for metric in GAIN_IN]
    tests = len(GAIN_IN) * (len(models) if here else 1)
    gain = dict(zip(GAIN_IN, correct(asked, tests), strict=True))
    return VersusBest(str(best), differences, tuple(notes), gain, tests)


def _confidence(evaluation: Evaluation) -> Metrics:
    return {name: evaluation.metrics[name] for name in CONFIDENCE}


def _pairs_kept(model: ModelResult) -> str:
    """Say how many pairs keep their probabilities in the tempered coupling, if any."""
    found = model.pair_temperatures
    kept = len(found.values) - found.fitted if found is not None else 0
    if not found or not kept:
        return ""
    without = "" if found.fitted else "; it is left out"
    return (
        f"{TEMPERED}: {kept} of {count_of(len(found.values), 'pair')} keep their probabilities "
        f"(fewer than {FEWEST_OF_A_PAIR} images to fit on, or no mistakes among them){without}"
    )
