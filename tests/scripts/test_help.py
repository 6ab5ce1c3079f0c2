"""What --help of every script and tool prints."""

import re

import pytest
from helpers import ROOT, help_of

SCRIPTS = [(path.name,) for path in sorted(ROOT.glob("*.py"))]
COMMANDS = [("prepare_dataset.py", name) for name in ("demo", "cache", "audit", "split", "merge")]
TOOLS = [
    ("-m", f"{folder}.{path.stem}")
    for folder in ("benchmarks", "dev")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "def main(" in path.read_text()
]


@pytest.mark.parametrize("words", [*SCRIPTS, *COMMANDS, *TOOLS], ids=" ".join)
def test_help_explains_and_names_no_empty_default(words):
    said = help_of(*words)
    assert said.startswith("usage: ") and "--help" in said
    assert not re.search(r"\(default\s*\)|\(default None\)|==SUPPRESS==", said)
