"""Say which files belong together, and why: copies, exposures of one eye, images of one patient.

N files. Audit, split and hold-out all ask here. Files that are copies by their names are compared
directly, and more laxly than all with all: a name is a reason to look, and the pictures decide. A
bare number, as in "Mild (2)", is no such reason where there is no "Mild".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.data.copies import copy_groups
from common.data.patients import AUTO, Patients, PatientTable, recognise_patients
from common.duplicates.agreement import agree
from common.duplicates.links import PictureLinks, chains, link_pictures, within
from common.duplicates.near_duplicates import components, correlations
from common.duplicates.signatures import Signature
from common.inspection.file_checks import FileRecord
from common.listing.walking import count_of

# kind -> what it means; a group of these kinds in two splits is a leak
GROUPS = {
    "identical_files": "the same bytes",
    "identical_pixels": "the same pixels in files that differ",
    "near_duplicates": "one picture resized, saved again, turned, cropped, mirrored or brightened",
    "same_eye": "several photographs of one eye",
    "augmented_copies": "copies of one picture, by their names and their looks",
    "patient": "several images of one patient",
}
# Two pictures whose names say that one is a copy of the other are so from these values on. 2,500
# pairs of photographs of different eyes reach 6 and 0.48; copies that are blurred or noisy beyond
# what the search finds have either
_LEAST_INLIERS = 9
_LEAST_CORRELATION = 0.5
_ALL_PAIRS = 12  # files of one name up to which each is compared with each
_MOST = 60  # of which a picture's copies are looked for; if these differ, the name is a numbering


@dataclass(frozen=True)
class Relations:
    """Which of N files belong together."""

    groups: dict[str, np.ndarray]  # kind of GROUPS -> number of each file's group, (N,)
    pictures: np.ndarray  # (N,) number of the picture that each file shows, in whatever version
    eyes: np.ndarray  # (N,) number of the eye, as far as several pictures of one are known
    units: np.ndarray  # (N,) number of what must stay in one split: a picture, an eye, a patient
    patients: Patients  # who the files are of, as far as that is known
    only_named_alike: tuple[int, ...]  # files that are copies by their names, not by their looks


def relate(
    ids: Sequence[str],
    records: Sequence[FileRecord],
    patients: Patients,
    num_workers: int = 1,
    asked: np.ndarray | None = None,
) -> Relations:
    """Group N files by all that is known of them: of what cannot be read, the bytes alone.

    asked (N,): True for the files of which it is to be known, such as a test set; None for all.
    """
    usable = _usable(records)
    signatures = [record.signature for record in records]
    links = link_pictures(
        ["" if "empty" in record.faults else record.sha256 for record in records],
        [record.pixels for record in records],
        signatures,
        num_workers,
        asked,
    )
    candidates = within(copy_groups(ids, bare_numbers=False), usable)
    if asked is not None:  # what does not concern these need not be looked at
        candidates = within(candidates, np.bincount(candidates, asked)[candidates] > 0)
    copies = _confirmed(candidates, signatures, links)
    copied, of_patient = chains(copies), chains(patients.groups)
    alike = components(len(records), np.concatenate([links.pairs, links.eye_pairs, copied]))
    units = np.concatenate([links.pairs, links.eye_pairs, copied, of_patient])
    return Relations(
        groups={**links.groups, "augmented_copies": copies, "patient": patients.groups},
        pictures=components(len(records), np.concatenate([links.pairs, copied])),
        eyes=alike,
        units=components(len(records), units),
        patients=patients,
        only_named_alike=_alone(within(copy_groups(ids), usable), alike),
    )


def patients_of(
    ids: Sequence[str],
    records: Sequence[FileRecord],
    regex: str = AUTO,
    metadata: PatientTable | None = None,
) -> Patients:
    """Group N files by patient; only the names of those that can be read are evidence."""
    places = np.flatnonzero(_usable(records)).tolist()
    found = recognise_patients([ids[i] for i in places], regex, metadata)
    groups, known = np.arange(len(ids)) + len(ids), np.zeros(len(ids), dtype=bool)
    groups[places], known[places] = found.groups, found.known
    return Patients(groups, found.evidence, known, found.names)


def _usable(records: Sequence[FileRecord]) -> np.ndarray:
    return np.array([record.usable for record in records], dtype=bool)


def members_of(groups: np.ndarray) -> list[np.ndarray]:
    """List the members of each group of two or more, as places."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [part for part in np.split(order, cuts) if len(part) > 1]


def what_is_known(patients: Patients, promise: str = "") -> str:
    """Say what is known of patients, and what follows for splits.

    promise: what holds for each patient who is known, such as "in one split".
    """
    if not patients.recognised:
        return f"{patients.evidence}; eyes of one patient may lie in two splits"
    kept = patients.evidence + (f", each {promise}" if promise else "")
    if patients.unknown:
        others = count_of(patients.unknown, "name")
        return f"{kept}; eyes of a patient of the other {others} may lie in two splits"
    return kept


def unseen(patients: Patients) -> list[str]:
    """List what may lie in two splits all the same, because nothing here can see it."""
    several = ["a picture cropped or edited so far that the search misses it"]
    several.append("photographs of one eye that are blurred or overlap little")
    if not patients.recognised:
        return [f"the other eye of a patient ({patients.evidence})", *several]
    if patients.unknown:
        unknown = count_of(patients.unknown, "image")
        return [f"the other eye of a patient, for {unknown}", *several]
    return several


def _alone(named_alike: np.ndarray, alike: np.ndarray) -> tuple[int, ...]:
    """List the files in groups of two or more of one kind (N,) that share no group of another."""
    both = np.unique(np.stack([named_alike, alike]), axis=1, return_inverse=True)[1].ravel()
    alone = (np.bincount(named_alike)[named_alike] > 1) & (np.bincount(both)[both] == 1)
    return tuple(np.flatnonzero(alone).tolist())


def _confirmed(
    candidates: np.ndarray, signatures: Sequence[Signature | None], links: PictureLinks
) -> np.ndarray:
    """Divide groups of files that are copies by their names (N,) into those that look it, too."""
    found = np.concatenate([links.pairs, links.eye_pairs])
    linked = components(len(candidates), found)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for members in members_of(candidates):
        pairs.append(members[chains(linked[members])])  # found by the search
        _, first_of_each = np.unique(linked[members], return_index=True)
        asked = _pairs_to_ask(members[np.sort(first_of_each)], signatures)
        pairs.append(np.array(asked, dtype=np.int64).reshape(-1, 2))
    return components(len(candidates), np.concatenate(pairs))


def _pairs_to_ask(
    members: np.ndarray, signatures: Sequence[Signature | None]
) -> list[tuple[int, int]]:
    """List the pairs among files of one name that look like copies.

    In a large group each is compared with the first and with the one before; and nothing more is
    looked for where that finds nothing among many.
    """
    found: list[tuple[int, int]] = []
    for number, place in enumerate(members.tolist()):
        if number == _MOST and not found:
            return []
        others = members[:number] if len(members) <= _ALL_PAIRS else members[[0, number - 1]]
        for other in set(others.tolist()) - {place}:
            if number and _look_alike(signatures[other], signatures[place]):
                found.append((other, place))
    return found


def _look_alike(first: Signature | None, second: Signature | None) -> bool:
    """Tell whether two pictures agree well enough for what their names say."""
    if first is None or second is None or not (first.has_structure and second.has_structure):
        return False
    turns = np.array([[0, 1, orientation] for orientation in range(8)])
    sketches = np.stack([first.sketch, second.sketch])
    if correlations(sketches, turns).max() >= _LEAST_CORRELATION:
        return True
    return agree(first, second).inliers >= _LEAST_INLIERS
