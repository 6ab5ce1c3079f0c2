"""What file names and bytes tell about copies across splits, and the short check before training.

N images.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.dataset import Split, identical_files, scan_split
from common.evaluation import PATIENT_REGEX, patient_groups
from common.runtime import InputError

_SUFFIX = re.compile(
    r"(?:[ _.-]+(?:aug(?:ment(?:ed)?)?|copy|dup|[hv]?flip(?:ped)?|rot(?:ated?)?|mirror(?:ed)?|"
    r"bright(?:ness)?|dark(?:er)?|contrast|gamma|zoom|crop(?:ped)?|shift(?:ed)?|noise|noisy|blur|"
    r"clahe|sharp(?:en(?:ed)?)?|enh(?:anced)?|smote|synth)[ _.-]*[0-9]*| ?\([0-9]+\))$",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^(?:aug(?:mented)?|copy|flip|rot)[0-9]*[ _.-]+", re.IGNORECASE)


def source_name(name: str) -> str:
    """Strip what marks a file as a copy: "10_left_aug1_flip.jpg" comes from "10_left"."""
    stem = os.path.splitext(name)[0]
    while (shorter := _SUFFIX.sub("", _PREFIX.sub("", stem))) not in ("", stem):
        stem = shorter
    return stem


def copy_groups(ids: Sequence[str]) -> np.ndarray:
    """Group ids (N,) by the file that they are copies of, going by their names.

    Where several folders have a plain file of that name (0/1.jpg, 1/1.jpg), a copy belongs to that
    of its own folder. A plain file without copies is its own group.
    """
    folders, names = zip(*(name.rpartition("/")[::2] for name in ids)) if ids else ((), ())
    sources = [source_name(name) for name in names]
    plain = [os.path.splitext(name)[0] == source for name, source in zip(names, sources)]
    counts = Counter(source for source, is_plain in zip(sources, plain) if is_plain)
    groups: dict[tuple, int] = {}
    numbers = []
    for folder, source in zip(folders, sources):
        key = (source, folder if counts[source] > 1 else "")
        numbers.append(groups.setdefault(key, len(groups)))
    result = np.array(numbers, dtype=np.int64)
    # files that merely share a name, without a copy among them, are no copies
    copied = {number for number, is_plain in zip(numbers, plain) if not is_plain}
    alone = ~np.isin(result, list(copied))
    result[alone] = len(groups) + np.arange(alone.sum())
    return result


def patients(ids: Sequence[str], pattern: str) -> np.ndarray:
    """Number the patients of ids (N,) as far as their names tell; others are their own."""
    groups = patient_groups(ids, pattern)
    return np.arange(len(ids)) if groups is None else groups


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
            lines.append(f"{split.name}: the largest grade has {ratio:.1f} times the images of the "
                         f"smallest ({counts})")  # fmt: skip
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
    for found, what in ((across, "byte-identical files in two splits"),
                        (within, "byte-identical files within a split"),
                        (torn, "byte-identical files with different grades")):  # fmt: skip
        if found:
            names = " = ".join(split.ids[i] for split, i in found[0][:2])
            lines.append(f"{len(found)} groups of {what}, such as {names}")
    return lines
