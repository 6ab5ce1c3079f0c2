"""Tell whether test images are independent of what training and choosing have seen.

N images: those of the test set, and those of train and val. They are compared as an audit compares
splits. What is computed of a picture is kept, so that a training set is opened once, ever.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.copies import identical_files
from common.data.folders import Split, scan_dataset
from common.data.metadata import read_metadata
from common.data.patients import AUTO, Patients, recognise_patients
from common.evaluation.gates import FAIL, NOT_MEASURED, PASS, Holdout
from common.inspection.many_files import inspect_files
from common.inspection.relations import relate
from common.listing.walking import count_of
from common.prediction.classes import SetMatcher
from common.result_dir import Run
from common.system.errors import InputError
from common.system.log import log, printable

# what is said of test images that belong together with one of train and val, by kind of GROUPS
_FOUND = {
    "identical_files": "byte for byte in training or validation",
    "identical_pixels": "pixel for pixel in training or validation",
    "near_duplicates": "edited or saved anew from training or validation",
    "augmented_copies": "by name and looks copied from training or validation",
    "same_eye": "of an eye that is in training or validation",
}


@dataclass(frozen=True)
class HoldoutConfig:
    """How a test set is compared."""

    patient_regex: str = AUTO
    pictures: bool = True  # open them; otherwise only names and bytes are compared
    cache_dir: Path | None = None  # where what is computed of a picture is kept
    num_workers: int = 8


@dataclass(frozen=True)
class _Seen:
    """What training and choosing have seen, as far as it is at hand."""

    parts: dict[tuple[Path, str], Split]  # (root, name of the split) -> its images
    unknown: list[str]  # models whose training images are not at hand

    def of(self, root: Path) -> list[Split]:
        """List the parts of one dataset."""
        return [part for (place, _), part in self.parts.items() if place == root]


def check_holdout(
    split: Split, dataset_path: Path, runs: Sequence[Run], config: HoldoutConfig
) -> Holdout:
    """Tell whether a split is independent of what training and choosing have seen, and why.

    Compares its images with train and val of the dataset and of where each model was trained; the
    images that a model was trained on are at hand if their fingerprint is the recorded one.
    Patients are compared within the dataset: in another one, the same name may be someone else's.
    """
    if split.name != "test":
        return Holdout(FAIL, f"{split.name} is not held out: choices are made on it")
    seen = _seen_by(runs, dataset_path)
    others = list(seen.parts.values())
    found, without = (_by_pictures if config.pictures else _by_bytes)(split, others, config)
    own = seen.of(dataset_path.resolve())
    patients = _patients(split, own, dataset_path, config)
    shared = _shared_patients(split, own, patients)
    if found or shared:
        return Holdout(FAIL, "; ".join([*found, *shared]))
    if seen.unknown:
        reason = f"the images that {', '.join(seen.unknown)} learned from are not at hand"
        return Holdout(NOT_MEASURED, reason)
    reason = (
        f"none of {len(split)} images is, by {without}, among {sum(map(len, others))} of train and "
        f"val; {_said_of_patients(patients, own, others)}"
    )
    if not config.pictures:
        reason = f"the pictures were not compared (--holdout_check names); {reason}"
    return Holdout(PASS if config.pictures else NOT_MEASURED, reason)


def _seen_by(runs: Sequence[Run], dataset_path: Path) -> _Seen:
    """List train and val, as far as they are there, of a dataset and of where runs were trained."""
    seen = _Seen({}, [])
    for run in runs:
        parts: dict[tuple[Path, str], Split] = {}
        for root in {dataset_path, Path(run.dataset_path or dataset_path)}:
            with suppress(InputError, OSError):
                dataset = scan_dataset(root, matcher=SetMatcher(run.names))
                dataset = dataset.without(run.skipped)
                for name in ("train", "val"):
                    with suppress(InputError):
                        parts[root.resolve(), name] = dataset.split(name)
        trains = [part for (_, name), part in parts.items() if name == "train"]
        if not any(part.fingerprint() == run.train_fingerprint for part in trains):
            seen.unknown.append(run.model)
        seen.parts.update(parts)
    return seen


def _by_pictures(
    split: Split, others: Sequence[Split], config: HoldoutConfig
) -> tuple[list[str], str]:
    """Say which images of a split are in others, and by what that was looked for."""
    images = [image for part in (split, *others) for image in part.images]
    mine = np.arange(len(images)) < len(split)
    if mine.all():
        return [], "pictures"
    started = time.monotonic()
    log(f"hold-out: comparing {len(split)} images with {len(images) - len(split)} of train and val")
    paths = [image.path for image in images]
    records = inspect_files(paths, config.num_workers, config.cache_dir, "hold-out")
    ids = [image.id for image in images]
    nobody = Patients(np.arange(len(ids)), "", np.zeros(len(ids), dtype=bool), len(ids))
    related = relate(ids, records, nobody, config.num_workers, asked=mine)
    log(f"hold-out: compared in {time.monotonic() - started:.0f} s")
    lines = []
    told = np.zeros(len(images), dtype=bool)
    for kind, what in _FOUND.items():
        twins = _twins(related.groups[kind], mine)
        new = [i for i in sorted(twins, key=lambda i: ids[i]) if not told[i]]
        told[new] = True
        if new:
            lines.append(_line(len(new), len(split), what, ids[new[0]], ids[twins[new[0]]]))
    without = "bytes, pixels, near-duplicates, names of copies or eye"
    unread = sum(not record.usable for record in records)
    return lines, without + (f" ({count_of(unread, 'file')} cannot be read)" if unread else "")


def _by_bytes(
    split: Split, others: Sequence[Split], config: HoldoutConfig
) -> tuple[list[str], str]:
    """Say which images of a split are byte for byte in others."""
    twins: dict[str, str] = {}
    for group in identical_files([split, *others], config.num_workers):
        known_as = [image.id for image in group if image.split != split.name]
        if known_as:
            twins |= {image.id: known_as[0] for image in group if image.split == split.name}
    if not twins:
        return [], "bytes"
    name = min(twins)
    return [_line(len(twins), len(split), _FOUND["identical_files"], name, twins[name])], "bytes"


def _line(count: int, of: int, what: str, name: str, twin: str) -> str:
    are = "is" if count == 1 else "are"
    return f"{count} of {of} images {are} {what}, such as {printable(name)} = {printable(twin)}"


def _twins(groups: np.ndarray, mine: np.ndarray) -> dict[int, int]:
    """Find what is grouped (N,) with any other: place of mine -> place of another."""
    first: dict[int, int] = {}
    for place in np.flatnonzero(~mine).tolist():
        first.setdefault(int(groups[place]), place)
    return {i: first[int(groups[i])] for i in np.flatnonzero(mine).tolist() if groups[i] in first}


def _patients(split: Split, own: Sequence[Split], root: Path, config: HoldoutConfig) -> Patients:
    """Recognise the patients of a split and of its own dataset's other parts."""
    ids = [id_ for part in (split, *own) for id_ in part.ids]
    return recognise_patients(ids, config.patient_regex, read_metadata(root))


def _shared_patients(split: Split, own: Sequence[Split], patients: Patients) -> list[str]:
    """Say which patients of a split have images in other parts of its dataset, if any."""
    ids = [id_ for part in (split, *own) for id_ in part.ids]
    mine = np.arange(len(ids)) < len(split)
    twins = _twins(patients.groups, mine)
    if not twins:
        return []
    i = min(twins, key=lambda i: ids[i])
    who = count_of(len(np.unique(patients.groups[list(twins)])), "patient")
    return [
        f"{who} of test {'has' if who == '1 patient' else 'have'} images in train or val, such as "
        f"{printable(ids[i])} and {printable(ids[twins[i]])} ({patients.evidence})"
    ]


def _said_of_patients(patients: Patients, own: Sequence[Split], others: Sequence[Split]) -> str:
    """Say what is known of patients where none is in both."""
    if not own:
        return "patients were not compared: the training images are of another dataset"
    known = f"no patient is in both ({patients.evidence})"
    if not patients.recognised:
        known = f"patients are not known ({patients.evidence})"
    elif patients.unknown:
        known += f"; of {count_of(patients.unknown, 'image')} the patient is not known"
    elsewhere = len(others) > len(own)
    return known + ("; patients of another dataset were not compared" if elsewhere else "")
