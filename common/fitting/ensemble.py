"""Turn the predictions of several models' pairs into those of classes, and average the models.

N images, K classes, M models, P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.data.class_names import SetClasses
from common.fitting.calibration import (
    WEIGHTS,
    PairTemperatures,
    Temperature,
    apply_pair_temperatures,
    apply_temperature,
    fit_pair_temperatures,
    fit_temperature,
    fit_weights,
)
from common.fitting.images import ADVICE, FittingImages, shared_rows
from common.listing.walking import count_of
from common.pairs import has_pair_outputs
from common.prediction.classes import sum_up
from common.prediction.predictions import PairPredictions
from common.prediction.voting import (
    SKLEARN_VOTE,
    VOTES,
    ClassPredictions,
    combine_models,
    combine_pairs,
    usable_weights,
)
from common.system.errors import InputError

TEMPERED = "coupling, tempered"  # each pair at a temperature of its own
EVERY_VOTE = (*VOTES, SKLEARN_VOTE, TEMPERED)


@dataclass(frozen=True)
class Fitted:
    """What one model says of the images that things are fitted on."""

    images: FittingImages
    voted: ClassPredictions  # of the model's classes, as the vote gives them
    classes: ClassPredictions  # the same at the model's temperature

    def take(self, rows: np.ndarray) -> "Fitted":
        """Keep some of the images, by their rows."""
        voted, classes = (
            ClassPredictions(each.probabilities[rows], each.predicted[rows])
            for each in (self.voted, self.classes)
        )
        return Fitted(self.images.take(rows), voted, classes)

    def accuracy(self) -> float:
        """Return the share of images that the model grades as they are."""
        return self.classes.accuracy(self.images.targets)


@dataclass(frozen=True)
class ModelResult:
    """One model's predictions on a split, and on the images for fitting if there are any."""

    label: str
    pairs: PairPredictions
    vote: str
    voted: ClassPredictions  # as the vote gives them, of the classes that are scored
    of_model: ClassPredictions  # the same of the model's classes, which may be more
    temperature: Temperature
    classes: ClassPredictions  # of the classes that are scored, at that temperature
    pair_temperatures: PairTemperatures | None = None
    fitted: Fitted | None = None
    why_not: str = ""  # why neither cal nor val of the dataset is taken for fitting

    @property
    def targets(self) -> np.ndarray:
        """The true classes, (N,)."""
        return self.pairs.targets

    @property
    def calibrated(self) -> bool:
        """Tell whether a temperature was fitted."""
        return self.classes is not self.voted

    @property
    def tempered(self) -> ClassPredictions:
        """The model's classes at the temperature, as they are stored."""
        return _tempered(self.of_model, self.temperature) if self.calibrated else self.of_model

    @property
    def calibration(self) -> str:
        """Say which temperature is applied and what it was fitted on, or why there is none."""
        if self.fitted is None:
            return f"not fitted: {self.why_not}" if self.why_not else ""
        return self.temperature.describe(self.fitted.images.name)


@dataclass(frozen=True)
class Ensemble:
    """Weighted means of several models' class probabilities."""

    weights: np.ndarray  # (M,) of the final mean, sum 1
    means: dict[str, ClassPredictions]  # the plain one, and the weighted one if it differs
    final: str  # which of them is the ensemble's
    temperature: Temperature  # of all means
    raw: ClassPredictions  # the final mean before it
    of_model: ClassPredictions  # the final mean of the models' classes, which may be more
    fitted: ClassPredictions | None = None  # the same of the images that all models have
    weighting: str = ""  # how the weights were chosen, and on how many images
    calibration: str = ""  # which temperature was fitted, or why none

    @property
    def classes(self) -> ClassPredictions:
        """What the ensemble predicts."""
        return self.means[self.final]


def apply_vote(
    label: str,
    pairs: PairPredictions,
    vote: str,
    images: FittingImages | None = None,
    calibrate: bool = False,
    why_not: str = "",
) -> ModelResult:
    """Turn pair probabilities into class probabilities, with a temperature fitted if asked.

    images: those for fitting; None: there are none, why_not says why. The grades stay as they are.
    The probabilities of a softmax head need no vote; the coupling gives them back.
    """
    vote = vote if has_pair_outputs(pairs.head) else "coupling"
    accuracies = pairs.pair_accuracies
    if vote == "weighted" and not usable_weights(accuracies, len(accuracies)):
        raise InputError(
            f"--vote weighted weighs the pairs of {label} by their accuracy on val, which is not "
            f"known of each, or 0 of all ({accuracies.round(3).tolist()}); take --vote coupling"
        )
    of_model = _combine(pairs, vote)
    voted = sum_up(of_model, pairs.set_classes)
    if images is None or not len(images):
        nothing = Temperature(why_not=why_not or "no images for it")
        return ModelResult(
            label, pairs, vote, voted, of_model, nothing, voted, why_not=nothing.why_not
        )
    on_fitting, classes = images.vote(vote), voted
    temperature = Temperature(why_not="--calibrate off")
    pair_temperatures = None
    if has_pair_outputs(pairs.head):
        pair_temperatures = fit_pair_temperatures(
            images.pair_probabilities, images.targets, images.num_classes
        )
    if calibrate:
        temperature = fit_temperature(on_fitting.probabilities, images.targets)
    if temperature.fitted:
        classes = sum_up(_tempered(of_model, temperature), pairs.set_classes)
    return ModelResult(
        label,
        pairs,
        vote,
        voted,
        of_model,
        temperature,
        classes,
        pair_temperatures,
        Fitted(images, on_fitting, _tempered(on_fitting, temperature)),
        why_not,
    )


def combine_by_every_vote(model: ModelResult) -> dict[str, ClassPredictions]:
    """Turn a model's pair probabilities into class probabilities by each vote.

    Where there are images for fitting, once more by coupling after each pair's temperature.
    Without the weighted vote where a pair's accuracy is not known.
    """
    accuracies = model.pairs.pair_accuracies
    votes = [v for v in VOTES if v != "weighted" or usable_weights(accuracies, len(accuracies))]
    classes = {
        vote: model.voted if vote == model.vote else _scored(model.pairs, vote)
        for vote in (*votes, SKLEARN_VOTE)
    }
    if model.pair_temperatures is not None and model.pair_temperatures.fitted:
        tempered = apply_pair_temperatures(
            model.pairs.pair_probabilities, model.pair_temperatures.values
        )
        tempered_classes = combine_pairs(tempered, model.pairs.num_classes)
        classes[TEMPERED] = sum_up(tempered_classes, model.pairs.set_classes)
    return classes


def _scored(pairs: PairPredictions, vote: str) -> ClassPredictions:
    return sum_up(_combine(pairs, vote), pairs.set_classes)


def _combine(pairs: PairPredictions, vote: str) -> ClassPredictions:
    return combine_pairs(pairs.pair_probabilities, pairs.num_classes, vote, pairs.pair_accuracies)


def _tempered(classes: ClassPredictions, temperature: Temperature) -> ClassPredictions:
    if not temperature.fitted:
        return classes
    probabilities = apply_temperature(classes.probabilities, temperature.value)
    return ClassPredictions(probabilities, classes.predicted)


@dataclass(frozen=True)
class BestModel:
    """The best single model, and what it was chosen on."""

    label: str
    chosen: str

    def __str__(self) -> str:
        return f"{self.label} ({self.chosen})"


def best_single(models: Sequence[ModelResult]) -> BestModel:
    """Choose the best single model by its accuracy on the images for fitting, else on the split.

    Models of folds are judged by what all of them say of their own images, which tells none of them
    from the others; the first is named.
    """
    fitted = shared_fitted(models)
    if fitted:
        best = int(np.argmax([found.accuracy() for found in fitted]))
        group = fitted[best].images.group
        folds = sum(found.images.group == group for found in fitted) if group else 1
        which = f", which are alike for its {folds} folds: the first" if folds > 1 else ""
        return BestModel(models[best].label, f"chosen on {_said_of(fitted)}{which}")
    scores = [model.classes.accuracy(model.targets) for model in models]
    return BestModel(models[int(np.argmax(scores))].label, "chosen on these same images")


def _said_of(fitted: Sequence[Fitted]) -> str:
    images = fitted[0].images
    return f"{images.name}, {count_of(len(images), 'image')}"


def shared_fitted(models: Sequence[ModelResult]) -> list[Fitted]:
    """Return what each model says of the images for fitting that all have; empty without any."""
    found = [model.fitted for model in models if model.fitted is not None]
    if len(found) < len(models):
        return []
    rows = shared_rows([each.images for each in found])
    return [each.take(own) for each, own in zip(found, rows)] if len(rows[0]) else []


def why_not_fitted(models: Sequence[ModelResult]) -> str:
    """Say why nothing can be fitted on images that all models have; "" if it can."""
    for model in models:
        if model.fitted is None:
            return model.why_not
    if not shared_fitted(models):
        names = ", ".join(model.label for model in models)
        reason = "; ".join(dict.fromkeys(model.why_not for model in models if model.why_not))
        reason = reason and f"; {reason}"
        return f"{names} have no images in common that none of them has learned from{reason}"
    return ""


def require_fitting(models: Sequence[ModelResult], what: str) -> None:
    """Raise InputError unless all models have images in common that things are fitted on."""
    reason = why_not_fitted(models)
    if reason:
        raise InputError(
            f"{what} is fitted on cal or val, and there is none for it: {reason}; {ADVICE}"
        )


@dataclass(frozen=True)
class Weights:
    """The weights of an ensemble's models, and what they rest on."""

    values: np.ndarray  # (M,) sum 1
    description: str


def ensemble_weights(choice: Sequence[str], models: Sequence[ModelResult]) -> Weights:
    """Return the weights: given numbers, equal ones, or fitted on the images for fitting.

    "val_accuracy" weighs by each model's accuracy, "optimized" by `calibration.fit_weights`. The
    models of one dataset's folds share their images and get equal weights. Raises InputError for a
    wrong number of weights or where there are no images.
    """
    given, method = check_weights(choice, len(models)), choice[0]
    if given is not None:
        return Weights(given, "given")
    if method == "uniform":
        return Weights(np.full(len(models), 1 / len(models)), method)
    require_fitting(models, f"--weights {method}")
    fitted = shared_fitted(models)
    description = f"{method} on {_said_of(fitted)}"
    if method == "val_accuracy":
        accuracies = np.array([found.accuracy() for found in fitted])
        return Weights(accuracies / accuracies.sum(), description)
    names = [found.images.group or model.label for model, found in zip(models, fitted)]
    groups = list(dict.fromkeys(names))
    first = [fitted[names.index(group)] for group in groups]
    probabilities = np.stack([found.voted.probabilities for found in first])
    by_group = dict(zip(groups, fit_weights(probabilities, first[0].images.targets)))
    if len(groups) == 1 < len(models):
        description += "; equal, as all models are of the folds of one dataset"
    values = np.array([by_group[name] / names.count(name) for name in names])
    return Weights(values, description)


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


def build_ensemble(
    models: Sequence[ModelResult], choice: Sequence[str], calibrate: bool
) -> Ensemble:
    """Average the models, plainly and with the weights of `ensemble_weights`.

    What is averaged are probabilities as the votes give them, so that a temperature changes no
    grade of the mean either. With `calibrate` each mean has its own, fitted on the images that all
    models have.
    """
    weights = ensemble_weights(choice, models)
    plain = np.full(len(models), 1 / len(models))
    chosen, final = {"mean": plain}, "mean"
    if np.ptp(weights.values) > 1e-12:
        final = f"weighted ({' '.join(choice)})"
        chosen[final] = weights.values
    means = {name: average_models(models, own, calibrate) for name, own in chosen.items()}
    set_classes, found = models[0].pairs.set_classes, means[final]
    return Ensemble(
        weights=weights.values,
        means={name: sum_up(mean.classes, set_classes) for name, mean in means.items()},
        final=final,
        temperature=found.temperature,
        raw=sum_up(found.raw, set_classes),
        of_model=found.classes,
        fitted=found.fitted,
        weighting=weights.description,
        calibration=found.calibration,
    )


@dataclass(frozen=True)
class MemberRule:
    """How the pairs of one model become classes."""

    vote: str
    pair_accuracies: np.ndarray  # (P,) weights of the weighted vote
    temperature: Temperature


@dataclass(frozen=True)
class GradingRule:
    """How what models say of pictures becomes a grade: all that was chosen for it."""

    members: tuple[MemberRule, ...]
    num_classes: int  # of the models
    set_classes: SetClasses | None  # those that are scored, where these are fewer
    weights: np.ndarray  # (M,) of the mean, sum 1
    temperature: Temperature | None  # of the mean; None: a single model


@dataclass(frozen=True)
class GradedAgain:
    """What models say of pictures, by what was chosen for other pictures."""

    classes: ClassPredictions  # of the classes that are scored
    members: np.ndarray  # (M, N, K) the same of each model alone


def rule_of(models: Sequence[ModelResult], ensemble: Ensemble | None) -> GradingRule:
    """Gather what was chosen for a model, or for an ensemble of several."""
    first = models[0].pairs
    return GradingRule(
        tuple(MemberRule(m.vote, m.pairs.pair_accuracies, m.temperature) for m in models),
        first.num_classes,
        first.set_classes,
        np.ones(1) if ensemble is None else ensemble.weights,
        None if ensemble is None else ensemble.temperature,
    )


def grade_again(rule: GradingRule, pair_probabilities: Sequence[np.ndarray]) -> GradedAgain:
    """Grade other pictures with all that was chosen; each model's pair probabilities are (N, P)."""
    voted = [
        combine_pairs(pairs, rule.num_classes, member.vote, member.pair_accuracies)
        for pairs, member in zip(pair_probabilities, rule.members, strict=True)
    ]
    alone = [_tempered(found, own.temperature) for found, own in zip(voted, rule.members)]
    found = alone[0]
    if rule.temperature is not None:
        mean = combine_models([each.probabilities for each in voted], list(rule.weights))
        found = _tempered(mean, rule.temperature)
    scored = [sum_up(each, rule.set_classes).probabilities for each in alone]
    return GradedAgain(sum_up(found, rule.set_classes), np.stack(scored))


@dataclass(frozen=True)
class Mean:
    """A weighted mean of the models' classes."""

    raw: ClassPredictions
    classes: ClassPredictions  # at the temperature
    temperature: Temperature
    fitted: ClassPredictions | None  # of the images for fitting, at the temperature
    calibration: str


def average_models(models: Sequence[ModelResult], weights: np.ndarray, calibrate: bool) -> Mean:
    """Average the probabilities of the models' classes, with weights (M,).

    With `calibrate` at a temperature that is fitted on the images that all models have. The models
    of folds have one answer for each of these, and their mean is softer than that: it needs at most
    the temperature of a single model, and none above 1 is applied to it.
    """
    raw = combine_models([model.of_model.probabilities for model in models], list(weights))
    fitted = shared_fitted(models)
    if not fitted:
        nothing = Temperature(why_not=why_not_fitted(models))
        return Mean(raw, raw, nothing, None, nothing.describe(""))
    on_fitting = combine_models([each.voted.probabilities for each in fitted], list(weights))
    temperature = Temperature(why_not="--calibrate off")
    if calibrate:
        temperature = fit_temperature(on_fitting.probabilities, fitted[0].images.targets)
    if temperature.value > 1 and _of_folds(fitted, weights):
        reason = (
            f"T {temperature.value:.2f}, above 1, was fitted on the answers of single models "
            f"({fitted[0].images.name}), and their mean is softer than these"
        )
        temperature = replace(temperature, value=1.0, why_not=reason)
    return Mean(
        raw,
        _tempered(raw, temperature),
        temperature,
        _tempered(on_fitting, temperature),
        temperature.describe(fitted[0].images.name),
    )


def _of_folds(fitted: Sequence[Fitted], weights: np.ndarray) -> bool:
    """Tell whether a mean is of several models of folds, of which one alone was asked each time."""
    groups = [each.images.group for each, weight in zip(fitted, weights, strict=True) if weight > 0]
    return any(group and groups.count(group) > 1 for group in groups)
