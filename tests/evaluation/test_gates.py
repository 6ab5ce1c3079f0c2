"""The guide's thresholds and the rating that follows from them."""

import dataclasses
import math

import pytest
from helpers import GRADES

from common.evaluation.gates import (
    FAIL,
    NOT_MEASURED,
    PASS,
    GateInput,
    Holdout,
    check_gates,
    rating,
    validation_content,
)
from common.metrics.intervals import UNKNOWN, Interval

NAMES = ("accuracy", "macro_auc", *(f"recall_{k}" for k in range(5)))


def metrics(value=0.999, low=0.9985, **changes):
    found = {name: Interval(value, low, 1.0) for name in NAMES}
    return found | {k: Interval(v, v - 0.01, 1.0) for k, v in changes.items()}


def members(count=4, accuracy=0.999, pairs=0.95):
    return [
        GateInput(f"m{i}", f"m{i}", f"family {i}", metrics(accuracy=accuracy), [0.99] * 9 + [pairs])
        for i in range(count)
    ]


HOLDOUT = Holdout(PASS, "none")
NO_BOUND = Interval(0.999, math.nan, math.nan)


def test_models_above_every_threshold_pass_all_gates():
    strong = [dataclasses.replace(m, metrics=metrics()) for m in members()]
    gates = check_gates(strong, metrics(), GRADES, HOLDOUT)
    assert {gate.status for gate in gates} == {PASS} and rating(gates) == "A+"
    assert len(gates) == 4 + 4 + 4 + 1 + 1
    asked = {gate.asked for gate in gates}
    assert asked == {"> 98 %", "> 90 %", "> 98.5 %", "> 95 %", "> 0.998", ">= 4", "given"}


@pytest.mark.parametrize(
    ("change", "expected", "failed"),
    [
        ({"ensemble": metrics(recall_1=0.97)}, "A", None),  # below the goal of 98 %
        ({"ensemble": metrics(accuracy=0.986)}, "A", None),  # the lower bound does not pass
        ({"ensemble": metrics(macro_auc=math.nan) | {"macro_auc": NO_BOUND}}, "A", None),
        ({"members": members(pairs=0.9)}, "B", "binary"),  # asked is more than 90 %
        ({"members": members(accuracy=0.98)}, "B", "single"),
        ({"members": members(3)}, "B", "diversity"),
        ({"ensemble": metrics(recall_3=0.95)}, "C", "ensemble"),
        ({"ensemble": metrics(macro_auc=0.998)}, "C", "ensemble"),
        ({"holdout": Holdout(FAIL, "copies")}, "none", "holdout"),
        ({"holdout": Holdout(NOT_MEASURED, "?")}, "none", "holdout"),
        ({"ensemble": None}, "C", "ensemble"),
    ],
)
def test_each_gate_decides_the_rating(change, expected, failed):
    values = {"members": members(), "ensemble": metrics(), "holdout": HOLDOUT} | change
    gates = check_gates(values["members"], values["ensemble"], GRADES, values["holdout"])
    assert rating(gates) == expected
    assert {gate.kind for gate in gates if gate.status != PASS} == ({failed} if failed else set())


def test_swinv2_alone_needs_97_others_98():
    values = [dataclasses.replace(m, metrics=metrics(accuracy=0.975)) for m in members(2)]
    values[0] = dataclasses.replace(values[0], model="swinv2_tiny_window8_256")
    single = [g for g in check_gates(values, None, GRADES, HOLDOUT) if g.kind == "single"]
    assert [gate.status for gate in single] == [PASS, FAIL]
    assert [gate.asked for gate in single] == ["> 97 %", "> 98 %"]


def test_a_class_without_images_is_not_measured():
    ensemble = metrics() | {"recall_2": UNKNOWN}
    gates = check_gates(members(), ensemble, GRADES, HOLDOUT)
    assert next(g for g in gates if "every class" in g.name).status == NOT_MEASURED
    assert rating(gates) == "C"


def test_the_file_says_rule_and_claims_nothing():
    content = validation_content(check_gates(members(), metrics(), GRADES, HOLDOUT))
    assert content["grade"] == content["rating"] and content["rating"] in content["rule"]
    assert set(content["gates"][0]) == set(
        ["kind", "name", "expected", "value", "low", "high", "status", "lower_bound", "remark"]
    )
    assert "no claim" in content["claim"]


def test_softmax_heads_alone_leave_the_binary_gate_open():
    heads = [dataclasses.replace(m, metrics=metrics(), pair_accuracies=[]) for m in members()]
    gates = check_gates(heads, metrics(), GRADES, HOLDOUT)
    assert [gate.status for gate in gates if gate.kind == "binary"] == [NOT_MEASURED]
    assert rating(gates) == "B"


def test_the_gate_on_every_recall_reads_the_lowest_bound_of_all_grades():
    recalls = {"recall_1": Interval(0.97, 0.96, 0.99), "recall_4": Interval(1.0, 0.7, 1.0)}
    recalls["recall_3"] = Interval(0.975, 0.97, 0.98)
    gate = gate_named("recall", metrics() | recalls)
    assert (gate.measured, gate.status) == (Interval(0.97, 0.7, 0.98), PASS)
    assert gate.lower_bound == FAIL
    assert gate.remark == (
        "the worst is shown, grade 1; each bound is the lowest of all grades' bounds: "
        "the lower that of grade 4 and the upper that of grade 3"
    )
    del recalls["recall_3"], recalls["recall_4"]
    assert gate_named("recall", metrics() | recalls).remark == "the worst is shown, grade 1"


def gate_named(key, ensemble, models=None):
    gates = check_gates(members() if models is None else models, ensemble, GRADES, HOLDOUT)
    return next(gate for gate in gates if gate.key == key)


def test_a_gate_that_is_not_measured_says_why():
    absent = metrics() | {"recall_1": UNKNOWN, "recall_3": UNKNOWN, "macro_auc": UNKNOWN}
    for key, ensemble, reason in (
        ("recall", absent, "there is no image of grade 1, grade 3"),
        ("recall_1", absent, "there is no image of grade 1"),
        ("auc", absent, "the images are all of one grade"),
        ("accuracy", None, "there is no ensemble of several models"),
        ("recall", None, "there is no ensemble of several models"),
    ):
        gate = gate_named(key, ensemble)
        assert (gate.status, gate.lower_bound) == (NOT_MEASURED, NOT_MEASURED)
        assert gate.remark == reason


@pytest.mark.parametrize("accuracies", [[0.99, math.nan], [math.nan, 0.99]])
def test_a_pair_of_unknown_accuracy_leaves_its_gate_open(accuracies):
    models = [dataclasses.replace(m, pair_accuracies=accuracies) for m in members()]
    gate = gate_named("pairs", metrics(), models)
    assert gate.status == NOT_MEASURED and gate.remark == "of 1 of 2 pairs it is not known"
