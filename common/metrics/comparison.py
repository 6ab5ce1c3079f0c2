"""Compare models on the same images: paired bootstrap, McNemar's test, Holm's correction.

N images, M models, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from common.metrics.classification import classification_metrics
from common.metrics.intervals import (
    BootstrapConfig,
    Interval,
    bootstrap_weights,
    percentile_interval,
)
from common.prediction.voting import ClassPredictions

COMPARED = ("accuracy", "balanced_accuracy", "kappa", "macro_auc")  # metrics of every comparison


@dataclass(frozen=True)
class Difference(Interval):
    """One model's metric minus another's with its 95 % interval, and the two-sided p of none."""

    p: float


@dataclass(frozen=True)
class PairedMetric:
    """A metric of several models on the images, and on the same resamples of them for all."""

    values: np.ndarray  # (M,)
    draws: np.ndarray  # (R, M)

    def difference(self, model: int, other: int) -> Difference:
        """Subtract one model's metric from another's.

        p is twice the share of resamples on the other side of zero, at least 2 / (R + 1).
        """
        gaps = self.draws[:, model] - self.draws[:, other]
        gaps = gaps[~np.isnan(gaps)]
        low, high = percentile_interval(gaps)
        side = min((gaps <= 0).sum(), (gaps >= 0).sum())
        p = min(1.0, 2 * (side + 1) / (len(gaps) + 1))
        return Difference(float(self.values[model] - self.values[other]), low, high, float(p))


@dataclass(frozen=True)
class McNemar:
    """How many images only the one and only the other model gets right, and the two-sided p."""

    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """How one model differs from another."""

    differences: dict[str, Difference]  # by metric
    mcnemar: McNemar

    def to_json(self) -> dict[str, Difference | McNemar]:
        """Return what metrics_<split>.json holds of it."""
        return {**self.differences, "mcnemar": self.mcnemar}


def paired_metrics(
    targets: np.ndarray,
    models: Sequence[ClassPredictions],
    names: Sequence[str],
    bootstrap: BootstrapConfig,
) -> dict[str, PairedMetric]:
    """Measure several models on the images and on the same bootstrap resamples of them.

    targets (N,); names of metrics as in `classification_metrics`.
    """
    arrays = [(targets, model.probabilities, model.predicted) for model in models]
    values = [classification_metrics(*each) for each in arrays]
    draws: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for weights in bootstrap_weights(len(targets), bootstrap):
        found = [classification_metrics(*each, weights) for each in arrays]
        for name in names:
            draws[name].append(np.stack([measured[name] for measured in found], axis=1))
    return {
        name: PairedMetric(
            np.array([float(measured[name]) for measured in values]), np.concatenate(draws[name])
        )
        for name in names
    }


def compare_to_best(
    targets: np.ndarray,
    models: dict[str, ClassPredictions],
    best: str,
    bootstrap: BootstrapConfig,
) -> dict[str, Comparison]:
    """Compare every other model with the one named `best`."""
    names = list(models)
    paired = paired_metrics(targets, list(models.values()), COMPARED, bootstrap)
    reference = models[best].predicted == targets
    compared = {}
    for place, (name, model) in enumerate(models.items()):
        if name != best:
            compared[name] = Comparison(
                {metric: paired[metric].difference(place, names.index(best)) for metric in paired},
                mcnemar(model.predicted == targets, reference),
            )
    return compared


def mcnemar(correct: np.ndarray, other: np.ndarray) -> McNemar:
    """Test whether two models err equally often (McNemar 1947, exact binomial form).

    correct, other (N,) bool. The p takes images as independent.
    """
    first, second = int((correct & ~other).sum()), int((~correct & other).sum())
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return McNemar(first, second, float(p))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p values (n,) for their number (Holm 1979)."""
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return corrected
