"""Rearranging the code moves no bit of what is trained, measured or predicted."""

import json

import pytest

from dev.golden import GOLDEN, conditions, measure


@pytest.mark.slow
def test_weights_metrics_and_predictions_are_those_of_the_golden_run(tmp_path):
    golden = json.loads(GOLDEN.read_text())
    if conditions() != golden["conditions"]:
        pytest.skip(f"bits were recorded with {golden['conditions']}, here is {conditions()}")
    assert measure(tmp_path) == golden["hashes"]
