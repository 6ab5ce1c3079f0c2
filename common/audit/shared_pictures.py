"""Which images of some splits belong together, by their bytes or by what they show.

N images, of U different files: folds list each picture many times, and it is opened once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audit.neighbours import alike_neighbours
from common.data.copies import number_files
from common.data.folders import ImageFile, Split
from common.data.patients import Patients
from common.duplicates.links import chains
from common.duplicates.near_duplicates import components
from common.inspection.many_files import inspect_files
from common.inspection.relations import relate
from common.listing.walking import count_of
from common.system.log import log, printable

# what is said of images that belong together with others, by kind of relations.GROUPS
_FOUND = {
    "identical_files": "byte for byte in {}",
    "identical_pixels": "pixel for pixel in {}",
    "near_duplicates": "edited or saved anew from {}",
    "augmented_copies": "by name and looks copied from {}",
    "same_eye": "of an eye that is in {}",
}


@dataclass(frozen=True)
class Patient:
    """Who an image is of."""

    number: int
    told: bool  # beyond doubt


@dataclass(frozen=True)
class Shared:
    """Which images of a split belong together with others, and what is said of them."""

    ids: frozenset[str]
    lines: tuple[str, ...]  # one for each kind, with an example

    @property
    def images(self) -> int:
        """How many these are."""
        return len(self.ids)


@dataclass(frozen=True)
class SharedPictures:
    """The images of several splits, and which of them belong together."""

    numbers: dict[str, int]  # of each image's file, by its place
    groups: dict[str, np.ndarray]  # kind of _FOUND -> number of each file's group, (U,)
    looked_for: str  # by what they were compared
    alike: tuple[tuple[int, int], ...] = ()  # files with neighbouring names that look alike

    def find(self, mine: Split, others: Sequence[Split], place: str) -> Shared:
        """Say which images of a split belong together with others; place: what these are called."""
        theirs = [image for part in others for image in part.images]
        numbers, of_others = self._numbers(mine.images), self._numbers(theirs)
        told, lines = np.zeros(len(mine), dtype=bool), []
        for kind, what in _FOUND.items():
            if kind not in self.groups:
                continue
            groups = self.groups[kind]
            known, first = np.unique(groups[of_others], return_index=True)
            new = np.flatnonzero(np.isin(groups[numbers], known) & ~told)
            told[new] = True
            if len(new):
                one = min(new.tolist(), key=lambda i: mine.ids[i])
                twin = theirs[first[np.searchsorted(known, groups[numbers[one]])]]
                are = "is" if len(new) == 1 else "are"
                lines.append(
                    f"{len(new)} of {len(mine)} images {are} {what.format(place)}, such as "
                    f"{printable(mine.ids[one])} = {printable(twin.id)}"
                )
        return Shared(frozenset(mine.ids[i] for i in np.flatnonzero(told)), tuple(lines))

    def alike_in_both(self, mine: Split, others: Sequence[Split]) -> list[tuple[str, str]]:
        """List images of a split and of others that may be of one patient: alike neighbours."""
        theirs = {self.numbers[image.place]: image.id for part in others for image in part.images}
        own = {self.numbers[image.place]: image.id for image in mine.images}
        pairs = [
            pair for first, second in self.alike for pair in ((first, second), (second, first))
        ]
        return [(own[a], theirs[b]) for a, b in pairs if a in own and b in theirs]

    def _numbers(self, images: Sequence[ImageFile]) -> np.ndarray:
        return np.array([self.numbers[image.place] for image in images], dtype=np.int64)


def compare_bytes(splits: Sequence[Split], num_workers: int) -> SharedPictures:
    """Compare the images of several splits by their bytes alone."""
    numbers = number_files((image for part in splits for image in part.images), num_workers)
    files = np.arange(max(numbers.values(), default=-1) + 1)
    return SharedPictures(numbers, {"identical_files": files}, "bytes")


def compare_pictures(
    asked: Sequence[Split],
    others: Sequence[Split],
    people: Mapping[str, Patient],
    num_workers: int,
    cache_dir: Path | None,
) -> SharedPictures:
    """Compare the images that are asked for with each other and all others, as an audit does.

    people: by an image's place, as far as they are known. What is computed of a picture is kept in
    cache_dir.
    """
    found = compare_bytes([*asked, *others], num_workers)
    images: dict[int, ImageFile] = {}  # one for each different file
    for image in (image for part in (*asked, *others) for image in part.images):
        images.setdefault(found.numbers[image.place], image)
    of_asked = {found.numbers[image.place] for part in asked for image in part.images}
    if len(of_asked) == len(images) and len(asked) == 1:
        return SharedPictures(found.numbers, found.groups, "pictures")
    started = time.monotonic()
    log(
        f"hold-out: comparing {len(of_asked)} images of {_and(asked)} with "
        f"{len(images) - len(of_asked)} of training and validation"
    )
    files = sorted(images)
    paths = [images[number].path for number in files]
    records = inspect_files(paths, num_workers, cache_dir, "hold-out")
    nobody = Patients(np.arange(len(files)), "", np.zeros(len(files), dtype=bool), len(files))
    mine = np.array([number in of_asked for number in files])
    ids = [images[number].id for number in files]
    related = relate(ids, records, nobody, num_workers, asked=mine)
    known = [people.get(images[number].place) for number in files]
    patients = np.array([who.number if who else -1 - n for n, who in enumerate(known)])
    told = np.array([bool(who and who.told) for who in known])
    units = components(len(files), np.concatenate([chains(related.units), chains(patients)]))
    places = [images[number].place for number in files]
    alike = alike_neighbours(places, records, related.eyes, units, told)
    neighbours = alike.neighbours if alike.surprising else ()
    log(f"hold-out: compared in {time.monotonic() - started:.0f} s")
    groups = {}
    for kind in _FOUND:
        if kind != "identical_files":
            groups[kind] = np.full(files[-1] + 1, -1)
            groups[kind][files] = related.groups[kind]
    looked_for = "bytes, pixels, near-duplicates, names of copies or eye"
    unread = sum(not record.usable for record in records)
    looked_for += f" ({count_of(unread, 'file')} cannot be read)" if unread else ""
    numbered = tuple((files[first], files[second]) for first, second in neighbours)
    return SharedPictures(found.numbers, found.groups | groups, looked_for, numbered)


def _and(splits: Sequence[Split]) -> str:
    *first, last = [split.name for split in splits]
    return f"{', '.join(first)} and {last}" if first else last
