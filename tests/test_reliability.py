"""Each test that docs/reliability.md and docs/data.md name exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEADERS = ("| fault", "| you have")


def rows(page: str) -> list[list[str]]:
    tables = (ROOT / "docs" / page).read_text().split("## Measured")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in tables.splitlines()
        if line.startswith("| ") and not line.startswith(HEADERS)
    ]


FAULTS, DATA = rows("reliability.md"), rows("data.md")


@pytest.mark.parametrize("row", FAULTS + DATA, ids=[row[0][:40] for row in FAULTS + DATA])
def test_each_row_has_its_test(row):
    assert len(row) == 3 and row[0] and row[1]
    file, name = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[2]).groups()
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_tables_are_not_empty():
    assert len(FAULTS) > 50
