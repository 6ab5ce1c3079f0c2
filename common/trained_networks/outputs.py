"""What networks say of pictures, as probabilities of the pairs in grade order.

N images, P pairs, K classes.
"""

import numpy as np
import scipy.special

from common.pairs import class_pairs, has_pair_outputs, is_one_network
from common.result_dir.run import Run
from common.system.errors import InputError


def in_grade_order(
    values: np.ndarray, order: tuple[int, ...], are_shares: bool = True
) -> np.ndarray:
    """Arrange values of pairs (..., P) of classes in any order as those in grade order.

    order (K,): the place of each class. are_shares: they are probabilities of a pair's second
    class, and turn over with the pair.
    """
    columns = {pair: column for column, pair in enumerate(class_pairs(len(order)))}
    found = []
    for a, b in columns:
        first, second = order[a], order[b]
        column = values[..., columns[min(first, second), max(first, second)]]
        found.append(1 - column if are_shares and first > second else column)
    return np.stack(found, axis=-1)


def probabilities_of(logits: np.ndarray, run: Run) -> np.ndarray:
    """Turn a model's logits into pair probabilities (N, P) in grade order.

    Raises InputError where they are not finite.
    """
    finite = np.isfinite(logits).all(0)
    if not finite.all():
        path = run.files[0 if is_one_network(run.head) else int(np.argmin(finite))]
        raise InputError(f"{path}: gives values that are not finite; train this classifier again")
    return in_grade_order(pair_probabilities(logits, run.head), run.order)


def pair_probabilities(logits: np.ndarray, head: str) -> np.ndarray:
    """Turn logits (N, P) of pairs, or (N, K) of a softmax head, into pair probabilities (N, P).

    Those of a softmax head are p_b / (p_a + p_b): the coupling then gives back its probabilities.
    """
    return scipy.special.expit(pair_logits(logits.astype(np.float64), head))


def pair_logits(outputs: np.ndarray, head: str) -> np.ndarray:
    """Turn outputs (..., P) of pairs, or (..., K) of a softmax head, into logits (..., P) of pairs.

    Those of a softmax head are the differences of its outputs.
    """
    if has_pair_outputs(head):
        return outputs
    columns = class_pairs(outputs.shape[-1])
    return np.stack([outputs[..., b] - outputs[..., a] for a, b in columns], axis=-1)
