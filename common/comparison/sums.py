"""Metrics as functions of sums over images, so that two models can change places image by image.

N images, K classes, C sums, J parts of an average (such as the recalls of the classes).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from common.metrics.classification import ratio
from common.metrics.intervals import typical_size
from common.prediction.voting import ClassPredictions

METRICS = ("accuracy", "balanced_accuracy", "kappa", "macro_auc")  # of every comparison of models
BY_CLASS = ("recall", "precision", "f1", "auc")  # of a class, followed by its index: "recall_3"
Units = np.ndarray  # (N,) int in 0..U-1: which images belong together, as a patient's


@dataclass(frozen=True)
class Paired:
    """A metric of two models on the same images.

    The metric of each is a function of sums over images, and so is that of a model that takes some
    images' predictions from the one and the others' from the other.
    """

    first: np.ndarray  # (N, C) what each image adds to the first model's sums
    other: np.ndarray  # (N, C)
    metric: Callable[[np.ndarray], np.ndarray]  # sums (..., C) -> values (...)
    without: np.ndarray  # (N,) how far the difference falls when an image is left out
    one_unit: np.ndarray  # (J,) how far one more unit, right by one model alone, would move it
    limit: float = 1.0  # of the difference, either way

    @property
    def difference(self) -> float:
        """The first model's metric minus the other's; NaN where either is undefined."""
        return float(self.metric(self.first.sum(0)) - self.metric(self.other.sum(0)))


def pair_up(
    name: str, targets: np.ndarray, first: ClassPredictions, other: ClassPredictions, units: Units
) -> Paired:
    """Lay a metric of two models out; name: one of METRICS, or of BY_CLASS with a class's index."""
    if name == "kappa":
        return _kappa(targets, first, other, units)
    if name == "accuracy":
        return _shares(name, targets, first, other, units, np.zeros(0))
    if name == "balanced_accuracy":
        return _shares("recall", targets, first, other, units, np.unique(targets))
    if name == "macro_auc":
        return _auc(targets, first, other, units, np.unique(targets))
    kind, _, index = name.rpartition("_")
    if kind not in BY_CLASS:
        raise ValueError(f"expected a metric of {METRICS} or of a class, found {name!r}")
    lay_out = _auc if kind == "auc" else partial(_shares, kind)
    return lay_out(targets, first, other, units, np.array([int(index)]))


def _shares(
    kind: str,
    targets: np.ndarray,
    first: ClassPredictions,
    other: ClassPredictions,
    units: Units,
    classes: np.ndarray,
) -> Paired:
    """Lay out a share of images, or the mean of the shares of several classes.

    kind: "accuracy", whatever the classes; else one of BY_CLASS.
    """
    rows, effects, totals = [], [], []
    for model in (first, other):
        right = (model.predicted == targets)[:, None].astype(float)  # (N, 1)
        if kind == "accuracy":
            counted, of = right, np.ones_like(right)
        else:
            own, called = targets[:, None] == classes, model.predicted[:, None] == classes
            of = {"recall": own * 1.0, "precision": called * 1.0, "f1": own * 1.0 + called}[kind]
            counted = right * own * (2 if kind == "f1" else 1)
        share = ratio(counted.sum(0), of.sum(0))  # (J,)
        rows.append(np.concatenate([counted, of], axis=1))
        left = np.maximum(of.sum(0) - of, 1)  # nothing is left of a class of one image: 0 / 1
        effects.append(((counted - share * of) / left).mean(1))
        totals.append(of.sum(0))
    parts, total = len(totals[0]), np.mean(totals, axis=0)
    counted_in = (rows[0] + rows[1])[:, parts:] > 0  # (N, J)
    sizes = np.array([size_of_units(units, mask) for mask in counted_in.T])
    one_unit = (2.0 if kind == "f1" else 1.0) * ratio(sizes, total) / parts
    chances = ratio(counted_in.sum(0), counted_in.sum())  # that the unit is of this part
    return Paired(
        rows[0],
        rows[1],
        partial(_mean_of_shares, parts),
        effects[0] - effects[1],
        one_unit * np.sqrt(chances),
    )


def _mean_of_shares(parts: int, sums: np.ndarray) -> np.ndarray:
    return ratio(sums[..., :parts], sums[..., parts:]).mean(-1)


def _kappa(
    targets: np.ndarray, first: ClassPredictions, other: ClassPredictions, units: Units
) -> Paired:
    """Lay out quadratic weighted kappa, 1 - O / E.

    O is the sum of squared distances, E that of each prediction to every target, over N: with the
    targets given, both are sums over images.
    """
    count, grades = len(targets), np.arange(first.probabilities.shape[1])
    rows, effects, distances, expected = [], [], [], []
    for model in (first, other):
        distance = (targets - model.predicted) ** 2.0
        to_targets = ((targets[:, None] - grades) ** 2.0).mean(0)[model.predicted]
        to_predictions = ((model.predicted[:, None] - grades) ** 2.0).mean(0)[targets]
        chance = to_targets.sum()
        rows.append(np.stack([distance, to_targets], axis=1))
        left = chance - to_targets - to_predictions + distance / count  # E without each image
        left *= count / max(count - 1, 1)
        effects.append(ratio(distance.sum() - distance, left) - ratio(distance.sum(), chance))
        distances.append(distance[distance > 0])
        expected.append(chance)
    wrong = np.concatenate(distances)
    usual = wrong.mean() if len(wrong) else 1.0
    size = size_of_units(units, np.ones(count, dtype=bool))
    return Paired(
        rows[0],
        rows[1],
        _one_minus_ratio,
        np.nan_to_num(effects[0] - effects[1]),
        ratio(np.array([usual * size]), np.mean(expected)),
        limit=2.0,
    )


def _one_minus_ratio(sums: np.ndarray) -> np.ndarray:
    return 1 - ratio(sums[..., 0], sums[..., 1])


def _auc(
    targets: np.ndarray,
    first: ClassPredictions,
    other: ClassPredictions,
    units: Units,
    classes: np.ndarray,
) -> Paired:
    """Lay out the area under the ROC curve, the mean of several classes against the rest.

    Scores are ranked within each model, since a model and the same at another temperature are
    alike. Of the difference after exchanging predictions of some images, all products of two
    exchanges cancel: it is a sum over images of a score's place among those of both models.
    """
    swaps, effects = np.zeros(len(targets)), np.zeros(len(targets))
    one_unit = np.zeros(len(classes))
    ranked = [mean_ranks(model.probabilities[:, classes]) for model in (first, other)]
    for place, k in enumerate(classes):
        positive = targets == k
        if positive.all() or not positive.any():
            return _undefined(len(targets))
        ranks = [columns[:, place] for columns in ranked]
        both = [np.concatenate([r[side] for r in ranks]) for side in (positive, ~positive)]
        areas = []
        for rank, sign in zip(ranks, (1, -1)):
            own = _places(rank, positive, rank[positive], rank[~positive])  # DeLong et al. 1988
            areas.append(own[positive].mean())
            sides = np.where(positive, positive.sum(), (~positive).sum())
            effects += sign * (own - areas[-1]) / np.maximum(sides - 1, 1) / len(classes)
            swaps += sign * _places(rank, positive, *both) / sides / len(classes)
        sizes = [positive.sum() / size_of_units(units, positive)]
        sizes.append((~positive).sum() / size_of_units(units, ~positive))
        one_unit[place] = max(1 - np.mean(areas), 1 / (min(sizes) + 1)) / min(sizes) / len(classes)
    rows = swaps[:, None]
    return Paired(rows, np.zeros_like(rows), _only_sum, effects, one_unit)


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Rank each column of values (N, C) from 1 on; equal ones share the mean of their ranks.

    As `scipy.stats.rankdata` does, which takes a second to import.
    """
    found = np.empty(values.shape)
    for column, own in enumerate(values.T):
        order = np.argsort(own, kind="stable")
        starts = np.flatnonzero(np.append(True, np.diff(own[order]) != 0))
        counts = np.diff(np.append(starts, len(own)))
        found[order, column] = np.repeat(starts + (counts + 1) / 2, counts)
    return found


def _places(
    ranks: np.ndarray, positive: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> np.ndarray:
    """Return (N,) which share of the other side's ranks each image is on the right side of."""
    below = _share_below(np.sort(negatives), ranks)
    return np.where(positive, below, 1 - _share_below(np.sort(positives), ranks))


def _share_below(ordered: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the share of ordered ranks that are below each; those that are equal count half."""
    below = np.searchsorted(ordered, ranks, "left") + np.searchsorted(ordered, ranks, "right")
    return below / (2 * len(ordered))


def _only_sum(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0]


def _undefined(count: int) -> Paired:
    nothing = np.full((count, 1), np.nan)
    return Paired(nothing, nothing, _only_sum, nothing[:, 0], nothing[0])


def size_of_units(units: Units, mask: np.ndarray) -> float:
    """Return how many of these images the unit of one of them has on average (Kish 1965)."""
    return float(typical_size(np.bincount(units[mask]))) if mask.any() else 1.0
