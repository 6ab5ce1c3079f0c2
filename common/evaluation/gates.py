"""The guide's thresholds as a list of gates, and the grade that follows from them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from common.evaluation.intervals import UNKNOWN, Interval, Metrics
from common.models.backbones import resolve
from common.prediction.ensemble import ModelResult

PASS, FAIL, NOT_MEASURED = "PASS", "FAIL", "NOT MEASURED"


RULE = (
    "A+: every gate passes, those on accuracy, recall and AUC with the interval's lower bound, "
    "too, and class-1 recall is above 98 %. A: every gate passes. B: the gates on the ensemble "
    "(accuracy, recall of every class, class-1 recall, AUC) and the independent hold-out pass. C: "
    "the independent hold-out and at least half of the gates pass. none: anything else. A gate "
    "that was not measured has not passed."
)


_SINGLE = {"swinv2_tiny_window8_256": 0.97}


_SINGLE_OTHERS = 0.98


_BINARY, _ENSEMBLE, _RECALL, _RECALL_GOAL, _AUC, _FAMILIES = 0.90, 0.985, 0.95, 0.98, 0.998, 4


_CORE = ("ensemble", "holdout")


@dataclass(frozen=True)
class GateInput:
    """What is known of one model: metrics with intervals, its pairs' validation accuracies."""

    label: str
    model: str
    family: str
    metrics: Metrics
    pair_accuracies: list[float]


@dataclass(frozen=True)
class Gate:
    """One threshold: what was asked, found, and whether point and lower bound are above it."""

    kind: str
    name: str
    expected: str
    value: float
    low: float
    high: float
    status: str
    lower_bound: str
    remark: str = ""


def threshold(
    kind: str,
    name: str,
    entry: Interval,
    threshold: float,
    expected: str = "",
    remark: str = "",
) -> Gate:
    """Ask for a value strictly above a threshold."""
    return Gate(
        kind,
        name,
        expected or f"> {100 * threshold:g} %",
        entry.value,
        entry.low,
        entry.high,
        _verdict(entry.value, threshold),
        _verdict(entry.low, threshold),
        remark,
    )


def _verdict(value: float, threshold: float) -> str:
    if value is None or math.isnan(value):
        return NOT_MEASURED
    return PASS if value > threshold else FAIL


def check_gates(
    members: list[GateInput],
    ensemble: Metrics | None,
    num_classes: int,
    holdout: tuple[str, str],
) -> list[Gate]:
    """Hold models and ensemble against the guide's thresholds.

    ensemble: its metrics with intervals, None if there is none. holdout: PASS, FAIL or NOT
    MEASURED, and why.
    """
    gates = []
    for member in members:
        least = _SINGLE.get(member.model, _SINGLE_OTHERS)
        gates.append(
            threshold(
                "single", f"{member.label} alone, accuracy", member.metrics["accuracy"], least
            )
        )
        if member.pair_accuracies:
            worst = Interval(min(member.pair_accuracies), math.nan, math.nan)
            good = sum(value > _BINARY for value in member.pair_accuracies)
            remark = f"{good} of {len(member.pair_accuracies)} pairs; the worst is shown"
            gates.append(
                threshold(
                    "binary",
                    f"{member.label}, every pair's val accuracy",
                    worst,
                    _BINARY,
                    remark=remark,
                )
            )
    if not any(member.pair_accuracies for member in members):
        gates.append(
            threshold(
                "binary",
                "every pair's val accuracy",
                UNKNOWN,
                _BINARY,
                remark="there are no binary classifiers",
            )
        )
    found = ensemble or {}
    get = lambda name: found.get(name, UNKNOWN)  # noqa: E731
    gates.append(threshold("ensemble", "ensemble accuracy", get("accuracy"), _ENSEMBLE))
    recalls = [get(f"recall_{k}") for k in range(num_classes)]
    worst = min(recalls, key=lambda entry: (not math.isnan(entry.value), entry.value))
    gates.append(
        threshold(
            "ensemble",
            "ensemble, every class's recall",
            worst,
            _RECALL,
            remark="the worst is shown",
        )
    )
    gates.append(
        threshold(
            "ensemble",
            "ensemble, class-1 recall",
            get("recall_1"),
            _RECALL,
            remark=f"goal {100 * _RECALL_GOAL:g} %",
        )
    )
    gates.append(
        threshold("ensemble", "ensemble, macro AUC", get("macro_auc"), _AUC, f"> {_AUC:g}")
    )
    families = sorted({member.family for member in members})
    count = Interval(float(len(families)), math.nan, math.nan)
    gates.append(
        threshold(
            "diversity",
            "architecture families",
            count,
            _FAMILIES - 0.5,
            f">= {_FAMILIES}",
            ", ".join(families),
        )
    )
    gates.append(
        Gate(
            "holdout",
            "independent hold-out",
            "given",
            math.nan,
            math.nan,
            math.nan,
            holdout[0],
            NOT_MEASURED,
            holdout[1],
        )
    )
    return gates


def rating(gates: list[Gate]) -> str:
    """Derive A+, A, B, C or none from the gates by RULE."""
    passed = [gate.status == PASS for gate in gates]
    core = all(gate.status == PASS for gate in gates if gate.kind in _CORE)
    holdout = all(gate.status == PASS for gate in gates if gate.kind == "holdout")
    if all(passed):
        bounds = all(g.lower_bound == PASS for g in gates if g.kind in ("single", "ensemble"))
        goal = next(gate.value for gate in gates if "class-1" in gate.name) > _RECALL_GOAL
        return "A+" if bounds and goal else "A"
    if core:
        return "B"
    return "C" if holdout and sum(passed) * 2 >= len(passed) else "none"


def validation_content(gates: list[Gate]) -> dict[str, Any]:
    """Return the content of validation.json."""
    return {
        "grade": rating(gates),
        "rule": RULE,
        "claim": "thresholds on a held-out set; no claim of regulatory clearance",
        "gates": [asdict(gate) for gate in gates],
    }


def gate_input(member: ModelResult, metrics: Metrics) -> GateInput:
    """Gather what the gates ask of one model."""
    accuracies = member.found.pair_accuracies.tolist() if member.found.head == "ovo" else []
    family = resolve(member.found.model).family
    return GateInput(member.label, member.found.model, family, metrics, accuracies)
