"""Example figures of every kind, for any number of models and classes, and what texts they show."""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from common.figures.comparison import plot_cost, plot_intervals
from common.figures.matrices import Matrices, plot_confusion, plot_dendrogram, plot_heatmaps
from common.figures.reliability import Reliability, plot_reliability
from common.figures.roc import RocPanel, RocPoint, plot_roc, roc_of
from common.figures.screening import (
    ForestRow,
    ReferralCurve,
    ReferralPanel,
    SetsOfGrade,
    plot_forest,
    plot_referral,
    plot_sets,
)
from common.figures.training import Learned, plot_training
from common.history import EpochRow, Validation
from common.metrics.intervals import UNKNOWN, Interval
from common.pairs import class_pairs, pair_name

SHORT = (
    "coatnet",
    "convnext",
    "swinv2",
    "densenet121",
    "efficientnetb2",
    "resnet50",
    "seresnext50",
)
LONG = tuple(
    f"/data/runs/2026-11/second attempt/{name}_with_smoothing_5class_results" for name in SHORT
)
GRADES = ("No_DR", "Mild", "Moderate", "Severe", "Proliferative_DR")
TITLE = "ensemble of several models on test (SYNTHETIC images)"


@dataclass(frozen=True)
class DrawnText:
    """A text of a figure, and the corners of its box, (4, 2) pixels."""

    text: str
    corners: np.ndarray


def texts_of(figure: Figure, monkeypatch) -> list[DrawnText]:
    """Draw a figure; return every text that appears on it: of axes, ticks, legends and notes."""
    found = []
    draw = Text.draw

    def recorded(text, renderer, *args, **kwargs):
        draw(text, renderer, *args, **kwargs)
        if text.get_visible() and text.get_text().strip():
            found.append(DrawnText(text.get_text(), _corners(text, renderer)))

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", recorded)
        figure.draw_without_rendering()
    return found


def _corners(text: Text, renderer) -> np.ndarray:
    """Return the corners of a text's box, turned as the text is."""
    angle = text.get_rotation()
    if angle % 90 == 0:
        return text.get_window_extent(renderer).corners()[[0, 1, 3, 2]]
    assert text.get_rotation_mode() == "anchor", "only then the box turns about the text's place"
    text.set_rotation(0)
    flat = text.get_window_extent(renderer).corners()[[0, 1, 3, 2]]
    text.set_rotation(angle)
    anchor = text.get_transform().transform(text.get_unitless_position())
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return (flat - anchor) @ np.array([[cosine, sine], [-sine, cosine]]) + anchor


def clashes(figure: Figure, texts: list[DrawnText]) -> list[str]:
    """Say which texts lie over each other, and which leave the figure."""
    width, height = figure.bbox.size
    said = []
    for place, one in enumerate(texts):
        low, high = one.corners.min(0), one.corners.max(0)
        if low.min() < -1 or high[0] > width + 1 or high[1] > height + 1:
            said.append(f"{one.text!r} leaves the figure")
        said += [
            f"{one.text!r} lies over {other.text!r}"
            for other in texts[:place]
            if _overlap(one.corners, other.corners)
        ]
    return said


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two turned boxes share more than a pixel: no side separates them."""
    for box in (one, other):
        for side in (box[1] - box[0], box[2] - box[1]):
            axis = side / max(np.hypot(*side), 1e-9)
            first, second = one @ axis, other @ axis
            if min(first.max(), second.max()) - max(first.min(), second.min()) < 1:
                return False
    return True


def names_of(models: int, long: bool = False) -> tuple[str, ...]:
    return (LONG if long else SHORT)[:models]


def classes_of(count: int, long: bool = False) -> tuple[str, ...]:
    if long:
        return tuple(f"a class with quite a long name, number {k}" for k in range(count))
    return GRADES[:count]


def interval(value: float, images: int = 100) -> Interval:
    half = 1.96 * math.sqrt(value * (1 - value) / images + 1e-5)
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def draws(classes: int, images: int = 200, seed: int = 0, skill: float = 2.0):
    """Grades and the probabilities of them: targets (N,), probabilities (N, K)."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, images)
    logits = generator.normal(size=(images, classes)) + skill * np.eye(classes)[targets]
    return targets, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def confusion(models: int, classes: int, long: bool) -> Figure:
    targets, probabilities = draws(classes)
    matrix = np.zeros((classes, classes))
    np.add.at(matrix, (targets, probabilities.argmax(1)), 1)
    matrix[-1] = 0  # no image of the last grade
    return plot_confusion(matrix, classes_of(classes, long), TITLE)


def roc(models: int, classes: int, long: bool) -> Figure:
    curves = {}
    for place, name in enumerate(names_of(models, long)):
        targets, probabilities = draws(classes, seed=place, skill=1 + 0.3 * place)
        curves[name] = roc_of(
            probabilities[:, 1:].sum(1), targets > 0, interval(0.75 + 0.04 * place)
        )
    point = RocPoint(
        "threshold 0.412 chosen on val for a sensitivity of 0.90: sensitivity 0.88 "
        "[0.81, 0.93], specificity 0.84 [0.76, 0.90]",
        interval(0.88),
        interval(0.84),
    )
    asked = RocPoint(
        "IDx-DR's trial asked for 0.850 / 0.825",
        Interval(0.85, *[math.nan] * 2),
        Interval(0.825, *[math.nan] * 2),
    )
    targets, probabilities = draws(classes)
    grades = {
        n: roc_of(probabilities[:, k], targets == k, interval(0.9))
        for k, n in enumerate(classes_of(classes, long))
    }
    return plot_roc(
        [
            RocPanel("referable (Moderate or worse)", curves, [point], [asked]),
            RocPanel("each grade against the rest", grades),
        ],
        TITLE,
    )


def roc_of_one_grade(models: int, classes: int, long: bool) -> Figure:
    return plot_roc(
        [
            RocPanel("referable (Moderate or worse)", {}),
            RocPanel("each grade against the rest", {}),
        ],
        TITLE,
    )


def reliability(models: int, classes: int, long: bool) -> Figure:
    targets, probabilities = draws(classes)
    right, sure = probabilities.argmax(1) == targets, probabilities.max(1)
    curves = {
        "as predicted": Reliability(sure**2, right, "error 0.213 [0.170, 0.260]"),
        "temperature 0.612, fitted on val": Reliability(sure, right, "error 0.021 [0.010, 0.041]"),
    }
    return plot_reliability(curves, TITLE)


METRICS = (
    "accuracy",
    "balanced accuracy",
    "kappa",
    "macro auc",
    "class-1 recall",
    "referable sensitivity",
    "referable specificity",
)


def intervals(models: int, classes: int, long: bool) -> Figure:
    generator = np.random.default_rng(1)
    series = {
        name: [interval(value) for value in generator.uniform(0.8, 1, len(METRICS))]
        for name in names_of(models, long)
    }
    first = series[names_of(models, long)[0]]
    first[1], first[2] = UNKNOWN, Interval(0.9, math.nan, math.nan)
    return plot_intervals(series, METRICS, TITLE)


def cost(models: int, classes: int, long: bool) -> Figure:
    names = names_of(models, long)
    gflops = {name: 3 * 1.7**place for place, name in enumerate(names)}
    accuracies = {name: interval(0.9 + 0.004 * (place % 3)) for place, name in enumerate(names)}
    if models > 3:
        accuracies[names[0]] = UNKNOWN
    return plot_cost(gflops, accuracies, TITLE)


def diversity(models: int, classes: int, long: bool) -> Figure:
    models = max(models, 2)
    generator = np.random.default_rng(2)

    def matrix(low, high):
        found = generator.uniform(low, high, (models, models))
        return (found + found.T) / 2

    shares = {"one of the two alone is right": matrix(0, 0.3), "both are wrong": matrix(0, 0.2)}
    related = {
        "Q": matrix(-0.4, 1),
        "correlation": matrix(-0.2, 0.6),
        "kappa of who is right": matrix(-0.2, 0.6),
    }
    related["Q"][1, 0] = np.nan
    groups = [
        Matrices("share of images", shares, symmetric=True),
        Matrices(
            "alike (1), by chance (0), opposed (-1)", related, around_zero=True, symmetric=True
        ),
    ]
    names = names_of(models, long)
    return plot_heatmaps(groups, names, names, TITLE)


def per_class(models: int, classes: int, long: bool) -> Figure:
    generator = np.random.default_rng(3)
    values = {
        name: generator.uniform(0.3, 1, (models, classes))
        for name in ("recall", "precision", "f1", "auc")
    }
    values["auc"][:, -1] = np.nan
    return plot_heatmaps(
        [Matrices("value", values)], names_of(models, long), classes_of(classes, long), TITLE
    )


def alike(models: int, classes: int, long: bool) -> Figure:
    models = max(models, 2)
    distances = np.random.default_rng(4).uniform(0.05, 0.3, (models, models))
    distances = np.triu(distances, 1)
    return plot_dendrogram(distances + distances.T, names_of(models, long), TITLE)


def history(head: str, seed: int, epochs: int) -> Learned:
    generator = np.random.default_rng(seed)
    rate, rows = generator.uniform(0.05, 0.3), []
    hard = 0.04 / (int(head[2]) - int(head[0]))
    for epoch in range(1, epochs + 1):
        left = math.exp(-rate * epoch)
        noise = generator.normal(0, 0.008, 4)
        val = Validation(
            0.03 + 0.12 * left + hard + noise[0], 0.98 - 0.35 * left - hard + noise[1], 0.9, 0.9
        )
        rows.append(
            EpochRow(
                head,
                epoch,
                0.02 + 0.15 * left + noise[2],
                min(1, 0.99 - 0.4 * left + noise[3]),
                val if epoch % 2 else None,
                1e-4,
                9.0,
                1.0,
            )
        )
    return Learned(rows, epochs - 1 - 2 * (seed % 4))


def training(models: int, classes: int, long: bool) -> Figure:
    found = {
        name: {
            pair_name(pair): history(pair_name(pair), 100 * m + n, 12)
            for n, pair in enumerate(class_pairs(classes))
        }
        for m, name in enumerate(names_of(models, long))
    }
    return plot_training(found, TITLE)


def referral(models: int, classes: int, long: bool) -> Figure:
    shares = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.5])
    rules = (
        "max-probability, AURC 0.062 [0.041, 0.091]",
        "entropy, AURC 0.064 [0.042, 0.094]",
        "disagreement, AURC 0.081 [0.051, 0.113] (chosen on val)",
        "cycles, AURC 0.092 [0.061, 0.131]",
    )
    curves, rates = {}, {}
    for place, rule in enumerate(rules[: 4 if models > 1 else 1]):
        referred = np.linspace(0, 0.98, 100)
        curves[rule] = ReferralCurve(referred, 1 - (0.15 + 0.01 * place) * (1 - referred) ** 2)
        values = 0.9 + 0.08 * shares - 0.01 * place
        found = [interval(value, 200) for value in values] if place == 2 else ()
        rates[rule] = ReferralCurve(shares, values, found)
    rates[rules[0]] = ReferralCurve(shares, np.full(6, math.nan))
    panels = [
        ReferralPanel("accuracy of the rest", curves),
        ReferralPanel("sensitivity of the rest", rates),
        ReferralPanel("specificity of the rest", rates),
    ]
    return plot_referral(panels, TITLE)


def forest(models: int, classes: int, long: bool) -> Figure:
    figures = ("accuracy", "kappa", "sensitivity (referable)", "specificity (referable)")
    generator = np.random.default_rng(5)
    values = {
        "camera": names_of(models, long),
        "sex": ("female", "male", ""),
        "a column with quite a long name that nobody shortened": ("a", "b"),
    }
    blocks = {
        column: [
            ForestRow(
                name or "not known",
                f"{9 + 30 * place} images",
                [interval(v, 20 + 30 * place) for v in generator.uniform(0.7, 1, 3)] + [UNKNOWN],
                few=[place == 0, place == 0, place < 2, False],
            )
            for place, name in enumerate(names)
        ]
        for column, names in values.items()
    }
    return plot_forest(figures, [*(interval(0.85, 300) for _ in "123"), UNKNOWN], blocks, TITLE)


def sets(models: int, classes: int, long: bool) -> Figure:
    rows = [
        SetsOfGrade(name, "40 images", interval(0.88 + 0.02 * k, 40), Interval(1.4 + k / 9, 1.2, 2))
        for k, name in enumerate(classes_of(classes, long))
    ]
    rows[-1] = SetsOfGrade(rows[-1].name, "0 images", UNKNOWN, UNKNOWN)
    return plot_sets(rows, 0.9, TITLE)


DRAWINGS = (
    confusion,
    roc,
    roc_of_one_grade,
    reliability,
    intervals,
    cost,
    diversity,
    per_class,
    alike,
    training,
    referral,
    forest,
    sets,
)
