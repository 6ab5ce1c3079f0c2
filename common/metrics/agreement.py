"""Where pairs contradict each other, and how differently the models of an ensemble err.

N images, K classes, P pairs, L models.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from common.metrics.shares import check_labels, ratio
from common.pairs import class_pairs, pair_name
from common.prediction.predictions import PairPredictions
from common.prediction.voting import (
    ClassPredictions,
    has_tie,
    pairwise_wins,
    votes_for_higher,
)


@dataclass(frozen=True)
class PairwiseDiversity:
    """How each two models of an ensemble err, (L, L) each; diagonals: a model with itself."""

    disagreement: np.ndarray  # share of images that one alone gets right
    q: np.ndarray  # Yule's Q
    correlation: np.ndarray  # of who is right
    double_fault: np.ndarray  # share of images that both get wrong
    error_kappa: np.ndarray  # Cohen's kappa of who is right

    def of(self, model: int, other: int) -> dict[str, float]:
        """Return the measures of two models by name."""
        return {name: float(matrix[model, other]) for name, matrix in vars(self).items()}


@dataclass(frozen=True)
class EnsembleDiversity:
    """How the models of an ensemble err together."""

    entropy: float  # 0 (all alike) to 1 (half of the models wrong)
    kohavi_wolpert: float  # variance
    generalised: float  # 1 - p(2) / p(1), p(i): i random models all fail on a random image
    oracle_accuracy: float  # share of images that at least one model gets right


@dataclass(frozen=True)
class Consistency:
    """Where a model's pairs contradict each other."""

    tied_images: int
    accuracy_of_tied: float
    images_with_cycles: int
    accuracy_of_cyclic: float
    votes_for_higher_class: dict[str, list[float]]  # by pair, for each grade


def pairwise_diversity(correct: np.ndarray) -> PairwiseDiversity:
    """Measure each two models; correct (N, L) bool says which model gets which image right."""
    right = _who_is_right(correct).astype(np.float64)
    both = right.T @ right  # (L, L)
    neither = (1 - right).T @ (1 - right)
    first, second = right.T @ (1 - right), (1 - right).T @ right
    total = len(correct)
    cross = both * neither - first * second
    margins = (both + first, neither + first, both + second, neither + second)
    chance = margins[0] * margins[1] + margins[2] * margins[3]
    return PairwiseDiversity(
        disagreement=ratio(first + second, total),
        q=ratio(cross, both * neither + first * second),
        correlation=ratio(cross, np.sqrt(np.prod(margins, axis=0))),
        double_fault=ratio(neither, total),
        error_kappa=ratio(2 * cross, chance),
    )


def _who_is_right(correct: np.ndarray) -> np.ndarray:
    """Return (N, L) as it is; ValueError for anything but truth values of images and models."""
    if correct.dtype != bool or correct.ndim != 2 or 0 in correct.shape:
        raise ValueError(
            "expected True or False for each image and model, found shape "
            f"{correct.shape} of {correct.dtype}"
        )
    return correct


def ensemble_diversity(correct: np.ndarray) -> EnsembleDiversity:
    """Measure the ensemble as a whole (Kuncheva & Whitaker 2003); correct (N, L) bool."""
    count = _who_is_right(correct).shape[1]
    right = correct.sum(1).astype(np.float64)  # (N,)
    wrong = count - right
    half = count - np.ceil(count / 2)
    one, two = wrong.mean() / count, (wrong * (wrong - 1)).mean() / (count * max(count - 1, 1))
    return EnsembleDiversity(
        entropy=float(ratio(np.minimum(right, wrong).mean(), half)),
        kohavi_wolpert=float((right * wrong).mean() / count**2),
        generalised=float(1 - ratio(two, one)),
        oracle_accuracy=float((right > 0).mean()),
    )


def count_cycles(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Count (N,) the three-cycles: a beats b, b beats c, c beats a; at most 5 for 5 classes."""
    beats = pairwise_wins(votes_for_higher(pair_probabilities, num_classes), num_classes) > 0
    cycles = np.zeros(len(pair_probabilities), dtype=int)
    for a, b, c in combinations(range(num_classes), 3):
        cycles += (beats[:, a, b] & beats[:, b, c] & beats[:, c, a]).astype(int)
        cycles += (beats[:, b, a] & beats[:, c, b] & beats[:, a, c]).astype(int)
    return cycles


def _mean(correct: np.ndarray) -> float:
    return float(correct.mean()) if len(correct) else float("nan")


def votes_by_grade(
    pair_probabilities: np.ndarray, targets: np.ndarray, num_classes: int
) -> dict[str, list[float]]:
    """Measure for each pair the share of each grade's images that it gives to its higher class.

    Only two of the K shares are of grades that the pair was trained for; NaN without images.
    """
    votes = votes_for_higher(pair_probabilities, num_classes)
    targets = check_labels("labels", targets, num_classes)
    return {
        pair_name(pair): [
            float(votes[targets == grade, column].mean()) if (targets == grade).any() else np.nan
            for grade in range(num_classes)
        ]
        for column, pair in enumerate(class_pairs(num_classes))
    }


def measure_consistency(pairs: PairPredictions, classes: ClassPredictions) -> Consistency:
    """Gather ties, cycles and the votes on every grade."""
    probabilities, num_classes = pairs.pair_probabilities, pairs.num_classes
    cycles = count_cycles(probabilities, num_classes)
    correct = pairs.targets == classes.predicted
    tied = has_tie(probabilities, num_classes)
    return Consistency(
        tied_images=int(tied.sum()),
        accuracy_of_tied=_mean(correct[tied]),
        images_with_cycles=int((cycles > 0).sum()),
        accuracy_of_cyclic=_mean(correct[cycles > 0]),
        votes_for_higher_class=votes_by_grade(probabilities, pairs.targets, num_classes),
    )
