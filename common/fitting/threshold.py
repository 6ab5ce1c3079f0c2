"""Thresholds on the probability of disease, chosen on val or cal so that a rule holds there.

N images.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.metrics.shares import ratio
from common.system.errors import InputError

_EXPECTED = "sensitivity=0.90, specificity=0.90 (any share above 0 and below 1), youden or argmax"
_SHARES = ("sensitivity", "specificity")


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen."""

    kind: str  # "sensitivity", "specificity", "youden" or "argmax"
    asked: float = math.nan  # the sensitivity or specificity

    def __str__(self) -> str:
        return f"{self.kind}={self.asked:g}" if self.kind in _SHARES else self.kind


ARGMAX = Rule("argmax")  # refer what is graded as referable: no threshold


def parse_rule(text: str) -> Rule:
    """Read --operating_point; raises InputError for anything but its four forms."""
    kind, _, share = text.strip().lower().partition("=")
    if kind in ("youden", "argmax") and not _:
        return Rule(kind)
    try:
        asked = float(share.rstrip("%")) / (100 if share.endswith("%") else 1)
    except ValueError:
        asked = math.nan
    if kind not in _SHARES or not 0 < asked < 1:
        raise InputError(f"--operating_point: expected {_EXPECTED}, found {text!r}")
    return Rule(kind, asked)


@dataclass(frozen=True)
class Threshold:
    """A threshold that was chosen, or why none was."""

    value: float  # NaN: none, or none is needed
    why_none: str = ""


def choose_threshold(scores: np.ndarray, positive: np.ndarray, rule: Rule) -> Threshold:
    """Choose a threshold on scores (N,) so that a rule holds there; positive (N,) bool.

    sensitivity: the highest threshold that reaches it. specificity: the lowest. youden: that of the
    greatest sensitivity + specificity - 1 (Youden 1950), the lowest of equals, since a missed eye
    costs more than one that is looked at in vain. Equal scores are never torn apart. A threshold
    that refers all or nobody separates nothing and is not given.
    """
    if rule.kind == "argmax":
        return Threshold(math.nan)
    if positive.all() or not positive.any():
        kind = "are all" if positive.all() else "are all not"
        return Threshold(math.nan, f"its {len(positive)} images {kind} to be referred")
    thresholds, sensitivity, specificity = rates_by_threshold(scores, positive)
    if len(thresholds) == 1:
        return Threshold(math.nan, "all images there have the same probability")
    tiny = 1e-9  # 0.9 of 10 is 9, whatever its rounding
    if rule.kind == "sensitivity":
        place = int(np.flatnonzero(sensitivity >= rule.asked - tiny)[0])
        if place == len(thresholds) - 1:
            return Threshold(math.nan, f"{rule} is reached only by referring every image")
    elif rule.kind == "specificity":
        places = np.flatnonzero(specificity >= rule.asked - tiny)
        if not len(places):
            return Threshold(math.nan, f"{rule} is reached only by referring no image")
        place = int(places[-1])
    else:
        gain = sensitivity + specificity - 1
        if gain.max() <= tiny:
            return Threshold(math.nan, "no threshold is better than chance there")
        place = int(np.flatnonzero(gain >= gain.max() - tiny)[-1])
    return Threshold(float(thresholds[place]))


def rates_by_threshold(
    scores: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, highest first, with sensitivity and specificity at each."""
    thresholds, inverse = np.unique(-scores, return_inverse=True)
    count = len(thresholds)
    hits = np.cumsum(np.bincount(inverse, positive, count))
    false = np.cumsum(np.bincount(inverse, ~positive, count))
    return -thresholds, ratio(hits, hits[-1]), 1 - ratio(false, false[-1])
