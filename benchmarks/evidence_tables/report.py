"""The tables and the figure of docs/evidence.md, laid out from evidence.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.evidence_tables.findings import findings, verdicts
from benchmarks.evidence_tables.results import (
    CHECKS,
    KINDS,
    Conditions,
    Curve,
    Results,
    Row,
    Section,
)
from benchmarks.shared.over_seeds import Figure
from benchmarks.shared.pages import (
    EMPTY,
    NOTHING,
    difference,
    markdown_table,
    put_parts,
    short,
    with_interval,
)
from common.evidence.maps import COMBINED, EXACT, FINER
from common.metrics.intervals import Interval

if TYPE_CHECKING:  # takes a second to import: what draws does it
    from matplotlib.axes import Axes

_NAMES = {"evidence": "most evidence first", "random": "by chance", "others": "another picture's"}
_MAPS = {EXACT: "exact map", FINER: "finer map", COMBINED: "finer map weighed by the exact"}
_NEW_PAGE = """# Evidence

<!-- evidence: found -->
<!-- end -->

## Photographs

<!-- evidence: photographs -->
<!-- end -->

## Drawn pictures

<!-- evidence: drawn -->
<!-- end -->
"""


def write(page: Path, results: Results) -> None:
    """Put findings and tables into their places of a page, begun if there is none, and draw."""
    parts = {"found": findings(results)}
    for kind in KINDS:
        section, checks = results.get(kind), results.get(kind + CHECKS)
        figure = Path("images") / f"evidence_{kind}.png"  # as seen from the page
        texts = [*(_section(section, figure) if section else [NOTHING])]
        texts += ["### Checks", *(_checks(checks) if checks else [NOTHING])]
        parts[kind] = "\n\n".join(texts)
        if section:
            draw(page.parent / figure, section, checks.curves[0] if checks else None)
    put_parts(page, "evidence", parts, _NEW_PAGE)


def _section(section: Section, figure: Path) -> list[str]:
    methods = [row for row in section.rows if not row.setting]
    changes = [row for row in section.rows if row.setting]
    parts = [
        f"![Gain and pointing of each model, and what deletion does]({figure.as_posix()})",
        _methods(methods),
        f"Asked of {methods[0].method}: {verdicts(methods[0])}.",
        _conditions(section.conditions),
    ]
    if changes:
        parts += [f"{methods[0].method}, looked at in other ways:", _changes(methods[0], changes)]
    return parts


def _checks(section: Section) -> list[str]:
    methods = [row for row in section.rows if not row.setting]
    shuffled = [row for row in section.rows if row.setting]
    return [
        "The score, in logits, while more and more of the retina is blurred away:",
        _curves(section.curves, methods),
        f"{methods[0].method} with some of its weights shuffled, {_orders(shuffled)}:",
        _shuffles(methods[0], shuffled),
        _conditions(section.conditions),
    ]


def _methods(rows: Sequence[Row]) -> str:
    header = ["model", "seeds", "images", "gain on lesions", "peak in a lesion", "by chance"]
    header += ["gain on the disc", "peak in the disc", "by chance"]
    cells = []
    for row in rows:
        found = row.figures
        images = str(row.images)
        if row.positive < row.images:
            images += f" ({row.positive} with positive evidence)"
        cell = [row.method, str(row.seeds), images]
        cell += [with_interval(found["gain"], 2), with_interval(found["pointing"], 2)]
        cell += [short(_alone(found["chance"]), 2), with_interval(found["disc"], 2)]
        cell += [with_interval(found["disc_pointing"], 2), short(_alone(found["disc_chance"]), 2)]
        cells.append(cell)
    return markdown_table(header, cells)


def _alone(figure: Figure) -> Figure:
    """Leave out the spread of what depends on the images alone."""
    return Figure(figure.value, figure.low, figure.high, None, figure.by_seed)


def _changes(base: Row, rows: Sequence[Row]) -> str:
    shown = {"gain": "gain on lesions", "pointing": "peak in a lesion", "disc": "gain on the disc"}
    header = ["setting", "changed to"]
    for title in shown.values():
        header += [title, "difference"]
    cells = []
    for row in rows:
        cell = [row.setting, row.to]
        for name in shown:
            cell += [short(row.figures[name], 2), difference(row.difference.get(name), 2)]
        cells.append(cell)
    first = ["as above", EMPTY]
    for name in shown:
        first += [short(base.figures[name], 2), EMPTY]
    return markdown_table(header, [first, *cells])


def _orders(shuffled: Sequence[Row]) -> str:
    count = shuffled[0].seeds
    return f"means of {count} random orders" if count > 1 else "in one random order"


def _shuffles(base: Row, rows: Sequence[Row]) -> str:
    header = ["weights", "likeness of the maps", "gain on lesions", "peak in a lesion"]
    header += ["gain on the disc"]
    names = ("likeness", "gain", "pointing", "disc")
    cells = [["trained", "1", *(with_interval(base.figures[name], 2) for name in names[1:])]]
    for row in rows:
        cells.append([f"{row.to} shuffled", *(with_interval(row.figures[n], 2) for n in names)])
    return markdown_table(header, cells)


def _curves(curves: Sequence[Curve], rows: Sequence[Row]) -> str:
    """Show the curves, and how much more the map's own order takes than another one."""
    shares = [f"{share:.0%}" for share in curves[0].shares]
    header = ["model", "blurred", "nothing", *shares, "loss by evidence beyond it"]
    beyond = {"random": "deletion", "others": "deletion_by_others"}
    figures = {row.method: row.figures for row in rows}
    cells = []
    for curve in curves:
        for name, values in curve.curves.items():
            cell = [curve.method, _NAMES[name], f"{curve.whole:.2f}", *map("{:.2f}".format, values)]
            more = figures[curve.method].get(beyond.get(name, ""))
            cells.append([*cell, with_interval(more, 2) if more else EMPTY])
    return markdown_table(header, cells)


def _conditions(found: Conditions) -> str:
    software = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    note = f" Note: {found.note}." if found.note else ""
    size = " x ".join(map(str, found.map_size))
    return (
        f"{found.date}, commit {found.git_commit}. {found.images} referable images of "
        f"{found.split} in {found.dataset}, in {found.groups} groups that belong together, with "
        f"{found.boxes} boxes of lesions; each model is judged on images that are new to it.{note} "
        f"Maps of {size} positions ({found.look}) for {found.target}, {found.upsampling} between "
        "them. Mean over the seeds ± standard deviation over them, [95 % interval over images, the "
        f"groups drawn whole, and seeds; {found.resamples} resamples]. {software}."
    )


def draw(path: Path, section: Section, curve: Curve | None) -> None:
    """Draw gain and pointing of each model and layer, and a deletion curve if there is one."""
    from common.figures.comparison import draw_interval, prepare_rows
    from common.figures.style import (
        COLORS,
        LINE,
        PAGE,
        QUIET,
        near,
        new_figure,
        save_figure,
        wrapped,
    )

    rows = [row for row in section.rows if row.setting in ("", "layer")][::-1]
    named = (
        f"{row.method}: {_MAPS.get(row.to, row.to)}" if row.setting else row.method for row in rows
    )
    names = [wrapped(name, 26) for name in named]
    lines = max(name.count("\n") + 1 for name in names)
    height = max(2.6, 1.3 + 1.25 * LINE * lines * len(rows))
    figure = new_figure(PAGE, height, "Evidence and lesions")
    panels = figure.subplots(1, 3 if curve else 2)
    for axes, parts, title, middle in (
        (panels[0], ("gain", "disc"), "gain over chance", 1.0),
        (panels[1], ("pointing", "disc_pointing"), "peak inside", None),
    ):
        found = [[row.figures[name] for row in rows] for name in parts]
        intervals = [[Interval(one.value, one.low, one.high) for one in own] for own in found]
        every = [one for own in intervals for one in own]
        prepare_rows(axes, every, len(rows))
        axes.set_xlim(*near((end for one in every for end in vars(one).values()), lowest=0))
        for color, own, shift in zip(COLORS, intervals, (0.12, -0.12)):
            for row, one in enumerate(own):
                draw_interval(axes, row + shift, one, color)
        if middle is not None:
            axes.axvline(middle, color=QUIET, linewidth=0.8, linestyle=":")
        else:
            chance = [row.figures["chance"].value for row in rows]
            axes.plot(chance, range(len(rows)), "|", color=QUIET, markersize=12)
        axes.set_title(title)
        shown = names if axes is panels[0] else [""] * len(rows)
        axes.set_yticks(range(len(rows)), shown)
    if curve:
        _draw_curve(panels[2], curve)
    note = "blue: in lesions; red: in the optic disc; grey: by chance"
    figure.supxlabel(note, fontsize=8, color=QUIET, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path, "none")


def _draw_curve(axes: "Axes", curve: Curve) -> None:
    """Draw how the score falls, by the order in which places are blurred."""
    from common.figures.style import looks, quiet_grid

    for look, (name, values) in zip(looks(len(curve.curves)), curve.curves.items()):
        style: dict[str, Any] = {
            "color": look.color,
            "linestyle": look.stroke,
            "label": _NAMES[name],
        }
        axes.plot([0, *curve.shares], [curve.whole, *values], marker=look.marker, **style)
    axes.set_title("deletion, first model")
    axes.set_xlabel("share of the retina blurred")
    axes.set_ylabel("score, in logits")
    axes.margins(y=0.3)  # room for the legend
    axes.legend(loc="lower left")
    quiet_grid(axes)
