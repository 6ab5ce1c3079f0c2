"""Compare graders on the same images: paired bootstrap, McNemar's test, Holm's correction.

N images, K classes, M models, R resamples.
"""

import numpy as np
from scipy.stats import binomtest

from common.evaluation.intervals import bootstrap_weights, percentile_interval
from common.evaluation.metrics import classification_metrics


def paired_draws(
    targets: np.ndarray,
    graders: list[tuple[np.ndarray, np.ndarray]],
    names: list[str],
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measure several graders on the images and on the same bootstrap resamples of them.

    graders: class probabilities (N, K) and predictions (N,) of each; names of metrics as in
    `classification_metrics`. Returns name -> values (M,) and name -> draws (R, M).
    """
    plain = [classification_metrics(targets, *grader) for grader in graders]
    values = {name: np.array([float(found[name]) for found in plain]) for name in names}
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for weights in bootstrap_weights(len(targets), resamples, seed, groups):
        found = [classification_metrics(targets, *grader, weights) for grader in graders]
        for name in names:
            blocks[name].append(np.stack([values[name] for values in found], axis=1))
    return values, {name: np.concatenate(parts) for name, parts in blocks.items()}


def difference(values: np.ndarray, draws: np.ndarray, model: int, other: int) -> dict[str, float]:
    """Return model's metric minus other's with its 95 % paired-bootstrap interval.

    values (M,) and draws (R, M) as from `paired_draws`. p is two-sided: twice the share of
    resamples on the other side of zero, at least 2 / (R + 1).
    """
    gaps = draws[:, model] - draws[:, other]
    gaps = gaps[~np.isnan(gaps)]
    low, high = percentile_interval(gaps)
    side = min((gaps <= 0).sum(), (gaps >= 0).sum())
    return {
        "value": float(values[model] - values[other]),
        "low": low,
        "high": high,
        "p": float(min(1.0, 2 * (side + 1) / (len(gaps) + 1))),
    }


def mcnemar(correct: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Test whether two graders err equally often (McNemar 1947, exact binomial form).

    correct, other (N,) bool. Returns how many images only the one and only the other gets right,
    and the two-sided p, which takes images as independent.
    """
    first, second = int((correct & ~other).sum()), int((~correct & other).sum())
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return {"only_first": first, "only_second": second, "p": float(p)}


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p values (n,) for their number (Holm 1979)."""
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return corrected
