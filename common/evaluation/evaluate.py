"""Measure a grader's predictions under every vote.

N images, K classes, P pairs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.evaluation.agreement import measure_consistency
from common.evaluation.comparison import difference, mcnemar, paired_draws
from common.evaluation.intervals import metrics_with_intervals
from common.evaluation.metrics import classification_metrics, confusion_matrix, undefined_reasons
from common.prediction.calibration import apply_pair_temperatures
from common.prediction.voting import SKLEARN_VOTE, VOTES, combine_pairs
from common.system.errors import InputError

TEMPERED = "coupling, tempered"  # each pair's temperature fitted on val


DIFFERENCES = ("accuracy", "balanced_accuracy", "kappa", "macro_auc")


@dataclass(frozen=True)
class BootstrapConfig:
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


def evaluate_model(
    targets: np.ndarray,
    pair_probabilities: np.ndarray,
    pair_accuracies: np.ndarray,
    num_classes: int,
    vote: str,
    sampling: BootstrapConfig,
    temperatures: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure targets (N,) against pair probabilities (N, P) under all votes.

    pair_accuracies (P,) weigh the weighted vote; temperatures (P,), if given, divide the pairs'
    logits in one more coupling. The content of metrics_<split>.json: the chosen vote's measures as
    in `evaluate_classes`, all votes' metrics under "votes", and what they hide.
    """
    graders = {
        name: combine_pairs(pair_probabilities, num_classes, name, pair_accuracies)
        for name in (*VOTES, SKLEARN_VOTE)
    }
    if temperatures is not None:
        tempered = apply_pair_temperatures(pair_probabilities, temperatures)
        graders[TEMPERED] = combine_pairs(tempered, num_classes)
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
    sampling: BootstrapConfig,
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
    sampling: BootstrapConfig,
) -> dict[str, dict[str, Any]]:
    """Compare graders (class probabilities (N, K), predictions (N,)) with the one named `best`.

    Returns, for each other one, the difference of the main metrics with paired-bootstrap
    intervals, and McNemar's test.
    """
    names = list(graders)
    values, draws = paired_draws(
        targets,
        list(graders.values()),
        list(DIFFERENCES),
        sampling.groups,
        sampling.resamples,
        sampling.seed,
    )
    reference = graders[best][1] == targets
    return {
        name: {
            **{
                metric: difference(
                    values[metric], draws[metric], names.index(name), names.index(best)
                )
                for metric in DIFFERENCES
            },
            "mcnemar": mcnemar(graders[name][1] == targets, reference),
        }
        for name in names
        if name != best
    }
