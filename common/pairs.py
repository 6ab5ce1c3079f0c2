"""One-vs-One pairs of classes: the one place that knows which binary problems exist.

A classifier is named by the classes that it tells apart: a pair (a, b), or, with the softmax head
that One-vs-One is compared with, all of them.
"""

from itertools import combinations

import numpy as np

Pair = tuple[int, ...]


HEADS = ("ovo", "softmax")


def describe_pair(pair: Pair, class_names: list[str]) -> str:
    """Name a pair with its classes' names."""
    if len(pair) > 2:
        return pair_name(pair)
    return f"{pair_name(pair)} ({class_names[pair[0]]} vs {class_names[pair[1]]})"


def class_pairs(num_classes: int) -> list[Pair]:
    """List the pairs (a, b), a < b, in order: (0, 1), (0, 2), ... for 5 classes ten of them."""
    if num_classes < 2:
        raise ValueError(f"expected at least 2 classes, found {num_classes}")
    return list(combinations(range(num_classes), 2))


def classifiers(num_classes: int, head: str) -> list[Pair]:
    """List the classifiers of a model: the pairs, or the one of a softmax head."""
    return class_pairs(num_classes) if head == "ovo" else [tuple(range(num_classes))]


def pair_name(pair: Pair) -> str:
    """Name a classifier: (0, 1) is "0-1" as on the command line, all classes are "softmax"."""
    return f"{pair[0]}-{pair[1]}" if len(pair) == 2 else "softmax"


def with_head(name: str, head: str) -> str:
    """Name a model together with its head, where that is not the usual one."""
    return name if head == "ovo" else f"{name} {head}"


def pair_title(pair: Pair) -> str:
    """Name a classifier in a sentence: "pair 0-1" or "softmax head"."""
    return f"pair {pair_name(pair)}" if len(pair) == 2 else "softmax head"


def pair_targets(labels: np.ndarray, pair: Pair) -> np.ndarray:
    """Turn labels (N,), all of the classifier's classes, into targets 0.. (N,) int64."""
    return np.searchsorted(np.array(pair), labels).astype(np.int64)


def parse_pairs(names: list[str], num_classes: int) -> list[Pair]:
    """Read names such as "0-1" into pairs, in the order of `class_pairs`, each once.

    Raises ValueError for a malformed name or one outside the classes.
    """
    known = {pair_name(pair): pair for pair in class_pairs(num_classes)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"expected pairs a-b with a < b < {num_classes} such as 0-1, found {' '.join(unknown)}"
        )
    return [pair for name, pair in known.items() if name in names]
