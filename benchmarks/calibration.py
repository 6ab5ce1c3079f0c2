"""What a temperature and an ensemble's weights are worth when they are fitted on few images.

    python -m benchmarks.calibration --simulations 200

Simulates models whose confidence is too low, right or too high, fits on small sets as the
evaluation does, and measures on 20,000 fresh images. Prints the two tables of docs/evaluation.md.
"""

import argparse
import sys
from collections import defaultdict

import numpy as np

from common.fitting.calibration import apply_temperature, fit_temperature, fit_weights
from common.metrics.classification import classification_metrics

FRESH = 20_000
CLASSES = 5
NUMBERS = (20, 61, 200)  # of images that are fitted on
SKILLS = {"0.96": 3.2, "0.79": 2.0}  # accuracy -> how far the truth's logit is raised
SURENESS = {"too low": 0.33, "right": 1.0, "too high": 2.5}  # what log probabilities are times
MODELS = {"two equal": (2.5, 2.5), "seven equal": (2.5,) * 7, "a good and a poorer one": (2.5, 2.0)}


def simulate(
    count: int, skill: float, sureness: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw grades (N,) and what a model says of them (N, K); calibrated at sureness 1."""
    targets = generator.integers(0, CLASSES, count)
    scores = skill * np.eye(CLASSES)[targets] + generator.normal(size=(count, CLASSES))
    return _softmax(sureness * skill * scores), targets


def simulate_models(
    count: int, skills: tuple[float, ...], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw grades (N,) and what several models say (M, N, K), which find the same images hard."""
    targets = generator.integers(0, CLASSES, count)
    shared = generator.normal(size=(count, CLASSES))
    found = []
    for skill in skills:
        own = generator.normal(size=(count, CLASSES))
        scores = skill * np.eye(CLASSES)[targets] + 0.84 * shared + 0.55 * own
        found.append(_softmax(skill * scores))
    return np.stack(found), targets


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def log_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean negative log-likelihood of targets (N,)."""
    likely = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(likely, 1e-12)).mean())


def temperature_table(simulations: int, generator: np.random.Generator) -> list[str]:
    """Measure by how much a fitted temperature changes the log loss of fresh images."""
    mistakes = ("0", "1", "2", "3", "more")
    lines = [
        "| accuracy | confidence | ECE raw | log loss raw | images | "
        + " | ".join(f"{m} wrong" for m in mistakes)
        + " |",
        "|" + "---|" * (5 + len(mistakes)),
    ]
    for accuracy, skill in SKILLS.items():
        for confidence, sureness in SURENESS.items():
            fresh, targets = simulate(FRESH, skill, sureness, generator)
            raw = log_loss(fresh, targets)
            ece = float(classification_metrics(targets, fresh, fresh.argmax(1))["ece"])
            for count in NUMBERS:
                changes = defaultdict(list)
                for _ in range(simulations):
                    found = fit_temperature(*simulate(count, skill, sureness, generator))
                    tempered = log_loss(apply_temperature(fresh, found.value), targets)
                    changes[mistakes[min(found.mistakes, 4)]].append(tempered - raw)
                cells = [_summary(changes[m]) for m in mistakes]
                start = f"| {accuracy} | {confidence} | {ece:.3f} | {raw:.3f} | {count} | "
                lines.append(start + " | ".join(cells) + " |")
    return lines


def _summary(changes: list[float]) -> str:
    """Write the mean and the worst of what a temperature changed, where that was often enough."""
    return f"{np.mean(changes):+z.3f} ({max(changes):+z.3f})" if len(changes) >= 5 else "-"


def weights_table(simulations: int, generator: np.random.Generator) -> list[str]:
    """Measure weights that are fitted on few images, and what they cost on fresh ones."""
    lines = [
        "| models | images | first weight, 95 % of sets | log loss equal | fitted | worst |",
        "|---|---|---|---|---|---|",
    ]
    for title, skills in MODELS.items():
        fresh, targets = simulate_models(FRESH, skills, generator)
        equal = log_loss(fresh.mean(0), targets)
        for count in NUMBERS[1:]:
            weights = np.array(
                [
                    fit_weights(*simulate_models(count, skills, generator))
                    for _ in range(simulations)
                ]
            )
            losses = [log_loss(np.tensordot(own, fresh, 1), targets) for own in weights]
            low, high = np.quantile(weights[:, 0], [0.025, 0.975])
            lines.append(
                f"| {title} | {count} | {low:.2f} to {high:.2f} | {equal:.3f} | "
                f"{np.mean(losses):.3f} | {max(losses):.3f} |"
            )
    return lines


def main(argv: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=200, help="of each row (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    args = parser.parse_args(argv)
    generator = np.random.default_rng(args.seed)
    print("\n".join(temperature_table(args.simulations, generator)), end="\n\n")
    print("\n".join(weights_table(args.simulations, generator)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
