"""How often models that are equally good are told apart, and how often better ones are.

    python -m benchmarks.comparisons --simulations 400

Simulates models on graded images, compares them as compare_models.py does, and counts how often any
pair "differs" in any metric, how often a better model is found, and how often the interval of a
difference holds the true one. Prints the table of docs/evaluation.md.
"""

import argparse
import sys
from dataclasses import dataclass, replace

import numpy as np

from common.comparison.differences import Compared, compare_metrics, every_pair
from common.comparison.sums import METRICS
from common.metrics.intervals import BootstrapConfig
from common.prediction.voting import ClassPredictions

IDRID = (0.33, 0.05, 0.31, 0.18, 0.13)  # the grade mix of its test set


@dataclass(frozen=True)
class Case:
    """A set of images and the models that grade them."""

    title: str
    images: int = 61
    mix: tuple[float, ...] = IDRID  # of the grades
    models: int = 7
    skill: float = 2.0  # how far the truth's logit is raised
    better: float = 0.0  # by how much more in the first model
    shared: float = 0.7  # of the noise, common to all models: some images are hard
    patients: int = 0  # 0: each image is a patient of its own
    temperatures: tuple[float, ...] = (1.0,)  # of the models in turn
    neighbours: float = 0.0  # how far the logits of the grades beside the truth are raised


def simulate(case: Case, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list]:
    """Draw grades (N,), patients (N,) and what each model says."""
    count, grades = case.images, len(case.mix)
    patients = np.arange(count) % (case.patients or count)
    targets = generator.choice(grades, case.patients or count, p=case.mix)[patients]
    targets[:2] = 0, grades - 1  # two classes at least
    hard = generator.normal(0, 1, (case.patients or count, grades))[patients]
    distance = np.abs(np.arange(grades) - targets[:, None])
    models = []
    for place in range(case.models):
        own = generator.normal(0, 1, (count, grades))
        if case.patients:  # a model errs on a patient as a whole
            own = 0.5 * own + 0.87 * generator.normal(0, 1, (case.patients, grades))[patients]
        skill = case.skill + case.better * (place == 0)
        logits = np.sqrt(case.shared) * hard + np.sqrt(1 - case.shared) * own
        logits = logits + skill * (distance == 0) + case.neighbours * (distance == 1)
        logits = logits / case.temperatures[place % len(case.temperatures)]
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        models.append(ClassPredictions(shares, shares.argmax(1)))
    return targets, patients, models


def compare(case: Case, seed: int) -> list[Compared]:
    """Compare the models of one simulation, all pairs in all metrics."""
    targets, patients, models = simulate(case, np.random.default_rng(seed))
    named = {str(place): model for place, model in enumerate(models)}
    groups = patients if case.patients else None
    bootstrap = BootstrapConfig(1000, seed, groups)
    return compare_metrics(targets, named, every_pair(list(named)), bootstrap)


def share_told_apart(case: Case, simulations: int) -> float:
    """Return in what share of simulations any pair differs in any metric."""
    return float(np.mean([any(r.differs for r in compare(case, s)) for s in range(simulations)]))


def power_and_coverage(case: Case, simulations: int) -> dict[str, tuple[float, float, float]]:
    """Return by metric the true difference, how often it is found, how often its interval holds it.

    Of the first model and the second; the truth is that of 100,000 images.
    """
    large = replace(case, images=100_000, models=2, patients=50_000 if case.patients else 0)
    truth = {row.metric: row.difference.value for row in compare(large, 0)}
    found: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    held: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for seed in range(simulations):
        for row in compare(case, seed):
            if (row.model, row.other) == ("0", "1"):
                found[row.metric].append(row.differs)
                low, high = row.difference.low, row.difference.high
                held[row.metric].append(low <= truth[row.metric] <= high)
    return {m: (truth[m], float(np.mean(found[m])), float(np.mean(held[m]))) for m in METRICS}


EQUAL = (
    Case("7 models, 61 images"),
    Case("7 models, 25 images", images=25),
    Case("7 models, 61 images, few errors", skill=5.0),
    Case("7 models, 61 images, nearly no error", skill=8.0),
    Case("7 models, 61 images, temperatures 0.2 to 5", temperatures=(0.2, 1.0, 5.0)),
    Case("7 models, 61 images of 30 patients", patients=30),
    Case("7 models, 2 grades, 61 images", mix=(0.7, 0.3)),
    Case("7 models, 300 images", images=300),
    Case("2 models, 61 images", models=2),
)
BETTER = (
    Case("2 models, 300 images, one better", models=2, images=300, better=0.7),
    Case("7 models, 300 images, one better", images=300, better=1.0),
    Case("2 models, 61 images, one better", models=2, better=1.5),
    Case("2 models, 61 images, equal", models=2),
    Case("2 models, 61 images, few errors", models=2, skill=5.0, better=0.5),
    Case("2 models, 200 images of 100 patients", models=2, images=200, patients=100, better=1.0),
)


def main(argv: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=200)
    args = parser.parse_args(argv)
    print("| equally good | any pair told apart in any metric |\n|---|---|")
    for case in EQUAL:
        share = share_told_apart(case, args.simulations)
        print(f"| {case.title} | {100 * share:.1f} % |", flush=True)
    print(f"\n| true difference: found, interval holds it | {' | '.join(METRICS)} |")
    print("|---" * (1 + len(METRICS)) + "|")
    for case in BETTER:
        found = power_and_coverage(case, args.simulations)
        cells = [f"{d:.3f}: {100 * p:.0f} %, {100 * c:.1f} %" for d, p, c in found.values()]
        print(f"| {case.title} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
