"""Audit a dataset: faulty pictures, copies, leaks across splits, shortcuts to the grade.

N files, of which M can be used. Nothing here writes or prints.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audit.cross_tables import CrossTable, column_statistics, cross_tables
from common.audit.neighbours import alike_neighbours, neighbours_note
from common.audit.shortcuts import Probe, probe
from common.data.folders import Dataset, ImageFile, scan_dataset
from common.data.metadata import Metadata, read_metadata
from common.data.patients import AUTO
from common.inspection.file_checks import FileRecord
from common.inspection.image_statistics import KINDS
from common.inspection.many_files import inspect_files
from common.inspection.relations import GROUPS, Relations, members_of, patients_of, relate
from common.listing.walking import count_of
from common.system.log import printable

# the most images of each grade that EyePACS's labelled training set has (Kaggle 2015)
EYEPACS_COUNTS = (25810, 2443, 5292, 873, 708)
CONFLICT = "different_grades"
ALIKE = "alike_neighbours"


@dataclass(frozen=True)
class AuditConfig:
    """How a dataset is audited."""

    num_classes: int = 5
    class_names: tuple[str, ...] = ()
    patient_regex: str = AUTO
    num_workers: int = 8
    seed: int = 0
    cache_dir: Path | None = None  # where what is computed of a picture is kept
    shortcuts: bool = True  # look for them, too


@dataclass(frozen=True)
class Finding:
    """One faulty file, or one group of files that belong together."""

    kind: str  # of FAULTS, GROUPS, CONFLICT or ALIKE
    members: tuple[int, ...]  # places among the entries
    across: bool = False  # lies in two splits
    note: str = ""

    @property
    def leak(self) -> bool:
        """Tell whether it makes results on a test set look better than they are."""
        return self.across and self.kind in GROUPS


@dataclass(frozen=True)
class Audit:
    """All that an audit found."""

    dataset: Dataset  # with what was not looked at
    entries: list[ImageFile]
    records: list[FileRecord]
    findings: list[Finding]
    counts: dict[str, list[int]]  # split -> usable images of each grade
    notes: list[str]
    probes: list[Probe]
    related: Relations
    metadata: Metadata | None  # what metadata.csv says of them
    cross_tables: list[CrossTable]  # its columns against the grades
    seconds: dict[str, float]  # step -> how long it took

    @property
    def leaks(self) -> list[Finding]:
        """List the findings that lie across splits."""
        return [finding for finding in self.findings if finding.leak]

    @property
    def unreadable(self) -> int:
        """Count the files that cannot be read, so that only their bytes were compared."""
        return sum(not record.usable for record in self.records)

    @property
    def not_looked_at(self) -> int:
        """Count the pictures that lie in the dataset and were not compared with the others."""
        return self.dataset.unused_pictures + self.unreadable


def audit(root: Path, config: AuditConfig) -> Audit:
    """Look at every file of a dataset; raises InputError if its folders are no dataset."""
    dataset = scan_dataset(root, config.num_classes, config.class_names)
    entries, metadata = dataset.all_images(), read_metadata(root)
    started = time.monotonic()
    records = inspect_files([entry.path for entry in entries], config.num_workers, config.cache_dir)
    inspected = time.monotonic()
    ids = [entry.id for entry in entries]
    patients = patients_of(ids, records, config.patient_regex, metadata)
    related = relate(ids, records, patients, config.num_workers)
    told = patients.beyond_doubt(config.patient_regex)
    neighbours = alike_neighbours(ids, records, related.eyes, related.units, told)
    linked = time.monotonic()

    usable = np.array([record.usable for record in records])
    findings = _faults(records)
    for kind, groups in related.groups.items():
        findings += _group_findings(kind, groups, entries)
    findings += _conflicts(related.pictures, entries)
    if neighbours.surprising:
        pairs = map(np.array, neighbours.neighbours)
        findings += [Finding(ALIKE, tuple(p.tolist()), _lies_across(p, entries)) for p in pairs]
    counts = _counts(dataset, entries, usable, config.num_classes)
    notes = [
        *_copies_note(related.pictures[usable]),
        *_names_note(entries, related),
        *_eyes_note(findings, entries),
        *neighbours_note(neighbours, ids, [entry.split for entry in entries]),
        *_count_notes(counts, dataset.titles),
    ]
    probes = (
        _probes(entries, records, related.units, config.seed, dataset.titles)
        if config.shortcuts
        else []
    )
    tables: list[CrossTable] = []
    if metadata is not None and config.shortcuts:
        good = [entry for entry, is_good in zip(entries, usable) if is_good]
        tables, found = _against_grades(
            metadata, good, related.units[usable], config, dataset.titles
        )
        probes += found
    seconds = {
        "inspection": inspected - started,
        "pair search": linked - inspected,
        "the rest": time.monotonic() - linked,
    }
    return Audit(
        dataset,
        entries,
        records,
        findings,
        counts,
        notes,
        probes,
        related,
        metadata,
        tables,
        seconds,
    )


def summarise(audit: Audit) -> dict[str, dict[str, int]]:
    """Count findings by kind: groups, files, and those across splits."""
    table: dict[str, Counter] = {}
    for finding in audit.findings:
        row = table.setdefault(finding.kind, Counter(found=0, files=0, across_splits=0))
        row["found"] += 1
        row["files"] += len(finding.members)
        row["across_splits"] += finding.across
    return {kind: dict(row) for kind, row in table.items()}


def _against_grades(
    metadata: Metadata,
    entries: list[ImageFile],
    units: np.ndarray,
    config: AuditConfig,
    titles: Sequence[str],
) -> tuple[list[CrossTable], list[Probe]]:
    """Compare metadata with the grades: in tables, and as one more kind of shortcut."""
    ids = [entry.id for entry in entries]
    grades = np.array([entry.label for entry in entries], dtype=np.int64)
    columns = column_statistics(metadata, ids)
    probes = [probe("metadata", columns, grades, units, config.seed, titles)] if columns else []
    return cross_tables(metadata, ids, grades, config.num_classes), probes


def _faults(records: list[FileRecord]) -> list[Finding]:
    return [
        Finding(fault, (i,), note=record.detail)
        for i, record in enumerate(records)
        for fault in record.faults
    ]


def _group_findings(kind: str, groups: np.ndarray, entries: list[ImageFile]) -> list[Finding]:
    found = []
    for part in members_of(groups):
        across = _lies_across(part, entries)
        grades = sorted({entries[i].label for i in part})
        # one picture of two grades is a finding of its own; photographs of one eye may differ
        note = _and(grades) if kind == "same_eye" and len(grades) > 1 else ""
        if across or kind != "patient":  # within a split, a patient's second image is no fault
            found.append(Finding(kind, tuple(part.tolist()), across, note))
    return sorted(found, key=lambda finding: (not finding.across, finding.members))


def _conflicts(pictures: np.ndarray, entries: list[ImageFile]) -> list[Finding]:
    """Find the pictures that have several grades."""
    found = []
    for part in members_of(pictures):
        grades = sorted({entries[i].label for i in part})
        if len(grades) > 1:
            across = _lies_across(part, entries)
            found.append(Finding(CONFLICT, tuple(part.tolist()), across, _and(grades)))
    return found


def _and(grades: list[int]) -> str:
    return "grades " + " and ".join(map(str, grades))


def _lies_across(members: np.ndarray, entries: list[ImageFile]) -> bool:
    return len({entries[i].split for i in members}) > 1


def _counts(
    dataset: Dataset, entries: list[ImageFile], usable: np.ndarray, num_classes: int
) -> dict[str, list[int]]:
    counts = {name: [0] * num_classes for name in dataset.splits}
    for entry, good in zip(entries, usable):
        counts[entry.split][entry.label] += int(good)
    return counts


def _copies_note(pictures: np.ndarray) -> list[str]:
    """Say how many of the usable files (M,) are copies of other files, if any."""
    copies = len(pictures) - len(np.unique(pictures))
    if not copies:
        return []
    return [
        f"{copies} of {len(pictures)} images are copies of others; {copies} fewer pictures than "
        "files"
    ]


def _names_note(entries: list[ImageFile], related: Relations) -> list[str]:
    """Say which files are copies by their names and not by their looks, if any."""
    names = [entries[i].id for i in related.only_named_alike]
    if not names:
        return []
    return [
        f"{count_of(len(names), 'name')} look like those of copies, but the pictures differ; they "
        f"are taken for different pictures: {', '.join(map(printable, names[:3]))}"
    ]


def _eyes_note(findings: list[Finding], entries: list[ImageFile]) -> list[str]:
    """Say which eyes have photographs of several grades, if any."""
    doubted = [finding for finding in findings if finding.kind == "same_eye" and finding.note]
    if not doubted:
        return []
    names = " = ".join(printable(entries[i].id) for i in doubted[0].members[:3])
    return [
        f"{count_of(len(doubted), 'eye')} with photographs of different grades, such as {names} "
        f"({doubted[0].note}); photographs of an eye may differ, so they stay in use"
    ]


def _count_notes(counts: Mapping[str, list[int]], titles: Sequence[str]) -> list[str]:
    """Say where a grade has more images than EyePACS, and which grades a split lacks."""
    notes = []
    totals = np.sum(list(counts.values()), axis=0).tolist()
    if len(totals) == len(EYEPACS_COUNTS):
        for grade, (total, most) in enumerate(zip(totals, EYEPACS_COUNTS)):
            if total > most:
                notes.append(
                    f"{titles[grade]} has {total} images; if this is EyePACS, whose whole labelled "
                    f"training set has {most}, some are copies or from elsewhere"
                )
    for split, row in counts.items():
        empty = [titles[grade] for grade, count in enumerate(row) if not count]
        if empty:
            notes.append(f"{split} has no usable image of {', '.join(empty)}")
    return notes


def _probes(
    entries: list[ImageFile],
    records: list[FileRecord],
    units: np.ndarray,
    seed: int,
    titles: Sequence[str],
) -> list[Probe]:
    """Probe each kind of statistics of the files that have some for shortcuts to the grade."""
    places, measured = [], []
    for place, record in enumerate(records):
        if record.statistics is not None:
            places.append(place)
            measured.append(record.statistics)
    grades = np.array([entries[i].label for i in places], dtype=np.int64)
    groups = units[np.array(places, dtype=np.int64)]
    probes = []
    for kind in KINDS:
        names = measured[0][kind] if measured else ()
        columns = {name: np.array([found[kind][name] for found in measured]) for name in names}
        probes.append(probe(kind, columns, grades, groups, seed, titles))
    return probes
