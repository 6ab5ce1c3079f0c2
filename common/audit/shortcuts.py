"""Probe for shortcuts: can the grade be recognised from what has nothing to do with the eye?

N images, S statistics, K grades. A small classifier is cross-validated on statistics of the files
and of the pictures, without their content; a permutation test (Ojala & Garriga 2010, test 1) says
whether it beats chance, and a rule whether that is alarming. The two differ: real lesions do change
colour and sharpness a little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from common.system.random_streams import random_generator

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin
    from sklearn.ensemble import ExtraTreesClassifier

MOST_IMAGES = 2000
FEWEST_IMAGES = 10  # independent ones of a grade; rarer grades are left out
PERMUTATIONS = 100
P_VALUE = 0.02
TOP_FEATURES = 5


@dataclass(frozen=True)
class Rule:
    """What one kind of statistics means, and from where on it alarms that it predicts the grade."""

    meaning: str
    share: float = 1.0  # of the way from chance to certainty that balanced accuracy may surely go
    grade_auc: float = 1.0  # of one grade against the rest
    # of several grades together that are no end of the scale, such as 1 and 3, against the rest:
    # disease grows with the grade and cannot set them apart, handling can
    nonmonotone_auc: float = 1.0

    @property
    def never_alarms(self) -> bool:
        """Tell whether even certainty is no alarm."""
        return self.share == 1.0


# What the eye cannot cause must predict little. The background, measured where lesions hardly
# reach, may predict more: age and haze go with disease. The whole image has lesions in it.
RULES = {
    "file": Rule("pixels, format, JPEG tables: nothing that an eye can cause", 0.15, 0.90, 0.90),
    "background": Rule(
        "border, colour, brightness, sharpness, noise between the lesions", 0.50, 0.985, 0.95
    ),
    "image": Rule(
        "file size, contrast, spread of colour: lesions change them, so they never alarm"
    ),
    "metadata": Rule(
        "camera, site, age, ... of metadata.csv: who was photographed where", 0.50, 0.985, 0.95
    ),
}


@dataclass(frozen=True)
class Probe:
    """How well one kind of statistics predicts the grade."""

    kind: str  # of KINDS in image_statistics, or "metadata"
    images: int
    balanced_accuracy: float = nan
    kappa: float = nan
    chance: float = nan
    p_value: float = nan
    grade_auc: dict[int, float] = field(default_factory=dict)  # each grade against the rest
    # the grades, no end of the scale, that are recognised best together: AUC against the rest
    nonmonotone_auc: dict[str, float] = field(default_factory=dict)
    # statistic -> balanced accuracy by itself, the best first
    top_features: dict[str, float] = field(default_factory=dict)
    verdict: str = ""  # "alarming", "above chance", "chance" or "not measured"
    reason: str = ""

    def summary(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return dict(vars(self))


def probe(
    kind: str,
    statistics: Mapping[str, np.ndarray],
    grades: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    titles: Sequence[str] = (),
) -> Probe:
    """Cross-validate a classifier of grades (N,) on statistics, each (N,), of one kind.

    groups (N,): images of one patient, or copies of one picture. Each group
    is represented by one image, drawn at random, so that no group is in two folds and labels can be
    permuted image by image. titles: what the grades are called.
    """
    chosen = _independent(grades, groups, random_generator("shortcuts", seed))
    labels = grades[chosen]
    if len(np.unique(labels)) < 2:
        reason = f"fewer than two grades with {FEWEST_IMAGES} independent images"
        return Probe(kind, len(chosen), verdict="not measured", reason=reason)
    varying = {name: v for name, v in statistics.items() if len(np.unique(v)) > 1}
    if not varying:
        return Probe(kind, len(chosen), verdict="chance", reason="all images have the same")
    ranks = {name: _ranks(values[chosen]) for name, values in varying.items()}
    measured = _measure(kind, ranks, labels, seed)
    verdict, reason = _verdict(measured, titles)
    return replace(measured, verdict=verdict, reason=reason)


def _measure(kind: str, ranks: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> Probe:
    """Measure how well ranks (N,) of each statistic predict labels (N,); the verdict is open."""
    from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

    present = np.unique(labels)  # (K,)
    values = np.column_stack(list(ranks.values()))  # (N, S)
    scores = _predict(_forest(seed), values, labels, seed)  # (N, K)
    predicted = present[scores.argmax(axis=1)]
    alone = {name: _tree_accuracy(values[:, [i]], labels, seed) for i, name in enumerate(ranks)}
    best = sorted(alone.items(), key=lambda item: -item[1])[:TOP_FEATURES]
    return Probe(
        kind,
        images=len(labels),
        balanced_accuracy=float(balanced_accuracy_score(labels, predicted)),
        kappa=float(cohen_kappa_score(labels, predicted, weights="quadratic")),
        chance=1 / len(present),
        p_value=_p_value(values, labels, seed),
        grade_auc={
            int(grade): float(roc_auc_score(labels == grade, scores[:, i]))
            for i, grade in enumerate(present)
        },
        nonmonotone_auc=_nonmonotone_auc(scores, labels, present),
        top_features=dict(best),
    )


def _independent(
    grades: np.ndarray, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Choose one image of each group, and about as many of each grade, as indices."""
    order = generator.permutation(len(grades))
    _, first = np.unique(groups[order], return_index=True)
    chosen = order[np.sort(first)]
    counts = np.bincount(grades[chosen])
    chosen = chosen[counts[grades[chosen]] >= FEWEST_IMAGES]
    present = np.unique(grades[chosen])
    # as many of each grade as there is room for: a rare grade is kept whole
    place = np.zeros(len(chosen), dtype=int)
    for grade in present:
        mine = grades[chosen] == grade
        place[mine] = np.arange(mine.sum())
    return np.sort(chosen[place < MOST_IMAGES // max(1, len(present))])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Replace values (N,) by their ranks, 0 to 1."""
    _, ranks = np.unique(values, return_inverse=True)
    return ranks / max(1, ranks.max())


def _forest(seed: int) -> "ExtraTreesClassifier":
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(
        60,
        max_depth=8,
        min_samples_leaf=3,
        max_features=None,
        class_weight="balanced",
        random_state=seed,
    )


def _predict(
    model: "ClassifierMixin", values: np.ndarray, labels: np.ndarray, seed: int
) -> np.ndarray:
    """Predict scores (N, K), each image's by a model that has not seen it."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    return cross_val_predict(model, values, labels, cv=folds, method="predict_proba")


def _tree_accuracy(values: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Cross-validate a single tree on values (N, S); returns its balanced accuracy."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(
        max_depth=5, min_samples_leaf=3, class_weight="balanced", random_state=seed
    )
    predicted = np.unique(labels)[_predict(tree, values, labels, seed).argmax(axis=1)]
    return float(balanced_accuracy_score(labels, predicted))


def _p_value(values: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Test by permuting the labels whether they are independent of the statistics.

    A single tree is refitted for each permutation, and once for the true labels: a forest would
    take minutes.
    """
    generator = random_generator("permutations", seed)
    observed = _tree_accuracy(values, labels, seed)
    drawn = (
        _tree_accuracy(values, generator.permutation(labels), seed) for _ in range(PERMUTATIONS)
    )
    return (1 + sum(score >= observed for score in drawn)) / (1 + PERMUTATIONS)


def _nonmonotone_auc(
    scores: np.ndarray, labels: np.ndarray, present: np.ndarray
) -> dict[str, float]:
    """Find the grades, two or more and no end of the scale, that scores (N, K) separate best.

    Returns their names, such as "1 and 3", and the AUC of those grades against the rest; nothing
    where there are too few grades.
    """
    from sklearn.metrics import roc_auc_score

    best: dict[str, float] = {}
    for size in range(2, len(present) - 1):
        for chosen in combinations(range(len(present)), size):
            contiguous = chosen[-1] - chosen[0] == size - 1
            if contiguous and (chosen[0] == 0 or chosen[-1] == len(present) - 1):
                continue  # an end of the scale
            mine = np.isin(labels, present[list(chosen)])
            auc = float(roc_auc_score(mine, scores[:, list(chosen)].sum(axis=1)))
            if auc > max(best.values(), default=0.0):
                best = {" and ".join(str(present[i]) for i in chosen): auc}
    return best


def _verdict(found: Probe, titles: Sequence[str]) -> tuple[str, str]:
    """Hold a probe against the rule of its kind; returns the verdict and its reason."""
    rule, accuracy = RULES[found.kind], found.balanced_accuracy
    if found.p_value > P_VALUE:
        return "chance", f"p = {found.p_value:.2f}, above {P_VALUE}: it may be chance"
    if rule.never_alarms:
        return "above chance", f"p = {found.p_value:.2f}: some of it may be the lesions themselves"
    most = found.chance + rule.share * (1 - found.chance)
    error = np.sqrt(accuracy * (1 - accuracy) / found.images)  # few images alarm late
    if accuracy - 2 * error > most:
        return "alarming", f"balanced accuracy {accuracy:.2f} is surely above {most:.2f}"
    grade = max(found.grade_auc, key=lambda k: found.grade_auc[k])
    if found.grade_auc[grade] > rule.grade_auc:
        called = titles[grade] if titles else f"grade {grade}"
        return "alarming", (
            f"{called} is recognised with AUC {found.grade_auc[grade]:.3f}, above "
            f"{rule.grade_auc:.3g}"
        )
    for grades, auc in found.nonmonotone_auc.items():
        if auc > rule.nonmonotone_auc:
            places = map(int, grades.split(" and "))
            names = [titles[place] if titles else f"grade {place}" for place in places]
            called = " and ".join(names)
            if all(name.startswith("grade ") for name in names):
                called = f"grades {grades}"
            return "alarming", (
                f"{called}, which no disease sets apart from the others, are recognised "
                f"with AUC {auc:.3f}, above {rule.nonmonotone_auc:.3g}"
            )
    return "above chance", (
        f"p = {found.p_value:.2f}, but balanced accuracy {accuracy:.2f} is not surely above "
        f"{most:.2f}, and no grade's AUC above {rule.grade_auc:.3g}"
    )
