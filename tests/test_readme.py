"""The README's commands and flags exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SCRIPTS = sorted(set(re.findall(r"([\w/]+\.py) --", README)))


def shown_flags(script: str) -> set[str]:
    """Flags that the README shows in commands of a script."""
    commands = README.replace("\\\n", " ").splitlines()
    mine = [line.split(script, 1)[1] for line in commands if f"python {script} " in line]
    return set(re.findall(r"--\w+", " ".join(mine)))


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s != "ensemble_5class_trainer.py"])
def test_the_flags_that_it_shows_exist(script):
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    missing = {flag for flag in shown_flags(script) if flag not in done.stdout}
    assert not missing


def test_flags_of_its_tables_are_flags_of_the_two_main_scripts():
    rows = [line for line in README.splitlines() if line.startswith("|")]
    flags = set(re.findall(r"`(--\w+)", "\n".join(rows)))
    shown = ""
    for script in ("train_ovo.py", "evaluate_ensemble.py"):
        command = [sys.executable, ROOT / script, "--help"]
        shown += subprocess.run(command, capture_output=True, text=True).stdout
    assert flags and not {flag for flag in flags if flag not in shown}


def test_the_files_that_it_names_exist():
    tree = README.split("## The tree")[1].split("```")[1]
    names = re.findall(r"[\w/]+\.(?:py|sh)\b", tree)
    assert len(names) > 10 and not [name for name in names if not (ROOT / name).is_file()]
    modules = {path.stem for path in (ROOT / "common").glob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"\w+", tree)), "every module has its place in the tree"
    scripts = {path.name for path in ROOT.glob("*.py")} | {path.name for path in ROOT.glob("*.sh")}
    assert scripts <= set(names)
