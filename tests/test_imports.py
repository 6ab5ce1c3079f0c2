"""What is imported without the libraries that take seconds, and which not every user has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))
TOOLS = [
    f"{path.parent.name}.{path.stem}"
    for folder in ("benchmarks", "dev")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "def main(" in path.read_text()
]
GRADING = (  # by an exported network
    "common.fitting.stored",
    "common.grading.stored_grader",
    "common.release.onnx_grader",
    "common.new_pictures.page",
    "common.new_pictures.run",
)
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "matplotlib")
_PROGRAM = f"""
import contextlib, importlib, io, sys
for name in {GRADING}:
    importlib.import_module(name)
train = ["--dataset_path", "none", "--base_models", "coatnet"]
for name in {SCRIPTS + TOOLS}:
    for words in (["--help"], ["--no_such_flag"]):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(name).main(words)
with contextlib.redirect_stdout(io.StringIO()):
    assert sys.modules["model_analyzer"].main(["--watch", "."]) == 0
with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
    assert sys.modules["train_ovo"].main(train) == 2
    assert sys.modules["model_analyzer"].main(["--model", "none.pth", "README.md"]) == 2
    assert sys.modules["evaluate_ensemble"].main(["--results_dirs", "none"]) == 2
    assert sys.modules["compare_models"].main(["--results_dirs", "none"]) == 2
    assert sys.modules["predict"].main(["--images", "none"]) == 2
    graded = ["--images", "pictures", "--results_dirs", "none"]
    assert sys.modules["predict"].main(graded) == 2
    assert sys.modules["explain"].main(graded) == 2
    assert sys.modules["explain"].main(["--images", "none"]) == 2
    assert sys.modules["export_model"].main(["--results_dirs", "none", "--output", "none/x"]) == 2
print(*sorted(set(sys.modules) & set({HEAVY})))
"""


@pytest.mark.slow
def test_flags_refusals_and_grading_by_an_exported_network_import_no_library_that_takes_seconds(
    tmp_path,
):
    (tmp_path / "README.md").write_text("no checkpoint")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
