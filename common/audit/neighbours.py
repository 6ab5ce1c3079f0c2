"""Notice that images with neighbouring names look alike: they may be of one patient.

N files, S statistics, P pairs, L positions. Datasets that name no patients are often numbered
patient by patient, so that a random split divides the two eyes of a patient. Such eyes have the
same background: who was photographed, when and with which camera. So of each image the one with
the most similar background is looked up, and for pairs that are so mutually it is counted how far
apart they are in the order of names. Images that are sorted by grade, site or day resemble others
at some distance, too; only a patient's resemble the next ones alone.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.inspection.file_checks import FileRecord
from common.listing.walking import count_of
from common.system.log import printable

_FAR = range(5, 21)  # distances in the order of names at which no two images are one patient's
_P_VALUE = 1e-4
_TIMES = 3.0  # as many neighbours alike as at those distances, at least


@dataclass(frozen=True)
class AlikeNeighbours:
    """How often images that look most alike have neighbouring names."""

    pairs: int  # of images that are each other's most alike
    neighbours: tuple[tuple[int, int], ...]  # those with neighbouring names, as places
    expected: float  # neighbours among the pairs, were they no more alike than images farther apart
    p_value: float  # that so many are neighbours by chance

    @property
    def surprising(self) -> bool:
        """Tell whether there are too many for chance, and for the order of names alone."""
        return self.p_value < _P_VALUE and len(self.neighbours) >= _TIMES * self.expected


def alike_neighbours(
    ids: Sequence[str], records: Sequence[FileRecord], units: np.ndarray
) -> AlikeNeighbours:
    """Compare files (N,) by their backgrounds; units (N,): what is known to belong together.

    Of each unit the first file stands for all. The places of what is found are those of N.
    """
    firsts = np.sort(np.unique(units, return_index=True)[1]).tolist()
    measured = {i: found["background"] for i in firsts if (found := records[i].statistics)}
    columns = {
        name: np.array([each[name] for each in measured.values()])
        for name in next(iter(measured.values()), {})
    }
    found, places = compare_neighbours([ids[i] for i in measured], columns), list(measured)
    pairs = tuple((places[first], places[second]) for first, second in found.neighbours)
    return replace(found, neighbours=pairs)


def compare_neighbours(ids: Sequence[str], statistics: Mapping[str, np.ndarray]) -> AlikeNeighbours:
    """Compare images that are not known to belong together, by statistics (N,) of their background.

    The p value is that of a binomial test of neighbours against pairs that are 5 to 20 names apart.
    """
    varying = [_normal(each) for each in statistics.values() if len(np.unique(each)) > 1]
    if len(ids) < 2 or not varying:
        return AlikeNeighbours(0, (), 0.0, 1.0)
    from scipy.special import bdtrc

    positions, lengths = name_order(ids)
    pairs = _mutually_nearest(np.column_stack(varying))
    distances = np.abs(np.diff(positions[pairs], axis=1)).ravel()
    near, far = distances == 1, np.isin(distances, _FAR)
    room, far_room = _room(lengths, 1), sum(_room(lengths, distance) for distance in _FAR)
    num_near, num_far = int(near.sum()), int(far.sum())
    if not num_near or not far_room:
        return AlikeNeighbours(len(pairs), (), 0.0, 1.0)
    p_value = bdtrc(num_near - 1, num_near + num_far, room / (room + far_room))
    found = tuple((int(first), int(second)) for first, second in pairs[near])
    return AlikeNeighbours(len(pairs), found, num_far * room / far_room, float(p_value))


def neighbours_note(found: AlikeNeighbours, ids: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Say what was found of files (N,), and how to keep them together; nothing if it may be chance.

    splits (N,): where each lies.
    """
    if not found.surprising:
        return []
    across = sum(splits[first] != splits[second] for first, second in found.neighbours)
    where = f", {across} of them in two splits" if across else ""
    first, second = found.neighbours[0]
    return [
        f"{len(found.neighbours)} of the {count_of(found.pairs, 'pair')} of images with the most "
        f"similar backgrounds have neighbouring names (such as {printable(ids[first])} and "
        f"{printable(ids[second])}{where}), where {found.expected:.1f} would by chance: neighbours "
        "may be of one patient, which nothing tells yet. A column `patient` of metadata.csv keeps "
        r"patients together; without one, --patient_regex '(.*)\d' keeps ten numbers together"
    ]


def name_order(ids: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Place files (N,) in the order of their names; returns positions and the length of each row.

    Names are in one row where only their numbers differ, whatever the folder; where most names
    occur in several folders, each folder has rows of its own. Between rows nothing is a neighbour.
    """
    folders, names = zip(*(id_.rpartition("/")[::2] for id_ in ids))
    repeated = 2 * len(set(names)) <= len(names)
    keys = []
    for folder, name in zip(folders, names):
        words = re.split(r"(\d+)", name)
        keys.append((folder if repeated else "", words[::2], [int(n) for n in words[1::2]]))
    rows = [repr(key[:2]) for key in keys]
    order = sorted(range(len(ids)), key=lambda place: (rows[place], keys[place][2]))
    positions, row_number = np.empty(len(ids), dtype=np.int64), dict[str, int]()
    for rank, place in enumerate(order):
        row = row_number.setdefault(rows[place], len(row_number))
        positions[place] = rank + row * (max(_FAR) + 1)
    return positions, list(Counter(rows).values())


def _room(lengths: Sequence[int], distance: int) -> int:
    """Count the pairs of files at a distance, in rows of these lengths."""
    return sum(max(0, length - distance) for length in lengths)


def _normal(values: np.ndarray) -> np.ndarray:
    """Replace values (N,) by normal ones of equal ranks; those that are equal stay so."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(values) - 0.5) / len(values))


def _mutually_nearest(points: np.ndarray) -> np.ndarray:
    """List the pairs (P, 2) of points (N, S) that are each other's nearest."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(points).query(points, [2])[1].ravel()
    first = np.arange(len(points))
    mutual = (nearest[nearest] == first) & (first < nearest)
    return np.stack([first[mutual], nearest[mutual]], axis=1)
