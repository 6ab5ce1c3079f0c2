"""Where pairs contradict each other, and how differently the models of an ensemble err.

N images, K classes, P pairs, L models.
"""

from itertools import combinations
from typing import Any

import numpy as np

from common.evaluation.metrics import ratio
from common.pairs import class_pairs, pair_name
from common.prediction.voting import couple, has_tie, pairwise_wins

REFERRED_SHARES = (0.05, 0.10, 0.20)


def pairwise_diversity(correct: np.ndarray) -> dict[str, np.ndarray]:
    """Measure each pair of models, (L, L) matrices by name.

    disagreement: share of images that one alone gets right. q: Yule's Q. correlation: of the two
    columns. double_fault: share that both get wrong. error_kappa: Cohen's kappa of the columns.
    The diagonals compare a model with itself.
    """
    right = correct.astype(np.float64)
    both = right.T @ right  # (L, L)
    neither = (1 - right).T @ (1 - right)
    first, second = right.T @ (1 - right), (1 - right).T @ right
    total = len(correct)
    cross = both * neither - first * second
    margins = (both + first, neither + first, both + second, neither + second)
    chance = margins[0] * margins[1] + margins[2] * margins[3]
    return {
        "disagreement": ratio(first + second, total),
        "q": ratio(cross, both * neither + first * second),
        "correlation": ratio(cross, np.sqrt(np.prod(margins, axis=0))),
        "double_fault": ratio(neither, total),
        "error_kappa": ratio(2 * cross, chance),
    }


def ensemble_diversity(correct: np.ndarray) -> dict[str, float]:
    """Measure the ensemble as a whole.

    entropy: 0 (all alike) to 1 (half of the models wrong). kohavi_wolpert: variance. generalised:
    1 - p(2)/p(1), where p(i) is the chance that i random models fail on a random image; 1 when
    one's failure is never another's. oracle_accuracy: share that at least one model gets right.
    """
    count = correct.shape[1]
    right = correct.sum(1).astype(np.float64)  # (N,)
    wrong = count - right
    half = count - np.ceil(count / 2)
    one, two = wrong.mean() / count, (wrong * (wrong - 1)).mean() / (count * max(count - 1, 1))
    return {
        "entropy": float(ratio(np.minimum(right, wrong).mean(), half)),
        "kohavi_wolpert": float((right * wrong).mean() / count**2),
        "generalised": float(1 - ratio(two, one)),
        "oracle_accuracy": float((right > 0).mean()),
    }


def count_cycles(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Count (N,) the three-cycles: a beats b, b beats c, c beats a; at most 5 for 5 classes."""
    beats = pairwise_wins(pair_probabilities > 0.5, num_classes) > 0
    cycles = np.zeros(len(pair_probabilities), dtype=int)
    for a, b, c in combinations(range(num_classes), 3):
        cycles += (beats[:, a, b] & beats[:, b, c] & beats[:, c, a]).astype(int)
        cycles += (beats[:, b, a] & beats[:, c, b] & beats[:, a, c]).astype(int)
    return cycles


def coupling_residual(pair_probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Return (N,) how far the pairs are from any class probabilities: the coupling's least sum."""
    wins = pairwise_wins(pair_probabilities, num_classes)
    p = couple(wins)
    gaps = wins.transpose(0, 2, 1) * p[:, :, None] - wins * p[:, None, :]
    return (gaps**2).sum((1, 2))


def referral_curve(
    correct: np.ndarray, cycles: np.ndarray, residual: np.ndarray
) -> list[dict[str, float]]:
    """Compare the accuracy of all images with that of those kept when the rest is referred.

    The most inconsistent images go first: those with most cycles, then those with the largest
    residual. All arguments (N,).
    """
    order = np.lexsort((-residual, -cycles))  # most inconsistent first
    rows = [{"referred": 0.0, "images": len(correct), "accuracy": float(correct.mean())}]
    for share in REFERRED_SHARES:
        kept = correct[order[round(share * len(correct)) :]]
        away = correct[order[: round(share * len(correct))]]
        rows.append(
            {
                "referred": share,
                "images": len(kept),
                "accuracy": float(kept.mean()) if len(kept) else float("nan"),
                "accuracy_of_referred": float(away.mean()) if len(away) else float("nan"),
            }
        )
    return rows


def votes_by_grade(
    pair_probabilities: np.ndarray, targets: np.ndarray, num_classes: int
) -> dict[str, list[float]]:
    """Tell for each pair the share of each grade's images that it gives to its higher class.

    Only two of the K shares are of grades that the pair was trained for; NaN without images.
    """
    votes = pair_probabilities > 0.5
    return {
        pair_name(pair): [
            float(votes[targets == grade, column].mean()) if (targets == grade).any() else np.nan
            for grade in range(num_classes)
        ]
        for column, pair in enumerate(class_pairs(num_classes))
    }


def measure_consistency(
    targets: np.ndarray, pair_probabilities: np.ndarray, predictions: np.ndarray, num_classes: int
) -> dict[str, Any]:
    """Gather ties, cycles, the referral curve and the votes on every grade."""
    cycles = count_cycles(pair_probabilities, num_classes)
    residual = coupling_residual(pair_probabilities, num_classes)
    correct = targets == predictions
    tied = has_tie(pair_probabilities, num_classes)
    return {
        "tied_images": int(tied.sum()),
        "accuracy_of_tied": float(correct[tied].mean()) if tied.any() else float("nan"),
        "images_with_cycles": int((cycles > 0).sum()),
        "accuracy_of_cyclic": float(correct[cycles > 0].mean()) if cycles.any() else float("nan"),
        "referral": referral_curve(correct, cycles, residual),
        "votes_for_higher_class": votes_by_grade(pair_probabilities, targets, num_classes),
    }
