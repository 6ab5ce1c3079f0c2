"""Start a classifier as a linear probe: a logistic regression on the network's pretrained features.

N images, F pooled features, K classes, P pairs.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from common.models.ovo import Branch
from common.pairs import Head, pair_head
from common.system.device import autocast

STRENGTH = 1e-3  # scikit-learn's C: on some hundred images, weak features must stay small


@torch.no_grad()
def pooled_features(
    branch: Branch,
    features_of: Callable[[np.ndarray], Tensor],
    count: int,
    chunk: int,
    precision: str,
) -> np.ndarray:
    """Return the pooled features (N, F) float64 of all `count` images, whoever learns from them.

    features_of: maps up to `chunk` indices to what the branch takes.
    """
    stages, found = branch.stages.eval(), []
    for start in range(0, count, chunk):
        features = features_of(np.arange(start, min(start + chunk, count)))
        with autocast(features.device, precision):
            found.append(stages(features).float().cpu())
    return torch.cat(found).double().numpy()


def fit_probe(
    features: np.ndarray, labels: np.ndarray, head: Head, class_weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a head's classifier to features (N, F) and labels (N,); only its classes' images count.

    class_weights: (K,), or (P, 2) of each pair of a shared head, whose outputs are fitted one by
    one. Returns weight (outputs, F) and bias (outputs,) for features as they are.
    """
    from sklearn.linear_model import LogisticRegression  # takes seconds, and is rarely asked for

    if head.kind == "shared":
        probes = [
            fit_probe(features, labels, pair_head(pair), weights)
            for pair, weights in zip(head.pairs, class_weights)
        ]
        weights, biases = zip(*probes)
        return np.concatenate(weights), np.concatenate(biases)
    own = np.isin(labels, head.classes)
    features, targets = features[own], head.targets(labels[own])
    mean, spread = features.mean(0), features.std(0)
    spread[spread < 1e-12] = 1.0  # a feature that never moves says nothing
    linear = LogisticRegression(
        C=STRENGTH, class_weight=dict(enumerate(class_weights.tolist())), max_iter=5000
    ).fit((features - mean) / spread, targets)
    weight = linear.coef_ / spread
    return weight, linear.intercept_ - weight @ mean


def set_classifier(branch: Branch, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give a branch's classifier these weights (outputs, F) and bias (outputs,)."""
    state = {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
    branch.classifier.load_state_dict(state)
