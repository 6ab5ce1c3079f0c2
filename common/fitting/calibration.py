"""Temperatures and ensemble weights, fitted on validation data.

N images, K classes, P pairs, M models.
"""

from dataclasses import dataclass

import numpy as np

from common.metrics.calibration_error import check_graded
from common.metrics.shares import check_labels, check_numbers
from common.pairs import class_pairs

_LEAST = 1e-12
_LOG_RANGE = (-3.0, 3.0)  # a temperature lies between 0.05 and 20
_PRIOR_WIDTH = 0.5  # of log T: without evidence a temperature lies between 0.4 and 2.7 (95 %)
_PRIOR_IMAGES = 5  # that speak for each model before any image does
_ROUNDS = 2000
FEWEST_OF_A_PAIR = 20  # images from which a pair's own temperature is fitted
WEIGHTS = ("uniform", "val_accuracy", "optimized")  # how the models of an ensemble are weighed


@dataclass(frozen=True)
class Temperature:
    """What log probabilities are divided by, and what that rests on."""

    value: float = 1.0
    images: int = 0  # that it was fitted on
    mistakes: int = 0  # among them
    why_not: str = ""  # why it was not fitted, or is not applied

    @property
    def fitted(self) -> bool:
        """Tell whether it was fitted, and is applied."""
        return not self.why_not

    def describe(self, name: str) -> str:
        """Say in a few words what it is and was fitted on; name: that of the images."""
        if not self.fitted:
            found = bool(self.mistakes)  # it was fitted, and is of no use
            return f"not {'applied' if found else 'fitted'}: {self.why_not}"
        return f"{self.value:.2f}, fitted on {name} ({self.images} images, {self.mistakes} wrong)"


@dataclass(frozen=True)
class PairTemperatures:
    """The temperatures of a model's pairs."""

    values: np.ndarray  # (P,) 1 where it was not fitted
    fitted: int  # how many were


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide log probabilities (N, K) by a temperature and normalise (Guo et al. 2017)."""
    scaled = np.log(np.maximum(probabilities, _LEAST)) / temperature
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> Temperature:
    """Find the temperature under which the targets (N,) are most likely; probabilities (N, K).

    Without a mistake among the images any low temperature is as good as another, and nothing is
    fitted. Few mistakes say little, so log T has a normal prior around 0 (maximum a posteriori):
    benchmarks/calibration.py shows what it is worth. Raises InputError for probabilities that are
    none and for targets outside the classes.
    """
    targets = check_graded(probabilities, targets)
    images, wrong = len(targets), int((probabilities.argmax(1) != targets).sum())
    if not wrong:
        why = f"no mistakes among {images} images" if images else "no images"
        return Temperature(images=images, why_not=why)

    def loss(log_temperature: float) -> float:
        tempered = apply_temperature(probabilities, np.exp(log_temperature))
        likely = np.maximum(tempered[np.arange(images), targets], _LEAST)
        return -np.log(likely).sum() + (log_temperature / _PRIOR_WIDTH) ** 2 / 2

    from scipy.optimize import minimize_scalar

    found = float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x))
    return Temperature(found, images, wrong)


def fit_pair_temperatures(
    pair_probabilities: np.ndarray, targets: np.ndarray, num_classes: int
) -> PairTemperatures:
    """Fit one temperature per pair on the images (N,) of its two classes.

    A pair with few of them, of one class alone, or without a mistake keeps its probabilities.
    """
    check_numbers("pair probabilities", pair_probabilities, 0, 1)
    targets = check_labels("labels", targets, num_classes)
    values, fitted = np.ones(pair_probabilities.shape[1]), []
    for column, (a, b) in enumerate(class_pairs(num_classes)):
        own = np.isin(targets, (a, b))
        if own.sum() < FEWEST_OF_A_PAIR or len(np.unique(targets[own])) < 2:
            continue
        high = pair_probabilities[own, column].astype(np.float64)
        both = np.stack([1 - high, high], axis=1)
        found = fit_temperature(both, (targets[own] == b).astype(int))
        values[column] = found.value
        fitted += [column] if found.fitted else []
    return PairTemperatures(values, len(fitted))


def apply_pair_temperatures(pair_probabilities: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Divide the logits of pair probabilities (N, P) by temperatures (P,)."""
    return 1 / (1 + np.exp(-pair_logits(pair_probabilities) / temperatures))


def pair_logits(pair_probabilities: np.ndarray) -> np.ndarray:
    """Return the logits (N, P) of pair probabilities, kept within +-16."""
    p = np.clip(pair_probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)


def fit_weights(class_probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Find the weights (M,) >= 0 with sum 1 under which the mean of models is most likely.

    class_probabilities (M, N, K). The log-likelihood of a mixture is concave in its weights: it
    has one best value, which expectation-maximisation (Dempster, Laird & Rubin 1977) approaches
    without a step size or chance. A Dirichlet prior, as if a few images spoke for each model
    beforehand, keeps equal models from 0 and 1 by chance (benchmarks/calibration.py). Greedy
    selection with replacement (Caruana et al. 2004) on accuracy moves in jumps of whole images,
    which a small validation set does not support.
    """
    for probabilities in class_probabilities:
        targets = check_graded(probabilities, targets)
    likelihood = class_probabilities[:, np.arange(len(targets)), targets]  # (M, N)
    likelihood = np.maximum(likelihood, _LEAST)
    models, images = likelihood.shape
    weights = np.full(models, 1 / models)
    for _ in range(_ROUNDS):
        share = weights[:, None] * likelihood
        spoken = (share / share.sum(0)).sum(1) + _PRIOR_IMAGES
        updated = spoken / (images + models * _PRIOR_IMAGES)
        if np.abs(updated - weights).max() < 1e-9:
            break
        weights = updated
    return weights
