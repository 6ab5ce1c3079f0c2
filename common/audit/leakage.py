"""What file names and bytes tell about copies across splits, and the short check before training.

N images.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.copies import PATIENT_REGEX, copy_groups, identical_files, patients
from common.data.folders import SPLITS, Split, scan_split
from common.evaluation.gates import FAIL, NOT_MEASURED, PASS
from common.result_dir import Run
from common.system.errors import InputError


def training_warnings(
    root: Path,
    splits: Sequence[Split],
    class_names: tuple[str, ...],
    num_classes: int,
    workers: int = 8,
) -> list[str]:
    """Say in a few lines what should not be in a dataset: a short form of the audit.

    splits: train and val. Files of `test` are looked at for copies only, and nothing but these
    lines depends on them. Looks at names, sizes and bytes; decodes no picture.
    """
    lines = []
    for split in splits:
        counts = split.counts(num_classes)
        ratio = max(counts) / min(counts) if min(counts) else float("inf")
        if ratio >= 3:
            lines.append(
                f"{split.name}: the largest grade has {ratio:.1f} times the images of the "
                f"smallest ({counts})"
            )
    splits = list(splits)
    try:
        if (root / "test").is_dir():
            splits.append(scan_split(root, "test", num_classes, class_names))
        lines += _name_warnings(splits) + _byte_warnings(splits, workers)
    except (InputError, OSError) as error:
        lines.append(f"copies were not looked for ({error})")
    advice = "; see prepare_dataset.py audit"
    return [f"data check: {line}{advice if 'two splits' in line else ''}" for line in lines] or [
        "data check: grades balanced, no copies by name or bytes"
    ]


def _name_warnings(splits: Sequence[Split]) -> list[str]:
    ids = [name for split in splits for name in split.ids]
    places = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    lines = []
    for groups, what in (
        (patients(ids, PATIENT_REGEX), "patients have images"),
        (copy_groups(ids), "pictures have augmented copies, by their names,"),
    ):
        pairs = np.unique(np.stack([groups, places]), axis=1)
        count = int((np.bincount(pairs[0]) > 1).sum())
        lines += [f"{count} {what} in two splits"] if count else []
    return lines


def _byte_warnings(splits: Sequence[Split], workers: int) -> list[str]:
    groups = identical_files(splits, workers)
    homes = [len({split.name for split, _ in group}) for group in groups]
    across = [group for group, count in zip(groups, homes) if count > 1]
    within = [group for group, count in zip(groups, homes) if count == 1]
    torn = [group for group in groups if len({split.labels[i] for split, i in group}) > 1]
    lines = []
    for found, what in (
        (across, "byte-identical files in two splits"),
        (within, "byte-identical files within a split"),
        (torn, "byte-identical files with different grades"),
    ):
        if found:
            names = " = ".join(split.ids[i] for split, i in found[0][:2])
            lines.append(f"{len(found)} groups of {what}, such as {names}")
    return lines


def check_holdout(split: Split, dataset_path: Path, runs: list[Run]) -> tuple[str, str]:
    """Tell whether a split is independent of what training and choosing have seen, and why.

    Compares its files with train and val of the dataset and of where each model was trained; the
    images that a model was trained on are at hand if their fingerprint is the recorded one. Looks
    for byte-identical files only; copies that were encoded again are not found.
    """
    if split.name != "test":
        return FAIL, f"{split.name} is not held out: choices are made on it"
    seen: dict[tuple[Path, str], Split] = {}
    unknown = []
    for run in runs:
        known = False
        for root in {dataset_path, Path(run.dataset_path or dataset_path)}:
            for name in SPLITS[:2]:
                try:
                    part = scan_split(root, name, run.num_classes, run.class_names)
                except (InputError, OSError):
                    continue
                seen[root.resolve(), name] = part
                known |= name == "train" and part.fingerprint() == run.train_fingerprint
        unknown += [] if known else [run.model]
    twins = {}
    for group in identical_files([split, *seen.values()]):
        known_as = [part.ids[i] for part, i in group if part is not split]
        twins |= {split.ids[i]: known_as[0] for part, i in group if part is split and known_as}
    if twins:
        name = min(twins)
        return FAIL, (
            f"{len(twins)} of {len(split)} images are byte for byte in training or validation, "
            f"such as {name} = {twins[name]}"
        )
    if unknown:
        return NOT_MEASURED, f"the images that {', '.join(unknown)} learned from are not at hand"
    count = sum(map(len, seen.values()))
    return PASS, f"none of {len(split)} files is among {count} of train and val"
