"""Shortcut probe: can the grade be told from what has nothing to do with the eye?

N images, S statistics, K grades. A small classifier is cross-validated on statistics of the files
and of the pictures, without their content; a permutation test (Ojala & Garriga 2010, test 1) says
whether it beats chance, and a rule whether that is alarming. The two differ: real lesions do change
colour and sharpness a little.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from common.system.random_streams import random_generator

MOST_IMAGES = 2000


FEWEST_IMAGES = 10  # independent ones of a grade; rarer grades are left out


PERMUTATIONS = 100


P_VALUE = 0.02


# share of the way from chance to certainty, and AUC of one grade against the rest, that alarm.
# What the eye cannot cause must tell little. The ground, measured where lesions hardly reach, may
# tell more: age and haze go with disease. The whole picture never alarms: lesions are in it.
ALARMS = {"file": (0.15, 0.90), "ground": (0.50, 0.985), "whole": (1.0, 1.0)}


# AUC of several grades together against the rest where they are no end of the scale, such as 1 and
# 3: disease grows with the grade and cannot tell them, handling can
SCATTERED = {"file": 0.90, "ground": 0.95, "whole": 1.0}


MEANINGS = {
    "file": "pixels, format, JPEG tables: nothing that an eye can cause",
    "ground": "border, colour, brightness, sharpness, noise between the lesions",
    "whole": "file size, contrast, spread of colour: lesions change them, so they never alarm",
}


@dataclass(frozen=True)
class Probe:
    """How well one kind of statistics tells the grade."""

    kind: str  # "file", "ground" or "whole"
    images: int
    balanced_accuracy: float
    kappa: float
    chance: float
    p_value: float
    grade_auc: dict[int, float]  # each grade against the rest
    scattered: dict[str, float]  # the grades, no end of the scale, told best from the rest: AUC
    top_features: dict[str, float]  # statistic -> balanced accuracy by itself, the best first
    verdict: str  # "alarming", "above chance", "chance" or "not measured"
    reason: str

    def summary(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return dict(vars(self))


def probe(
    kind: str,
    statistics: dict[str, np.ndarray],
    grades: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
) -> Probe:
    """Cross-validate a classifier of grades (N,) on statistics, each (N,), of one kind.

    groups (N,): images of one patient, or copies of one picture. One image, drawn at random, stands
    for each group, so that no group is in two folds and labels can be permuted image by image.
    """
    names = [name for name, values in statistics.items() if len(np.unique(values)) > 1]
    chosen = _independent(grades, groups, random_generator("shortcuts", seed))
    present = np.unique(grades[chosen])
    if not names or len(present) < 2:
        reason = (
            "all images have the same"
            if len(present) > 1
            else (f"fewer than two grades with {FEWEST_IMAGES} independent images")
        )
        verdict = "chance" if len(present) > 1 else "not measured"
        return Probe(kind, len(chosen), *[float("nan")] * 4, {}, {}, {}, verdict, reason)
    values = np.column_stack([_ranks(statistics[name][chosen]) for name in names])
    labels = grades[chosen]
    forest = ExtraTreesClassifier(
        60,
        max_depth=8,
        min_samples_leaf=3,
        max_features=None,
        class_weight="balanced",
        random_state=seed,
    )
    scores = _predict(forest, values, labels, seed)
    predicted = present[scores.argmax(axis=1)]
    accuracy = balanced_accuracy_score(labels, predicted)
    auc = {int(k): float(roc_auc_score(labels == k, scores[:, i])) for i, k in enumerate(present)}
    scattered = _scattered_auc(scores, labels, present)
    p_value = _p_value(values, labels, seed)
    alone = {name: _tree_accuracy(values[:, [i]], labels, seed) for i, name in enumerate(names)}
    top_features = dict(sorted(alone.items(), key=lambda item: -item[1])[:5])
    chance = 1 / len(present)
    verdict, reason = _judge(kind, accuracy, chance, p_value, auc, scattered, len(chosen))
    kappa = cohen_kappa_score(labels, predicted, weights="quadratic")
    return Probe(
        kind,
        len(chosen),
        float(accuracy),
        float(kappa),
        chance,
        p_value,
        auc,
        scattered,
        top_features,
        verdict,
        reason,
    )


def _independent(
    grades: np.ndarray, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    order = generator.permutation(len(grades))
    _, first = np.unique(groups[order], return_index=True)
    chosen = order[np.sort(first)]
    counts = np.bincount(grades[chosen])
    chosen = chosen[counts[grades[chosen]] >= FEWEST_IMAGES]
    kinds = len(np.unique(grades[chosen]))
    # as many of each grade as there is room for: a rare grade is kept whole
    place = np.zeros(len(chosen), dtype=int)
    for grade in np.unique(grades[chosen]):
        mine = grades[chosen] == grade
        place[mine] = np.arange(mine.sum())
    return np.sort(chosen[place < MOST_IMAGES // max(1, kinds)])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, ranks = np.unique(values, return_inverse=True)
    return ranks / max(1, ranks.max())


def _predict(
    model: ClassifierMixin, values: np.ndarray, labels: np.ndarray, seed: int
) -> np.ndarray:
    """Predict scores (N, K) of each image by a model that has not seen it."""
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    return cross_val_predict(model, values, labels, cv=folds, method="predict_proba")


def _tree_accuracy(values: np.ndarray, labels: np.ndarray, seed: int) -> float:
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


def _scattered_auc(scores: np.ndarray, labels: np.ndarray, present: np.ndarray) -> dict[str, float]:
    """Find the grades, two or more and no end of the scale, that scores (N, K) tell best apart."""
    best: dict[str, float] = {}
    for size in range(2, len(present) - 1):
        for chosen in combinations(range(len(present)), size):
            end = chosen[-1] - chosen[0] == size - 1 and (
                chosen[0] == 0 or chosen[-1] == len(present) - 1
            )
            if not end:
                mine = np.isin(labels, present[list(chosen)])
                auc = float(roc_auc_score(mine, scores[:, list(chosen)].sum(1)))
                if auc > max(best.values(), default=0.0):
                    best = {" and ".join(str(present[i]) for i in chosen): auc}
    return best


def _judge(
    kind: str,
    accuracy: float,
    chance: float,
    p_value: float,
    auc: dict[int, float],
    scattered: dict[str, float],
    images: int,
) -> tuple[str, str]:
    share, limit = ALARMS[kind]
    most = chance + share * (1 - chance)
    error = np.sqrt(accuracy * (1 - accuracy) / images)  # few images alarm late
    grade = max(auc, key=lambda k: auc[k])
    if p_value > P_VALUE:
        return "chance", f"p = {p_value:.2f}, above {P_VALUE}: it may be chance"
    if share == 1:
        return "above chance", f"p = {p_value:.2f}: some of it may be the lesions themselves"
    if accuracy - 2 * error > most:
        return "alarming", f"balanced accuracy {accuracy:.2f} is surely above {most:.2f}"
    if auc[grade] > limit:
        return "alarming", f"grade {grade} is told with AUC {auc[grade]:.3f}, above {limit:.3g}"
    for grades, value in scattered.items():
        if value > SCATTERED[kind]:
            return "alarming", (
                f"grades {grades}, which no disease sets apart, are told with AUC "
                f"{value:.3f}, above {SCATTERED[kind]:.3g}"
            )
    return "above chance", (
        f"p = {p_value:.2f}, but balanced accuracy {accuracy:.2f} is not "
        f"surely above {most:.2f}, and no grade's AUC above "
        f"{limit:.3g}"
    )
