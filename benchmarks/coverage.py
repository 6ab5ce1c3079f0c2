"""Simulate graders whose true figures are known, and count how often the 95 % intervals hold them.

    python -m benchmarks.coverage --trials 1000 --output /tmp/coverage.md

prints the tables of docs/evaluation.md ("How the intervals were checked"). Each row is a kind of
figure under one condition; "least" is the lowest share of test sets whose interval held the truth.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from common.metrics.auc import auc_interval, roc_auc
from common.metrics.bounds import metrics_with_intervals
from common.metrics.calibration_error import (
    calibrated_level,
    expected_calibration_error,
    squared_calibration_error,
)
from common.metrics.classification import classification_metrics
from common.metrics.intervals import BootstrapConfig, Interval
from common.metrics.shares import clopper_pearson, share_interval
from common.prediction.voting import ClassPredictions
from common.screening.prevalence import restate_at_prevalence, restated_with_intervals
from common.system.random_streams import random_generator

RESAMPLES = 300  # of each bootstrap: fewer than the default, so that more sets can be simulated
CUT = 2  # the first grade that is referable
POPULATION = np.array([0.735, 0.07, 0.15, 0.025, 0.02])


@dataclass(frozen=True)
class Coverage:
    """How often intervals of one figure held the truth, and how wide they were."""

    figure: str
    condition: str
    held: float
    too_high: float  # share of sets whose low bound was above the truth
    width: float


@dataclass(frozen=True)
class Grader:
    """A grader that sees each grade through normal noise, patients through noise of their own."""

    noise: float  # in grades
    icc: float = 0.0  # share of the noise that a patient's images have in common

    def grade(
        self, targets: np.ndarray, patients: np.ndarray, generator: np.random.Generator
    ) -> ClassPredictions:
        """Grade images of five grades (N,); patients (N,): their numbers."""
        common = generator.normal(size=patients.max() + 1)[patients]
        own = generator.normal(size=len(targets))
        seen = targets + self.noise * (self.icc**0.5 * common + (1 - self.icc) ** 0.5 * own)
        logits = -((seen[:, None] - np.arange(5)) ** 2) / (2 * max(self.noise, 0.3) ** 2)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = odds / odds.sum(1, keepdims=True)
        return ClassPredictions(probabilities, probabilities.argmax(1))


def summarise(figure: str, condition: str, truth: float, intervals: Sequence[Interval]) -> Coverage:
    """Count how often the intervals hold the truth; an unknown one does not."""
    low = np.array([found.low for found in intervals])
    high = np.array([found.high for found in intervals])
    held = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
    above = float((low > truth + 1e-12).mean())
    return Coverage(figure, condition, float(held.mean()), above, float(np.nanmean(high - low)))


def of_shares() -> Iterator[Coverage]:
    """Compute exactly how often the bounds of independent images hold a share."""
    from scipy.stats import binom

    for trials in (20, 50, 100, 250, 1000):
        found = [clopper_pearson(successes, trials) for successes in range(trials + 1)]
        low, high = (np.array([vars(each)[end] for each in found]) for end in ("low", "high"))
        for truth in (0.8, 0.9, 0.95, 0.98, 0.99, 0.999):
            chance = binom.pmf(np.arange(trials + 1), trials, truth)
            rows = ((low <= truth) & (truth <= high), low > truth, high - low)
            yield Coverage("share", f"{trials} images", *(float(chance @ row) for row in rows))


def of_shares_by_patient(trials: int) -> Iterator[Coverage]:
    """Simulate patients with several images that are right or wrong together."""
    generator = random_generator("coverage of shares")
    conditions = product((30, 80, 200), (0.0, 0.3, 0.6, 1.0), (2, 10), (0.8, 0.9, 0.95, 0.99))
    for count, icc, most, truth in conditions:
        found = []
        for _ in range(trials):
            images = np.full(count, 2) if most == 2 else generator.integers(1, most + 1, count)
            patients = np.repeat(np.arange(count), images)
            hits = (
                generator.random(len(patients)) < _chances(truth, icc, count, generator)[patients]
            )
            found.append(share_interval(hits, patients, BootstrapConfig(RESAMPLES)))
        yield summarise("share, by patient", f"{count} patients, ICC {icc:g}", truth, found)


def _chances(truth: float, icc: float, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw each patient's own chance of a hit, beta-binomial with this intraclass correlation."""
    if icc == 0:
        return np.full(count, truth)
    if icc == 1:
        return (generator.random(count) < truth).astype(float)
    spread = 1 / icc - 1
    return generator.beta(truth * spread, (1 - truth) * spread, count)


def of_aucs(trials: int) -> Iterator[Coverage]:
    """Simulate normal scores of positives and others, each image by itself."""
    from scipy.stats import norm

    generator = random_generator("coverage of AUCs")
    numbers = ((5, 50), (10, 40), (25, 25), (25, 200), (100, 100), (250, 1000))
    for (first, second), truth in product(numbers, (0.7, 0.9, 0.97, 0.99, 0.999)):
        shift, positives = 2**0.5 * norm.ppf(truth), np.arange(first + second) < first
        found = []
        for _ in range(trials):
            scores = generator.normal(size=len(positives)) + shift * positives
            found.append(auc_interval(float(roc_auc(scores, positives)), positives))
        yield summarise("AUC", f"{first} and {second} images", truth, found)


FIGURES = {
    "macro AUC": ["macro_auc"],
    "AUC of a grade": ["auc_1", "auc_4"],
    "referable AUC": ["referable_auc"],
    "kappa": ["kappa"],
    "balanced accuracy": ["balanced_accuracy"],
    "macro precision": ["macro_precision"],
    "macro F1": ["macro_f1"],
    "F1 of a grade": ["f1_1", "f1_4"],
    "precision of a grade": ["precision_1", "precision_4"],
    "recall of a grade": ["recall_1", "recall_4"],
    "referable sensitivity, specificity": ["referable_sensitivity", "referable_specificity"],
    "accuracy": ["accuracy"],
    "Brier score": ["brier"],
    "likelihood": ["nll"],
}


def of_graders(trials: int) -> Iterator[Coverage]:
    """Simulate graders of 5 grades, of independent images and of patients with 1 to 4 images."""
    generator = random_generator("coverage of graders")
    names = [name for group in FIGURES.values() for name in group]
    mixes = {"even": np.full(5, 0.2), "mostly healthy": np.array([0.5, 0.1, 0.2, 0.1, 0.1])}
    conditions = product((60, 200), (0.25, 0.5), (None, 0.3, 0.8), mixes)
    for images, noise, icc, mix in conditions:
        grader = Grader(noise, icc or 0.0)
        truth = _true_figures(grader, mixes[mix], generator)
        found: dict[str, list[Interval]] = {name: [] for name in names}
        for _ in range(trials):
            targets, patients = _draw_images(images, mixes[mix], icc is not None, generator)
            bootstrap = BootstrapConfig(RESAMPLES, groups=None if icc is None else patients)
            predictions = grader.grade(targets, patients, generator)
            measured = metrics_with_intervals(targets, predictions, bootstrap, CUT, names)
            for name in names:
                if not np.isnan(measured[name].value):
                    found[name].append(measured[name])
        where = "independent images" if icc is None else "patients with 1 to 4 images"
        for figure, group in FIGURES.items():
            for name in group:
                if len(found[name]) > trials / 2:
                    yield summarise(figure, where, truth[name], found[name])


def _draw_images(
    images: int, mix: np.ndarray, grouped: bool, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images' grades and patients, one image a patient, or 1 to 4 mostly of one grade."""
    if not grouped:
        counts = np.maximum(np.round(images * mix).astype(int), 1)
        targets = np.repeat(np.arange(5), counts)
        return targets, np.arange(len(targets))
    sizes = generator.integers(1, 5, images)
    patients = np.repeat(np.arange(images), sizes)[:images]
    own = generator.choice(5, images, p=mix)[patients]
    other = generator.choice(5, images, p=mix)
    return np.where(generator.random(images) < 0.8, own, other), patients


def _true_figures(
    grader: Grader, mix: np.ndarray, generator: np.random.Generator
) -> dict[str, float]:
    """Measure a grader on 400,000 images."""
    targets = np.repeat(np.arange(5), np.round(400_000 * mix).astype(int))
    predictions = grader.grade(targets, np.arange(len(targets)), generator)
    found = classification_metrics(
        targets, predictions.probabilities, predictions.predicted, None, CUT
    )
    return {name: float(value) for name, value in found.items()}


def of_prevalence(trials: int) -> Iterator[Coverage]:
    """Simulate graders that miss a share of each grade by one grade, restated at a population."""
    generator = random_generator("coverage at a prevalence")
    conditions = product((10, 20, 50, 200), (0.002, 0.01, 0.03, 0.05, 0.1, 0.2))
    for per_grade, missed in conditions:
        matrix = np.eye(5) * (1 - missed)
        for k in range(5):
            beside = [j for j in (k - 1, k + 1) if 0 <= j < 5]
            matrix[k, beside] += missed / len(beside)
        truth = restate_at_prevalence(matrix, POPULATION, CUT)
        targets, found = np.repeat(np.arange(5), per_grade), []
        for _ in range(trials):
            draws = generator.random(len(targets))[:, None]
            predictions = (draws > np.cumsum(matrix[targets], 1)[:, :-1]).sum(1)
            bootstrap = BootstrapConfig(RESAMPLES)
            found.append(restated_with_intervals(targets, predictions, POPULATION, bootstrap, CUT))
        titles = ("accuracy", "kappa", "PPV", "NPV", "referrals")
        for title, name in zip(titles, truth):
            every = [measured[name] for measured in found]
            where = f"{per_grade} images a grade"
            yield summarise(f"{title} at a prevalence", where, float(truth[name]), every)


def of_calibration(trials: int) -> Iterator[Coverage]:
    """Simulate graders that are right as often as they say; their error belongs into the range."""
    generator = random_generator("coverage of the calibrated level")
    for images, least in product((30, 61, 200, 1000), (0.3, 0.6, 0.9)):
        inside, above, width, debiased = [], [], [], []
        for _ in range(trials):
            confidences = generator.uniform(least, 1, images)
            correct = generator.random(images) < confidences
            level = calibrated_level(confidences, BootstrapConfig(RESAMPLES))
            error = float(expected_calibration_error(confidences, correct))
            inside.append(level.low <= error <= level.high)
            above.append(error > level.high)
            width.append(level.high - level.low)
            debiased.append(squared_calibration_error(confidences, correct))
        rates = (float(np.mean(x)) for x in (inside, above, width))
        yield Coverage("ECE of a calibrated grader", f"{images} images", *rates)


TABLES: dict[str, Callable[[int], Iterable[Coverage]]] = {
    "shares": lambda trials: of_shares(),
    "patients": of_shares_by_patient,
    "auc": of_aucs,
    "graders": of_graders,
    "prevalence": of_prevalence,
    "calibration": of_calibration,
}


def as_markdown(rows: Sequence[Coverage]) -> str:
    """Lay rows out, those of the same figure and condition as one: the least and the mean."""
    grouped: dict[tuple[str, str], list[Coverage]] = {}
    for row in rows:
        grouped.setdefault((row.figure, row.condition), []).append(row)
    lines = [
        "| figure | condition | held, least | held, mean | low bound too high, most | mean width |",
        "|---|---|---|---|---|---|",
    ]
    for (figure, condition), same in grouped.items():
        held = [row.held for row in same]
        most = max(row.too_high for row in same)
        width = np.mean([row.width for row in same])
        cells = (min(held), float(np.mean(held)), most, float(width))
        numbers = " | ".join(f"{cell:.3f}" for cell in cells)
        lines.append(f"| {figure} | {condition} | {numbers} |")
    return "\n".join(lines)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=400, help="test sets of each condition")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--output", type=Path, help="also write the tables here")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Simulate, and print the tables."""
    args = parse_args(argv)
    texts = []
    for name in args.tables:
        texts.append(as_markdown(list(TABLES[name](args.trials))))
        print(texts[-1], flush=True)
    if args.output:
        args.output.write_text("\n\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
