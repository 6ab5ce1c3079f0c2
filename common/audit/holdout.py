"""Tell whether images are independent of what training and choosing have seen.

Test must be new to the training, to what its epochs were chosen on, and to what temperatures,
weights and thresholds are fitted on; cal must be new to the training and to its val; val to the
training. They are compared as an audit compares splits. What is computed of a picture is kept, so
that a training set is opened once, ever.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common.audit.shared_pictures import (
    Patient,
    SharedPictures,
    compare_bytes,
    compare_pictures,
)
from common.data.folders import Dataset, Split, scan_dataset
from common.data.metadata import Metadata
from common.data.patients import AUTO, Patients, recognise_patients
from common.evaluation.gates import FAIL, NOT_MEASURED, PASS, Holdout
from common.evaluation.independence import HoldoutFindings, Overlap
from common.fitting.sources import Trained
from common.listing.split_folders import CHOSEN_ON, LEARNED_FROM
from common.listing.walking import count_of
from common.prediction.classes import SetMatcher
from common.result_dir.run import Run
from common.system.errors import InputError
from common.system.log import printable


@dataclass(frozen=True)
class HoldoutConfig:
    """How images are compared."""

    patient_regex: str = AUTO
    pictures: bool = True  # open them; otherwise only names and bytes are compared
    cache_dir: Path | None = None  # where what is computed of a picture is kept
    num_workers: int = 8


def check_holdout(
    split: Split,
    dataset: Dataset,
    models: Sequence[Trained],
    metadata: Metadata | None,
    config: HoldoutConfig,
) -> HoldoutFindings:
    """Tell whether a split of a dataset is independent of what was seen, and cal and val, too.

    models: as `find_training` returns them. metadata: of the dataset. A test set is compared with
    train, val and cal of the dataset and with train and val of where each model was trained.
    Patients are compared within the dataset: in another one, the same name may be someone else's.
    Where another split than test is evaluated, only bytes are compared.
    """
    chosen_on = [part for name in CHOSEN_ON if (part := _part(dataset, name)) is not None]
    own = [*filter(None, [_part(dataset, "train")]), *chosen_on]
    elsewhere = _elsewhere(dataset, models)
    asked = _different([split, *chosen_on])
    others = _different([*own, *elsewhere], asked)
    people = _People.of(_different([split, *own]), dataset, metadata, config)
    if config.pictures and split.name == "test":
        known = people.by_place
        found = compare_pictures(asked, others, known, config.num_workers, config.cache_dir)
    else:
        found = compare_bytes([*asked, *others], config.num_workers)
    overlaps = _overlaps(chosen_on, models, found, people)
    if split.name != "test":
        reason = f"{split.name} is not held out: choices are made on it"
        return HoldoutFindings(Holdout(FAIL, reason), overlaps)
    seen = _different([*own, *elsewhere])
    return HoldoutFindings(_verdict(split, own, seen, models, found, people, config), overlaps)


@dataclass(frozen=True)
class _People:
    """Whose the images of one dataset are."""

    root: Path
    patient: dict[str, int]  # number of the patient by the image's id
    patients: Patients
    by_place: dict[str, Patient]

    @classmethod
    def of(
        cls,
        splits: Sequence[Split],
        dataset: Dataset,
        metadata: Metadata | None,
        config: HoldoutConfig,
    ) -> "_People":
        """Recognise the patients of a dataset's splits."""
        ids = [id_ for part in splits for id_ in part.ids]
        patients = recognise_patients(ids, config.patient_regex, metadata)
        numbers = dict(zip(ids, patients.groups.tolist()))
        told = patients.beyond_doubt(config.patient_regex)
        places = [image.place for part in splits for image in part.images]
        by_place = {
            place: Patient(number, bool(is_told))
            for place, number, is_told in zip(places, patients.groups.tolist(), told)
        }
        return cls(dataset.root.resolve(), numbers, patients, by_place)

    def shared(self, mine: Split, others: Sequence[Split], place: str) -> list[str]:
        """Say which patients of a split have images in others of the same dataset, if any."""
        first: dict[int, str] = {}
        for id_ in (id_ for part in others for id_ in part.ids):
            if id_ in self.patient:
                first.setdefault(self.patient[id_], id_)
        both = {id_: first[self.patient[id_]] for id_ in mine.ids if self.patient[id_] in first}
        if not both:
            return []
        one = min(both)
        who = count_of(len({self.patient[id_] for id_ in both}), "patient")
        return [
            f"{who} of {mine.name} {'has' if who == '1 patient' else 'have'} images in {place}, "
            f"such as {printable(one)} and {printable(both[one])} ({self.patients.evidence})"
        ]


def _verdict(
    split: Split,
    own: Sequence[Split],
    seen: Sequence[Split],
    models: Sequence[Trained],
    found: SharedPictures,
    people: _People,
    config: HoldoutConfig,
) -> Holdout:
    """Tell whether test is independent of all that was seen; own: of its own dataset."""
    with_cal = any(part.name == "cal" for part in seen)
    shared = found.find(
        split, seen, "training, validation or calibration" if with_cal else "training or validation"
    )
    names = "train, val or cal" if with_cal else "train or val"
    lines = [*shared.lines, *people.shared(split, own, names)]
    if lines:
        return Holdout(FAIL, "; ".join(lines))
    unknown = [model.label for model in models if model.train is None]
    if unknown:
        return Holdout(
            NOT_MEASURED, f"the images that {', '.join(unknown)} learned from are not at hand"
        )
    files, mine = (
        {found.numbers[image.place] for part in parts for image in part.images}
        for parts in (seen, own)
    )
    of_patients = _said_of_patients(people.patients, bool(own), bool(files - mine))
    reason = (
        f"none of {len(split)} images is, by {found.looked_for}, among {len(files)} of "
        f"{names.replace(' or ', ' and ')}; {of_patients}"
    )
    alike = found.alike_in_both(split, seen)
    if alike:
        return Holdout(NOT_MEASURED, f"{_said_of_neighbours(alike, split.name, names)}; {reason}")
    if not config.pictures:
        reason = f"the pictures were not compared (--holdout_check names); {reason}"
    return Holdout(PASS if config.pictures else NOT_MEASURED, reason)


def _overlaps(
    chosen_on: Sequence[Split],
    models: Sequence[Trained],
    found: SharedPictures,
    people: _People,
) -> tuple[Overlap, ...]:
    """List what each model has seen of val and cal; its own val is no news."""
    overlaps = []
    for mine in chosen_on:
        for model in models:
            for other, what in (
                (model.train, "what it learned from"),
                (model.val, "what its epochs were chosen on"),
            ):
                if other is None or other.name == mine.name:
                    continue
                shared = found.find(mine, [other], what)
                lines = list(shared.lines)
                if _root(other) == people.root:
                    lines += people.shared(mine, [other], what)
                if lines:
                    text = "; ".join(lines)
                    overlaps.append(
                        Overlap(mine.name, model.label, other.name, shared.ids, len(mine), text)
                    )
    return tuple(overlaps)


def _elsewhere(dataset: Dataset, models: Sequence[Trained]) -> list[Split]:
    """List train and val of where models were trained, as far as they are there.

    Where the images are no longer those that a model learned from, what is there is looked at all
    the same.
    """
    parts: list[Split] = []
    scanned: set[tuple[str, tuple[str, ...], tuple[str, ...]]] = set()
    for model in models:
        parts += [part for part in (model.train, model.val) if part is not None]
        key = (model.run.dataset_path, model.run.names, model.run.skipped)
        if model.train is None and model.run.dataset_path and key not in scanned:
            scanned.add(key)
            parts += _left_there(model.run, dataset)
    return parts


def _left_there(run: Run, dataset: Dataset) -> list[Split]:
    """List train and val at the place where a model was trained, whatever they hold now."""
    root = Path(run.dataset_path)
    if root.resolve() == dataset.root.resolve():
        return []
    with suppress(InputError, OSError):
        there = scan_dataset(root, matcher=SetMatcher(run.names)).without(run.skipped)
        return [part for name in LEARNED_FROM if (part := _part(there, name)) is not None]
    return []


def _part(dataset: Dataset, name: str) -> Split | None:
    """Return a split if it is there and can be listed."""
    with suppress(InputError):
        return dataset.split(name) if dataset.has(name) else None
    return None


def _different(splits: Sequence[Split], known: Sequence[Split] = ()) -> list[Split]:
    """List the splits without those that are the same images under the same paths."""
    found = {(part.name, part.paths): None for part in known}
    return [
        part
        for part in splits
        if (part.name, part.paths) not in found
        and found.setdefault((part.name, part.paths)) is None
    ]


def _root(split: Split) -> Path:
    """Return the dataset that a split is of."""
    first = split.images[0]
    return Path(str(first.path).removesuffix(first.id)).resolve()


def _said_of_neighbours(alike: Sequence[tuple[str, str]], mine: str, others: str) -> str:
    """Say which images of a split and of others may be of one patient."""
    first, second = map(printable, alike[0])
    return (
        f"a patient may be in {mine} and in {others}: images with neighbouring names look alike "
        f"more often than by chance, and {count_of(len(alike), 'such pair')} "
        f"{'lies' if len(alike) == 1 else 'lie'} in both, as {first} and {second}; "
        "prepare_dataset.py audit shows them, and what keeps them together: metadata.csv, or a "
        "--patient_regex, which an evaluation takes, too"
    )


def _said_of_patients(patients: Patients, own: bool, elsewhere: bool) -> str:
    """Say what is known of patients where none is in both.

    own: whether the dataset has other splits; elsewhere: whether there are images of another one.
    """
    if not own:
        return "patients were not compared: the training images are of another dataset"
    known = f"no patient is in both ({patients.evidence})"
    if not patients.recognised:
        known = f"patients are not known ({patients.evidence})"
    elif patients.unknown:
        known += f"; of {count_of(patients.unknown, 'image')} the patient is not known"
    return known + ("; patients of another dataset were not compared" if elsewhere else "")
