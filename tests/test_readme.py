"""What the README and the pages in docs/ show exists: commands, flags, files, links, modules."""

import re
import shlex
from pathlib import Path

import pytest
from helpers import ROOT, help_of

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAIN, EVALUATE = ("train_ovo.py",), ("evaluate_ensemble.py",)


def blocks(page: Path) -> list[str]:
    """List the command lines of a page's code blocks, continued lines joined."""
    code = "\n".join(page.read_text().split("```")[1::2])
    return [line.split(" #")[0].strip() for line in code.replace("\\\n", " ").splitlines()]


def commands() -> set[tuple[tuple[str, ...], str]]:
    """Collect (script, a flag that some page shows with it)."""
    shown = set()
    for line in (line for page in PAGES for line in blocks(page)):
        words = shlex.split(line) if "python " in line else line.split()
        if "python" in words:
            words = words[words.index("python") + 1 :]
            script = tuple(words[:2]) if words[0] == "-m" else tuple(words[:1])
            if script[0] == "prepare_dataset.py":
                script += (words[1],)
            if "evaluate" in words and script == ("ensemble_5class_trainer.py",):
                words, script = [w for w in words if w != "--mode"], EVALUATE
        elif "./train_all.sh" in words:
            script = ("train_all.sh",)
        elif re.match(r"\./train_\w+\.sh", line):
            script = TRAIN
        else:
            continue
        own = [word for word in words if " " not in word]
        handed_on = " ".join(word for word in words if " " in word).split()  # to train_ovo.py
        shown |= {(script, "")} | {(script, word) for word in own if word.startswith("--")}
        shown |= {(TRAIN, word) for word in handed_on if word.startswith("--")}
    return shown


def flags_of(script: tuple[str, ...]) -> str:
    """Return the help of a script; train_all.sh passes on what is not its own."""
    if script == ("train_all.sh",):
        return (ROOT / "train_all.sh").read_text() + help_of(*TRAIN)
    return help_of(*script)


@pytest.mark.parametrize("script", sorted({script for script, _ in commands()}), ids=" ".join)
def test_commands_that_are_shown_have_the_flags_that_they_are_shown_with(script):
    flags = {flag for name, flag in commands() if name == script}
    assert not {flag for flag in flags if flag not in flags_of(script)}


@pytest.mark.parametrize(
    ("page", "script"),
    [("guide.md", TRAIN), ("evaluation.md", EVALUATE)],
    ids=["training", "evaluation"],
)
def test_the_flags_of_a_table_are_flags_of_its_script(page, script):
    text = (ROOT / "docs" / page).read_text()
    table = text.split(f"| flag of `{script[0]}` |", 1)[1].split("\n\n", 1)[0]
    flags = set(re.findall(r"`(--\w+)", table))
    assert len(flags) > 5 and not {flag for flag in flags if flag not in help_of(*script)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_within_the_text_of_a_page_exist(page):
    prose = "\n".join(page.read_text().split("```")[::2])
    everything = (
        flags_of(("train_all.sh",))
        + help_of(*EVALUATE)
        + "".join(
            help_of("prepare_dataset.py", command)
            for command in ("audit", "split", "cache", "import")
        )
    )
    everything += help_of("compare_models.py") + help_of("-m", "benchmarks.accuracy")
    everything += help_of("model_analyzer.py") + help_of("-m", "benchmarks.simulate_scaling")
    everything += "--max_restarts --nnodes --kill --ntasks"  # of torchrun and SLURM
    everything += help_of("-m", "dev.golden") + help_of("-m", "dev.fuzz")
    everything += help_of("predict.py") + help_of("explain.py") + help_of("export_model.py")
    flags = set(re.findall(r"`(--\w+)", prose))
    assert not {flag for flag in flags if flag not in everything}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "slurm" / "README.md"], ids=lambda page: page.parent.name + page.name
)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]
    paths = re.findall(r"`((?:common|tests|dev|benchmarks|docs)/[\w/]+\.(?:py|md))", text)
    assert not [path for path in paths if not (ROOT / path).is_file()]


def test_the_readme_fits_on_a_few_screens():
    assert len(README.read_text().splitlines()) <= 165


def test_the_tree_of_the_code_names_every_module_and_script():
    tree = (ROOT / "docs" / "architecture.md").read_text().split("## The tree")[1].split("```")[1]
    words = set(re.findall(r"[\w.]+", tree.replace("/", " ")))
    modules = {
        path.stem
        for folder in ("common", "benchmarks", "dev")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert not modules - {"__init__"} - words
    scripts = {path.name for path in [*ROOT.glob("*.py"), *ROOT.glob("*.sh")]}
    assert not scripts - words
    files = re.findall(r"\w+\.(?:py|sh)\b", tree)
    assert not [name for name in files if not (ROOT / name).is_file()]


def table_of_places() -> list[str]:
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Where to add")[1].split("\n\n")[1]
    return table.splitlines()[2:]


@pytest.mark.parametrize("row", table_of_places(), ids=lambda row: row.split("|")[1].strip())
def test_what_is_to_be_changed_is_where_it_is_said_to_be(row):
    words = re.findall(r"`([^`]+)`", row)
    paths = [ROOT / word for word in words if "/" in word]
    assert len(paths) > 1 and all(path.exists() for path in paths)
    code = "".join(path.read_text() for path in paths if path.suffix == ".py")
    names = [word for word in words if word.isidentifier()]
    assert not [name for name in names if name not in code]
