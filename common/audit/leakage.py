"""Look for copies across splits by names and bytes: the short check before training.

N images.
"""

from collections.abc import Sequence

import numpy as np

from common.config import TrainConfig
from common.data.copies import copy_groups, identical_files
from common.data.folders import Dataset, Split
from common.data.metadata import read_metadata
from common.data.patients import Patients, recognise_patients
from common.inspection.relations import what_is_known
from common.listing.walking import count_of
from common.system.errors import InputError


def training_warnings(config: TrainConfig, dataset: Dataset) -> list[str]:
    """Say in a few lines what should not be in a dataset: a short form of the audit.

    Files of `cal` and `test` are looked at for copies only, and nothing but these lines depends on
    them.
    Looks at names, sizes and bytes; decodes no picture.
    """
    splits = [dataset.split("train"), dataset.split("val")]
    lines = _balance_warnings(splits, config.num_classes)
    if dataset.unused_pictures:
        lines.append(
            f"{count_of(dataset.unused_pictures, 'picture')} in the dataset not used (above)"
        )
    all_splits = list(splits)
    looked_at = ""
    try:
        all_splits += [dataset.split(name) for name in ("cal", "test") if dataset.has(name)]
        ids = [name for split in all_splits for name in split.ids]
        patients = recognise_patients(ids, metadata=read_metadata(dataset.root))
        lines += _name_warnings(all_splits, ids, patients)
        lines += _byte_warnings(all_splits, config.num_workers)
        looked_at = f"looked at names, sizes and bytes, not at pictures; {what_is_known(patients)}"
    except (InputError, OSError) as error:
        lines.append(f"copies were not looked for ({error})")
    if not lines:
        lines.append("grades balanced, no copies by name or bytes")
    advice = "; see prepare_dataset.py audit"
    lines = [f"{line}{advice if 'two splits' in line else ''}" for line in lines]
    return [f"data check: {line}" for line in (*lines, looked_at) if line]


def _balance_warnings(splits: Sequence[Split], num_classes: int) -> list[str]:
    lines = []
    for split in splits:
        counts = split.counts(num_classes)
        ratio = max(counts) / min(counts) if min(counts) else float("inf")
        if ratio >= 3:
            lines.append(
                f"{split.name}: the largest grade has {ratio:.1f} times the images of the "
                f"smallest ({counts})"
            )
    return lines


def _name_warnings(splits: Sequence[Split], ids: list[str], patients: Patients) -> list[str]:
    """Say which names belong together across splits; ids (N,) of all splits, one after another."""
    places = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    named_alike = copy_groups(ids, bare_numbers=False)
    lines = []
    for groups, one, several in (
        (patients.groups, "patient has images", "patients have images"),
        (named_alike, "group of names like copies", "groups of names like copies"),
    ):
        pairs = np.unique(np.stack([groups, places]), axis=1)
        count = int((np.bincount(pairs[0]) > 1).sum())
        lines += [f"{count} {one if count == 1 else several} in two splits"] if count else []
    return lines


def _byte_warnings(splits: Sequence[Split], workers: int) -> list[str]:
    groups = identical_files(splits, workers)
    splits_of = [len({image.split for image in group}) for group in groups]
    across = [group for group, count in zip(groups, splits_of) if count > 1]
    within = [group for group, count in zip(groups, splits_of) if count == 1]
    conflicting = [group for group in groups if len({image.label for image in group}) > 1]
    lines = []
    for found, what in (
        (across, "byte-identical files in two splits"),
        (within, "byte-identical files within a split"),
        (conflicting, "byte-identical files with different grades"),
    ):
        if found:
            names = " = ".join(image.id for image in found[0][:2])
            lines.append(f"{len(found)} groups of {what}, such as {names}")
    return lines
