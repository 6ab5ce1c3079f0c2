"""Figures of out-of-fold answers, pooled over the folds, their intervals and paired differences.

N images, K classes, R resamples, S seeds. All that is fitted (temperature, threshold of referral)
is fitted for each fold on the answers about the other folds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.shared.over_seeds import (
    Figure,
    difference_of,
    figure_of,
    image_weights,
    mean_of_drawn_seeds,
)
from common.data.class_names import GRADES
from common.fitting.calibration import apply_temperature, fit_temperature
from common.fitting.images import FittingImages, pool
from common.fitting.threshold import Rule, choose_threshold
from common.metrics.classification import classification_metrics
from common.metrics.intervals import BootstrapConfig, Interval
from common.metrics.shares import ratio
from common.prediction.voting import combine_models

REFERABLE_FROM = 2  # moderate
RULE = Rule("specificity", 0.9)
RECALLS = tuple(f"recall_{grade}" for grade in range(GRADES))
_WHOLE = ("accuracy", "balanced_accuracy", "kappa", "macro_auc", "referable_auc", "ece", "nll")
PLAIN = (*_WHOLE, *RECALLS)
METRICS = (*PLAIN, "sensitivity", "specificity", "calibrated_ece", "calibrated_nll")


@dataclass(frozen=True)
class Answers:
    """What one trained method says of the images of some folds, of each by whom it is new to."""

    ids: np.ndarray  # (N,) str
    targets: np.ndarray  # (N,)
    folds: np.ndarray  # (N,) int, from 1
    groups: np.ndarray  # (N,) int: images of one group, such as those of an eye, belong together
    probabilities: np.ndarray  # (N, K)
    predicted: np.ndarray  # (N,) int

    def of_folds(self, folds: Sequence[int]) -> "Answers":
        """Keep the images of some folds."""
        rows = np.isin(self.folds, folds)
        return Answers(*(getattr(self, name)[rows] for name in vars(self)))


def pool_folds(
    by_fold: Mapping[int, FittingImages], groups: Mapping[str, str], vote: str = "coupling"
) -> Answers:
    """Put the answers about the val of several folds together; groups: by the images' ids."""
    pooled = pool(list(by_fold.values()), "val of the folds", "")
    voted = pooled.vote(vote)
    fold_of = {id_: fold for fold, part in by_fold.items() for id_ in part.ids.tolist()}
    return Answers(
        ids=pooled.ids,
        targets=pooled.targets,
        folds=np.array([fold_of[id_] for id_ in pooled.ids.tolist()]),
        groups=np.array([int(groups[id_]) for id_ in pooled.ids.tolist()]),
        probabilities=voted.probabilities,
        predicted=voted.predicted,
    )


def average(members: Sequence[Answers]) -> Answers:
    """Average the class probabilities of several methods, about the same images."""
    first = members[0]
    assert all(np.array_equal(first.ids, other.ids) for other in members)
    mean = combine_models([member.probabilities for member in members])
    return replace(first, probabilities=mean.probabilities, predicted=mean.predicted)


@dataclass(frozen=True)
class Judged:
    """Answers with what was fitted for each fold on the others."""

    answers: Answers
    calibrated: np.ndarray | None  # (N, K); None: there is no other fold
    referred: np.ndarray | None  # (N,) bool, at a specificity of 0.9 in the other folds


def judge(answers: Answers) -> Judged:
    """Calibrate the answers about each fold, and choose who is referred, by those about the others.

    The temperature and the threshold of a fold depend on nothing that is said of its images.
    """
    if len(np.unique(answers.folds)) < 2:
        return Judged(answers, None, None)
    calibrated = np.zeros_like(answers.probabilities)
    referred: np.ndarray | None = np.zeros(len(answers.targets), dtype=bool)
    scores = answers.probabilities[:, REFERABLE_FROM:].sum(1)
    for fold in np.unique(answers.folds):
        own, other = answers.folds == fold, answers.folds != fold
        found = fit_temperature(answers.probabilities[other], answers.targets[other])
        calibrated[own] = apply_temperature(answers.probabilities[own], found.value)
        sick = answers.targets[other] >= REFERABLE_FROM
        threshold = choose_threshold(scores[other], sick, RULE)
        if referred is not None:
            referred[own] = scores[own] >= threshold.value
        if math.isnan(threshold.value):
            referred = None
    return Judged(answers, calibrated, referred)


def measure(judged: Judged, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Measure everything, once or for each row of weights (R, N); NaN where it is undefined."""
    answers = judged.answers
    args = (answers.predicted, weights, REFERABLE_FROM)
    found = classification_metrics(answers.targets, answers.probabilities, *args, PLAIN)
    shape = np.shape(found["accuracy"])
    found |= {name: np.full(shape, math.nan) for name in METRICS if name not in found}
    if judged.calibrated is not None:
        names = ("ece", "nll")
        again = classification_metrics(answers.targets, judged.calibrated, *args, names)
        found |= {f"calibrated_{name}": again[name] for name in names}
    if judged.referred is not None:
        sick = answers.targets >= REFERABLE_FROM
        sums = np.ones(len(sick)) if weights is None else weights
        found["sensitivity"] = ratio(sums @ (sick & judged.referred), sums @ sick)
        found["specificity"] = ratio(sums @ (~sick & ~judged.referred), sums @ ~sick)
    return found


class Draws:
    """Resamples of images, whole groups at a time, the same for all methods on these images."""

    def __init__(self, answers: Answers, bootstrap: BootstrapConfig) -> None:
        self._weights = image_weights(answers.groups, bootstrap)  # (R, N)
        self._bootstrap = bootstrap
        self._ids = answers.ids

    def of_seeds(self, judged: Sequence[Judged], who: str) -> dict[str, np.ndarray]:
        """Return each metric's mean over the seeds in each resample, (R,), the seeds drawn, too.

        who: whose they are; the seeds of two methods are drawn apart.
        """
        assert all(np.array_equal(one.answers.ids, self._ids) for one in judged)
        found = [measure(one, self._weights) for one in judged]  # (S)
        stacked = {name: np.stack([one[name] for one in found], axis=1) for name in METRICS}
        return {
            name: mean_of_drawn_seeds(values, self._bootstrap, who)
            for name, values in stacked.items()
        }


def summarise(judged: Sequence[Judged], bootstrap: BootstrapConfig) -> dict[str, Figure]:
    """Measure a method of one or several seeds, all on the same images."""
    values = [measure(one) for one in judged]
    draws = Draws(judged[0].answers, bootstrap).of_seeds(judged, "")
    return {name: figure_of([float(one[name]) for one in values], draws[name]) for name in METRICS}


def differences(
    judged: Sequence[Judged], other: Sequence[Judged], bootstrap: BootstrapConfig
) -> dict[str, Interval]:
    """Say how a method differs from another on the folds that both have; none: no difference."""
    shared = np.intersect1d(judged[0].answers.folds, other[0].answers.folds).tolist()
    if not shared:
        return {}
    first, second = ([_only(one, shared) for one in each] for each in (judged, other))
    draws = Draws(first[0].answers, bootstrap)
    one, two = draws.of_seeds(first, "one"), draws.of_seeds(second, "two")
    found = {}
    for name in METRICS:
        ours, theirs = (
            float(np.mean([float(measure(j)[name]) for j in each])) for each in (first, second)
        )
        found[name] = difference_of((ours, theirs), (one[name], two[name]))
    return found


def _only(judged: Judged, folds: Sequence[int]) -> Judged:
    """Judge the images of some folds alone, with nothing that was fitted on others."""
    answers = judged.answers
    every = set(answers.folds.tolist()) <= set(folds)
    return judged if every else judge(answers.of_folds(folds))
