"""Images whose label the grader contradicts with confidence: candidates to be graded again.

Confident learning (Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels", section 3.1) on the probabilities of images whose labels the models have not seen.
N images, K classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.fitting.grader import Grader

FEW = 10  # images of a class below which its threshold is said to rest on few
MANY = 0.15  # of the images; labels of photographs are wrong less often
LEARNED = "train"  # the split whose labels the models know


@dataclass(frozen=True)
class LabelError:
    """An image that its label may be wrong of."""

    image: str  # its id
    label: int
    suggested: int
    label_probability: float
    suggested_probability: float

    @property
    def score(self) -> float:
        """Return by how much the suggested class is more likely than the label, 0 to 1."""
        return self.suggested_probability - self.label_probability


@dataclass(frozen=True)
class LabelErrors:
    """The likely label errors of a split, the likeliest first."""

    found: tuple[LabelError, ...]
    images: int  # that were looked at
    class_names: tuple[str, ...]  # (K,)
    thresholds: tuple[float, ...]  # (K,) mean probability of each class where it is the label
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it; the CSV file holds the rest."""
        return {
            "images": self.images,
            "likely_label_errors": len(self.found),
            "thresholds": dict(zip(self.class_names, self.thresholds)),
            "notes": self.notes,
        }


def find_label_errors(grader: Grader) -> LabelErrors | str:
    """Find the images of the judged split whose label is contradicted with confidence.

    Says why not where the models have learned these labels.
    """
    sample, names = grader.judged_on, grader.scored.names
    if sample.name == LEARNED:
        return (
            "the models have learned the labels of train; the predictions of each fold on what it "
            "was not trained on would tell"
        )
    probabilities = sample.classes.probabilities
    thresholds = mean_self_confidence(sample.targets, probabilities)
    suggested = confident_class(probabilities, thresholds)
    rows = np.arange(len(sample.targets))
    scores = probabilities[rows, suggested] - probabilities[rows, sample.targets]
    contradicted = np.flatnonzero((suggested >= 0) & (scores > 0))
    order = contradicted[np.argsort(-scores[contradicted], kind="stable")]
    found = tuple(
        LabelError(
            str(sample.ids[i]),
            int(sample.targets[i]),
            int(suggested[i]),
            float(probabilities[i, sample.targets[i]]),
            float(probabilities[i, suggested[i]]),
        )
        for i in order
    )
    counts = np.bincount(sample.targets, minlength=len(names))
    notes = _notes(counts, grader.scored.titles)
    if len(found) > MANY * len(sample.ids):
        notes = (*notes, "so many say more about the model than about the labels")
    return LabelErrors(found, len(sample.ids), names, tuple(map(float, thresholds)), notes)


def mean_self_confidence(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Average each class's probability over the images labelled so, (K,); NaN without images.

    targets (N,), probabilities (N, K). Equation 2 of the paper: how sure a grader is of a class
    where it is right to be, against which its other claims of that class are measured.
    """
    own = [probabilities[targets == k, k] for k in range(probabilities.shape[1])]
    return np.array([each.mean() if len(each) else np.nan for each in own])


def confident_class(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the likeliest class (N,) among those that reach their thresholds (K,), -1 if none.

    The columns of the confident joint (equation 1 of the paper). A class without a threshold is
    never reached.
    """
    reached = probabilities >= thresholds - 1e-9  # NaN: False
    likeliest = np.where(reached, probabilities, -1.0).argmax(1)
    return np.where(reached.any(1), likeliest, -1)


def _notes(counts: np.ndarray, titles: tuple[str, ...]) -> tuple[str, ...]:
    """Say which classes cannot be suggested, or on few images' word."""
    absent = [title for title, count in zip(titles, counts) if count == 0]
    few = [f"{title} ({count})" for title, count in zip(titles, counts) if 0 < count < FEW]
    notes = []
    if absent:
        notes.append(f"never suggested, as no image is labelled so: {', '.join(absent)}")
    if few:
        notes.append(f"suggested on the word of fewer than {FEW} images: {', '.join(few)}")
    return tuple(notes)
