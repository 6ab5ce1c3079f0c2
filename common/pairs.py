"""One-vs-One pairs of classes: the one place that knows which binary problems exist."""

from itertools import combinations

Pair = tuple[int, int]


def class_pairs(num_classes: int) -> list[Pair]:
    """List the pairs (a, b), a < b, in order: (0, 1), (0, 2), ... for 5 classes ten of them."""
    if num_classes < 2:
        raise ValueError(f"expected at least 2 classes, found {num_classes}")
    return list(combinations(range(num_classes), 2))


def pair_name(pair: Pair) -> str:
    """Name a pair as the command line does: (0, 1) is "0-1"."""
    return f"{pair[0]}-{pair[1]}"


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
