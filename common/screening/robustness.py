"""How much a grader changes its mind when photographs are a little worse, or just different.

N images. What an alteration does is in `prediction/alterations.py`; thresholds and temperatures
stay those that were chosen on photographs as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.comparison.differences import Difference, compare_metrics
from common.fitting.grader import Grader, Sample
from common.metrics.intervals import BootstrapConfig, Interval, count_patients
from common.metrics.shares import Share, share_interval, share_intervals
from common.prediction.voting import ClassPredictions
from common.screening.operating_point import Decision

NOT_ASKED = "not asked for; --robustness predicts the images again, altered, which takes a while"
_BEFORE = ""  # the photographs as they are, among the alterations


@dataclass(frozen=True)
class ReferralChange:
    """How one way to decide on referral changes under an alteration."""

    rule: str
    flipped: Interval  # share of all images
    missed: int  # referable images that were referred, and are not any more
    missed_share: Interval  # of the referable images that were referred
    alarmed: int  # images that are not referable, were not referred, and are now
    alarmed_share: Interval  # of the images that are not referable and were not referred
    sensitivity: Difference  # altered minus as it is
    specificity: Difference


@dataclass(frozen=True)
class AlterationResult:
    """What an alteration does to a grader's predictions."""

    name: str
    flipped: Interval  # share of images whose grade changes
    accuracy: Difference  # altered minus as it is
    kappa: Difference
    referrals: tuple[ReferralChange, ...]  # one for each way to decide


@dataclass(frozen=True)
class Robustness:
    """What all alterations do."""

    images: int
    patients: int | None  # None: nothing tells which images share one
    referable: int | None  # images; None where that is not known
    tests: int  # that p values are corrected for
    alterations: tuple[AlterationResult, ...]

    @property
    def worst(self) -> AlterationResult:
        """Return the alteration that costs the most kappa, or the most accuracy without that."""
        return min(
            self.alterations,
            key=lambda one: (np.nan_to_num(one.kappa.value), one.accuracy.value),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {
            "images": self.images,
            "patients": self.patients,
            "referable": self.referable,
            "tests": self.tests,
            "alterations": {one.name: _without_name(one) for one in self.alterations},
        }


def _without_name(found: AlterationResult) -> dict[str, Any]:
    return {key: value for key, value in vars(found).items() if key != "name"}


def measure_robustness(
    grader: Grader, altered: Mapping[str, ClassPredictions], decisions: Sequence[Decision]
) -> Robustness | str:
    """Compare what a grader says of altered photographs, by alteration, with what it said before.

    decisions: who is referred. Says why not where nothing was altered.
    """
    if not altered:
        return NOT_ASKED
    sample, cut = grader.judged_on, grader.scored.referable_from
    tests = len(altered) * (2 + 2 * len(decisions))
    grades = _compare(sample.targets, sample.classes, altered, ("accuracy", "kappa"), grader, tests)
    referrals = {
        decision.rule: _referral_changes(grader, altered, decision, tests) for decision in decisions
    }
    results = [
        AlterationResult(
            name,
            share_interval(
                classes.predicted != sample.classes.predicted, sample.groups, grader.bootstrap
            ),
            grades[name, "accuracy"],
            grades[name, "kappa"],
            tuple(found[name] for found in referrals.values()),
        )
        for name, classes in altered.items()
    ]
    return Robustness(
        len(sample.ids),
        count_patients(sample.groups),
        None if cut is None else int((sample.targets >= cut).sum()),
        tests,
        tuple(results),
    )


def _compare(
    targets: np.ndarray,
    before: ClassPredictions,
    altered: Mapping[str, ClassPredictions],
    metrics: Sequence[str],
    grader: Grader,
    tests: int,
) -> dict[tuple[str, str], Difference]:
    """Subtract the metrics of before from those under each alteration, paired image by image."""
    asked = [(metric, name, _BEFORE) for name in altered for metric in metrics]
    models = {_BEFORE: before, **altered}
    found = compare_metrics(targets, models, asked, grader.bootstrap, tests)
    return {(one.model, one.metric): one.difference for one in found}


def _referral_changes(
    grader: Grader, altered: Mapping[str, ClassPredictions], decision: Decision, tests: int
) -> dict[str, ReferralChange]:
    """Say for each alteration which referrals change, and in which direction."""
    sample = grader.judged_on
    referable, before = sample.targets >= decision.cut, decision.refers(sample.classes)
    after = {name: decision.refers(classes) for name, classes in altered.items()}
    differences = _compare(
        referable.astype(int),
        _as_classes(before),
        {name: _as_classes(referred) for name, referred in after.items()},
        ("recall_1", "recall_0"),  # sensitivity and specificity
        grader,
        tests,
    )
    found = {}
    for name, referred in after.items():
        shares = _flips(sample, referable, before, referred, grader.bootstrap)
        found[name] = ReferralChange(
            decision.rule,
            shares["flipped"],
            int((referable & before & ~referred).sum()),
            shares["missed"],
            int((~referable & ~before & referred).sum()),
            shares["alarmed"],
            differences[name, "recall_1"],
            differences[name, "recall_0"],
        )
    return found


def _flips(
    sample: Sample,
    referable: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    bootstrap: BootstrapConfig,
) -> dict[str, Interval]:
    """Return the shares of images (N,) whose referral changes: of all, and of either side."""
    everything, changed = np.ones(len(before), dtype=bool), before != after
    among = {
        "flipped": everything,
        "missed": referable & before,
        "alarmed": ~referable & ~before,
    }
    shares = {name: Share(changed & trials, trials, trials) for name, trials in among.items()}
    return share_intervals(shares, sample.groups, bootstrap)


def _as_classes(referred: np.ndarray) -> ClassPredictions:
    """Write a decision (N,) bool as predictions of two classes."""
    return ClassPredictions(np.eye(2)[referred.astype(int)], referred.astype(int))
