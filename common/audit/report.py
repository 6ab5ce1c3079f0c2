"""Show an audit: text tables, audit.json, findings.csv and contact sheets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.audit.cross_tables import CrossTable
from common.audit.dataset import ALIKE, CONFLICT, Audit, Finding, summarise
from common.audit.shortcuts import RULES, Probe
from common.inspection.file_checks import FAULTS, UNUSABLE
from common.inspection.relations import GROUPS, unseen, what_is_known
from common.listing.walking import count_of
from common.reporting.contact_sheets import CaptionedPicture, SheetRow, contact_sheet
from common.reporting.table import format_table
from common.reporting.tables import decimal, probability
from common.result_dir.csv_files import write_csv
from common.system.files import write_json
from common.system.log import printable

_ROWS = 12  # of a contact sheet
_SHEETS = 4  # of one kind
_SHEET_KINDS = (
    CONFLICT,
    "near_duplicates",
    "identical_pixels",
    "identical_files",
    "augmented_copies",
    "same_eye",
    ALIKE,
)
_EXAMPLES = 5


def audit_text(audit: Audit) -> str:
    """Write the whole audit as text for the terminal."""
    rows = [[split, sum(row), *row, _imbalance(row)] for split, row in audit.counts.items()]
    header = ["split", "images", *audit.dataset.titles, "largest / smallest"]
    parts = [format_table(header, rows), _findings_table(audit)]
    parts += [_examples(audit)] if audit.leaks else []
    remarks = audit.metadata.remarks if audit.metadata else ()
    parts += [*remarks, *(f"note: {note}" for note in audit.notes)]
    parts += audit.dataset.remarks()
    parts += [cross_table_text(table, audit.dataset.titles) for table in audit.cross_tables]
    if audit.probes:
        parts.append(shortcut_text(audit.probes))
    parts += [f"patients: {what_is_known(audit.related.patients)}", leakage_text(audit)]
    parts += _not_looked_at(audit)
    return "\n\n".join(parts)


def _not_looked_at(audit: Audit) -> list[str]:
    """Say of how many pictures the verdict is not."""
    left, unreadable = audit.dataset.unused_pictures, audit.unreadable
    why = []
    if left:
        why.append(f'{count_of(left, "picture")} not used ("not used" above says which, and why)')
    if unreadable:
        why.append(f"{count_of(unreadable, 'file')} that cannot be read (findings.csv names them)")
    if not why:
        return []
    return [f"NOT LOOKED AT: {' and '.join(why)}; the verdict is not of them"]


def leakage_text(audit: Audit) -> str:
    """Say what lies in two splits, or what was looked for in vain and what cannot be seen."""
    if audit.leaks:
        return f"LEAKAGE: {count_of(len(audit.leaks), 'group')} in two splits"
    if len(audit.counts) < 2:
        return "one split only: nothing can leak"
    looked_for = ", ".join(kind.replace("_", " ") for kind in looked_for_kinds(audit))
    return (
        f"no leakage of these kinds across splits was found: {looked_for}; cannot be seen: "
        f"{'; '.join(unseen(audit.related.patients))}"
    )


def looked_for_kinds(audit: Audit) -> list[str]:
    """List the kinds of GROUPS that this dataset allows to find."""
    return [k for k in GROUPS if k != "patient" or audit.related.patients.recognised]


def shortcut_text(probes: list[Probe]) -> str:
    """Show the shortcut probes and put the verdicts into words."""
    rows = [
        [
            probe.kind,
            probe.images,
            decimal(probe.balanced_accuracy),
            decimal(probe.chance),
            decimal(probe.kappa),
            _p_value(probe.p_value),
            probe.verdict,
        ]
        for probe in probes
    ]
    header = ["statistics of the", "images", "balanced", "chance", "kappa", "p", "verdict"]
    lines = ["can the grade be recognised without looking at the eye?", format_table(header, rows)]
    for probe in probes:
        lines.append(f"{probe.kind} ({RULES[probe.kind].meaning}): {probe.reason}")
        if probe.top_features and probe.verdict != "chance":
            best = ", ".join(f"{name} {value:.2f}" for name, value in probe.top_features.items())
            lines.append(f"  balanced accuracy of single statistics: {best}")
    if any(probe.verdict == "alarming" for probe in probes):
        lines.append(
            "ALARMING: the grades were collected, saved or enhanced differently; a "
            "network can score high here without seeing a lesion"
        )
    return "\n".join(lines)


def cross_table_text(table: CrossTable, titles: Sequence[str]) -> str:
    """Show how many images of each grade have each value of a column."""
    rows = [
        [printable(value) or "(not known)", sum(counts), *counts]
        for value, counts in zip(table.values, table.counts)
    ]
    return format_table([printable(table.column), "images", *titles], rows)


def write_audit(audit: Audit, folder: Path, settings: dict[str, Any]) -> list[Path]:
    """Write audit.json, findings.csv and the contact sheets; returns what was written.

    settings: what the audit was asked for, as plain values for audit.json.
    """
    files = [folder / "audit.json", folder / "findings.csv"]
    write_json(files[0], audit_content(audit, settings))
    _write_findings(audit, files[1])
    files += _write_sheets(audit, folder)
    for kind in (*_SHEET_KINDS, "faults"):  # of an earlier audit that found more
        for old in set(folder.glob(f"{kind}_sheet_[0-9]*.png")) - set(files):
            old.unlink()
    return files


def audit_content(audit: Audit, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the audit as plain values for a JSON file."""
    return {
        "settings": settings,
        "files": len(audit.entries),
        "usable": sum(record.usable for record in audit.records),
        "images_per_grade": audit.counts,
        "leakage": bool(audit.leaks),
        "not_looked_at": audit.not_looked_at,
        "summary": summarise(audit),
        "patients": audit.related.patients.evidence,
        "looked_for": looked_for_kinds(audit),
        "cannot_be_seen": unseen(audit.related.patients),
        "notes": audit.notes,
        "metadata": audit.cross_tables,
        "shortcuts": [probe.summary() for probe in audit.probes],
        "seconds": audit.seconds,
        "findings": [
            {
                "kind": f.kind,
                "across_splits": f.across,
                "note": f.note,
                "files": [audit.entries[i].id for i in f.members],
            }
            for f in audit.findings
        ],
        "not_used": audit.dataset.unused,
    }


def _p_value(value: float) -> str:
    return "n/a" if np.isnan(value) else probability(value)


def _imbalance(row: list[int]) -> str:
    """Divide the largest grade's images by the smallest grade's."""
    return f"{max(row) / min(row):.1f}" if min(row) else "n/a"


def _findings_table(audit: Audit) -> str:
    """Show how many findings of each kind there are and what they mean."""
    found = summarise(audit)
    meanings = {
        **FAULTS,
        **GROUPS,
        CONFLICT: "one picture, several grades",
        ALIKE: "images with neighbouring names that look alike: perhaps of one patient",
    }
    rows = [
        [kind, found[kind]["found"], found[kind]["files"], found[kind]["across_splits"], meaning]
        for kind, meaning in meanings.items()
        if kind in found
    ]
    if not rows:
        return "nothing was found"
    return format_table(["finding", "found", "files", "in two splits", "meaning"], rows)


def _examples(audit: Audit) -> str:
    """Name some of the files that lie in two splits."""
    lines = ["in two splits, for example:"]
    for kind in GROUPS:
        for finding in [f for f in audit.leaks if f.kind == kind][:_EXAMPLES]:
            names = [printable(audit.entries[i].id) for i in _spread(audit, finding)]
            more = f" and {len(finding.members) - 3} more" if len(finding.members) > 3 else ""
            lines.append(f"  {kind}: {' = '.join(names[:3])}{more}")
    return "\n".join(lines)


def _spread(audit: Audit, finding: Finding) -> list[int]:
    """Order the members so that the first of each split come first."""
    seen: dict[str, int] = {}
    ranks = []
    for i in finding.members:
        split = audit.entries[i].split
        seen[split] = seen.get(split, 0) + 1
        ranks.append((seen[split], i))
    return [i for _, i in sorted(ranks)]


def _write_findings(audit: Audit, path: Path) -> None:
    """List every file of every finding, a row to a file."""
    rows = [
        [
            number,
            finding.kind,
            int(finding.across),
            printable(audit.entries[i].id),
            audit.entries[i].split,
            audit.entries[i].label,
            printable(finding.note),
        ]
        for number, finding in enumerate(audit.findings)
        for i in finding.members
    ]
    write_csv(path, ["finding", "kind", "in_two_splits", "file", "split", "grade", "note"], rows)


def _write_sheets(audit: Audit, folder: Path) -> list[Path]:
    """Draw contact sheets of each kind of group, and one of faults; returns what was written."""
    written = []
    for kind in _SHEET_KINDS:
        found = [finding for finding in audit.findings if finding.kind == kind]
        rows = [SheetRow(_title(f), _pictures(audit, _spread(audit, f))) for f in found]
        written += _sheets_of(rows, kind, folder)
    rows = []
    for fault in (name for name in FAULTS if name not in UNUSABLE):
        members = [f.members[0] for f in audit.findings if f.kind == fault]
        if members:
            rows.append(SheetRow(f"{fault}: {FAULTS[fault]}", _pictures(audit, members)))
    return written + _sheets_of(rows, "faults", folder)


def _sheets_of(rows: list[SheetRow], kind: str, folder: Path) -> list[Path]:
    written = []
    for start in range(0, min(len(rows), _ROWS * _SHEETS), _ROWS):
        written.append(folder / f"{kind}_sheet_{start // _ROWS + 1}.png")
        contact_sheet(rows[start : start + _ROWS], written[-1])
    return written


def _title(finding: Finding) -> str:
    place = ", in two splits" if finding.across else ""
    note = f", {finding.note}" if finding.note else ""
    return f"{finding.kind}{place}{note}"


def _pictures(audit: Audit, members: list[int]) -> list[CaptionedPicture]:
    entries = [audit.entries[i] for i in members]
    return [CaptionedPicture(entry.path, entry.id) for entry in entries]
