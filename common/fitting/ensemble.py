"""Turn the predictions of several models' pairs into those of classes, and average the models.

N images, K classes, M models, P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.fitting.calibration import (
    WEIGHTS,
    apply_pair_temperatures,
    apply_temperature,
    fit_pair_temperatures,
    fit_temperature,
    fit_weights,
)
from common.prediction.classes import sum_up
from common.prediction.predictions import PairPredictions, same_images
from common.prediction.voting import (
    SKLEARN_VOTE,
    VOTES,
    ClassPredictions,
    combine_models,
    combine_pairs,
    usable_weights,
)
from common.system.errors import InputError

TEMPERED = "coupling, tempered"  # each pair's temperature fitted on val
EVERY_VOTE = (*VOTES, SKLEARN_VOTE, TEMPERED)


@dataclass(frozen=True)
class ValResult:
    """One model's predictions on val, where weights and temperatures are fitted."""

    pairs: PairPredictions
    classes: ClassPredictions


@dataclass(frozen=True)
class ModelResult:
    """One model's predictions on a split, and on val if there are any."""

    label: str
    pairs: PairPredictions
    vote: str
    voted: ClassPredictions  # as the vote gives them, of the classes that are scored
    temperature: float  # fitted on val; 1 unless calibrated
    classes: ClassPredictions  # the same at that temperature
    of_model: ClassPredictions  # the same of the model's classes, which may be more
    pair_temperatures: np.ndarray | None = None  # (P,) fitted on val
    val: ValResult | None = None

    @property
    def targets(self) -> np.ndarray:
        """The true classes, (N,)."""
        return self.pairs.targets

    @property
    def calibrated(self) -> bool:
        """Tell whether a temperature was fitted."""
        return self.classes is not self.voted


@dataclass(frozen=True)
class Ensemble:
    """Weighted means of several models' class probabilities."""

    weights: np.ndarray  # (M,) of the final mean, sum 1
    means: dict[str, ClassPredictions]  # the plain one, and the weighted one if it differs
    final: str  # which of them is the ensemble's
    temperature: float  # of the final mean, fitted on val; 1 unless calibrated
    of_model: ClassPredictions  # the final mean of the models' classes, which may be more
    on_val: ClassPredictions | None  # the same on val; None unless all models have the same val

    @property
    def classes(self) -> ClassPredictions:
        """What the ensemble predicts."""
        return self.means[self.final]


def apply_vote(
    label: str,
    pairs: PairPredictions,
    vote: str,
    val: PairPredictions | None = None,
    calibrate: bool = False,
) -> ModelResult:
    """Turn pair probabilities into class probabilities, with a temperature fitted on val if asked.

    The probabilities of a softmax head need no vote; the coupling gives them back.
    """
    vote = vote if pairs.head == "ovo" else "coupling"
    accuracies = pairs.pair_accuracies
    if vote == "weighted" and not usable_weights(accuracies, len(accuracies)):
        raise InputError(
            f"--vote weighted weighs the pairs of {label} by their accuracy on val, which is not "
            f"known of each, or 0 of all ({accuracies.round(3).tolist()}); take --vote coupling"
        )
    of_model = _combine(pairs, vote)
    voted = sum_up(of_model, pairs.set_classes)
    if val is None:
        return ModelResult(label, pairs, vote, voted, 1.0, voted, of_model)
    val_classes, classes, temperature, pair_temperatures = _combine(val, vote), voted, 1.0, None
    if pairs.head == "ovo":
        pair_temperatures = fit_pair_temperatures(
            val.pair_probabilities, val.targets, val.num_classes
        )
    if calibrate:
        temperature = fit_temperature(val_classes.probabilities, val.targets)
        of_model = _tempered(of_model, temperature)
        classes = sum_up(of_model, pairs.set_classes)
        val_classes = _tempered(val_classes, temperature)
    found = ValResult(val, val_classes)
    return ModelResult(
        label, pairs, vote, voted, temperature, classes, of_model, pair_temperatures, found
    )


def combine_by_every_vote(model: ModelResult) -> dict[str, ClassPredictions]:
    """Turn a model's pair probabilities into class probabilities by each vote.

    Where there is val, once more by coupling after each pair's temperature, fitted on val. Without
    the weighted vote where a pair's accuracy is not known.
    """
    accuracies = model.pairs.pair_accuracies
    votes = [v for v in VOTES if v != "weighted" or usable_weights(accuracies, len(accuracies))]
    classes = {
        vote: model.voted if vote == model.vote else _scored(model.pairs, vote)
        for vote in (*votes, SKLEARN_VOTE)
    }
    if model.pair_temperatures is not None:
        tempered = apply_pair_temperatures(model.pairs.pair_probabilities, model.pair_temperatures)
        tempered_classes = combine_pairs(tempered, model.pairs.num_classes)
        classes[TEMPERED] = sum_up(tempered_classes, model.pairs.set_classes)
    return classes


def _scored(pairs: PairPredictions, vote: str) -> ClassPredictions:
    return sum_up(_combine(pairs, vote), pairs.set_classes)


def _combine(pairs: PairPredictions, vote: str) -> ClassPredictions:
    return combine_pairs(pairs.pair_probabilities, pairs.num_classes, vote, pairs.pair_accuracies)


def _tempered(classes: ClassPredictions, temperature: float) -> ClassPredictions:
    return ClassPredictions(
        apply_temperature(classes.probabilities, temperature), classes.predicted
    )


@dataclass(frozen=True)
class BestModel:
    """The best single model, and what it was chosen on."""

    label: str
    chosen: str

    def __str__(self) -> str:
        return f"{self.label} ({self.chosen})"


def best_single(models: Sequence[ModelResult]) -> BestModel:
    """Choose the best single model by its accuracy on val, else on the split."""
    vals = [model.val for model in models if model.val is not None]
    if len(vals) == len(models):
        scores = [val.classes.accuracy(val.pairs.targets) for val in vals]
        return BestModel(models[int(np.argmax(scores))].label, "chosen on val")
    scores = [model.classes.accuracy(model.targets) for model in models]
    return BestModel(models[int(np.argmax(scores))].label, "chosen on these same images")


def ensemble_weights(choice: Sequence[str], models: Sequence[ModelResult]) -> np.ndarray:
    """Return the weights (M,), sum 1: given numbers, or fitted on val.

    "val_accuracy" weighs by each model's accuracy, "optimized" by `calibration.fit_weights`.
    Raises InputError for a wrong number of weights or where val is needed and missing.
    """
    given = check_weights(choice, len(models))
    if given is not None:
        return given
    if choice[0] == "uniform":
        return np.full(len(models), 1 / len(models))
    vals = require_val(models, f"--weights {choice[0]}")
    if choice[0] == "optimized":
        probabilities = np.stack([val.classes.probabilities for val in vals])
        return fit_weights(probabilities, vals[0].pairs.targets)
    accuracies = np.array([val.classes.accuracy(val.pairs.targets) for val in vals])
    return accuracies / accuracies.sum()


def check_weights(choice: Sequence[str], count: int) -> np.ndarray | None:
    """Read weights given as numbers (M,), None for a method; InputError for anything else."""
    if choice[0] in WEIGHTS and len(choice) == 1:
        return None
    try:
        weights = np.array([float(word) for word in choice])
    except ValueError as error:
        raise InputError(
            f"--weights: expected {', '.join(WEIGHTS)} or numbers, found {' '.join(choice)}"
        ) from error
    if len(weights) != count or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise InputError(
            f"--weights: expected {count} numbers >= 0, one per model, found {' '.join(choice)}"
        )
    return weights / weights.sum()


def require_val(models: Sequence[ModelResult], what: str) -> list[ValResult]:
    """Return the models' predictions on val; InputError unless all have them on the same images."""
    missing = [model.label for model in models if model.val is None]
    if missing:
        raise InputError(
            f"{what} is fitted on val, and {', '.join(missing)} has no predictions on it; run "
            "evaluate_ensemble.py --split val on the dataset that it was trained on first"
        )
    vals = [model.val for model in models if model.val is not None]
    if not all(same_images(vals[0].pairs, val.pairs) for val in vals):
        raise InputError(
            f"{what}: the models' val predictions are of other images; run evaluate_ensemble.py "
            "--split val on one dataset for all"
        )
    return vals


def build_ensemble(
    models: Sequence[ModelResult], choice: Sequence[str], calibrate: bool
) -> Ensemble:
    """Average the models, plainly and with the weights of `ensemble_weights`."""
    weights = ensemble_weights(choice, models)
    plain = np.full(len(models), 1 / len(models))
    mean, temperature = average_models(models, plain, calibrate)
    means, final = {"mean": mean}, "mean"
    if np.ptp(weights) > 1e-12:
        final = f"weighted ({' '.join(choice)})"
        means[final], temperature = average_models(models, weights, calibrate)
    scored = {name: sum_up(found, models[0].pairs.set_classes) for name, found in means.items()}
    on_val = _average_on_val(models, weights, temperature)
    return Ensemble(weights, scored, final, temperature, means[final], on_val)


def grade_again(
    models: Sequence[ModelResult], ensemble: Ensemble | None, pairs: Sequence[PairPredictions]
) -> ClassPredictions:
    """Grade the same images in other pictures, with all that was chosen for the first ones.

    pairs: what each model says of these pictures; ensemble: None for a single model.
    """
    again = [_tempered(_combine(p, m.vote), m.temperature) for p, m in zip(pairs, models)]
    found = again[0]
    if ensemble is not None:
        mean = combine_models([each.probabilities for each in again], list(ensemble.weights))
        found = _tempered(mean, ensemble.temperature)
    return sum_up(found, models[0].pairs.set_classes)


def common_val(models: Sequence[ModelResult]) -> list[ValResult]:
    """Return the models' predictions on val if all have them on the same images, else nothing."""
    vals = [model.val for model in models if model.val is not None]
    same = len(vals) == len(models) and all(same_images(vals[0].pairs, v.pairs) for v in vals)
    return vals if same else []


def _average_on_val(
    models: Sequence[ModelResult], weights: np.ndarray, temperature: float
) -> ClassPredictions | None:
    vals = common_val(models)
    if not vals:
        return None
    mean = combine_models([val.classes.probabilities for val in vals], list(weights))
    return _tempered(mean, temperature)


def average_models(
    models: Sequence[ModelResult], weights: np.ndarray, calibrate: bool
) -> tuple[ClassPredictions, float]:
    """Average the probabilities of the models' classes; with `calibrate` at a fitted temperature.

    It is fitted on val. Returns that temperature too.
    """
    mean = combine_models([model.of_model.probabilities for model in models], list(weights))
    if not calibrate:
        return mean, 1.0
    vals = require_val(models, "--calibrate")
    on_val = combine_models([val.classes.probabilities for val in vals], list(weights))
    temperature = fit_temperature(on_val.probabilities, vals[0].pairs.targets)
    tempered = apply_temperature(mean.probabilities, temperature)
    return ClassPredictions(tempered, tempered.argmax(1)), temperature
