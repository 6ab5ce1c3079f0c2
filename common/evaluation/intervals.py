"""Confidence intervals by resampling images or patients.

N images, K classes, R resamples.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import binomtest

from common.evaluation.metrics import REFERABLE_GRADE, classification_metrics

_BLOCK = 100  # resamples at a time, to bound the memory


def bootstrap_weights(
    num_images: int, resamples: int, seed: int, groups: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples (Efron 1979) in blocks of (up to 100, N) counts.

    groups (N,): images with equal entries, such as a patient's, are drawn together.
    """
    generator = np.random.default_rng(seed)
    if groups is None:
        groups = np.arange(num_images)
    _, members = np.unique(groups, return_inverse=True)
    count = int(members.max()) + 1
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        draws = generator.multinomial(count, np.full(count, 1 / count), size=size)
        yield draws[:, members].astype(np.float32)


def metrics_with_intervals(
    targets: np.ndarray,
    probabilities: np.ndarray,
    predictions: np.ndarray,
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Measure a grader with 95 % percentile-bootstrap intervals: name -> value, low, high.

    Where all resamples agree (a share of exactly 0 or 1) the bootstrap says nothing and the
    Wilson interval (Wilson 1927) of as many independent images, or groups, stands instead; so it
    does for an AUC of 0 or 1, with as many as the smaller side has, since one of them on the wrong
    side would cost at most its share. Other metrics then have no interval (NaN).
    """
    values = classification_metrics(targets, probabilities, predictions)
    blocks = [
        classification_metrics(targets, probabilities, predictions, weights)
        for weights in bootstrap_weights(len(targets), resamples, seed, groups)
    ]
    trials = independent_units(targets, predictions, probabilities.shape[1], groups)
    result = {}
    for name, value in values.items():
        draws = np.concatenate([block[name] for block in blocks]) if blocks else np.empty(0)
        low, high = percentile_interval(draws)
        if name in trials and trials[name] and value in (0.0, 1.0):
            successes = trials[name] if value == 1.0 else 0
            wilson = binomtest(successes, trials[name]).proportion_ci(method="wilson")
            low, high = wilson.low, wilson.high
        elif low == high:
            low = high = math.nan
        result[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return result


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the draws that are defined."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return math.nan, math.nan
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def independent_units(
    targets: np.ndarray, predictions: np.ndarray, num_classes: int, groups: np.ndarray | None
) -> dict[str, int]:
    """Count the independent units behind each share."""
    groups = np.arange(len(targets)) if groups is None else groups

    def units(mask: np.ndarray) -> int:
        return len(np.unique(groups[mask]))

    shares = {
        "accuracy": units(np.ones(len(targets), dtype=bool)),
        "referable_sensitivity": units(targets >= REFERABLE_GRADE),
        "referable_specificity": units(targets < REFERABLE_GRADE),
    }
    cut = shares["referable_sensitivity"], shares["referable_specificity"]
    shares["referable_auc"] = min(cut)
    for k in range(num_classes):
        shares[f"recall_{k}"] = units(targets == k)
        shares[f"precision_{k}"] = units(predictions == k)
        shares[f"auc_{k}"] = min(shares[f"recall_{k}"], units(targets != k))
    shares["macro_auc"] = min(shares[f"auc_{k}"] for k in np.unique(targets))
    return shares
