"""The layout's rules: which folder may import which, and where special libraries stay."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMON = ROOT / "common"
# downwards only: a folder, or a module at the top of common/, imports those before its own floor
FLOORS = (
    ("system",),
    ("locks",),
    ("pairs", "recipes", "history", "architectures"),
    ("in_force",),
    ("config",),
    ("listing",),
    ("data",),
    ("sharing",),
    ("pixels",),
    ("pixel_store",),
    ("duplicates",),
    ("inspection",),
    ("kernels",),
    ("models",),
    ("result_dir",),
    ("watching",),
    ("trained_networks",),
    ("prediction",),
    ("metrics",),
    ("comparison",),
    ("fitting",),
    ("screening",),
    ("evaluation",),
    ("figures",),
    ("fine_tuning",),
    ("training", "reporting"),
    ("grading",),
    ("doubts",),
    ("new_pictures",),
    ("evidence",),
    ("explaining",),
    ("model_card", "release"),
    ("evaluation_steps",),
    ("joint_runs",),
    ("audit",),
    ("preparation",),
    ("cli",),
    ("flags",),
)
MODULES = sorted(path for path in COMMON.rglob("*.py") if path.stem != "__init__")
SCRIPTS = sorted(ROOT.glob("*.py"))
TOOLS = sorted(path for folder in ("benchmarks", "dev") for path in (ROOT / folder).rglob("*.py"))
ROOMS = sorted(
    path.parent for place in (COMMON, ROOT / "benchmarks") for path in place.glob("*/__init__.py")
)


def imports(path: Path) -> set[str]:
    """List the modules that a file imports, those imported from a package with their own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(name: str) -> str:
    """Name the folder, or the module at the top, of "common.data.folders"."""
    return name.split(".")[1]


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_its_own_folder_and_lower_floors(path):
    own = room(name_of(path))
    used = {room(name) for name in imports(path) if name.startswith("common.")} - {own}
    assert all(floor(name) < floor(own) for name in used), used


@pytest.mark.parametrize("folder", ROOMS, ids=name_of)
def test_a_folder_holds_at_most_eight_modules(folder):
    assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 8


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_imports_no_script_and_shows_a_command(path):
    assert not imports(path) & {script.stem for script in SCRIPTS}
    assert "python " in ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS, *TOOLS], ids=name_of)
def test_no_module_is_named_like_one_of_the_standard_library(path):
    assert path.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_special_libraries_stay_in_their_place(path):
    used = imports(path)
    assert name_of(path).startswith("common.figures.") or not any("matplotlib" in n for n in used)
    if "models" not in path.parts:
        special = ("timm", "torchvision.models")
        assert not [name for name in used if name.startswith(special)]


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_scikit_learn_which_takes_seconds_is_imported_where_it_is_used(path):
    body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert not [node.module for node in body if node.module.startswith("sklearn")]


def test_nothing_switches_the_formatter_off():
    marks = ("# fmt" + ": skip", "# fmt" + ": off")
    for path in [*MODULES, *SCRIPTS, *TOOLS, *(ROOT / "tests").rglob("*.py")]:
        assert not any(mark in path.read_text() for mark in marks), path
