"""From the probabilities of the pairs to those of the classes, and from models to an ensemble.

N images, K classes, P = K (K - 1) / 2 pairs in the order of `class_pairs`. The probability of a
pair (a, b) is that of class b. What is no probability, or of another shape, is a ValueError: a NaN
would lose every comparison without a word, and the first class would win.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.pairs import class_pairs

VOTES = ("coupling", "soft", "hard", "weighted")
SKLEARN_VOTE = "votes + confidence"  # for comparison only: its scores are no probabilities
_LEAST = 1e-7  # keeps the coupling's system regular when a pair is entirely sure


@dataclass(frozen=True)
class ClassPredictions:
    """How likely each class is for each image, and which one was chosen."""

    probabilities: np.ndarray  # (N, K), rows sum to 1
    predicted: np.ndarray  # (N,) int

    def accuracy(self, targets: np.ndarray) -> float:
        """Return the share of images whose predicted class is the target (N,)."""
        return float((self.predicted == targets).mean())


def combine_pairs(
    pair_probabilities: np.ndarray,
    num_classes: int,
    vote: str = "coupling",
    pair_weights: np.ndarray | None = None,
) -> ClassPredictions:
    """Turn (N, P) pair probabilities into those of the classes and the class chosen.

    vote: "hard" (votes, ties by summed probability), "soft" (summed probabilities), "weighted"
    (summed with pair_weights (P,)), or "coupling" (Wu, Lin & Weng 2004, second method). Only the
    coupling's output is a probability by design; that of the others is their normalised score.
    """
    wins = pairwise_wins(pair_probabilities, num_classes)  # (N, K, K)
    if vote == "coupling":
        scores = couple(wins)
        return ClassPredictions(scores, scores.argmax(1))
    soft = wins.sum(2)  # (N, K), at most K - 1 each
    if vote == "soft":
        return ClassPredictions(_normalised(soft), soft.argmax(1))
    if vote == "weighted":
        if pair_weights is None or not usable_weights(pair_weights, pair_probabilities.shape[1]):
            raise ValueError(
                f"the weighted vote needs pair_weights, {pair_probabilities.shape[1]} numbers of 0 "
                f"or more, not all 0; found {pair_weights}"
            )
        weights = np.broadcast_to(pair_weights, pair_probabilities.shape)
        scores = (wins * _matrix(weights, weights, num_classes)).sum(2)
        return ClassPredictions(_normalised(scores), scores.argmax(1))
    if vote == "hard":
        votes = hard_votes(pair_probabilities, num_classes)
        return ClassPredictions(_normalised(votes), (votes + soft / num_classes).argmax(1))
    if vote == SKLEARN_VOTE:
        scores = votes_with_confidence(pair_probabilities, num_classes)
        positive = scores + 1 / 3  # the bounded confidence is above -1/3
        return ClassPredictions(_normalised(positive), scores.argmax(1))
    raise ValueError(f"expected a vote of {' '.join(VOTES)}, found {vote!r}")


def usable_weights(weights: np.ndarray, count: int) -> bool:
    """Tell whether these are `count` weights that can be divided by their sum."""
    weights = np.asarray(weights, float)
    return weights.shape == (count,) and bool((weights >= 0).all() and 0 < weights.sum() < np.inf)


def _normalised(scores: np.ndarray) -> np.ndarray:
    return scores / scores.sum(1, keepdims=True)


def pairwise_wins(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Lay pair probabilities (N, P) out as (N, K, K): [n, i, j] is that of i against j."""
    probabilities = checked(pair_probabilities, num_classes)
    return _matrix(1 - probabilities, probabilities, num_classes)


def checked(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Return pair probabilities (N, P) as float64; ValueError for anything else."""
    probabilities, count = np.asarray(pair_probabilities), len(class_pairs(num_classes))
    if probabilities.ndim != 2 or probabilities.shape[1] != count:
        raise ValueError(
            f"expected the probabilities of {count} pairs for each image, found an array of shape "
            f"{probabilities.shape}"
        )
    return _shares(probabilities, "pair probabilities")


def _shares(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    wrong = ~((values >= 0) & (values <= 1 + 1e-6))  # a sum of classes is rounded
    if wrong.any():
        raise ValueError(
            f"expected {what} of 0 to 1, found {wrong.sum()} that are none, the first "
            f"{values[wrong][0]} at {tuple(map(int, np.argwhere(wrong)[0]))}"
        )
    return values


def votes_for_higher(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Tell (N, P) which pairs vote for their higher class: those above 0.5."""
    return checked(pair_probabilities, num_classes) > 0.5


def hard_votes(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Count each class's votes, (N, K); a pair votes for its higher class above 0.5."""
    return pairwise_wins(votes_for_higher(pair_probabilities, num_classes), num_classes).sum(2)


def votes_with_confidence(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Add to each class's votes (N, K) its summed logits, squeezed into +-1/3 to break ties.

    What scikit-learn's OneVsOneClassifier does with the decision values of its estimators.
    """
    p = np.clip(checked(pair_probabilities, num_classes), _LEAST, 1 - _LEAST)
    logits = np.log(p / (1 - p))
    confidence = _matrix(-logits, logits, num_classes).sum(2)
    bounded = confidence / (3 * (np.abs(confidence) + 1))
    return hard_votes(pair_probabilities, num_classes) + bounded


def has_tie(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Tell (N,) where several classes share the most votes."""
    votes = hard_votes(pair_probabilities, num_classes)
    return (votes == votes.max(1, keepdims=True)).sum(1) > 1


def couple(wins: np.ndarray) -> np.ndarray:
    """Find the class probabilities (N, K) that agree best with pairwise ones (N, K, K).

    Minimises sum over i != j of (r_ji p_i - r_ij p_j)^2 with sum p = 1 (Wu, Lin & Weng 2004,
    "Probability estimates for multi-class classification by pairwise coupling", eq. 19 to 21).
    """
    count = wins.shape[-1]
    if wins.ndim != 3 or wins.shape[1] != count:
        raise ValueError(f"expected (N, K, K) pairwise probabilities, found shape {wins.shape}")
    wins = _shares(wins, "pairwise probabilities")
    off = 1 - np.eye(count)
    r = np.clip(wins, _LEAST, 1 - _LEAST) * off
    system = np.zeros((len(wins), count + 1, count + 1))
    system[:, :count, :count] = -r * r.transpose(0, 2, 1)
    diagonal = np.arange(count)
    system[:, diagonal, diagonal] = (r**2).sum(1)  # sum over s of r_si^2
    system[:, :count, count] = system[:, count, :count] = 1
    right = np.zeros((len(wins), count + 1, 1))
    right[:, count] = 1
    solution = np.linalg.solve(system, right)[:, :count, 0].clip(min=0)
    return solution / solution.sum(1, keepdims=True)


def combine_models(
    class_probabilities: Sequence[np.ndarray], weights: Sequence[float] | None = None
) -> ClassPredictions:
    """Average the class probabilities (N, K) of several models, with weights (>= 0) if given."""
    shapes = {np.shape(probabilities) for probabilities in class_probabilities}
    if len(shapes) != 1 or len(*shapes) != 2:
        raise ValueError(f"expected (N, K) probabilities of each model alike, found {shapes}")
    if weights is not None and not usable_weights(np.asarray(weights), len(class_probabilities)):
        raise ValueError(
            f"expected a weight of 0 or more for each of {len(class_probabilities)} models, not "
            f"all 0, found {list(weights)}"
        )
    stacked = np.stack([_shares(p, "class probabilities") for p in class_probabilities])
    mean = np.average(stacked, axis=0, weights=weights)
    return ClassPredictions(mean, mean.argmax(1))


def _matrix(lower: np.ndarray, upper: np.ndarray, num_classes: int) -> np.ndarray:
    """Place (N, P) values: `lower` at [a, b], what a pair's first class gets, `upper` at [b, a]."""
    matrix = np.zeros((len(lower), num_classes, num_classes))
    for column, (a, b) in enumerate(class_pairs(num_classes)):
        matrix[:, a, b], matrix[:, b, a] = lower[:, column], upper[:, column]
    return matrix
