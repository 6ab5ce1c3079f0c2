"""Classification metrics, each for one sample or for many bootstrap resamples at once.

N images, K classes, R resamples. A resample is a row of weights (R, N): how often it holds each
image. Every function that takes `weights` returns a float without them and (R,) with them. What is
undefined (a recall of a class without images) is NaN, never zero.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import binomtest

REFERABLE_GRADE = 2  # moderate or worse is referred (International Clinical DR scale)
_BINS = 15
_BLOCK = 100  # resamples at a time, to bound the memory

Values = dict[str, np.ndarray]


def confusion_matrix(
    targets: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Count true class by predicted class; (K, K), or (R, K, K) with weights."""
    cells = targets.astype(np.int64) * num_classes + predictions
    counts = _sums(np.eye(num_classes**2)[cells], weights)
    return counts.reshape(*counts.shape[:-1], num_classes, num_classes)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the share on the diagonal of confusion matrices (..., K, K)."""
    return _ratio(_diagonal(matrix).sum(-1), matrix.sum((-2, -1)))


def recalls(matrix: np.ndarray) -> np.ndarray:
    """Return each class's recall (..., K)."""
    return _ratio(_diagonal(matrix), matrix.sum(-1))


def precisions(matrix: np.ndarray) -> np.ndarray:
    """Return each class's precision (..., K)."""
    return _ratio(_diagonal(matrix), matrix.sum(-2))


def f1_scores(matrix: np.ndarray) -> np.ndarray:
    """Return each class's F1 (..., K), zero for a class that is there but never found."""
    return _ratio(2 * _diagonal(matrix), matrix.sum(-1) + matrix.sum(-2))


def quadratic_weighted_kappa(matrix: np.ndarray) -> np.ndarray:
    """Compare squared grade distances with those of chance (Cohen 1968)."""
    grades = np.arange(matrix.shape[-1])
    distance = (grades[:, None] - grades[None, :]) ** 2
    expected = matrix.sum(-1)[..., :, None] * matrix.sum(-2)[..., None, :]
    total = matrix.sum((-2, -1))
    observed = (distance * matrix).sum((-2, -1)) * total
    return 1 - _ratio(observed, (distance * expected).sum((-2, -1)))


def macro_average(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Average (..., K) over the classes that have images; NaN if one of those is undefined."""
    return _ratio(np.where(present, values, 0).sum(-1), present.sum(-1))


def roc_auc(
    scores: np.ndarray, positives: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the area under the ROC curve, ties counted half (Hanley & McNeil 1982).

    scores (N,) float; positives (N,) bool.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)  # of each run of ties
    if not len(order):
        return np.array(math.nan)
    block = np.ones(len(scores)) if weights is None else weights
    block = block[..., order].astype(np.float64)
    positive = np.add.reduceat(block * positives[order], starts, axis=-1)
    negative = np.add.reduceat(block * ~positives[order], starts, axis=-1)
    below = np.cumsum(negative, axis=-1) - negative / 2
    return _ratio((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1))


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Average |accuracy - confidence| over 15 equal bins (Guo et al. 2017, eq. 3).

    confidences (N,) in 0..1 of the predicted class; correct (N,) bool.
    """
    bins = np.clip(np.ceil(confidences * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.eye(_BINS)[bins] * (correct - confidences)[:, None]  # (N, bins)
    total = float(len(correct)) if weights is None else weights.sum(-1)
    return _ratio(np.abs(_sums(gaps, weights)).sum(-1), total)


def brier_score(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean squared distance of (N, K) to the true class, 0 to 2 (Brier 1950)."""
    distance = ((probabilities - np.eye(probabilities.shape[1])[targets]) ** 2).sum(1)
    return _mean(distance, weights)


def negative_log_likelihood(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean of -ln p of the true class, in nats; p is kept above 1e-12."""
    chosen = probabilities[np.arange(len(targets)), targets]
    return _mean(-np.log(np.maximum(chosen, 1e-12)), weights)


def binary_metrics(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Measure a binary classifier at threshold 0.5.

    probabilities (N,) of class 1; targets (N,) 0 or 1. Sensitivity is the recall of class 1.
    """
    matrix = confusion_matrix(targets, (probabilities > 0.5).astype(int), 2)
    specificity, sensitivity = recalls(matrix)
    return {
        "accuracy": float(accuracy(matrix)),
        "balanced_accuracy": float((specificity + sensitivity) / 2),
        "auc": float(roc_auc(probabilities, targets == 1)),
        "sensitivity": float(sensitivity),
        "specificity": float(specificity),
        "num_negative": int((targets == 0).sum()),
        "num_positive": int((targets == 1).sum()),
    }


def grading_summary(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Measure a classifier of all classes under the names of `binary_metrics`.

    probabilities (N, K); targets (N,). The AUC is the mean of one class against the rest;
    sensitivity and specificity are those for referable DR.
    """
    found = classification_metrics(targets, probabilities, probabilities.argmax(1))
    return {
        "accuracy": float(found["accuracy"]),
        "balanced_accuracy": float(found["balanced_accuracy"]),
        "auc": float(found["macro_auc"]),
        "sensitivity": float(found["referable_sensitivity"]),
        "specificity": float(found["referable_specificity"]),
    }


def classification_metrics(
    targets: np.ndarray,
    probabilities: np.ndarray,
    predictions: np.ndarray,
    weights: np.ndarray | None = None,
) -> Values:
    """Measure a grader: targets and predictions (N,) in 0..K-1, probabilities (N, K).

    Averages over classes are over those with images. The referable metrics call grade >= 2
    positive: sensitivity and specificity of the predicted grade, AUC of the summed probability.
    """
    num_classes = probabilities.shape[1]
    matrix = confusion_matrix(targets, predictions, num_classes, weights)
    present = matrix.sum(-1) > 0
    recall, precision, f1 = recalls(matrix), precisions(matrix), f1_scores(matrix)
    aucs = np.stack(
        [roc_auc(probabilities[:, k], targets == k, weights) for k in range(num_classes)], axis=-1
    )
    confidence = probabilities[np.arange(len(targets)), predictions]
    values = {
        "accuracy": accuracy(matrix),
        "balanced_accuracy": macro_average(recall, present),
        "kappa": quadratic_weighted_kappa(matrix),
        "macro_auc": macro_average(aucs, present),
        "macro_precision": macro_average(precision, present),
        "macro_recall": macro_average(recall, present),
        "macro_f1": macro_average(f1, present),
        **_referable(targets, probabilities, matrix, weights),
        "ece": expected_calibration_error(confidence, targets == predictions, weights),
        "brier": brier_score(probabilities, targets, weights),
        "nll": negative_log_likelihood(probabilities, targets, weights),
    }
    per_class = (("recall", recall), ("precision", precision), ("f1", f1), ("auc", aucs))
    for name, value in per_class:
        values |= {f"{name}_{k}": value[..., k] for k in range(num_classes)}
    return values


def _referable(
    targets: np.ndarray, probabilities: np.ndarray, matrix: np.ndarray, weights: np.ndarray | None
) -> Values:
    cut = REFERABLE_GRADE
    referred, healthy = matrix[..., cut:, :], matrix[..., :cut, :]
    score = probabilities[:, cut:].sum(1)
    return {
        "referable_sensitivity": _ratio(referred[..., cut:].sum((-2, -1)), referred.sum((-2, -1))),
        "referable_specificity": _ratio(healthy[..., :cut].sum((-2, -1)), healthy.sum((-2, -1))),
        "referable_auc": roc_auc(score, targets >= cut, weights),
    }


def restate_at_prevalence(matrix: np.ndarray, prevalence: np.ndarray) -> Values:
    """Restate confusion matrices (..., K, K) at the grade mix (K,) of a screened population.

    ppv, npv and referrals are of referable DR (grade >= 2); referrals per 1,000 screened. NaN
    where a grade of the population has no image.
    """
    shares = np.where(prevalence > 0, _ratio(matrix, matrix.sum(-1, keepdims=True)).mT, 0).mT
    mixed = shares * prevalence[:, None]  # (..., K, K), sums to 1
    cut = REFERABLE_GRADE
    referred, passed = mixed[..., cut:].sum((-2, -1)), mixed[..., :cut].sum((-2, -1))
    return {
        "accuracy": accuracy(mixed),
        "kappa": quadratic_weighted_kappa(mixed),
        "ppv": _ratio(mixed[..., cut:, cut:].sum((-2, -1)), referred),
        "npv": _ratio(mixed[..., :cut, :cut].sum((-2, -1)), passed),
        "referrals_per_1000": 1000 * referred,
    }


def restated_with_intervals(
    targets: np.ndarray,
    predictions: np.ndarray,
    prevalence: np.ndarray,
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Restate predictions (N,) at a prevalence (K,), each value with its bootstrap interval.

    Where all images of a grade were called alike, resampling them says nothing of how often others
    would be called otherwise: that share is then drawn from its Jeffreys posterior (Beta(1/2, n +
    1/2), Brown, Cai & DasGupta 2001), spread over the other grades.
    """
    count = len(prevalence)
    matrix = confusion_matrix(targets, predictions, count)
    found = restate_at_prevalence(matrix, prevalence)
    units = [_trials(targets, predictions, count, groups)[f"recall_{k}"] for k in range(count)]
    generator = np.random.default_rng(seed)
    blocks = []
    for weights in bootstrap_weights(len(targets), resamples, seed, groups):
        drawn = np.array(confusion_matrix(targets, predictions, count, weights), dtype=float)
        for k in np.flatnonzero((matrix > 0).sum(1) == 1):
            other = generator.beta(0.5, units[k] + 0.5, len(drawn))
            drawn[:, k] = other[:, None] / (count - 1)
            drawn[:, k, matrix[k].argmax()] = 1 - other
        blocks.append(restate_at_prevalence(drawn, prevalence))
    result = {}
    for name, value in found.items():
        low, high = percentile_interval(np.concatenate([block[name] for block in blocks]))
        low, high = min(low, float(value)), max(high, float(value))
        if low == high:  # all resamples agree: the bootstrap says nothing
            low = high = math.nan
        result[name] = {"value": float(value), "low": low, "high": high}
    return result


def undefined_reasons(values: dict[str, float], matrix: np.ndarray) -> dict[str, str]:
    """Say for each metric that is NaN why; matrix (K, K) is the confusion matrix."""
    counts = matrix.sum(1)
    absent = [str(k) for k in np.flatnonzero(counts == 0)]
    silent = [str(k) for k in np.flatnonzero((matrix.sum(0) == 0) & (counts > 0))]
    reasons = {}
    for name in (name for name, value in values.items() if math.isnan(value)):
        grade = name.rsplit("_", 1)[-1]
        if name.startswith("referable"):
            reasons[name] = f"needs images on both sides of grade {REFERABLE_GRADE}"
        elif grade in absent:
            reasons[name] = f"there is no image of grade {grade}"
        elif "precision" in name:
            reasons[name] = f"grade {' '.join(silent)} was never predicted"
        else:
            reasons[name] = "the images are all of one grade"
    return reasons


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
    trials = _trials(targets, predictions, probabilities.shape[1], groups)
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


def _trials(
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


def _sums(rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return rows.sum(0) if weights is None else weights.astype(np.float64) @ rows


def _mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    total = np.array(len(values)) if weights is None else weights.sum(-1)
    return _ratio(_sums(values[:, None], weights)[..., 0], total)


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray | float) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    nothing = np.full(np.broadcast(numerator, denominator).shape, math.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
