"""The tables and the figure of docs/accuracy.md, laid out from accuracy.json."""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy_tables.measures import RECALLS
from benchmarks.accuracy_tables.results import (
    Changes,
    Conditions,
    Grid,
    MethodResult,
    Methods,
    Results,
    load,
    store,
)
from benchmarks.recipes.methods import PROBES, REFERENCES, SOUP
from benchmarks.recipes.runs import FOLDS
from benchmarks.shared.pages import (
    EMPTY,
    NOTHING,
    difference,
    markdown_table,
    put_parts,
    short,
    with_interval,
)
from common.data.patients import AUTO
from common.metrics.intervals import Interval
from common.system.log import log

FILE, PAGE = Path("benchmarks") / "accuracy.json", Path("docs") / "accuracy.md"
FIGURE = Path("images") / "accuracy.png"  # as seen from the page
_IMAGE = f"![Kappa and AUC of each method with their intervals]({FIGURE.as_posix()})"
_SHOWN = {  # the columns with an interval
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "quadratic kappa",
    "macro_auc": "macro AUC",
    "referable_auc": "referable AUC",
    "sensitivity": "sensitivity at specificity 0.9",
}
_COMPARED = ("accuracy", "kappa", "macro_auc", "referable_auc")
_NEW_PAGE = """# Accuracy

## Methods

<!-- accuracy: methods -->
<!-- end -->

## Differences

<!-- accuracy: differences -->
<!-- end -->

## Kept together

<!-- accuracy: together -->
<!-- end -->

## How many photographs

<!-- accuracy: learning -->
<!-- end -->

## Folds or one division

<!-- accuracy: divisions -->
<!-- end -->

## What each setting is worth

<!-- accuracy: changes -->
<!-- end -->

### Kept together

<!-- accuracy: changes_together -->
<!-- end -->

## Pixels

<!-- accuracy: pixels -->
<!-- end -->
"""
_OF_RECIPE = (
    "Each row changes one setting of the small-data recipe as it was before, with a shared head: "
    "features of the last stage alone, no prior correction, but for the flags that all trainings "
    "had. ± is the standard deviation over single folds and seeds; a difference is to the recipe "
    "on the same images, with its 95 % interval. Minutes: median of the trainings of one fold."
)
_OF_PIXELS = (
    "Each row changes the photographs' pixels, or the features, of a One-vs-One logistic "
    "regression (C = 0.01) on the pooled features of the pretrained network, which nothing trains. "
    "± is the standard "
    "deviation over single folds; a difference is to the plain photographs, with "
    "its 95 % interval. Minutes: of all folds together."
)

_OF_LEARNING = (
    "Photographs: in the mean over the folds; of each grade the same share, rounded up, the same "
    "for both methods. The recipe learns from a share for its own epochs, which are fewer steps, "
    "and for so many epochs as make as many steps as with all photographs. Differences: of the "
    "recipe to itself with all photographs, of the linear classifier to the recipe with the same "
    "photographs and its own epochs. [95 % interval over images, the groups drawn whole, and "
    "seeds.] Minutes: median of one fold."
)
_OF_DIVISIONS = (
    "Photographs: in the mean over the folds. A part is judged by what has not learned from it: by "
    "models that learned from three of the four others and have the fourth as val, all of which "
    "make the ensemble, and by one that learned from all four. Differences: to the one model; of "
    "the best one to the ensemble. Mean ± standard deviation over the four models, [95 % interval "
    "over images, the groups drawn whole, and these models]. Minutes: of all trainings that it "
    "takes."
)


def publish(root: Path, found: Methods | Changes, section_name: str) -> None:
    """Put a section into accuracy.json, and its table into accuracy.md, below a folder.

    section_name: a field of Results.
    """
    write(root / PAGE, store(root / FILE, found, section_name))
    log(f"wrote {root / FILE} and {root / PAGE}")


def publish_again(root: Path) -> None:
    """Lay accuracy.md out from accuracy.json as it is."""
    write(root / PAGE, load(root / FILE))


def write(page: Path, results: Results) -> None:
    """Put the tables into their places of a page, which is begun if there is none, and draw."""
    put_parts(page, "accuracy", render(results), _NEW_PAGE)
    if results.methods:
        draw(page.parent / FIGURE, results.methods.rows)


def render(results: Results) -> dict[str, str]:
    """Lay out each part of the page, by its name."""
    methods, together = results.methods, results.together
    changes, changes_together = results.changes, results.changes_together
    pixels, learning, divisions = results.pixels, results.learning, results.divisions
    return {
        "methods": f"{_IMAGE}\n\n{_methods(methods)}" if methods else NOTHING,
        "differences": _differences(methods.rows) if methods else NOTHING,
        "together": _together(together) if together else NOTHING,
        "learning": _learned(learning, "seeds", _OF_LEARNING) if learning else NOTHING,
        "divisions": _learned(divisions, "models", _OF_DIVISIONS) if divisions else NOTHING,
        "changes": _changes(changes, _OF_RECIPE) if changes else NOTHING,
        "changes_together": (
            _changes(changes_together, _OF_RECIPE) if changes_together else NOTHING
        ),
        "pixels": _changes(pixels, _OF_PIXELS) if pixels else NOTHING,
    }


def _conditions(found: Conditions) -> str:
    software = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    together = (
        f", which keep together what `--patient_regex '{found.patient_regex}'` names"
        if found.patient_regex != AUTO
        else ""
    )
    flags = f" All trainings also had `{found.train_flags}`." if found.train_flags else ""
    return (
        f"{found.date}, commit {found.git_commit}. {sum(found.grades)} photographs, of the grades "
        f"{', '.join(map(str, found.grades))}, in {found.units} groups that belong together "
        f"({found.left_out} contradictory copies are left out). {FOLDS} grouped folds{together}. "
        f"Networks: {', '.join(found.models)}.{flags} "
        f"One core a run: {found.processor}; {software}."
    )


def _methods(found: Methods) -> str:
    most = max((len(m.grid.seeds) for m in found.rows), default=0)
    header = ["method", "folds x seeds", *_SHOWN.values(), "recall of each grade", "ECE"]
    header += ["calibrated", "minutes"]
    rows, notes = [], []
    for each in found.rows:
        mark = ""
        if each.note:
            notes += [each.note] if each.note not in notes else []
            mark = f" [{notes.index(each.note) + 1}]"
        row = [each.title + mark, _amount(each, most)]
        row += [with_interval(each.figures[name]) for name in _SHOWN]
        row.append(_recalls(each))
        row += [short(each.figures[name]) for name in ("ece", "calibrated_ece")]
        rows.append([*row, EMPTY if each.minutes is None else f"{each.minutes:.1f}"])
    parts = [
        markdown_table(header, rows),
        *(f"[{number}] {note}." for number, note in enumerate(notes, 1)),
        "Mean over the seeds ± standard deviation over them, [95 % interval over images, the "
        "groups drawn whole, and seeds]. Temperatures and the threshold of referral are fitted for "
        "each fold on the answers about the others. Minutes: median of the trainings of one fold.",
        _conditions(found.conditions),
    ]
    return "\n\n".join(parts)


def _recalls(result: MethodResult) -> str:
    """Write the recall of each grade, in order."""
    found = [result.figures.get(name) for name in RECALLS]
    return " / ".join(EMPTY if each is None else f"{each.value:.2f}" for each in found)


def _together(found: Methods) -> str:
    """Lay out methods on folds of their own, and their differences."""
    return f"{_methods(found)}\n\n{_differences(found.rows)}"


def _amount(result: MethodResult, most: int) -> str:
    """Say how much of it is there, and whether it lacks folds or seeds."""
    grid, probe = result.grid, result.name.split()[0] in PROBES
    seeds = "no seed" if probe else str(len(grid.seeds))
    probe = probe or result.name == SOUP
    lacks = [f"{_folds(grid)} alone"] if len(grid.folds) < FOLDS else []
    if len(grid.seeds) < most and not probe:
        lacks.append(f"{most} seeds elsewhere")
    return f"{len(grid.folds)} x {seeds}" + (f" (incomplete: {', '.join(lacks)})" if lacks else "")


def _folds(grid: Grid) -> str:
    names = ", ".join(map(str, grid.folds))
    return f"fold{'s' if len(grid.folds) > 1 else ''} {names}"


def _differences(methods: Sequence[MethodResult]) -> str:
    titles = {each.name: each.title for each in methods}
    parts = []
    for other in REFERENCES:
        rows = [
            [each.title, *(difference(each.against[other].get(name)) for name in _COMPARED)]
            for each in methods
            if each.against.get(other)
        ]
        if rows:
            header = [f"minus {titles[other]}", *(_SHOWN[name] for name in _COMPARED)]
            parts.append(markdown_table(header, rows))
    parts += _gains(methods)
    if not parts:
        return NOTHING
    note = "Paired: on the same images of the folds that both have, each resample for both."
    return "\n\n".join([*parts, note])


def _gains(methods: Sequence[MethodResult]) -> list[str]:
    """Compare each ensemble with its best member, by the kappa on these images."""
    by_name, rows = {each.name: each for each in methods}, []
    for each in methods:
        members = [by_name[name] for name in each.members if each.against.get(name)]
        if members:
            best = max(members, key=lambda member: member.figures["kappa"].value)
            cells = [difference(each.against[best.name].get(name)) for name in _COMPARED]
            rows.append([each.title, best.title, *cells])
    header = ["ensemble", "minus its member with the best kappa here"]
    return [markdown_table([*header, *(_SHOWN[name] for name in _COMPARED)], rows)] if rows else []


def _changes(found: Changes, note: str) -> str:
    header = ["setting", "changed to", "folds x seeds", "kappa", "difference", "macro AUC"]
    header += ["difference", "log loss", "difference", "minutes"]
    rows = []
    for each in found.rows:
        cells = []
        for name in ("kappa", "macro_auc", "nll"):
            spread = each.spread[name]
            value = f"{each.figures[name].value:.3f}"
            cells.append(value if math.isnan(spread) else f"{value} ± {spread:.3f}")
            cells.append(difference(each.difference.get(name)))
        amount = f"{_folds(each.grid)} x {len(each.grid.seeds)}"
        rows.append([each.setting, each.to, amount, *cells, f"{each.minutes:.1f}"])
    return "\n\n".join([markdown_table(header, rows), note, _conditions(found.conditions)])


def _learned(found: Changes, drawn: str, note: str) -> str:
    """Lay out what was reached with how many images to learn from; drawn: seeds or models."""
    names = ("accuracy", "kappa", "macro_auc")
    header = ["method", "learned from", f"folds x {drawn}", *(_SHOWN[name] for name in names)]
    header += [*(f"difference of {_SHOWN[name]}" for name in names), "ECE", "minutes"]
    rows = []
    for each in found.rows:
        cells = [each.setting, each.to, f"{len(each.grid.folds)} x {len(each.grid.seeds)}"]
        cells += [with_interval(each.figures[name]) for name in names]
        cells += [difference(each.difference.get(name)) for name in names]
        rows.append([*cells, short(each.figures["ece"]), f"{each.minutes:.1f}"])
    return "\n\n".join([markdown_table(header, rows), note, _conditions(found.conditions)])


def _drawn_name(result: MethodResult) -> str:
    """Call a method by its title, with its folds if it lacks some."""
    whole = len(result.grid.folds) == FOLDS
    return result.title if whole else f"{result.title} ({_folds(result.grid)} alone)"


def draw(path: Path, methods: Sequence[MethodResult]) -> None:
    """Draw kappa and AUC of each method: its mean with the interval, and a dot for each seed."""
    from common.figures.comparison import draw_interval, prepare_rows
    from common.figures.style import COLORS, LINE, PAGE, QUIET, new_figure, save_figure, wrapped

    shown = [("kappa", "quadratic kappa"), ("macro_auc", "macro AUC")]
    names = [wrapped(_drawn_name(each), 34) for each in reversed(methods)]
    lines = [name.count("\n") + 1 for name in names]
    height = 0.9 + 1.15 * LINE * max(lines) * len(methods)
    figure = new_figure(PAGE, height, "Accuracy, out of fold")
    panels = figure.subplots(1, len(shown), sharey=True)
    for axes, (metric, title) in zip(panels, shown):
        found = [each.figures[metric] for each in reversed(methods)]
        intervals = [Interval(one.value, one.low, one.high) for one in found]
        prepare_rows(axes, intervals, len(intervals))
        for row, (one, interval) in enumerate(zip(found, intervals)):
            draw_interval(axes, row, interval)
            if len(one.by_seed) > 1:
                below = [row - 0.28] * len(one.by_seed)
                axes.plot(one.by_seed, below, ".", color=COLORS[1], markersize=4)
        axes.set_title(title)
        axes.set_yticks(range(len(names)), names)
    several = any(len(each.figures[metric].by_seed) > 1 for metric, _ in shown for each in methods)
    note = "blue: mean and 95 % interval" + ("; red: single seeds" if several else "")
    figure.supxlabel(note, fontsize=8, color=QUIET, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path, "none")
