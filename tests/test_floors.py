"""The layout's rules: who may import whom, how long things may be, what must not be said."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"losses", "schedulers", "metrics", "diversity", "preprocessing", "augmentation", "runtime",
     "pairs", "stacking", "stopping"},
    {"config", "backbones", "dataset", "aggregation", "synthetic", "legacy", "calibration",
     "comparison", "gates", "html", "batching", "inspection", "shortcuts", "sheets"},
    {"ovo", "artifacts", "consistency", "feeding", "duplicates"},
    {"pair_trainer", "inference", "evaluation", "claim"},
    {"stepping"},
    {"training"},
    {"reporting", "plots", "cli", "planning", "judging", "report", "verification", "leakage"},
    {"audit"},
    {"audit_report", "splitting"},
]  # fmt: skip
MODULES = sorted(path for path in (ROOT / "common").glob("*.py") if path.stem != "__init__")
SCRIPTS = sorted(ROOT.glob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            if node.module == "common":
                found |= {f"common.{alias.name}" for alias in node.names}
    return found


def floor(name: str) -> int:
    return next(level for level, modules in enumerate(FLOORS) if name in modules)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_floors(path):
    used = {name.split(".")[1] for name in imports(path) if name.startswith("common.")}
    assert all(floor(name) < floor(path.stem) for name in used), used


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_import_no_scripts_and_stay_short(path):
    names = {script.stem for script in SCRIPTS}
    assert not imports(path) & names
    assert len(path.read_text().splitlines()) <= 225
    tree = ast.parse(path.read_text())
    assert "python " in ast.get_docstring(tree)


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda path: path.stem)
def test_functions_stay_short_and_are_described(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda path: path.stem)
def test_special_libraries_stay_in_their_module(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert "matplotlib" not in used or path.stem == "plots"
    assert "timm" not in used or path.stem in ("backbones", "runtime")
