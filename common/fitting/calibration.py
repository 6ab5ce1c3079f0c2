"""Temperatures and ensemble weights, fitted on validation data.

N images, K classes, P pairs, M models.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from common.pairs import class_pairs

_LEAST = 1e-12
_LOG_RANGE = (-3.0, 3.0)  # a temperature lies between 0.05 and 20
_ROUNDS = 2000
WEIGHTS = ("uniform", "val_accuracy", "optimized")  # how the models of an ensemble are weighed


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide log probabilities (N, K) by a temperature and normalise (Guo et al. 2017)."""
    scaled = np.log(np.maximum(probabilities, _LEAST)) / temperature
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Find the temperature of least negative log-likelihood; (N, K) probabilities, (N,) targets."""

    def loss(log_temperature: float) -> float:
        tempered = apply_temperature(probabilities, np.exp(log_temperature))
        return -np.log(np.maximum(tempered[np.arange(len(targets)), targets], _LEAST)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x))


def fit_pair_temperatures(
    pair_probabilities: np.ndarray, targets: np.ndarray, num_classes: int
) -> np.ndarray:
    """Fit one temperature per pair (P,) on the images of its two classes.

    A pair without images of both keeps its probabilities (temperature 1).
    """
    temperatures = np.ones(pair_probabilities.shape[1])
    for column, (a, b) in enumerate(class_pairs(num_classes)):
        own = np.isin(targets, (a, b))
        if len(np.unique(targets[own])) == 2:
            high = pair_probabilities[own, column].astype(np.float64)
            both = np.stack([1 - high, high], axis=1)
            temperatures[column] = fit_temperature(both, (targets[own] == b).astype(int))
    return temperatures


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
    without a step size or chance. Greedy selection with replacement (Caruana et al. 2004) on
    accuracy moves in jumps of whole images, which a small validation set does not support.
    """
    likelihood = class_probabilities[:, np.arange(len(targets)), targets]  # (M, N)
    likelihood = np.maximum(likelihood, _LEAST)
    weights = np.full(len(likelihood), 1 / len(likelihood))
    for _ in range(_ROUNDS):
        share = weights[:, None] * likelihood
        updated = (share / share.sum(0)).mean(1)
        if np.abs(updated - weights).max() < 1e-9:
            break
        weights = updated
    return weights
