"""Each test that docs/reliability.md names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = (ROOT / "docs" / "reliability.md").read_text().split("## Measured")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLES.splitlines()
    if line.startswith("| ") and not line.startswith("| fault")
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_each_fault_has_its_test(row):
    assert len(row) == 3 and row[0] and row[1]
    file, name = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[2]).groups()
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_table_is_not_empty():
    assert len(ROWS) > 50
