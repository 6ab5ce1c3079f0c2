"""Measure a grader's predictions under every vote.

N images, K classes, P pairs.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.aggregation import SKLEARN_VOTE, VOTES, aggregate
from common.calibration import apply_pair_temperatures
from common.comparison import difference, mcnemar, paired_draws
from common.consistency import measure_consistency
from common.metrics import (
    classification_metrics,
    confusion_matrix,
    metrics_with_intervals,
    restated_with_intervals,
    undefined_reasons,
)
from common.runtime import InputError

TEMPERED = "coupling, tempered"  # each pair's temperature fitted on val
DIFFERENCES = ("accuracy", "balanced_accuracy", "kappa", "macro_auc")
_GRADE_COLUMN = re.compile("level|grade|diagnosis|label", re.IGNORECASE)
PATIENT_REGEX = r"(\d+)_(left|right)"  # EyePACS: 10_left.jpeg, 10_right.jpeg


@dataclass(frozen=True)
class Sampling:
    """How the bootstrap resamples: how often, from which seed, and which images belong together."""

    resamples: int = 1000
    seed: int = 0
    groups: np.ndarray | None = None  # (N,), None: every image by itself
    grade_mix: np.ndarray | None = None  # (K,) of a population at which results are restated

    def __post_init__(self) -> None:
        if not 1 <= self.resamples <= 100_000 or not 0 <= self.seed < 2**63:
            raise InputError(
                "expected --resamples 1 to 100,000 and --seed 0 or more, found "
                f"{self.resamples} and {self.seed}"
            )

    def units(self, num_images: int) -> str:
        """Say what is resampled."""
        if self.groups is None:
            return f"{num_images} images"
        return f"{len(np.unique(self.groups))} patients"


def patient_groups(ids: Sequence[str], pattern: str) -> np.ndarray | None:
    """Group image ids (N,) by what a regular expression's first group finds in the file name.

    An image without a match is its own group; None if no two images belong together. Raises
    InputError for a pattern that is none or has no group.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient_regex {pattern!r}: {error}") from error
    if expression.groups < 1:
        raise InputError(f"--patient_regex {pattern!r}: expected a group (...) for the patient")
    groups = []
    for name in ids:
        match = expression.search(str(name).rsplit("/", 1)[-1])
        groups.append(f"patient {match[1]}" if match and match[1] else f"image {name}")
    _, numbers = np.unique(groups, return_inverse=True)
    if len(numbers) > 1 and numbers.max() == 0:
        raise InputError(f"--patient_regex {pattern!r}: takes all {len(numbers)} images for one "
                         "patient's")  # fmt: skip
    return numbers if len(numbers) and numbers.max() + 1 < len(numbers) else None


def evaluate_model(
    targets: np.ndarray,
    pair_probabilities: np.ndarray,
    pair_accuracies: np.ndarray,
    num_classes: int,
    vote: str,
    sampling: Sampling,
    temperatures: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure targets (N,) against pair probabilities (N, P) under all votes.

    pair_accuracies (P,) weigh the weighted vote; temperatures (P,), if given, divide the pairs'
    logits in one more coupling. The content of metrics_<split>.json: the chosen vote's measures as
    in `evaluate_classes`, all votes' metrics under "votes", and what they hide.
    """
    graders = {
        name: aggregate(pair_probabilities, num_classes, name, pair_accuracies)
        for name in (*VOTES, SKLEARN_VOTE)
    }
    if temperatures is not None:
        tempered = apply_pair_temperatures(pair_probabilities, temperatures)
        graders[TEMPERED] = aggregate(tempered, num_classes)
    measured = {name: evaluate_classes(targets, *g, sampling) for name, g in graders.items()}
    return {
        "vote": vote,
        **measured[vote],
        "votes": {name: content["metrics"] for name, content in measured.items()},
        "consistency": measure_consistency(
            targets, pair_probabilities, graders[vote][1], num_classes
        ),
    }


def evaluate_classes(
    targets: np.ndarray,
    class_probabilities: np.ndarray,
    predictions: np.ndarray,
    sampling: Sampling,
) -> dict[str, Any]:
    """Measure class probabilities (N, K) and predictions (N,).

    Returns images per grade, metrics with 95 % intervals, why a metric is undefined, the confusion
    matrix (rows are true grades).
    """
    num_classes = class_probabilities.shape[1]
    matrix = confusion_matrix(targets, predictions, num_classes)
    plain = classification_metrics(targets, class_probabilities, predictions)
    return {
        "images": len(targets),
        "images_per_grade": matrix.sum(1).astype(int).tolist(),
        "metrics": metrics_with_intervals(
            targets,
            class_probabilities,
            predictions,
            sampling.groups,
            sampling.resamples,
            sampling.seed,
        ),
        "undefined": undefined_reasons(plain, matrix),
        "confusion_matrix": matrix.astype(int).tolist(),
        "bootstrap": {
            "resamples": sampling.resamples,
            "seed": sampling.seed,
            "interval": 0.95,
            "units": sampling.units(len(targets)),
        },
    }


def compare_to_best(
    targets: np.ndarray,
    graders: dict[str, tuple[np.ndarray, np.ndarray]],
    best: str,
    sampling: Sampling,
) -> dict[str, dict[str, Any]]:
    """Compare graders (class probabilities (N, K), predictions (N,)) with the one named `best`.

    Returns, for each other one, the difference of the main metrics with paired-bootstrap
    intervals, and McNemar's test.
    """
    names = list(graders)
    values, draws = paired_draws(
        targets, list(graders.values()), list(DIFFERENCES), sampling.groups, sampling.resamples,
        sampling.seed,
    )  # fmt: skip
    reference = graders[best][1] == targets
    return {
        name: {
            **{
                metric: difference(values[metric], draws[metric], names.index(name),
                                   names.index(best))
                for metric in DIFFERENCES
            },
            "mcnemar": mcnemar(graders[name][1] == targets, reference),
        }
        for name in names if name != best
    }  # fmt: skip


def restate_graders(
    targets: np.ndarray,
    graders: dict[str, tuple[np.ndarray, np.ndarray]],
    sampling: Sampling,
) -> dict[str, Any]:
    """Restate graders at the population's grade mix; nothing without one."""
    grade_mix = sampling.grade_mix
    if grade_mix is None:
        return {}
    restated = {
        name: restated_with_intervals(
            targets, predicted, grade_mix, sampling.groups, sampling.resamples, sampling.seed
        )
        for name, (_, predicted) in graders.items()
    }
    return {"grade_mix": grade_mix.tolist(), "prevalence": restated}


def parse_prevalence(text: str, num_classes: int) -> np.ndarray:
    """Read a grade mix: shares such as "0.735,0.07,0.15,0.025,0.02", or a CSV file of grades.

    Returns (K,) summing to 1. Raises InputError for anything else.
    """
    path = Path(text)
    if path.is_file():
        shares = _grade_counts(path, num_classes)
    else:
        try:
            shares = np.array([float(part) for part in text.split(",")])
        except ValueError as error:
            raise InputError(
                f"--prevalence: expected {num_classes} shares such as 0.735,0.07,0.15,0.025,0.02 "
                f"or a CSV file of grades, found {text!r}"
            ) from error
        if not abs(shares.sum() - 1) < 0.011:
            raise InputError(f"--prevalence: expected shares with sum 1, found {shares.sum():g}")
    if len(shares) != num_classes or not (shares >= 0).all() or not shares.sum() > 0:
        raise InputError(f"--prevalence: expected {num_classes} shares >= 0, found {text!r}")
    return shares / shares.sum()


def _grade_counts(path: Path, num_classes: int) -> np.ndarray:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"--prevalence {path}: expected a CSV file ({error})") from error
    grades = {str(k) for k in range(num_classes)}
    columns = list(rows[0]) if rows else []
    for column in sorted(columns, key=lambda name: not _GRADE_COLUMN.search(name or "")):
        found = [(row[column] or "").strip() for row in rows] if column else []
        if found and set(found) <= grades:
            return np.array([found.count(str(k)) for k in range(num_classes)], dtype=float)
    raise InputError(
        f"--prevalence {path}: expected a column of grades 0..{num_classes - 1}, "
        f"found the columns {', '.join(map(str, columns)) or 'none'}"
    )
