"""Reports on models whose mistakes are known."""

import numpy as np
import pytest
from helpers import GRADES
from PIL import Image

from common.evaluation.evaluate import evaluate
from common.evaluation.findings import Findings
from common.evaluation.gates import FAIL, Gate
from common.evaluation.questions import Answers
from common.fitting.grader import Grader, Sample
from common.metrics.intervals import BootstrapConfig, Interval
from common.prediction.voting import ClassPredictions
from common.reporting.report import FIGURES
from common.reporting.summary import Part, Report
from common.reporting.tables import evaluation_tables
from common.result_dir import ResultDir

GATE = Gate("accuracy", "ensemble", "accuracy", "> 98 %", Interval(0.5, 0.4, 0.6), FAIL, FAIL)


@pytest.fixture
def directory(tmp_path):
    """A result directory with the figures that a report embeds."""
    found = ResultDir(tmp_path)
    for words in FIGURES:
        found.figure(f"{words.name}_test").parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 5), "gray").save(found.figure(f"{words.name}_test"))
    return found


@pytest.fixture
def report_on():
    """Make a report on a model that grades each image of a split `shift` too high."""

    def make(split, shift, classes=GRADES, **changes):
        predicted = (split.labels + shift) % len(classes)
        predictions = ClassPredictions(np.eye(len(classes))[predicted], predicted)
        bootstrap = BootstrapConfig(20)
        evaluation = evaluate(split.labels, predictions, bootstrap, classes)
        findings = Findings(evaluation, {"coupling": evaluation.metrics})
        members = predictions.probabilities[None]
        sample = Sample("test", np.array(split.ids), split.labels, predictions, members)
        values = {
            "models": ["coatnet"],
            "dataset_path": "images",
            "split": split,
            "vote": "coupling",
            "grader": Grader("coatnet", classes, sample, None, "there is no val", bootstrap),
            "findings": findings,
            "answers": Answers(),
            "gates": [GATE],
            "results": Part("coatnet on test", evaluation_tables(findings, "vote"), ["a remark"]),
            "questions": Part("Questions", []),
        }
        return Report(**{**values, **changes})

    return make
