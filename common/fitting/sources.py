"""Decide which images temperatures, weights and thresholds are fitted on, and who may use which.

Nothing is fitted on what a model has learned from. Which images those are is told by their bytes:
folds are made of links and copies of the same files under other names.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.data.copies import number_files
from common.data.folders import Dataset, ImageFile, Split, scan_dataset
from common.listing.split_folders import CHOSEN_ON, split_of
from common.prediction.classes import SetMatcher
from common.result_dir.run import Run
from common.system.errors import InputError
from common.system.log import printable

_NAMED = 3  # models of those whose training images are not at hand
_MOST_BESIDE = 30  # datasets that are looked at beside the given one


@dataclass(frozen=True)
class Trained:
    """A model's own dataset, as far as it is at hand."""

    label: str
    run: Run
    train: Split | None = None  # what it has learned from; None: not at hand
    val: Split | None = None  # what its epochs were chosen on


@dataclass(frozen=True)
class Seen:
    """Images of a split that a model has learned from in other files: edited, or saved anew."""

    split: str  # val or cal of the evaluated dataset
    model: str  # its label
    ids: frozenset[str]  # of the split's images
    found: str  # in words, with an example


@dataclass(frozen=True)
class OwnVal:
    """The images of a model's own val that it may be asked about."""

    split: Split | None  # None: not at hand, what is stored of it is taken
    names: dict[str, str]  # by id, what an image is called among all models
    group: int  # the models of one group are those of the folds of one dataset


@dataclass(frozen=True)
class Plan:
    """Which images things are fitted on."""

    name: str = ""  # of the images, as results say it; "": none
    split: Split | None = None  # one split for all models
    own: tuple[OwnVal, ...] = ()  # or, for each model, its own val
    remarks: tuple[str, ...] = ()  # what is not known
    why_not: str = ""  # why neither cal nor val of the dataset is taken


def plan_fitting(
    dataset: Dataset,
    judged: Split,
    models: Sequence[Trained],
    seen: Sequence[Seen] = (),
    insists: bool = False,
) -> Plan:
    """Choose the images: cal or val of the dataset, else each model's own val.

    A split is taken only if no model has learned from any of its images and it is not the one that
    is judged; what is judged is left out of the models' own val, too. Models of one backbone that
    have learned from each other's val are those of the folds of one dataset. models: as
    `find_training` returns them. seen: what the hold-out check has found of its pictures; it counts
    like the same bytes. insists: weights or calibration were asked for; then val must be known to
    be new to all models, and is not only believed to be. cal is kept from training by its name.
    """
    candidates, reasons = _candidates(dataset)
    vals = [model.val for model in models if model.val is not None]
    trains = [model.train for model in models if model.train is not None]
    # pictures are called as they are in this dataset, as far as they are in it
    others = [*dataset.splits.values(), *trains]
    numbers = _Numbers([judged, *candidates.values(), *vals], others)
    unknown = _named([model.label for model in models if model.train is None])
    for name, split in candidates.items():
        reason = _why_not(split, judged, models, numbers, seen)
        not_at_hand = (
            f"whether {unknown} learned from {name} is not known: the training images are not at "
            "hand, neither where they were nor here or beside it"
        )
        if not reason and unknown and insists and name == "val":
            reason = not_at_hand
        if not reason and unknown:
            title = f"{name} (not known whether {unknown} learned from it)"
            return Plan(title, split, remarks=(not_at_hand,))
        if not reason:
            return Plan(name, split)
        reasons.append(reason)
    why_not = "; ".join(reasons) or f"the dataset has neither {' nor '.join(CHOSEN_ON)}"
    own = _own_val(judged, models, numbers, _tainted(candidates, seen, numbers))
    return Plan(_name(own), None, tuple(own), (), why_not)


def likely_split(dataset: Dataset, judged: Split) -> Split | None:
    """Return the split that `plan_fitting` takes unless a model has learned from its images."""
    for split in _candidates(dataset)[0].values():
        coarser = split.folders is not None and split.folders.classes.coarser
        if split.name != judged.name and not coarser:
            return split
    return None


def _named(labels: Sequence[str]) -> str:
    """List some models, the first by their labels; "" for none."""
    left = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {left} more" if left > 0 else "")


def _candidates(dataset: Dataset) -> tuple[dict[str, Split], list[str]]:
    """List cal and val of a dataset, as far as they are there, and why one cannot be listed.

    cal comes first: it is there for this alone, and epochs were chosen on val.
    """
    found, reasons = {}, []
    for name in filter(dataset.has, reversed(CHOSEN_ON)):
        try:
            found[name] = dataset.split(name)
        except InputError as error:
            reasons.append(str(error))
    return found, reasons


def find_training(models: Sequence[tuple[str, Run]], dataset: Dataset) -> list[Trained]:
    """Find train and val of models: where they were trained, in the dataset, or beside it.

    They are at hand if the training images have the recorded fingerprint. Folds that were moved lie
    beside each other. models: label and run.
    """
    known: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Dataset | None] = {}

    def scan(root: str, run: Run) -> Dataset | None:
        key = (root, run.names, run.skipped)
        if key not in known:
            known[key] = None
            with suppress(InputError, OSError):
                matcher = SetMatcher(run.names)
                known[key] = scan_dataset(Path(root), matcher=matcher).without(run.skipped)
        return known[key]

    return [_find_own(label, run, dataset, scan) for label, run in models]


def _find_own(
    label: str, run: Run, dataset: Dataset, scan: Callable[[str, Run], Dataset | None]
) -> Trained:
    if not run.train_fingerprint:
        return Trained(label, run)
    here = str(dataset.root)
    beside = _beside(dataset.root, Path(run.dataset_path).name)
    for root in dict.fromkeys([run.dataset_path, here, *beside]):
        if not root:
            continue
        if root == here:  # as it is listed already, unless its folders mean other classes here
            found = _as_trained(label, run, dataset.without(run.skipped))
            if found is not None:
                return found
        found = _as_trained(label, run, scan(root, run))
        if found is not None:
            return found
    return Trained(label, run)


def _beside(root: Path, name: str) -> list[str]:
    """List the datasets with a train beside one, the one of that name first."""
    found = []
    with suppress(OSError):
        for folder in sorted(root.resolve().parent.iterdir(), key=lambda f: (f.name != name, f)):
            with suppress(OSError):
                if any(split_of(e.name) == "train" and e.is_dir() for e in folder.iterdir()):
                    found.append(str(folder))
    return found[:_MOST_BESIDE]


def _as_trained(label: str, run: Run, own: Dataset | None) -> Trained | None:
    """Take train and val of a dataset if the model has learned from its train."""
    with suppress(InputError):
        if own is not None and own.split("train").fingerprint() == run.train_fingerprint:
            return Trained(label, run, own.split("train"), _candidates(own)[0].get("val"))
    return None


def _why_not(
    split: Split,
    judged: Split,
    models: Sequence[Trained],
    numbers: "_Numbers",
    seen: Sequence[Seen],
) -> str:
    """Say why a split of the dataset is not taken, "" if it is."""
    if split.name == judged.name:
        return f"{split.name} is judged here, and nothing is fitted on what is judged"
    if split.folders is not None and split.folders.classes.coarser:
        return f"{split.name} is graded in fewer classes than the models'"
    found = []
    for model in models:
        learned = numbers.images(model.train)
        twins = [
            (image, learned[n]) for image in split.images if (n := numbers.of(image)) in learned
        ]
        if twins:
            one, twin = twins[0]
            found.append(
                f"{model.label} has learned from {len(twins)} of {len(split)} images of "
                f"{split.name}, such as {printable(one.id)} = {printable(twin.id)}"
            )
            continue
        found += [
            f"{model.label} has learned from {len(each.ids)} of {len(split)} images of "
            f"{split.name}: {each.found}"
            for each in seen
            if (each.split, each.model) == (split.name, model.label)
        ]
    return "; ".join(found)


def _tainted(
    candidates: Mapping[str, Split], seen: Sequence[Seen], numbers: "_Numbers"
) -> dict[str, set[int]]:
    """List by model the numbers of the images that it has learned from in other files."""
    found: dict[str, set[int]] = {}
    for each in seen:
        split = candidates.get(each.split)
        images = [i for i in split.images if i.id in each.ids] if split else []
        known = {number for image in images if (number := numbers.of(image)) is not None}
        found[each.model] = found.get(each.model, set()) | known
    return found


def _own_val(
    judged: Split,
    models: Sequence[Trained],
    numbers: "_Numbers",
    tainted: Mapping[str, set[int]],
) -> list[OwnVal]:
    """List for each model the images of its own val that it may be asked about."""
    tested = numbers.images(judged)
    vals = []
    for model in models:
        left_out = tested.keys() | numbers.images(model.train).keys()
        left_out |= tainted.get(model.label, set())
        vals.append({n: i for n, i in numbers.images(model.val).items() if n not in left_out})
    groups = _fold_groups(models, [set(val) for val in vals], numbers)
    names = numbers.names
    return [
        OwnVal(model.val, {image.id: names[n] for n, image in val.items()}, group)
        for model, val, group in zip(models, vals, groups)
    ]


def _fold_groups(
    models: Sequence[Trained], vals: Sequence[set[int]], numbers: "_Numbers"
) -> list[int]:
    """Put models together that are of the folds of one dataset; returns each one's group.

    They have one backbone and head, no image of val in common, and have learned from each other's.
    """
    groups: list[list[int]] = []
    learned = [numbers.images(model.train).keys() for model in models]

    def fits(one: int, other: int) -> bool:
        same = (models[one].run.model, models[one].run.head, models[one].run.names) == (
            models[other].run.model,
            models[other].run.head,
            models[other].run.names,
        )
        crossed = vals[one] & learned[other] and vals[other] & learned[one]
        return bool(same and crossed and not vals[one] & vals[other])

    for place in range(len(models)):
        group = next((g for g in groups if all(fits(place, other) for other in g)), None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    return [next(g for g, own in enumerate(groups) if i in own) for i in range(len(models))]


def _name(own: Sequence[OwnVal]) -> str:
    """Call the images by where they are from."""
    folds = max(sum(each.group == group for each in own) for group in {o.group for o in own})
    return f"val of {folds} folds, out of fold" if folds > 1 else "val of the training's dataset"


class _Numbers:
    """Which images are the same file, byte for byte: each has a number.

    asked: splits of which that is to be known. others: those that they are compared with; what
    cannot be the same for its size has no number. Nor have links that lead nowhere.
    """

    def __init__(self, asked: Sequence[Split], others: Sequence[Split]) -> None:
        sizes = {image.size for split in asked for image in split.images} - {-1}
        every = [image for split in (*others, *asked) for image in split.images]
        images = [image for image in every if image.size in sizes]
        self._number = number_files(images)
        self._images: dict[int, ImageFile] = {}  # the first of each number
        for image in images:
            self._images.setdefault(self._number[image.place], image)

    def of(self, image: ImageFile) -> int | None:
        """Return an image's number; None for one that is like none that was asked about."""
        return self._number.get(image.place)

    def images(self, split: Split | None) -> dict[int, ImageFile]:
        """List the images of a split by their numbers."""
        numbered = ((self.of(image), image) for image in (split.images if split else ()))
        return {number: image for number, image in numbered if number is not None}

    @cached_property
    def names(self) -> dict[int, str]:
        """Call each file by its id, and by its path where another one has that id."""
        files = Counter(image.id for image in self._images.values())
        return {
            number: str(image.path) if files[image.id] > 1 else image.id
            for number, image in self._images.items()
        }
