"""One-vs-One pairs of classes, and what one trained network decides between: its head.

This is the one place that knows which binary problems exist. N images, K classes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from common.system.log import printable

Pair = tuple[int, int]  # (a, b), a < b
HEADS = ("ovo", "shared", "softmax")  # values of --head
_SEED = re.compile(r"_seed(\d+)$")  # at the end of a model's name: one of several trainings


@dataclass(frozen=True)
class Head:
    """What one trained network decides between: the classes of a pair, or all classes.

    One of a pair has a single output, the logit of its second class; a shared one has that of each
    pair of its classes; a softmax has a logit for each class.
    """

    kind: str  # among HEADS
    name: str  # "0-1" as on the command line, "shared" or "softmax"
    title: str  # within a sentence: "pair 0-1" or "softmax head"
    classes: tuple[int, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that have an output each; none of a softmax head."""
        return tuple(combinations(self.classes, 2)) if has_pair_outputs(self.kind) else ()

    @property
    def outputs(self) -> int:
        """Count the logits."""
        return len(self.pairs) or len(self.classes)

    @property
    def file_suffix(self) -> str:
        """How file names end: "0_1", "shared" or "softmax"."""
        return self.name.replace("-", "_")

    @property
    def is_binary(self) -> bool:
        """Tell whether one logit decides between two classes."""
        return self.kind == "ovo"

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Turn labels (N,), all of this head's classes, into targets 0.. (N,) int64."""
        return np.searchsorted(np.array(self.classes), labels).astype(np.int64)

    def describe(self, class_names: Sequence[str]) -> str:
        """Name the head together with its classes: "0-1 (none vs mild)"."""
        if not self.is_binary:
            return self.name
        first, second = self.classes
        return f"{self.name} ({printable(class_names[first])} vs {printable(class_names[second])})"

    def title_with(self, class_names: Sequence[str]) -> str:
        """Name the head within a sentence, with its classes where they are called otherwise."""
        plain = all(class_names[place] == str(place) for place in self.classes)
        return self.title if plain else self.title.replace(self.name, self.describe(class_names))


def pair_head(pair: Pair) -> Head:
    """Make the head of a binary classifier."""
    name = pair_name(pair)
    return Head("ovo", name, f"pair {name}", pair)


def softmax_head(num_classes: int) -> Head:
    """Make the head that One-vs-One is compared with: one logit for each class."""
    return Head("softmax", "softmax", "softmax head", tuple(range(num_classes)))


def shared_head(num_classes: int) -> Head:
    """Make the head of one network for all pairs: one logit for each of them.

    Source: Pawara et al. 2020, "One-vs-One classification for deep neural networks".
    """
    return Head("shared", "shared", "shared head", tuple(range(num_classes)))


def has_pair_outputs(kind: str) -> bool:
    """Tell whether models of a kind of head have learned each pair; a softmax has only classes."""
    return kind != "softmax"


def is_one_network(kind: str) -> bool:
    """Tell whether a model of a kind of head is a single classifier, and not one for each pair."""
    return kind != "ovo"


def heads_of_model(num_classes: int, kind: str) -> list[Head]:
    """List the heads of a model of one of the HEADS: one for each pair, or one for all classes.

    Raises ValueError for another kind.
    """
    if kind == "ovo":
        return [pair_head(pair) for pair in class_pairs(num_classes)]
    return [head_from_classes(range(num_classes), kind)]


def head_from_classes(classes: Sequence[int], kind: str = "") -> Head:
    """Make the head whose classes a checkpoint lists: two of a pair, otherwise 0 .. K - 1.

    kind: among HEADS; "": an earlier file, where a head of all classes is a softmax. Raises
    ValueError for other lists or kinds.
    """
    if kind not in ("", *HEADS):
        raise ValueError(f"expected a head of {' '.join(HEADS)}, found {str(kind)[:40]!r}")
    if len(classes) == 2 and 0 <= classes[0] < classes[1] and kind in ("", "ovo"):
        return pair_head((classes[0], classes[1]))
    if len(classes) > 2 and list(classes) == list(range(len(classes))) and kind != "ovo":
        return (shared_head if kind == "shared" else softmax_head)(len(classes))
    raise ValueError(f"expected the two classes of a pair, or all classes, found {list(classes)}")


def class_pairs(num_classes: int) -> list[Pair]:
    """List the pairs (a, b), a < b, in order: (0, 1), (0, 2), ... for 5 classes ten of them."""
    if num_classes < 2:
        raise ValueError(f"expected at least 2 classes, found {num_classes}")
    return list(combinations(range(num_classes), 2))


def pair_name(pair: Pair) -> str:
    """Name a pair as on the command line: (0, 1) is "0-1"."""
    return f"{pair[0]}-{pair[1]}"


def pair_targets(labels: np.ndarray, pair: Pair) -> np.ndarray:
    """Turn labels (N,), all of the pair's classes, into targets (N,) int64, 1 for the second."""
    return (labels == pair[1]).astype(np.int64)


def with_head(name: str, kind: str) -> str:
    """Name a model together with its kind of head, where that is not the usual one."""
    return name if kind == "ovo" else f"{name} {kind}"


def split_head(name: str) -> tuple[str, str]:
    """Read a model's name on the command line: "convnext_shared" is ("convnext", "shared").

    Without a kind of head at its end it is of the usual one. What says the seed is left out.
    """
    name = _SEED.sub("", name)
    kind = next((kind for kind in HEADS if name.endswith(f"_{kind}")), "")
    return name.removesuffix(f"_{kind}"), kind or "ovo"


def seed_of(name: str) -> str:
    """Read from a model's name which of several seeds it is of: "1" of "convnext_shared_seed1"."""
    found = _SEED.search(name)
    return found[1] if found else ""


def pair_flag(pair: Pair, class_names: Sequence[str] = ()) -> str:
    """Name a pair as --pairs takes it: by its classes where these are numbers, else by places."""
    if all(name.isdecimal() for name in class_names) and class_names:
        return f"{class_names[pair[0]]}-{class_names[pair[1]]}"
    return pair_name(pair)


def parse_pairs(
    names: Sequence[str], num_classes: int, class_names: Sequence[str] = ()
) -> list[Pair]:
    """Read names such as "0-1" into pairs, in the order of `class_pairs`, each once.

    class_names: if given, a pair may be named by its classes, too, in any case ("No_DR-Mild"); with
    names that are numbers, "1-2" means these and not places. Raises ValueError for a malformed
    name, one outside the classes or one that fits several pairs.
    """
    pairs = class_pairs(num_classes)
    named: dict[str, list[Pair]] = {}
    for pair in pairs if class_names else ():
        first, second = (class_names[place].casefold() for place in pair)
        named.setdefault(f"{first}-{second}", []).append(pair)
    known = {pair_flag(pair, class_names): [pair] for pair in pairs}
    found = [known.get(name) or named.get(name.casefold(), []) for name in names]
    unknown = [name for name, fits in zip(names, found) if len(fits) != 1]
    if unknown:
        flags = " ".join(known)
        what = f"in the order of --class_names, such as {flags.split()[0]}"
        if class_names and flags.split()[0] == pair_name(pairs[0]):
            first, second = map(printable, class_names[:2])
            what += f" or {first}-{second}"
        elif not class_names:
            what = f"with a < b < {num_classes} such as 0-1, or classes by name with --class_names"
        raise ValueError(f"--pairs: expected a-b {what}, found {printable(' '.join(unknown))}")
    chosen = {fits[0] for fits in found}
    return [pair for pair in pairs if pair in chosen]
