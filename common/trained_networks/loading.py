"""The networks of a result directory, as they predict: equal trunks are loaded once.

P pairs, K classes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.data.class_names import quoted
from common.models.checkpoint import PairCheckpoint, load_pair, restore_pair
from common.models.ovo import Branch, trunk_key
from common.pairs import Head, class_pairs, has_pair_outputs, heads_of_model
from common.pixels.preprocessing import Preprocessing
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, unfinished_text
from common.system.errors import InputError
from common.system.log import log


@dataclass(frozen=True)
class Columns:
    """A branch, and which columns of the logits it gives."""

    columns: slice
    branch: Branch


@dataclass(frozen=True)
class TrunkGroup:
    """A trunk and the branches that work on its features."""

    trunk: nn.Module
    branches: list[Columns]

    @property
    def modules(self) -> list[nn.Module]:
        """The trunk and the branches."""
        return [self.trunk, *(own.branch for own in self.branches)]


@dataclass(frozen=True)
class LoadedModel:
    """The classifiers of one backbone; equal trunks are kept once."""

    model: str
    head: str
    class_names: list[str]  # in the order of the training
    preprocessing: Preprocessing
    groups: list[TrunkGroup]
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch
    fingerprint: str = ""  # of the files, as by `fingerprint_files`

    @property
    def num_outputs(self) -> int:
        """Count the columns of the logits: P pairs, or K classes of a softmax head."""
        return max(own.columns.stop for group in self.groups for own in group.branches)


def pixels_of(run: Run) -> Preprocessing:
    """Read which pixels the classifiers of a result directory see, from one of them."""
    return load_pair(run.files[0]).preprocessing


def load_model(run: Run) -> LoadedModel:
    """Load all classifiers of a result directory.

    Raises InputError when one is unreadable or was trained on different pixels.
    """
    groups: dict[object, TrunkGroup] = {}
    checkpoints: list[PairCheckpoint] = []
    digests: list[bytes] = []
    trunks: list[tuple[object, ...]] = []
    heads = heads_of_model(run.num_classes, run.head)
    for column, (path, head) in enumerate(zip(run.files, heads, strict=True)):
        data = path.read_bytes()
        digests.append(hashlib.sha256(data).digest())
        checkpoint = load_pair(path, data)
        classifier = restore_pair(checkpoint, str(path))
        checkpoints.append(checkpoint)
        _check_belongs(checkpoint, checkpoints[0], run, head, path)
        trunks.append(trunk_key(classifier.trunk))
        group = groups.setdefault(trunks[-1], TrunkGroup(classifier.trunk, []))
        columns = slice(column, column + head.outputs)
        group.branches.append(Columns(columns, classifier.branch))
    for line in _signs_of_a_mixture(run, checkpoints, trunks):
        log(line)
    if not run.directory.config.is_file() and not checkpoints[0].of_earlier_trainer:
        log(f"note: {run.directory.config} is missing: what it was trained on is not known")
    unfinished = sum(not checkpoint.complete for checkpoint in checkpoints)
    if unfinished:
        log(f"note: {unfinished_text(run, unfinished)}")
    accuracies = [value for checkpoint in checkpoints for value in checkpoint.pair_accuracies]
    if not has_pair_outputs(run.head):  # equal weights leave the weighted vote as it is
        accuracies = [1.0] * len(class_pairs(run.num_classes))
    return LoadedModel(
        model=run.model,
        head=run.head,
        class_names=list(run.trained_names),
        preprocessing=checkpoints[0].preprocessing,
        groups=list(groups.values()),
        pair_accuracies=np.array(accuracies),
        fingerprint=_join_digests(digests),
    )


def have_equal_weights(one: LoadedModel, other: LoadedModel) -> bool:
    """Tell whether two models on one device are the same networks."""
    if one.fingerprint and one.fingerprint == other.fingerprint:
        return True
    if one.model != other.model:
        return False
    first, second = (
        [tensor for g in model.groups for m in g.modules for tensor in m.state_dict().values()]
        for model in (one, other)
    )
    return len(first) == len(second) and all(map(torch.equal, first, second))


def _signs_of_a_mixture(
    run: Run, checkpoints: Sequence[PairCheckpoint], trunks: Sequence[object]
) -> list[str]:
    """Say where classifiers of one directory cannot be of one training; earlier files tell less."""
    if any(checkpoint.of_earlier_trainer for checkpoint in checkpoints):
        return []  # that trainer froze and seeded each pair for itself
    told: list[tuple[str, list[object]]] = [
        ("frozen stages", list(trunks)),
        ("seed", [checkpoint.config.get("seed") for checkpoint in checkpoints]),
    ]
    lines = []
    for what, values in told:
        usual = max(values, key=values.count)
        odd = [own.head.name for own, value in zip(checkpoints, values) if value != usual]
        if odd:
            lines.append(
                f"note: {run.directory.root}: {', '.join(odd)} of {len(values)} classifiers have "
                f"another {what} than the rest: they were not trained together"
            )
    return lines


def _check_belongs(
    checkpoint: PairCheckpoint, first: PairCheckpoint, run: Run, head: Head, path: Path
) -> None:
    """Raise InputError unless a file is what its name says, trained on the first one's pixels."""
    if (checkpoint.model, checkpoint.head) != (run.model, head):
        raise InputError(
            f"{path}: holds {checkpoint.head.title} of {checkpoint.model}; its name says another"
        )
    if checkpoint.preprocessing != first.preprocessing:
        raise InputError(
            f"{path}: was trained on other pixels than {run.files[0].name} "
            f"({checkpoint.preprocessing} and {first.preprocessing}); train the pairs of one "
            "directory alike"
        )
    require_names(checkpoint, run.trained_names, run.directory, path)


def require_names(
    checkpoint: PairCheckpoint, names: tuple[str, ...], directory: ResultDir, path: Path
) -> None:
    """Raise InputError unless a classifier's classes are called as config.json calls them."""
    if checkpoint.class_names[: len(names)] != names:
        raise InputError(
            f"{path}: was trained on the classes {quoted(checkpoint.class_names)}, but "
            f"{directory.config} says {quoted(names)}; restore that file"
        )


def fingerprint_files(files: Iterable[Path]) -> str:
    """Hash the contents of files, to know later whether they are still the same."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return _join_digests(digests)


def _join_digests(digests: list[bytes]) -> str:
    """Make one fingerprint of the files' SHA-256 digests, in their order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]
