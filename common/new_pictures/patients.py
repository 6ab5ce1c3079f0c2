"""One more table: what the rows mean for each patient, as far as it is known who they are of.

N pictures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.class_names import grades_of
from common.data.metadata import Metadata, read_metadata
from common.data.patients import Patients, recognise_eyes, recognise_patients
from common.listing.split_folders import split_of
from common.listing.walking import count_of
from common.new_pictures.listing import Listing, NewPicture
from common.new_pictures.rows import GRADED, Row
from common.result_dir import write_csv

COLUMNS = (
    "patient",
    "images",
    "graded",
    "grade",
    "class_name",
    "worst_image",
    "worst_eye",
    "left_grade",
    "right_grade",
    "p_referable",
    "referable",
    "review",
    "reason",
)


@dataclass(frozen=True)
class Metadatas:
    """What the metadata.csv of each folder says of its pictures."""

    by_root: Mapping[str, Metadata]
    by_id: Mapping[str, NewPicture]

    def column(self, name: str, ids: Sequence[str]) -> list[str]:
        """Return a column's values for pictures, "" where they are not known."""
        found = []
        for id_ in ids:
            picture = self.by_id.get(id_)
            table = self.by_root.get(picture.root) if picture else None
            found.append(table.column(name, [picture.id])[0] if table and picture else "")
        return found


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
    named = _ids_of(listing)
    ids = [named.get(image, f"gone/{image}") for image in images]
    by_id = {id_: listed[image] for id_, image in zip(ids, images) if image in listed}
    known = Metadatas(metadata, by_id)
    return People(recognise_patients(ids, regex, known), recognise_eyes(ids, known).tolist())


@dataclass(frozen=True)
class _Seen:
    """What a patient's row is made of, for one picture."""

    row: Row
    place: int  # of its class among all; -1 if it is not graded
    eye: str


@dataclass(frozen=True)
class PatientTable:
    """A row for each patient who is known."""

    rows: list[list[Any]]  # in the order of COLUMNS
    others: int  # pictures of nobody known

    def write(self, path: Path) -> None:
        """Write it as CSV."""
        write_csv(path, COLUMNS, self.rows)


def tabulate_patients(
    rows: Iterable[Row],
    listing: Listing,
    class_names: Sequence[str],
    regex: str,
    metadata: Mapping[str, Metadata],
) -> PatientTable:
    """Gather the rows of each patient: the worst grade and probability of any picture count.

    regex, metadata: as `recognise_people` takes them.
    """
    all_rows = list(rows)
    people = recognise_people([row.image for row in all_rows], listing, regex, metadata)
    places = {name: place for place, name in enumerate(class_names)}
    seen: dict[str, list[_Seen]] = {}
    for row, eye, patient in zip(all_rows, people.eyes, people.patients.called):
        if patient:
            place = places[row.class_name] if row.class_name is not None else -1
            seen.setdefault(patient, []).append(_Seen(row, place, eye))
    table = [_row_of(patient, found) for patient, found in sorted(seen.items())]
    return PatientTable(table, people.patients.unknown)


def _ids_of(listing: Listing) -> dict[str, str]:
    """Name each picture so that patients can be read in it: without folders of splits and grades.

    A folder's name stands before it, as that of a class does in a dataset.
    """
    ids: dict[str, str] = {}
    for root in listing.roots:
        own = {p.name: p.id.split("/") for p in listing.pictures if p.root == root}
        for is_grouping in (_are_splits, _are_grades):
            tops = {parts[0] for parts in own.values() if len(parts) > 1}
            if tops and is_grouping(sorted(tops)):
                own = {name: parts[1:] if len(parts) > 1 else parts for name, parts in own.items()}
        ids |= {name: "/".join([root.replace("/", " "), *own[name]]) for name in own}
    return ids


def _are_splits(folders: Sequence[str]) -> bool:
    return all(split_of(folder) for folder in folders)


def _are_grades(folders: Sequence[str]) -> bool:
    return len(folders) > 1 and None not in grades_of(folders)


def _row_of(patient: str, seen: Sequence[_Seen]) -> list[Any]:
    graded = [found for found in seen if found.row.outcome == GRADED]
    worst = max(graded, key=lambda found: (found.place, found.row.p_referable or 0), default=None)
    scores = [found.row.p_referable for found in graded if found.row.p_referable is not None]
    decisions = [found.row.referable for found in graded if found.row.referable is not None]
    reviewed = [found for found in seen if found.row.review]
    reasons = dict.fromkeys(found.row.reason for found in reviewed)
    return [
        patient,
        len(seen),
        len(graded),
        worst.row.grade if worst else None,
        worst.row.class_name if worst else None,
        worst.row.image if worst else None,
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
    return max(own, key=lambda found: found.place).row.grade if own else None


def _word(truth: bool) -> str:
    return "yes" if truth else "no"
