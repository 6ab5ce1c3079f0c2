"""What is imported without PyTorch and timm, which take seconds and which not every user has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIGHT = (
    "common.cli",
    "common.flags",
    "common.pixels.preprocessing",
    "common.fitting.ensemble",
    "common.fitting.stored",
    "common.prediction.voting",
    "common.prediction.labels",
    "common.prediction.evaluated_models",
    "common.grading.stored_grader",
    "common.release.onnx_grader",
    "common.new_pictures.page",
    "predict",
    "common.screening.operating_point",
    "common.screening.conformal",
    "common.screening.abstention",
    "common.screening.patients",
    "common.reporting.table",
    "predict",
)
HEAVY = ("torch", "torchvision", "timm")


@pytest.mark.slow
def test_what_grading_by_an_exported_network_needs_imports_neither_pytorch_nor_timm():
    program = f"import sys, {', '.join(LIGHT)}; print(*sorted(set(sys.modules) & set({HEAVY})))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == ""
