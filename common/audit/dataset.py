"""Audit a dataset: faulty pictures, copies, leaks across splits, shortcuts to the grade.

N files, of which M can be used. Nothing here writes or prints.
"""

import multiprocessing
import signal
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.audit.file_checks import STATISTICS, FileRecord, inspect_file
from common.audit.near_duplicates import components, near_duplicates
from common.audit.shortcuts import Probe, probe
from common.data.copies import PATIENT_REGEX, copy_groups, patients
from common.data.folders import SPLITS, Entry, list_entries
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.log import progress_bar

# the most images of each grade that EyePACS's labelled training set has (Kaggle 2015)
EYEPACS_COUNTS = (25810, 2443, 5292, 873, 708)


# kind -> what it means; a group of these kinds in two splits is a leak
GROUPS = {
    "identical_files": "the same bytes",
    "identical_pixels": "the same pixels in files that differ",
    "near_duplicates": "one picture resized, saved again, turned, mirrored or brightened",
    "augmented_copies": "copies of one picture, going by their names",
    "patient": "several images of one patient",
}


CONFLICT = "different_grades"


@dataclass(frozen=True)
class Finding:
    """One faulty file, or one group of files that belong together."""

    kind: str  # of FAULTS, GROUPS, or CONFLICT
    members: tuple[int, ...]  # places among the entries
    across: bool = False  # lies in two splits
    note: str = ""

    @property
    def leak(self) -> bool:
        """Tell whether it makes a test set flatter."""
        return self.across and self.kind in GROUPS


@dataclass(frozen=True)
class Audit:
    """All that an audit found."""

    entries: list[Entry]
    facts: list[FileRecord]
    findings: list[Finding]
    counts: dict[str, list[int]]  # split -> usable images of each grade
    notes: list[str]
    probes: list[Probe]
    pictures: np.ndarray  # (N,) number of the picture that each file shows, in whatever version
    units: np.ndarray  # (N,) number of the patient or picture that must stay in one split
    seconds: dict[str, float]

    @property
    def leaks(self) -> list[Finding]:
        """List the findings that lie across splits."""
        return [finding for finding in self.findings if finding.leak]


@dataclass(frozen=True)
class Settings:
    """How a dataset is audited."""

    num_classes: int = 5
    class_names: tuple[str, ...] = ()
    patient_regex: str = PATIENT_REGEX
    num_workers: int = 8
    seed: int = 0
    shortcuts: bool = True


def audit(root: Path, settings: Settings) -> Audit:
    """Look at every file of a dataset; raises InputError if its folders are no dataset."""
    entries = list_entries(root, settings.num_classes, settings.class_names)
    ids = [entry.id for entry in entries]
    clock = [time.monotonic()]
    facts = inspect_files([entry.path for entry in entries], settings.num_workers)
    clock.append(time.monotonic())
    usable = np.array([fact.usable for fact in facts])
    links = _picture_links(facts)
    clock.append(time.monotonic())
    pictures = components(len(facts), links["all"])
    names = {
        "augmented_copies": _within(copy_groups(ids), usable),
        "patient": _within(patients(ids, settings.patient_regex), usable),
    }
    units = components(
        len(facts), np.concatenate([links["all"], *(_chains(g) for g in names.values())])
    )
    findings = [
        Finding(fault, (i,), note=fact.detail)
        for i, fact in enumerate(facts)
        for fault in fact.faults
    ]
    for kind, groups in {**links["groups"], **names}.items():
        findings += _group_findings(kind, groups, entries)
    findings += _conflicts(pictures, entries)
    counts = _counts(root, entries, usable, settings.num_classes)
    probes = _probes(entries, facts, usable, units, settings.seed) if settings.shortcuts else []
    clock.append(time.monotonic())
    steps = ("inspection", "pair search", "the rest")
    seconds = {step: clock[i + 1] - clock[i] for i, step in enumerate(steps)}
    return Audit(
        entries,
        facts,
        findings,
        counts,
        _notes(counts, pictures[usable], settings),
        probes,
        pictures,
        units,
        seconds,
    )


def inspect_files(paths: list[Path], num_workers: int) -> list[FileRecord]:
    """Inspect files in several processes. Raises InputError if one of those dies."""
    workers = min(worker_count(num_workers), len(paths))
    if workers == 1:
        return [inspect_file(path) for path in progress_bar(paths, "audit")]
    # forked: a spawned process would import PyTorch first. Children do not touch it, and OpenCV's
    # threads, whose locks they would inherit, end here
    cv2.setNumThreads(1)
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(workers, context, _start_worker) as pool:
            results = pool.map(inspect_file, paths, chunksize=max(1, min(32, len(paths) // 64)))
            return list(progress_bar(results, "audit", len(paths)))
    except BrokenProcessPool as error:
        raise InputError(
            "a process that reads pictures died (out of memory?); "
            "run again with a smaller --num_workers"
        ) from error


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which it ends its workers


def _picture_links(facts: list[FileRecord]) -> dict[str, Any]:
    """Link files that show one picture: by bytes, by pixels, and by their looks."""
    same_bytes = _numbers([fact.sha256 if fact.usable else "" for fact in facts])
    same_pixels = _numbers([fact.pixels for fact in facts])
    exact = np.concatenate([_chains(same_bytes), _chains(same_pixels)])
    alike = components(len(facts), exact)
    # copies that are exact are looked at once
    _, shown = np.unique(alike, return_index=True)
    shown = np.array([i for i in shown if facts[i].sketch is not None], dtype=np.int64)
    pairs = np.empty((0, 2), dtype=np.int64)
    if len(shown) > 1:
        hashes = np.stack([facts[i].hashes for i in shown])
        sketches = np.stack([facts[i].sketch for i in shown])
        pairs = shown[near_duplicates(hashes, sketches)[0]]
    everything = np.concatenate([exact, pairs])
    looks = components(len(facts), everything)
    kinds = {
        "identical_files": same_bytes,
        "identical_pixels": _if_differing(same_pixels, same_bytes),
        "near_duplicates": _if_differing(looks, alike),
    }
    return {"all": everything, "groups": kinds}


def _numbers(keys: list[str]) -> np.ndarray:
    """Number equal keys alike; each empty one is by itself."""
    return np.unique([key or f"-{i}" for i, key in enumerate(keys)], return_inverse=True)[1]


def _within(groups: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Put what cannot be used into groups of its own."""
    return np.where(usable, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))


def _if_differing(groups: np.ndarray, finer: np.ndarray) -> np.ndarray:
    """Keep the groups that hold several of the finer groups; dissolve the others."""
    pairs = np.unique(np.stack([groups, finer]), axis=1)
    several = np.bincount(pairs[0], minlength=groups.max(initial=0) + 1) > 1
    return _within(groups, several[groups])


def _chains(groups: np.ndarray) -> np.ndarray:
    """Link the members of each group as pairs (L, 2), each to the next."""
    order = np.argsort(groups, kind="stable")
    joined = groups[order][1:] == groups[order][:-1]
    return np.stack([order[:-1][joined], order[1:][joined]], axis=1)


def _members(groups: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [part for part in np.split(order, cuts) if len(part) > 1]


def _group_findings(kind: str, groups: np.ndarray, entries: list[Entry]) -> list[Finding]:
    found = []
    for part in _members(groups):
        across = len({entries[i].split for i in part}) > 1
        if across or kind != "patient":  # within a split, a patient's second image is no fault
            found.append(Finding(kind, tuple(part.tolist()), across))
    return sorted(found, key=lambda finding: (not finding.across, finding.members))


def _conflicts(pictures: np.ndarray, entries: list[Entry]) -> list[Finding]:
    found = []
    for part in _members(pictures):
        grades = sorted({entries[i].label for i in part})
        if len(grades) > 1:
            across = len({entries[i].split for i in part}) > 1
            note = "grades " + " and ".join(map(str, grades))
            found.append(Finding(CONFLICT, tuple(part.tolist()), across, note))
    return found


def _counts(
    root: Path, entries: list[Entry], usable: np.ndarray, num_classes: int
) -> dict[str, list[int]]:
    splits = [name for name in SPLITS if (root / name).is_dir()] or ["all"]
    counts = {name: [0] * num_classes for name in splits}
    for entry, good in zip(entries, usable):
        counts[entry.split][entry.label] += int(good)
    return counts


def _notes(counts: dict[str, list[int]], pictures: np.ndarray, settings: Settings) -> list[str]:
    notes = []
    copies = len(pictures) - len(np.unique(pictures))
    if copies:
        notes.append(
            f"{copies} of {len(pictures)} images are copies of others; {copies} fewer "
            "pictures than files"
        )
    totals = np.sum(list(counts.values()), axis=0).tolist()
    if settings.num_classes == len(EYEPACS_COUNTS):
        for grade, (total, most) in enumerate(zip(totals, EYEPACS_COUNTS)):
            if total > most:
                notes.append(
                    f"grade {grade} has {total} images; if this is EyePACS, whose whole "
                    f"labelled training set has {most}, some are copies or from "
                    "elsewhere"
                )
    for split, row in counts.items():
        empty = [str(grade) for grade, count in enumerate(row) if not count]
        if empty:
            notes.append(f"{split} has no usable image of grade {', '.join(empty)}")
    return notes


def _probes(
    entries: list[Entry], facts: list[FileRecord], usable: np.ndarray, units: np.ndarray, seed: int
) -> list[Probe]:
    chosen = np.flatnonzero(usable)
    names = [name for group in STATISTICS.values() for name in group]
    table = np.stack([facts[i].statistics for i in chosen] or [np.empty(len(names))])
    table = table[: len(chosen)]
    grades = np.array([entries[i].label for i in chosen], dtype=np.int64)
    columns = dict(zip(names, table.T))
    return [
        probe(kind, {name: columns[name] for name in wanted}, grades, units[chosen], seed)
        for kind, wanted in STATISTICS.items()
    ]


def summarise(audit: Audit) -> dict[str, dict[str, int]]:
    """Count findings by kind: groups, files, and those across splits."""
    table: dict[str, Counter] = {}
    for finding in audit.findings:
        row = table.setdefault(finding.kind, Counter(found=0, files=0, across_splits=0))
        row["found"] += 1
        row["files"] += len(finding.members)
        row["across_splits"] += finding.across
    return {kind: dict(row) for kind, row in table.items()}
