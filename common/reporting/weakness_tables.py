"""Tables of where a grader may fail: in subgroups, and where labels may be wrong."""

from collections.abc import Iterator
from dataclasses import replace

from common.reporting.table import Cell, Column, Table, make_table
from common.screening.label_errors import LabelErrors
from common.screening.subgroups import FEWEST, Gap, Subgroup, Subgroups

_LABELS_SHOWN = 10
_GAPS_SHOWN = 8


def subgroup_tables(found: Subgroups) -> Iterator[Table]:
    """Show the figures of all images and of each subgroup, then the gaps between subgroups."""
    groups = [found.overall, *found.groups]
    figures = [Column(figure.title, figure.name) for figure in found.figures]
    yield replace(
        make_table(
            "subgroups",
            "By what is known of the images",
            [
                Column("by", "column"),
                "value",
                "images",
                "patients",
                "referable",
                *figures,
                Column("undefined_because", csv_only=True),
            ],
            [
                [
                    group.column or "all",
                    _value(group),
                    group.images,
                    group.patients,
                    group.referable,
                    *(group.metrics[figure.name] for figure in found.figures),
                    "; ".join(dict.fromkeys(group.undefined.values())),
                ]
                for group in groups
            ],
            _notes_on_subgroups(found),
        ),
        marked=frozenset((row, 2) for row, group in enumerate(groups) if group.too_few),
    )
    if found.gaps:
        yield replace(_gaps(found), most_shown=_GAPS_SHOWN)


def _gaps(found: Subgroups) -> Table:
    rows: list[list[Cell]] = [
        [
            gap.title,
            gap.column,
            _value(gap.best),
            gap.best.images,
            _value(gap.worst),
            gap.worst.images,
            gap.difference,
            gap.p,
            gap.p_holm,
            "beyond chance" if gap.beyond_chance else "within chance",
        ]
        for gap in found.gaps
    ]
    return make_table(
        "subgroup_gaps",
        "Where subgroups differ most",
        [
            "figure",
            "by",
            "highest in",
            "images",
            "lowest in",
            Column("images", "images_lowest"),
            "gap",
            Column("p", kind="p"),
            Column("p (Holm)", "p_holm", kind="p"),
            "verdict",
        ],
        rows,
        [
            _largest(found),
            "p: how often patients with each other's values differ as much between any two values; "
            f"Holm's correction allows for all {len(rows)} comparisons. The interval of a gap does "
            "not allow for having been picked. Another mix of grades can make a gap, too.",
            *([f"The first {_GAPS_SHOWN} are shown."] if len(rows) > _GAPS_SHOWN else []),
        ],
    )


def _value(group: Subgroup) -> str:
    return group.value or ("(not known)" if group.column else "images")


def _largest(found: Subgroups) -> str:
    """Name the largest gap, and say whether so many equal subgroups would show it."""
    gap = found.gaps[0]
    verdict = (
        "more than chance makes so many equal subgroups differ"
        if gap.beyond_chance
        else "within what chance alone does to so many equal subgroups"
    )
    return (
        f"Largest gap: {gap.title} {_with(gap.best, gap)} and {_with(gap.worst, gap)}, by "
        f"{gap.column}: {verdict}."
    )


def _with(group: Subgroup, gap: Gap) -> str:
    return f"{group.metrics[gap.figure].value:.3f} of {_value(group)} ({group.images} images)"


def _notes_on_subgroups(found: Subgroups) -> list[str]:
    notes = list(found.notes)
    if any(group.too_few for group in found.groups):
        notes.append(f"[ ]: fewer than {FEWEST} images, whose figures say little.")
    reasons: dict[str, list[str]] = {}
    for group in found.groups:
        for name, why in group.undefined.items():
            title = next(figure.title for figure in found.figures if figure.name == name)
            reasons.setdefault(why, []).append(f"{title} of {group.column} {_value(group)}")
    return notes + [f"n/a because {why}: {', '.join(names)}" for why, names in reasons.items()]


def label_errors_table(found: LabelErrors) -> Table:
    """List images to be graded again, for a grader who fills the last two columns of the file."""
    names = found.class_names
    rows: list[list[Cell]] = [
        [
            rank,
            each.image,
            names[each.label],
            names[each.suggested],
            each.label_probability,
            each.suggested_probability,
            each.score,
            "",
            "",
        ]
        for rank, each in enumerate(found.found, 1)
    ]
    count = len(rows)
    notes = [
        f"{count} of {found.images} images: their labels are contradicted with confidence "
        "(confident learning, Northcutt et al. 2021). Candidates to be looked at again: the label "
        "or the model may be wrong. Nothing was changed."
    ]
    if count > _LABELS_SHOWN:
        notes.append(f"The first {_LABELS_SHOWN} are shown; the CSV file has all.")
    table = make_table(
        "label_errors",
        "Likely label errors",
        [
            "rank",
            "file",
            "label",
            Column("suggested", "suggested_grade"),
            Column("p of label", "probability_of_label"),
            Column("p of suggested", "probability_of_suggested"),
            "score",
            *(Column(name, csv_only=True) for name in ("reviewed_grade", "comment")),
        ],
        rows,
        [*notes, *found.notes],
    )
    return replace(table, most_shown=_LABELS_SHOWN)
