"""The guide's thresholds, whether models and ensemble pass them, and the rating that follows.

Each threshold stands in one row of a table; the rule, the scripts and the reports read it there.
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from common.architectures import stored_architecture
from common.fitting.ensemble import ModelResult
from common.metrics.intervals import UNKNOWN, Interval, Metrics
from common.pairs import has_pair_outputs
from common.prediction.classes import Classes
from common.prediction.labels import single_views_text
from common.prediction.predictions import Origin
from common.result_dir.paths import ResultDir
from common.system.errors import InputError
from common.system.files import read_json

PASS, FAIL, NOT_MEASURED = "PASS", "FAIL", "NOT MEASURED"
_COMPARISONS = {">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Threshold:
    """What the guide asks of one metric."""

    key: str
    kind: str  # single, binary, ensemble or diversity
    name: str  # in reports, with the subject's label for {}
    metric: str
    bound: float
    comparison: str = ">"  # of the measured value with the bound
    in_percent: bool = True  # how reports show the bound

    @property
    def asked(self) -> str:
        """The comparison in words."""
        bound = f"{100 * self.bound:g} %" if self.in_percent else f"{self.bound:g}"
        return f"{self.comparison} {bound}"

    def verdict(self, value: float) -> str:
        """Compare a value with the bound."""
        if math.isnan(value):
            return NOT_MEASURED
        return PASS if _COMPARISONS[self.comparison](value, self.bound) else FAIL


SINGLE = Threshold("single", "single", "{} alone, accuracy", "accuracy", 0.98)
SINGLE_SWINV2 = replace(SINGLE, bound=0.97)
PAIR = Threshold("pairs", "binary", "{}, every pair's val accuracy", "worst_pair", 0.90)
NO_PAIRS = replace(PAIR, name="every pair's val accuracy")
RECALL_1 = Threshold("recall_1", "ensemble", "ensemble, {}", "recall_1", 0.95)
ENSEMBLE = (
    Threshold("accuracy", "ensemble", "ensemble accuracy", "accuracy", 0.985),
    Threshold("recall", "ensemble", "ensemble, every class's recall", "worst_recall", 0.95),
    RECALL_1,
    Threshold("auc", "ensemble", "ensemble, macro AUC", "macro_auc", 0.998, in_percent=False),
)
FAMILIES = Threshold(
    "families", "diversity", "architecture families", "families", 4, ">=", in_percent=False
)
RECALL_1_GOAL = 0.98  # of class 1, for the best rating
CLASS_1 = "class-1 recall"
_RULE = (
    "A+: every gate passes, those on accuracy, recall and AUC with the interval's lower bound, "
    f"too, and class-1 recall is above {100 * RECALL_1_GOAL:g} %. A: every gate passes. B: the "
    "gates on the ensemble (accuracy, recall of every class, class-1 recall, AUC) and the "
    "independent hold-out pass. C: the independent hold-out and at least half of the gates pass. "
    "none: anything else. A gate that was not measured has not passed."
)


@dataclass(frozen=True)
class Holdout:
    """Whether the images are independent of those that training and choosing have seen."""

    status: str  # PASS, FAIL or NOT MEASURED
    reason: str


@dataclass(frozen=True)
class GateInput:
    """What the gates ask of one model."""

    label: str
    model: str
    family: str
    metrics: Metrics
    pair_accuracies: list[float]  # on val; none of a softmax head
    tta: str = "none"  # the views that the metrics, but not these accuracies, are of


@dataclass(frozen=True)
class Gate:
    """A threshold together with what was measured, and whether that passes."""

    key: str
    kind: str
    name: str
    asked: str
    measured: Interval
    status: str  # of the value
    lower_bound: str  # status of the interval's lower end
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what validation.json holds of it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "expected": self.asked,
            **vars(self.measured),
            "status": self.status,
            "lower_bound": self.lower_bound,
            "remark": self.remark,
        }


@dataclass(frozen=True)
class _Subject:
    """What a group of thresholds is about: a model, the ensemble, or the set of models."""

    thresholds: tuple[Threshold, ...]
    metrics: Metrics
    label: str = ""
    remarks: Mapping[str, str] = field(default_factory=dict)  # by the threshold's key


def check_gates(
    models: list[GateInput],
    ensemble: Metrics | None,
    classes: Classes,
    holdout: Holdout,
    coarser: bool = False,
) -> list[Gate]:
    """Compare models and ensemble, None if there is none, with the guide's thresholds.

    classes: those that were scored. coarser: they are fewer than the models'; what the guide asks
    on single grades is not measured then.
    """
    subjects = [_model_subject(model) for model in models]
    if not any(model.pair_accuracies for model in models):
        none = {PAIR.key: "there are no binary classifiers"}
        subjects.append(_Subject((NO_PAIRS,), {}, remarks=none))
    subjects += [_ensemble_subject(ensemble or {}, classes, coarser), _diversity_subject(models)]
    unknown = f"the images are graded as {', '.join(classes.titles)} only" if coarser else ""
    gates = []
    for subject in subjects:
        for asked in subject.thresholds:
            measured = subject.metrics.get(asked.metric, UNKNOWN)
            remark = subject.remarks.get(asked.key, "")
            if math.isnan(measured.value):
                remark = _reason(asked, subject.metrics, classes) or remark
            if unknown and asked.kind in ("single", "ensemble"):
                measured, remark = UNKNOWN, unknown
            gates.append(
                Gate(
                    key=asked.key,
                    kind=asked.kind,
                    name=asked.name.format(subject.label),
                    asked=asked.asked,
                    measured=measured,
                    status=asked.verdict(measured.value),
                    lower_bound=asked.verdict(measured.low),
                    remark=remark,
                )
            )
    return [*gates, _holdout_gate(holdout)]


def _model_subject(model: GateInput) -> _Subject:
    single = SINGLE_SWINV2 if model.model == stored_architecture("swinv2").name else SINGLE
    if not model.pair_accuracies:
        return _Subject((single,), model.metrics, model.label)
    metrics = {**model.metrics, PAIR.metric: _exact(np.min(model.pair_accuracies))}
    verdicts = [PAIR.verdict(value) for value in model.pair_accuracies]
    remark = f"{verdicts.count(PASS)} of {len(verdicts)} pairs; the worst is shown"
    if NOT_MEASURED in verdicts:
        remark = f"of {verdicts.count(NOT_MEASURED)} of {len(verdicts)} pairs it is not known"
    remark = "; ".join(filter(None, [remark, single_views_text(model.tta)]))
    return _Subject((single, PAIR), metrics, model.label, {PAIR.key: remark})


def _ensemble_subject(metrics: Metrics, classes: Classes, coarser: bool) -> _Subject:
    recalls = [metrics.get(f"recall_{k}", UNKNOWN) for k in range(len(classes))]
    values, lows, highs = (
        np.array([vars(recall)[end] for recall in recalls]) for end in vars(UNKNOWN)
    )
    worst = Interval(float(values.min()), float(lows.min()), float(highs.min()))
    remarks = {
        "recall": _which_is_worst(values, lows, highs, classes),
        "recall_1": f"goal {100 * RECALL_1_GOAL:g} %",
    }
    recall_1 = CLASS_1 if coarser else classes.recall_1_title
    found = {**metrics, "worst_recall": worst}
    return _Subject(ENSEMBLE, found, recall_1, remarks)


def _which_is_worst(
    values: np.ndarray, lows: np.ndarray, highs: np.ndarray, classes: Classes
) -> str:
    """Name the class whose recall (K,) is the lowest, and those of the lowest bounds (K,).

    The bounds are the lowest of all classes, so that no corrected mistake lowers one.
    """
    if np.isnan(values).any():
        return ""
    worst = int(values.argmin())
    said = f"the worst is shown, {classes.titles[worst]}"
    others = [
        f"the {name} that of {classes.titles[int(ends.argmin())]}"
        for name, ends in (("lower", lows), ("upper", highs))
        if ends[worst] > ends.min()
    ]
    if not others:
        return said
    which = " and ".join(others)
    return f"{said}; each bound is the lowest of all {classes.word}s' bounds: {which}"


def _reason(asked: Threshold, metrics: Metrics, classes: Classes) -> str:
    """Say why a metric was not measured."""
    if asked.kind == "ensemble" and "accuracy" not in metrics:
        return "there is no ensemble of several models"
    absent = [
        title
        for k, title in enumerate(classes.titles)
        if math.isnan(metrics.get(f"recall_{k}", UNKNOWN).value)
    ]
    if asked.metric == RECALL_1.metric:
        absent = [title for title in absent if title == classes.titles[1]]
    if asked.metric in ("worst_recall", RECALL_1.metric):
        return f"there is no image of {', '.join(absent)}" if absent else ""
    if asked.metric == "macro_auc":
        return f"the images are all of one {classes.word}"
    return ""


def _diversity_subject(models: list[GateInput]) -> _Subject:
    families = sorted({model.family for model in models})
    remarks = {FAMILIES.key: ", ".join(families)}
    return _Subject((FAMILIES,), {FAMILIES.metric: _exact(len(families))}, remarks=remarks)


def _holdout_gate(holdout: Holdout) -> Gate:
    return Gate(
        key="holdout",
        kind="holdout",
        name="independent hold-out",
        asked="given",
        measured=UNKNOWN,
        status=holdout.status,
        lower_bound=NOT_MEASURED,
        remark=holdout.reason,
    )


def _exact(value: float) -> Interval:
    """Make a value of which no interval is known."""
    return Interval(float(value), math.nan, math.nan)


def rating(gates: list[Gate]) -> str:
    """Derive A+, A, B, C or none from the gates by the rule of `rule_of`."""
    passed = [gate for gate in gates if gate.status == PASS]
    if len(passed) == len(gates):
        bounds = all(g.lower_bound == PASS for g in gates if g.kind in ("single", "ensemble"))
        recall_1 = next(gate.measured.value for gate in gates if gate.key == "recall_1")
        return "A+" if bounds and recall_1 > RECALL_1_GOAL else "A"
    failed_kinds = {gate.kind for gate in gates if gate.status != PASS}
    if not failed_kinds & {"ensemble", "holdout"}:
        return "B"
    return "C" if "holdout" not in failed_kinds and 2 * len(passed) >= len(gates) else "none"


def rule_of(gates: list[Gate]) -> str:
    """Say how the rating follows from the gates, with what they call the second class."""
    names = [gate.name.removeprefix("ensemble, ") for gate in gates if gate.key == "recall_1"]
    return _RULE.replace(CLASS_1, next(iter(names), CLASS_1))


def all_pass(gates: list[Gate]) -> bool:
    """Tell whether every gate has passed."""
    return all(gate.status == PASS for gate in gates)


def validation_content(gates: list[Gate]) -> dict[str, Any]:
    """Return the content of validation.json."""
    found = rating(gates)
    return {
        "grade": found,  # the earlier name of the rating, for whoever reads it
        "rating": found,
        "rule": rule_of(gates),
        "claim": "thresholds on a held-out set; no claim of regulatory clearance",
        "gates": [gate.to_json() for gate in gates],
    }


def gate_input(model: ModelResult, metrics: Metrics) -> GateInput:
    """Gather what the gates ask of one model."""
    pairs = model.pairs
    accuracies = pairs.pair_accuracies.tolist() if has_pair_outputs(pairs.head) else []
    family = stored_architecture(pairs.model).family
    return GateInput(model.label, pairs.model, family, metrics, accuracies, pairs.origin.tta)


def read_holdout(directory: ResultDir, split: str, origin: Origin) -> Holdout | None:
    """Read what the evaluation of the predictions of `origin` found about the hold-out, if any."""
    path = directory.metrics(split)
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except InputError as error:
        return Holdout(NOT_MEASURED, str(error))
    if not isinstance(content, dict):
        return None
    found = content.get("holdout")
    try:
        same = Origin.from_json(content["origin"]) == origin
    except (InputError, KeyError, TypeError, ValueError):
        return None
    if not same or not isinstance(found, list) or len(found) != 2:
        return None
    return Holdout(str(found[0]), str(found[1]))
