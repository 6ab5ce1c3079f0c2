"""Measure a model, or an ensemble of several, and store what was found.

K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.evaluation.findings import Findings, measure_ensemble, measure_model
from common.evaluation.setting import Setting
from common.evaluation.verification import AS_VOTED
from common.fitting.ensemble import EVERY_VOTE, Ensemble, ModelResult, build_ensemble
from common.fitting.grader import Grader, ensemble_grader, model_grader
from common.fitting.stored import save_fitting
from common.pairs import has_pair_outputs, with_head
from common.prediction.labels import single_views_text
from common.prediction.predictions import save_predictions
from common.prediction.voting import ClassPredictions
from common.result_dir.paths import ResultDir
from common.result_dir.stored import write_predictions
from common.system.files import write_json


@dataclass(frozen=True)
class Outcome:
    """How good a model or an ensemble is, as files and tables say it."""

    models: list[str]
    vote: str
    output: ResultDir
    raw: ClassPredictions  # what the grader said before any calibration
    findings: Findings
    title: str  # "ensemble of 3 models on test"
    remarks: list[str]
    grader: Grader  # of which all other questions are asked
    ensemble: Ensemble | None = None  # None: a single model


def evaluate_model(result: ModelResult, output: ResultDir, setting: Setting) -> Outcome:
    """Measure one model under every vote; stores figures, predictions and what was fitted."""
    pairs, split = result.pairs, setting.split
    findings = measure_model(result, setting.bootstrap, setting.grade_mix)
    votes = {name: found for name, found in findings.compared.items() if name in EVERY_VOTE}
    content = {
        "model": pairs.model,
        "head": pairs.head,
        **setting.describe(),
        "vote": result.vote,
        **findings.to_json(),
        **({"votes": votes} if votes else {}),
        "class_names": pairs.class_names,
        "of_model": pairs.of_model,
        "cost": pairs.cost,
        "origin": pairs.origin,
        **setting.holdout.to_json(),
    }
    path = output.predictions(split)
    save_predictions(path, pairs, result.tempered, result.vote, result.temperature.value)
    save_fitting(output.fitting(split), result, setting.calibrate)
    write_json(output.metrics(split), content)
    return Outcome(
        models=[with_head(pairs.model, pairs.head)],
        vote=result.vote,
        output=output,
        raw=result.voted,
        findings=findings,
        title=f"{result.label} on {split}{setting.synthetic}",
        remarks=[*views_remarks(result), *setting.remarks()],
        grader=model_grader(result, split, setting.bootstrap, setting.patients_of),
    )


def views_remarks(result: ModelResult) -> list[str]:
    """Say what the weighted vote weighs by where its weights are of other views than its votes."""
    text = single_views_text(result.pairs.origin.tta)
    return [f"weighted vote: {text}"] if text and has_pair_outputs(result.pairs.head) else []


def evaluate_together(
    results: Sequence[ModelResult], alone: Sequence[Outcome], setting: Setting, output: ResultDir
) -> Outcome:
    """Measure the plain and the weighted mean of models; stores figures and predictions.

    alone: the outcome of each model.
    """
    pairs, split, labels = results[0].pairs, setting.split, [result.label for result in results]
    ensemble = build_ensemble(results, setting.weights, setting.calibrate)
    metrics = {label: found.findings.evaluation.metrics for label, found in zip(labels, alone)}
    findings = measure_ensemble(ensemble, results, metrics, setting.bootstrap, setting.grade_mix)
    details = {
        "model": "ensemble",
        "members": labels,
        "weights": ensemble.weights.tolist(),
        "tta": [result.pairs.origin.tta for result in results],
        "class_names": pairs.class_names,
        "of_model": pairs.of_model,
        "vote": setting.vote,
        "temperature": ensemble.temperature.value,
        "averaged": AS_VOTED,
    }
    arrays = {
        "ids": pairs.ids,
        "targets": pairs.targets,
        "class_probabilities": ensemble.of_model.probabilities,
        "predictions": ensemble.classes.predicted,
    }
    content = {
        **details,
        **setting.describe(),
        "weighting": " ".join(setting.weights),
        "weights_fitted_on": ensemble.weighting,
        **findings.to_json(),
        "graders": findings.compared,
        **setting.holdout.to_json(),
    }
    write_predictions(output.predictions(split), arrays, details)
    write_json(output.metrics(split), content)
    name = f"ensemble of {len(results)} models"
    shares = ", ".join(f"{label} {weight:.3f}" for label, weight in zip(labels, ensemble.weights))
    return Outcome(
        models=labels,
        vote=setting.vote,
        output=output,
        raw=ensemble.raw,
        findings=findings,
        title=f"{name} on {split}{setting.synthetic}",
        remarks=[f"weights ({ensemble.weighting}): {shares}", *setting.remarks()],
        grader=ensemble_grader(
            name, ensemble, results, split, setting.bootstrap, setting.patients_of
        ),
        ensemble=ensemble,
    )


def with_overlaps(final: Outcome, setting: Setting) -> Outcome:
    """Say with the final results which models have seen the images that things are chosen on."""
    chosen_on = final.grader.chosen_on.name if final.grader.chosen_on else ""
    remarks = setting.holdout.remarks(setting.split, chosen_on)
    return replace(final, remarks=[*final.remarks, *remarks])
