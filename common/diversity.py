"""How differently the models of an ensemble err (Kuncheva & Whitaker 2003).

N images, L models. All functions take `correct` (N, L) bool: which model grades which image right.
What is undefined (the correlation with a model that is never wrong) is NaN.
"""

import numpy as np


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
        "disagreement": _ratio(first + second, total),
        "q": _ratio(cross, both * neither + first * second),
        "correlation": _ratio(cross, np.sqrt(np.prod(margins, axis=0))),
        "double_fault": _ratio(neither, total),
        "error_kappa": _ratio(2 * cross, chance),
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
        "entropy": float(_ratio(np.minimum(right, wrong).mean(), half)),
        "kohavi_wolpert": float((right * wrong).mean() / count**2),
        "generalised": float(1 - _ratio(two, one)),
        "oracle_accuracy": float((right > 0).mean()),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray | float) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    nothing = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
