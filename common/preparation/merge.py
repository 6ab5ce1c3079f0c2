"""Result directories whose pairs were trained apart, joined into one.

Only parts of one run are joined: what decides what is learned must be equal, as must the images and
the weights that training starts from. By that, a pair is the same wherever it was trained.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from common.config import TrainConfig, config_differences
from common.history import EpochRow
from common.in_force import Change, TrainedWith
from common.joint_runs.finish import Standings, describe_unless_described
from common.joint_runs.heads import held_by_others, locks_of, said_of
from common.models.checkpoint import PairCheckpoint, load_pair
from common.models.checkpoint_file import content_checksum
from common.pairs import Head, heads_of_model
from common.preparation.new_dataset import new_dataset
from common.result_dir.paths import ResultDir
from common.result_dir.run import model_files, read_config
from common.result_dir.stored import write_history
from common.system.errors import InputError
from common.system.files import write_json
from common.training.context import Fingerprints
from common.training.resume import OLDER_RUN, load_best, load_latest

# keys of config.json that a part must share with the others, beside its settings
# settings that can be written in several ways; what they come to is compared in the networks
_SEVERAL_WAYS = {
    "img_size",
    "class_names",
    "freeze_weights",
    "frozen_stages",
    "precision",
    "use_amp",
}
_SHARED = (*(item.name for item in fields(Fingerprints)), "overrides")


@dataclass(frozen=True)
class Source:
    """A result directory that is merged."""

    directory: ResultDir
    content: dict[str, Any]  # of config.json
    config: TrainConfig


@dataclass(frozen=True)
class Part:
    """How far a head has come in one of the directories."""

    source: Source
    head: Head
    finished: bool
    rows: tuple[EpochRow, ...]
    best_epoch: int
    start: str = ""  # what is frozen in its file, and the pixels that it sees, hashed; "": no file

    @property
    def files(self) -> list[Path]:
        """Its files: a finished head's own, of another what resuming needs, too."""
        directory, model = self.source.directory, self.source.config.model
        named = (
            [directory.best]
            if self.finished
            else [directory.best, directory.last, directory.previous]
        )
        return [path for each in named if (path := each(model, self.head)).is_file()]


@dataclass(frozen=True)
class Merge:
    """What is joined, and what stays out."""

    first: Source
    heads: list[Head]  # of the whole model
    parts: list[Part]  # one for each head that is there
    remarks: list[str]

    @property
    def standings(self) -> Standings:
        """How much of the model there will be."""
        done = frozenset(part.head for part in self.parts if part.finished)
        return Standings(self.heads, done, {})


def plan_merge(folders: Sequence[Path]) -> Merge:
    """Look at every classifier; raises InputError where these are no parts of one run."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("expected different directories to merge, found one twice")
    sources = [_open(ResultDir(folder)) for folder in folders]
    first, *others = sources
    for other in others:
        _require_same_run(first, other)
    heads = heads_of_model(first.config.num_classes, first.config.head)
    parts, remarks = [], _remarks(sources)
    started: list[Part] = []
    for head in heads:
        found = [part for each in sources if (part := _part_of(each, head, remarks))]
        started += [part for part in found if part.start]
        if found:
            best = max(found, key=lambda part: (part.finished, len(part.rows)))
            for part in found:
                _require_same_head(best, part)
            parts.append(best)
            if not best.finished:
                remarks.append(
                    f"{head.title} is not finished, {len(best.rows)} epochs; --resume goes on"
                )
    if not parts:
        raise InputError(f"{' '.join(map(str, folders))}: no classifier to merge")
    _require_same_start(started)
    return Merge(first, heads, parts, remarks)


def write_merge(merge: Merge, target: Path) -> None:
    """Write the joined directory, whole or not at all."""
    with new_dataset(target) as folder:
        directory = ResultDir(folder)
        for part in merge.parts:
            for path in part.files:
                copy = folder / path.relative_to(part.source.directory.root)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
        rows = [row for part in merge.parts for row in part.rows]
        write_history(directory.history, rows, merge.heads)
        for source in {id(part.source): part.source for part in merge.parts}.values():
            if source.directory.tensorboard.is_dir():  # files named after time, host and process
                shutil.copytree(
                    source.directory.tensorboard, directory.tensorboard, dirs_exist_ok=True
                )
        content = merge.first.content
        write_json(
            directory.config,
            content | {"config": content["config"] | {"output_dir": str(target)}},
        )
        if merge.standings.complete:
            describe_unless_described(directory, target)


def _open(directory: ResultDir) -> Source:
    """Read what a directory says of its run; raises InputError where that is not to be merged."""
    if not directory.config.is_file():
        raise InputError(_why_not(directory))
    content = read_config(directory)
    names = {item.name for item in fields(TrainConfig)}
    known = {name: value for name, value in content["config"].items() if name in names}
    try:
        known["class_names"] = tuple(known.get("class_names", ()))
        source = Source(directory, content, TrainConfig(**known))
        heads = heads_of_model(source.config.num_classes, source.config.head)
    except (TypeError, ValueError) as error:
        raise InputError(f"{directory.config}: not a usable configuration ({error})") from error
    if strangers := sorted(model_files(directory).keys() - {source.config.model}):
        raise InputError(
            f"{directory.models} holds classifiers of {', '.join(strangers)} beside those of "
            f"{source.config.model}; a directory is of one model: move the others away"
        )
    if others := held_by_others(directory, source.config, heads):
        raise InputError(
            f"{directory.root} is being trained by {said_of(others)}; wait for it, or stop it "
            f"({locks_of(others)})"
        )
    return source


def _why_not(directory: ResultDir) -> str:
    """Say what can be done with a directory that lacks config.json."""
    if model_files(directory):
        return (
            f"{directory.root} has no config.json, as directories of the earlier trainer: they "
            "cannot be merged, since nothing tells whether their pairs are of one run; leave it "
            "out, or, if you know that, copy their models/best_*.pth into one directory's "
            "models/, which evaluate_ensemble.py takes as it is"
        )
    found = "no config.json there" if directory.root.is_dir() else "no such folder"
    return f"{directory.root}: expected a result directory of train_ovo.py, found {found}"


def _require_same_run(first: Source, other: Source) -> None:
    """Raise InputError with all in which two directories are not of one run."""
    one, two = (OLDER_RUN | {"overrides": []} | each.content for each in (first, other))
    changes = config_differences(one["config"], other.config)
    changes = [change for change in changes if change.name not in ("precision", "use_amp")]
    names = [name for name in _SHARED if one.get(name) != two.get(name)]  # with what those came to
    changes += [Change(name, one.get(name), two.get(name)) for name in names]
    if changes:
        differences = "; ".join(f"{c.name}: {c.before} -> {c.now}" for c in changes)
        raise InputError(
            f"{first.directory.root} and {other.directory.root} are not of one run "
            f"({differences}); only pairs that were trained with the same settings, images and "
            "seed belong together"
        )


def _remarks(sources: Sequence[Source]) -> list[str]:
    """Note what differs and does not decide what is learned, but may round in another way."""
    first, *others = sources
    return [
        f"{name} {before} in {first.directory.root}, {now} in {other.directory.root}"
        for other in others
        for name, before in (first.content.get("versions") or {}).items()
        for now in [(other.content.get("versions") or {}).get(name)]
        if now != before
    ]


def _part_of(source: Source, head: Head, remarks: list[str]) -> Part | None:
    """See how far a head has come in a directory; None if there is nothing to go on with."""
    directory, model = source.directory, source.config.model
    notes: list[str] = []
    best = load_best(directory.best(model, head), model, head, notes)
    if best is not None and best.data and best.data != source.content.get("data"):
        raise InputError(
            f"{directory.best(model, head)} has learned from other images than "
            f"{directory.config} says"
        )
    if best is not None:
        _require_of_run(best, source, directory.best(model, head))
    start, part = _start_of(best) if best is not None else "", None
    if best is not None and best.complete:
        part = Part(source, head, True, best.history, best.best_epoch, start)
    else:
        state = load_latest(directory, model, head, best, notes, overridden=False, tidy=False)
        if state is not None:
            part = Part(source, head, False, state.history, state.best_epoch, start)
    if part is None and best is not None:
        notes.append(f"{directory.best(model, head)} is of an epoch that cannot be gone on from")
    if notes:
        what = "is left out" if part is None else "goes on from what is whole"
        remarks.append(f"{head.title}: {'; '.join(notes)}; it {what}")
    return part


def _require_of_run(checkpoint: PairCheckpoint, source: Source, path: Path) -> None:
    """Raise InputError for a classifier that says of itself that another run has trained it.

    Settings that were changed in mid-training may be as before; earlier files do not tell all.
    """
    free = {change.name for change, _ in TrainedWith.from_content(source.content).changes}
    changes: list[Change] = []
    if checkpoint.config:
        changes = config_differences(checkpoint.config, source.config)
        changes = [each for each in changes if each.name not in free | _SEVERAL_WAYS]
    began, begins = checkpoint.initial_weights, source.content.get("initial_weights")
    if began and began != begins:
        changes.append(Change("initial_weights", began, begins))
    if changes:
        differences = "; ".join(f"{c.name}: {c.before}, not {c.now}" for c in changes)
        raise InputError(
            f"{path} was not trained by the run that {source.directory.config} describes "
            f"({differences}); remove it from there, and train that pair with --resume"
        )


def _start_of(checkpoint: PairCheckpoint) -> str:
    """Hash what all classifiers of a run have in common: frozen weights, and pixels."""
    trunk = dict(sorted(checkpoint.trunk.items()))
    return content_checksum({"trunk": trunk, "pixels": repr(checkpoint.preprocessing)})


def _require_same_start(parts: Sequence[Part]) -> None:
    """Raise InputError where classifiers differ in what one run gives to all of them."""
    for other in parts[1:]:
        if other.start != parts[0].start:
            raise InputError(
                f"{parts[0].files[0]} and {other.files[0]} are not of one run: their frozen stages "
                "or their preprocessing differ, as with another seed or other weights; remove the "
                "one that does not belong there, and train that pair with --resume"
            )


def _without_times(rows: Sequence[EpochRow]) -> list[str]:
    """Write rows, but for how long they took, as text, in which NaN equals itself."""
    return [str(replace(row, images_per_second=0.0, seconds=0.0)) for row in rows]


def _require_same_head(best: Part, other: Part) -> None:
    """Raise InputError for a head that two directories hold differently.

    One that has not come as far must be the beginning of the other.
    """
    if other is best:
        return
    files = [part.files[0] for part in (best, other)]
    common = best.rows[: len(other.rows)]
    same = _without_times(other.rows) == _without_times(common)
    if same and other.best_epoch == best.best_epoch and other.finished == best.finished:
        same = _same_weights(*map(load_pair, files))
    if not same:
        raise InputError(
            f"{best.head.title} was trained twice, to different ends: {files[0]} and {files[1]}; "
            "leave one of the directories out, or remove that classifier from it"
        )


def _same_weights(one: PairCheckpoint, other: PairCheckpoint) -> bool:
    """Tell whether two classifiers are the same to the last bit."""
    states = [
        {
            f"{part} {name}": tensor
            for part in ("trunk", "stages", "classifier")
            for name, tensor in getattr(each, part).items()
        }
        for each in (one, other)
    ]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()
    )
