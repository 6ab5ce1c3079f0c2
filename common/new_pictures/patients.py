"""One more table: what the rows mean for each patient, as far as it is known who they are of.

N pictures.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.class_names import grades_of
from common.data.metadata import Metadata, read_metadata
from common.data.patients import Patients, are_eyes, recognise_eyes, recognise_patients
from common.listing.split_folders import split_of
from common.listing.walking import count_of
from common.new_pictures.listing import Listing, NewPicture
from common.new_pictures.rows import GRADED, PATIENT_COLUMNS, Row
from common.result_dir.csv_files import write_csv


@dataclass(frozen=True)
class Metadatas:
    """What the metadata.csv of each root says of its pictures."""

    by_root: Mapping[str, Metadata]  # by the absolute path
    folders: "_Folders"
    by_id: Mapping[str, Sequence[NewPicture]]  # under all names that lead to it

    def column(self, name: str, ids: Sequence[str]) -> list[str]:
        """Return a column's values for pictures, "" where they are not known.

        A patient's name is that of the table's root: another root may have another of that name.
        """
        return [next(self._values(name, self.by_id.get(id_, ())), "") for id_ in ids]

    def _values(self, name: str, pictures: Sequence[NewPicture]) -> Iterator[str]:
        for picture in pictures:
            for root in _upwards(picture.name):
                table = self.by_root.get(root)
                id_ = os.path.relpath(picture.name, root).replace(os.sep, "/")
                value = table.column(name, [id_])[0] if table else ""
                if value:
                    above = self.folders.site_of(root) if name == "patient" else ""
                    yield f"{above}/{value}" if above else value


def read_metadatas(listing: Listing) -> dict[str, Metadata]:
    """Read the metadata.csv of each folder that has one. Raises InputError as `read_metadata`."""
    found = {root: read_metadata(Path(root)) for root in listing.roots}
    return {root: metadata for root, metadata in found.items() if metadata is not None}


@dataclass(frozen=True)
class People:
    """Who pictures are of, and which eyes they show."""

    patients: Patients
    eyes: list[str]  # (N,) "" where not known


def recognise_people(
    images: Sequence[str], listing: Listing, regex: str, metadata: Mapping[str, Metadata]
) -> People:
    """Tell who pictures (N,), given by their names, are of. Raises InputError for a bad pattern.

    regex: names the patient in a file's name, as in `recognise_patients`.
    """
    listed = {picture.name: picture for picture in listing.pictures}
    folders = _Folders(listing)
    # the number stands where a dataset has the folder of a class
    ids = [f"{n}/{'/'.join(folders.below(image))}" for n, image in enumerate(images)]
    pictures = {id_: listing.names_of(listed[i]) for id_, i in zip(ids, images) if i in listed}
    by_root = {os.path.abspath(root): table for root, table in metadata.items()}
    known = Metadatas(by_root, folders, pictures)
    return People(recognise_patients(ids, regex, known), recognise_eyes(ids, known).tolist())


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a patient's row is made of, for one picture: there may be very many."""

    image: str
    eye: str
    graded: bool
    place: int  # of its class among all; -1 if it is not graded
    grade: int | str | None
    p_referable: float | None
    referable: bool | None
    review: bool
    reason: str


@dataclass(frozen=True)
class PatientTable:
    """A row for each patient who is known."""

    rows: list[list[Any]]  # in the order of PATIENT_COLUMNS
    others: int  # pictures of nobody known

    def write(self, path: Path) -> None:
        """Write it as CSV."""
        write_csv(path, PATIENT_COLUMNS, self.rows)


def tabulate_patients(
    images: Sequence[str],
    rows: Iterable[Row],
    listing: Listing,
    class_names: Sequence[str],
    regex: str,
    metadata: Mapping[str, Metadata],
) -> PatientTable:
    """Gather the rows of each patient: the worst grade and probability of any picture count.

    images: the pictures of the rows, in their order, which tell the patients; the rows themselves
    are read once and let go of. regex, metadata: as `recognise_people` takes them.
    """
    people = recognise_people(images, listing, regex, metadata)
    places = {name: place for place, name in enumerate(class_names)}
    seen: dict[str, list[_Seen]] = {}
    for row, eye, patient in zip(rows, people.eyes, people.patients.called, strict=True):
        if patient:
            place = places[row.class_name] if row.class_name is not None else -1
            seen.setdefault(patient, []).append(
                _Seen(
                    image=row.image,
                    eye=eye,
                    graded=row.outcome == GRADED,
                    place=place,
                    grade=row.grade,
                    p_referable=row.p_referable,
                    referable=row.referable,
                    review=row.review,
                    reason=sys.intern(row.reason),
                )
            )
    table = [_row_of(patient, found, class_names) for patient, found in sorted(seen.items())]
    return PatientTable(table, people.patients.unknown)


class _Folders:
    """The roots of pictures, and what in their paths is no part of a patient's name.

    Several roots are read as the folder that holds them all would be: each has patients of its own,
    unless they are called as splits, grades or eyes are. The same holds for the folders in a root.
    """

    def __init__(self, listing: Listing) -> None:
        roots = {os.path.abspath(root) for root in listing.roots}
        # those that lie in no other one
        self._roots = {root for root in roots if roots.isdisjoint(list(_upwards(root))[1:])}
        self._common = os.path.commonpath(self._roots)
        paths: dict[str, list[list[str]]] = {root: [] for root in self._roots}
        for picture in listing.pictures:
            root = self._root_of(picture.name)
            paths[root].append(_parts(picture.name, root))
        self._groupings = {root: _groupings(own) for root, own in paths.items()}
        self._of_roots = _groupings([_parts(f"{root}/x", self._common) for root in self._roots])

    def _root_of(self, path: str) -> str:
        return next((folder for folder in _upwards(path) if folder in self._roots), "")

    def below(self, image: str) -> list[str]:
        """Return the parts of a picture's path that may name a patient."""
        root = self._root_of(image)
        if not root:  # of a row whose picture is not listed any more
            return _parts(image, "/")
        own = _without(_parts(image, root), self._groupings[root])
        return _without(_parts(root, self._common) + own, self._of_roots)

    def site_of(self, root: str) -> str:
        """Name the folder whose patients are those of a root; "" where there is only one."""
        parts = _parts(f"{self._root_of(root)}/x", self._common)
        return "/".join(_without(parts, self._of_roots)[:-1])


def _upwards(path: str) -> Iterator[str]:
    """Go from a path to the folder that it lies in, and on to the topmost."""
    path = os.path.abspath(path)
    yield path
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        yield path


def _parts(path: str, folder: str) -> list[str]:
    below = os.path.relpath(path, folder)
    return [] if below == "." else below.split(os.sep)


def _groupings(paths: Sequence[list[str]]) -> list[frozenset[str]]:
    """Find the folders that come first in paths and are of splits, then of grades, then of eyes."""
    found: list[frozenset[str]] = []
    for is_grouping in (_are_splits, _are_grades, are_eyes):
        tops = {parts[0] for parts in paths if len(parts) > 1}
        if tops and is_grouping(sorted(tops)):
            found.append(frozenset(tops))
            paths = [_without(parts, found[-1:]) for parts in paths]
    return found


def _without(parts: list[str], groupings: Sequence[frozenset[str]]) -> list[str]:
    """Leave folders out of a path; that of an eye becomes a part of the file's name."""
    for folders in groupings:
        if len(parts) > 1 and parts[0] in folders:
            first, *parts = parts
            if are_eyes(sorted(folders)) and first.lower() not in parts[-1].lower():
                stem, ending = os.path.splitext(parts[-1])
                parts = [*parts[:-1], f"{stem}_{first}{ending}"]
    return parts


def _are_splits(folders: Sequence[str]) -> bool:
    return all(split_of(folder) for folder in folders)


def _are_grades(folders: Sequence[str]) -> bool:
    return len(folders) > 1 and None not in grades_of(folders)


def _row_of(patient: str, seen: Sequence[_Seen], class_names: Sequence[str]) -> list[Any]:
    graded = [found for found in seen if found.graded]
    worst = max(graded, key=lambda found: (found.place, found.p_referable or 0), default=None)
    scores = [found.p_referable for found in graded if found.p_referable is not None]
    decisions = [found.referable for found in graded if found.referable is not None]
    reviewed = [found for found in seen if found.review]
    reasons = dict.fromkeys(found.reason for found in reviewed)
    return [
        patient,
        len(seen),
        len(graded),
        worst.grade if worst else None,
        class_names[worst.place] if worst and worst.place >= 0 else None,
        worst.image if worst else None,
        worst.eye if worst else None,
        *(_worst_of_eye(graded, eye) for eye in ("left", "right")),
        max(scores, default=None),
        _word(any(decisions)) if decisions else None,
        _word(bool(reviewed)),
        f"{len(reviewed)} of {count_of(len(seen), 'image')}: {'; '.join(reasons)}"
        if reviewed
        else "",
    ]


def _worst_of_eye(graded: Sequence[_Seen], eye: str) -> int | str | None:
    own = [found for found in graded if found.eye == eye]
    return max(own, key=lambda found: found.place).grade if own else None


def _word(truth: bool) -> str:
    return "yes" if truth else "no"
