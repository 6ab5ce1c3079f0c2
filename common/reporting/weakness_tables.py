"""Tables of where a grader may fail: subgroups, altered photographs, labels that may be wrong."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from common.evaluation.questions import Answers
from common.listing.walking import count_of
from common.prediction.alterations import ALTERATIONS
from common.reporting.table import Cell, Column, Table, make_table
from common.screening.label_errors import LabelErrors
from common.screening.robustness import ReferralChange, Robustness
from common.screening.subgroups import FEWEST, Figure, Gap, Subgroup, Subgroups

_LABELS_SHOWN = 10
_GAPS_SHOWN = 8
_IMAGES, _FIRST_FIGURE = 2, 5  # columns of the table of subgroups


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
        marked=frozenset(_resting_on_few(found.figures, groups)),
    )
    if found.gaps:
        yield replace(_gaps(found), most_shown=_GAPS_SHOWN)


def _resting_on_few(
    figures: Sequence[Figure], groups: Sequence[Subgroup]
) -> Iterator[tuple[int, int]]:
    """Find the cells, by row and column, of what rests on too few images."""
    for row, group in enumerate(groups):
        if group.too_few:
            yield row, _IMAGES
        for column, figure in enumerate(figures, _FIRST_FIGURE):
            if group.rests_on_few(figure) and figure.name not in group.undefined:
                yield row, column


def _gaps(found: Subgroups) -> Table:
    rows: list[list[Cell]] = [
        [
            gap.figure.title,
            gap.column,
            _value(gap.best),
            gap.best.images_of(gap.figure),
            _value(gap.worst),
            gap.worst.images_of(gap.figure),
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
        f"Largest gap: {gap.figure.title} {_with(gap.best, gap)} and {_with(gap.worst, gap)}, by "
        f"{gap.column}: {verdict}."
    )


def _with(group: Subgroup, gap: Gap) -> str:
    value, count = group.metrics[gap.figure.name].value, group.images_of(gap.figure)
    return f"{value:.3f} of {_value(group)} ({count} images)"


def _notes_on_subgroups(found: Subgroups) -> list[str]:
    notes = list(found.notes)
    if any(_resting_on_few(found.figures, [found.overall, *found.groups])):
        notes.append(
            f"[ ] or shaded: of fewer than {FEWEST} images, which say little; a sensitivity is of "
            "those that are referable, a specificity of the others."
        )
    reasons: dict[str, list[str]] = {}
    for group in found.groups:
        for name, why in group.undefined.items():
            title = next(figure.title for figure in found.figures if figure.name == name)
            reasons.setdefault(why, []).append(f"{title} of {group.column} {_value(group)}")
    return notes + [f"n/a because {why}: {', '.join(names)}" for why, names in reasons.items()]


def weaknesses(answers: Answers) -> list[str]:
    """Say in a line each where the grader is weakest: subgroups, alterations, doubtful labels."""
    lines = []
    if answers.subgroups is not None and answers.subgroups.gaps:
        lines.append(_largest(answers.subgroups))
    if answers.robustness is not None:
        lines.append(_worst(answers.robustness))
    if answers.label_errors is not None and answers.label_errors.found:
        found = answers.label_errors
        lines.append(
            f"Likely label errors: {len(found.found)} of {count_of(found.images, 'image')}, to be "
            "looked at again."
        )
    return lines


def robustness_tables(found: Robustness) -> Iterator[Table]:
    """Show what alterations do to the grades, then to each way to decide on referral."""
    titles = {each.name: each.title for each in ALTERATIONS}
    rows: list[list[Cell]] = [
        [
            titles.get(one.name, one.name),
            one.name,
            found.images,
            found.patients,
            one.flipped,
            one.accuracy,
            one.kappa,
            one.kappa.p_holm,
        ]
        for one in found.alterations
    ]
    yield make_table(
        "robustness",
        "The same photographs, altered: grades",
        [
            Column("alteration", "title"),
            Column("alteration", csv_only=True),
            "images",
            "patients",
            Column("grade changes", "grade_changes", kind="percent"),
            Column("accuracy, change", "accuracy_change"),
            Column("kappa, change", "kappa_change"),
            Column("p (Holm)", "kappa_p_holm", kind="p"),
        ],
        rows,
        [
            "Changes are altered minus as it is, with 95 % intervals of the pairs; p is that of "
            f"kappa, corrected for all {found.tests} comparisons of these tables. Thresholds and "
            "temperatures are those chosen on photographs as they are.",
            *(["A single patient gives no interval of a change."] if found.patients == 1 else []),
        ],
    )
    for place, rule in enumerate(change.rule for change in found.alterations[0].referrals):
        changes = [one.referrals[place] for one in found.alterations]
        yield _referrals_table(found, rule, changes)


def _worst(found: Robustness) -> str:
    """Name the alteration that costs most, and how many referable images it hides."""
    worst = found.worst
    shown = Column("").show(worst.kappa)
    text = f"Altered photographs: {worst.name} costs most, a change in kappa of {shown}"
    if math.isnan(worst.kappa.value) or worst.kappa.value >= 0:
        text = "Altered photographs: none costs kappa"
    changes = [(one.name, change) for one in found.alterations for change in one.referrals]
    name, most = max(changes, key=lambda pair: pair[1].missed, default=("", None))
    if most is not None and most.missed:
        were = "was" if most.missed == 1 else "were"
        text += (
            f"; {name} hides {count_of(most.missed, 'referable image')} that {were} referred by "
            f"{most.rule}"
        )
    return f"{text}."


def _referrals_table(found: Robustness, rule: str, changes: Sequence[ReferralChange]) -> Table:
    titles = {each.name: each.title for each in ALTERATIONS}
    rows: list[list[Cell]] = [
        [
            titles.get(one.name, one.name),
            one.name,
            found.images,
            change.flipped,
            change.missed,
            change.missed_share,
            change.alarmed,
            change.alarmed_share,
            change.sensitivity,
            change.specificity,
        ]
        for one, change in zip(found.alterations, changes)
    ]
    name = re.sub(r"\W+", "_", f"robustness_referral_{rule}")
    return make_table(
        name,
        f"The same photographs, altered: referral by {rule}",
        [
            Column("alteration", "title"),
            Column("alteration", csv_only=True),
            "images",
            Column("referral changes", "referral_changes", kind="percent"),
            "missed",
            Column("missed, of found", "missed_share", kind="percent"),
            "referred in vain",
            Column("of passed", "referred_in_vain_share", kind="percent"),
            Column("sensitivity, change", "sensitivity_change"),
            Column("specificity, change", "specificity_change"),
        ],
        rows,
        [
            "Missed: referable images that were referred as they are and are not when altered, and "
            "their share; referred in vain: images without need of referral that were not referred "
            f"and now are. {found.referable} of {found.images} images are referable."
        ],
    )


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
    nothing = f"No label of {count_of(found.images, 'image')} is contradicted with confidence."
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
        [*(notes if rows else [nothing]), *found.notes],
    )
    return replace(table, most_shown=_LABELS_SHOWN)
