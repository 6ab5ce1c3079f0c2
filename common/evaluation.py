"""Measure a grader's predictions under every vote.

N images, K classes, P pairs.
"""

from typing import Any

import numpy as np

from common.aggregation import VOTES, aggregate, has_tie
from common.metrics import (
    classification_metrics,
    confusion_matrix,
    metrics_with_intervals,
    undefined_reasons,
)


def evaluate_votes(
    targets: np.ndarray,
    pair_probabilities: np.ndarray,
    pair_accuracies: np.ndarray,
    num_classes: int,
    vote: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Measure targets (N,) against pair probabilities (N, P) under all votes.

    pair_accuracies (P,) weigh the weighted vote. The content of metrics_<split>.json: the chosen
    vote's measures as in `evaluate_classes`, all votes' metrics under "votes", tied images.
    """
    measured = {}
    for name in VOTES:
        scores, predictions = aggregate(pair_probabilities, num_classes, name, pair_accuracies)
        measured[name] = evaluate_classes(targets, scores, predictions, resamples, seed)
    return {
        "vote": vote,
        **measured[vote],
        "votes": {name: content["metrics"] for name, content in measured.items()},
        "tied_images": int(has_tie(pair_probabilities, num_classes).sum()),
    }


def evaluate_classes(
    targets: np.ndarray,
    class_probabilities: np.ndarray,
    predictions: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Measure class probabilities (N, K) and predictions (N,).

    Returns images per grade, metrics with 95 % intervals, why a metric is undefined, the confusion
    matrix (rows are true grades).
    """
    num_classes = class_probabilities.shape[1]
    matrix = confusion_matrix(targets, predictions, num_classes)
    plain = classification_metrics(targets, class_probabilities, predictions)
    return {
        "images": len(targets),
        "images_per_grade": matrix.sum(1).astype(int).tolist(),
        "metrics": metrics_with_intervals(
            targets, class_probabilities, predictions, None, resamples, seed
        ),
        "undefined": undefined_reasons(plain, matrix),
        "confusion_matrix": matrix.astype(int).tolist(),
        "bootstrap": {"resamples": resamples, "seed": seed, "interval": 0.95},
    }
