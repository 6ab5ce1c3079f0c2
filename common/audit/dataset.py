"""Audit a dataset: faulty pictures, copies, leaks across splits, shortcuts to the grade.

N files, of which M can be used. Nothing here writes or prints.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audit.cross_tables import CrossTable, column_statistics, cross_tables
from common.audit.file_checks import FileRecord
from common.audit.image_statistics import KINDS
from common.audit.inspection import inspect_files
from common.audit.shortcuts import Probe, probe
from common.data.copies import copy_groups
from common.data.folders import Dataset, ImageFile, scan_dataset
from common.data.metadata import Metadata, read_metadata
from common.data.patients import AUTO, Patients, recognise_patients
from common.duplicates.links import chains, link_pictures, within
from common.duplicates.near_duplicates import components

# the most images of each grade that EyePACS's labelled training set has (Kaggle 2015)
EYEPACS_COUNTS = (25810, 2443, 5292, 873, 708)
# kind -> what it means; a group of these kinds in two splits is a leak
GROUPS = {
    "identical_files": "the same bytes",
    "identical_pixels": "the same pixels in files that differ",
    "near_duplicates": "one picture resized, saved again, turned, cropped, mirrored or brightened",
    "same_eye": "several photographs of one eye",
    "augmented_copies": "copies of one picture, going by their names",
    "patient": "several images of one patient",
}
CONFLICT = "different_grades"


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

    kind: str  # of FAULTS, GROUPS, or CONFLICT
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
    pictures: np.ndarray  # (N,) number of the picture that each file shows, in whatever version
    units: np.ndarray  # (N,) number of the patient or picture that must stay in one split
    patients: Patients  # who they are of, as far as that is known
    metadata: Metadata | None  # what metadata.csv says of them
    cross_tables: list[CrossTable]  # its columns against the grades
    seconds: dict[str, float]  # step -> how long it took

    @property
    def leaks(self) -> list[Finding]:
        """List the findings that lie across splits."""
        return [finding for finding in self.findings if finding.leak]


def audit(root: Path, config: AuditConfig) -> Audit:
    """Look at every file of a dataset; raises InputError if its folders are no dataset."""
    dataset = scan_dataset(root, config.num_classes, config.class_names)
    entries = dataset.all_images()
    metadata = read_metadata(root)
    started = time.monotonic()
    records = inspect_files([entry.path for entry in entries], config.num_workers, config.cache_dir)
    inspected = time.monotonic()
    links = link_pictures(
        [record.sha256 if record.usable else "" for record in records],
        [record.pixels for record in records],
        [record.signature for record in records],
        config.num_workers,
    )
    linked = time.monotonic()

    usable = np.array([record.usable for record in records])
    pictures = components(len(records), links.pairs)
    ids = [entry.id for entry in entries]
    patients = _patients_of(ids, usable, config.patient_regex, metadata)
    names = {
        "augmented_copies": within(copy_groups(ids), usable),
        "patient": patients.groups,
    }
    named = [chains(groups) for groups in names.values()]
    units = components(len(records), np.concatenate([links.pairs, links.eye_pairs, *named]))
    findings = _faults(records)
    for kind, groups in {**links.groups, **names}.items():
        findings += _group_findings(kind, groups, entries)
    findings += _conflicts(pictures, entries)
    counts = _counts(dataset, entries, usable, config.num_classes)
    notes = _copies_note(pictures[usable]) + _count_notes(counts)
    probes = _probes(entries, records, units, config.seed) if config.shortcuts else []
    tables: list[CrossTable] = []
    if metadata is not None and config.shortcuts:
        good = [entry for entry, is_good in zip(entries, usable) if is_good]
        tables, found = _against_grades(metadata, good, units[usable], config)
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
        pictures,
        units,
        patients,
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


def _patients_of(
    ids: list[str], usable: np.ndarray, regex: str, metadata: Metadata | None
) -> Patients:
    """Group usable files by patient; metadata.csv and their names are evidence."""
    places = np.flatnonzero(usable)
    found = recognise_patients([ids[i] for i in places], regex, metadata)
    groups, known = np.arange(len(ids)) + len(ids), np.zeros(len(ids), dtype=bool)
    groups[places], known[places] = found.groups, found.known
    return Patients(groups, found.evidence, known)


def _against_grades(
    metadata: Metadata, entries: list[ImageFile], units: np.ndarray, config: AuditConfig
) -> tuple[list[CrossTable], list[Probe]]:
    """Compare metadata with the grades: in tables, and as one more kind of shortcut."""
    ids = [entry.id for entry in entries]
    grades = np.array([entry.label for entry in entries], dtype=np.int64)
    columns = column_statistics(metadata, ids)
    probes = [probe("metadata", columns, grades, units, config.seed)] if columns else []
    return cross_tables(metadata, ids, grades, config.num_classes), probes


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """List the members of each group of two or more."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [part for part in np.split(order, cuts) if len(part) > 1]


def _faults(records: list[FileRecord]) -> list[Finding]:
    return [
        Finding(fault, (i,), note=record.detail)
        for i, record in enumerate(records)
        for fault in record.faults
    ]


def _group_findings(kind: str, groups: np.ndarray, entries: list[ImageFile]) -> list[Finding]:
    found = []
    for part in _members(groups):
        across = _lies_across(part, entries)
        if across or kind != "patient":  # within a split, a patient's second image is no fault
            found.append(Finding(kind, tuple(part.tolist()), across))
    return sorted(found, key=lambda finding: (not finding.across, finding.members))


def _conflicts(pictures: np.ndarray, entries: list[ImageFile]) -> list[Finding]:
    """Find the pictures that have several grades."""
    found = []
    for part in _members(pictures):
        grades = sorted({entries[i].label for i in part})
        if len(grades) > 1:
            note = "grades " + " and ".join(map(str, grades))
            across = _lies_across(part, entries)
            found.append(Finding(CONFLICT, tuple(part.tolist()), across, note))
    return found


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


def _count_notes(counts: Mapping[str, list[int]]) -> list[str]:
    """Say where a grade has more images than EyePACS, and which grades a split lacks."""
    notes = []
    totals = np.sum(list(counts.values()), axis=0).tolist()
    if len(totals) == len(EYEPACS_COUNTS):
        for grade, (total, most) in enumerate(zip(totals, EYEPACS_COUNTS)):
            if total > most:
                notes.append(
                    f"grade {grade} has {total} images; if this is EyePACS, whose whole labelled "
                    f"training set has {most}, some are copies or from elsewhere"
                )
    for split, row in counts.items():
        empty = [str(grade) for grade, count in enumerate(row) if not count]
        if empty:
            notes.append(f"{split} has no usable image of grade {', '.join(empty)}")
    return notes


def _probes(
    entries: list[ImageFile], records: list[FileRecord], units: np.ndarray, seed: int
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
        probes.append(probe(kind, columns, grades, groups, seed))
    return probes
