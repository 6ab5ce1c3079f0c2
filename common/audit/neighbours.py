"""Notice that images with neighbouring names look alike: they may be of one patient.

N files, S statistics, P pairs. Datasets that name no patients are often numbered patient by
patient, so that a random split divides the two eyes of a patient. Such eyes have the same
background: who was photographed, when and with which camera. So of each image the one with the most
similar background is looked up, and for pairs that are so mutually it is counted how far apart they
are in the order of names. Images that are sorted by grade, site or day resemble others at some
distance, too; a patient's, and those of a session of a few images, resemble the next ones alone.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.comparison.sums import mean_ranks
from common.inspection.file_checks import FileRecord
from common.listing.walking import count_of
from common.system.log import printable

_FAR = range(5, 21)  # distances in the order of names that few patients' images reach
_P_VALUE = 1e-4
_TIMES = 3.0  # as many neighbours alike as at those distances, at least
_REPEATED = 0.1  # share of the numbers in a row that may occur twice
# what may keep neighbours together, the last digit of one of the numbers in a name left out
_PATTERNS = (
    r"(.*)\d",
    *(
        "(.*)" + digits + after * r"\D+\d+" + r"\D*$"
        for after in (0, 1, 2)
        for digits in (r"\d", r"\d\d")
    ),
)
_MOST = 12  # images that such a pattern keeps together on average, at most


@dataclass(frozen=True)
class AlikeNeighbours:
    """How often images that look most alike have neighbouring names, beside what is known."""

    pairs: int  # of images that are each other's most alike, and that nothing keeps together
    neighbours: tuple[tuple[int, int], ...]  # those with neighbouring names, as places
    expected: float  # neighbours among the pairs, were they no more alike than images farther apart
    p_value: float  # that so many are neighbours by chance

    @property
    def surprising(self) -> bool:
        """Tell whether there are too many for chance, and for the order of names alone."""
        return self.p_value < _P_VALUE and len(self.neighbours) >= _TIMES * self.expected


def alike_neighbours(
    ids: Sequence[str],
    records: Sequence[FileRecord],
    eyes: np.ndarray,
    units: np.ndarray,
    told: np.ndarray,
) -> AlikeNeighbours:
    """Compare files (N,) by their backgrounds; the places of what is found are those of N.

    eyes (N,): which eye a file shows; its first file stands for all. units (N,): what is kept
    together already. told (N,): whose patient is known beyond doubt.
    """
    firsts = np.sort(np.unique(eyes, return_index=True)[1]).tolist()
    measured = {i: found["background"] for i in firsts if (found := records[i].statistics)}
    columns = {
        name: np.array([each[name] for each in measured.values()])
        for name in next(iter(measured.values()), {})
    }
    places = list(measured)
    found = compare_neighbours([ids[i] for i in places], columns, units[places], told[places])
    pairs = tuple((places[first], places[second]) for first, second in found.neighbours)
    return replace(found, neighbours=pairs)


def compare_neighbours(
    ids: Sequence[str],
    statistics: Mapping[str, np.ndarray],
    units: np.ndarray | None = None,
    told: np.ndarray | None = None,
) -> AlikeNeighbours:
    """Compare images by statistics (N,) of their background.

    Two images of one unit, or whose patients are told (N,) both, do not count. The p value is that
    of a binomial test of neighbours against pairs that are 5 to 20 names apart.
    """
    varying = [each for each in statistics.values() if len(np.unique(each)) > 1]
    if len(ids) < 3 or not varying:
        return AlikeNeighbours(0, (), 0.0, 1.0)
    from scipy.special import bdtrc, ndtri

    unit = np.arange(len(ids)) if units is None else units
    known = np.zeros(len(ids), dtype=bool) if told is None else told

    def apart(pairs: np.ndarray) -> np.ndarray:
        first, second = pairs.T
        return (unit[first] != unit[second]) & ~(known[first] & known[second])

    positions = name_order(ids)
    # normal values of equal ranks: no statistic outweighs another; those that are equal stay so
    points = ndtri((mean_ranks(np.column_stack(varying)) - 0.5) / len(ids))
    pairs = _mutually_nearest(points)
    pairs = pairs[apart(pairs)]
    distances = np.abs(np.diff(positions[pairs], axis=1)).ravel()
    near, num_far = pairs[distances == 1], int(np.isin(distances, _FAR).sum())
    room = int(apart(_at_distance(positions, 1)).sum())
    far_room = sum(int(apart(_at_distance(positions, distance)).sum()) for distance in _FAR)
    if not len(near) or not far_room:
        return AlikeNeighbours(len(pairs), (), 0.0, 1.0)
    p_value = bdtrc(len(near) - 1, len(near) + num_far, room / (room + far_room))
    found = tuple((int(first), int(second)) for first, second in near)
    return AlikeNeighbours(len(pairs), found, num_far * room / far_room, float(p_value))


def neighbours_note(found: AlikeNeighbours, ids: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Say what was found of files (N,), and how to keep them together; nothing if it may be chance.

    splits (N,): where each lies.
    """
    if not found.surprising:
        return []
    across = [pair for pair in found.neighbours if splits[pair[0]] != splits[pair[1]]]
    first, second = (across or found.neighbours)[0]
    where = f"; {len(across)} lie in two splits" if across else ""
    pattern = _advised([(ids[a], ids[b]) for a, b in found.neighbours], ids)
    advice = (
        f"; without one, --patient_regex '{pattern}' keeps most neighbours together, in a split "
        "and in an evaluation"
    )
    return [
        f"{len(found.neighbours)} of the {count_of(found.pairs, 'pair')} of images with the most "
        f"similar backgrounds have neighbouring names, where {found.expected:.2g} would by chance"
        f"{where}, such as {printable(ids[first])} and {printable(ids[second])}: neighbours may be "
        "of one patient, or of one session, which nothing tells yet; look at them. A column "
        "`patient` of metadata.csv keeps patients together" + (advice if pattern else "")
    ]


def name_order(ids: Sequence[str]) -> np.ndarray:
    """Place files in the order of their names, as (N,); neighbours are one apart.

    Names are in one row where only their numbers differ, whatever the ending and the folder; where
    numbers repeat, each split, or each folder, has a row of its own. Rows are far from each other.
    """
    rows: dict[tuple[str, ...], list[int]] = defaultdict(list)
    numbers = []
    for place, id_ in enumerate(ids):
        words = re.split(r"(\d+)", _stem(id_))
        numbers.append(tuple(int(number) for number in words[1::2]))
        rows[tuple(words[::2])].append(place)
    positions, start = np.empty(len(ids), dtype=np.int64), 0
    for members in rows.values():
        for row in _without_repeats(members, ids, numbers):
            values = sorted({numbers[place] for place in row})
            rank = {value: start + number for number, value in enumerate(values)}
            positions[row] = [rank[numbers[place]] for place in row]
            start += len(values) + max(_FAR)  # nothing is a neighbour of another row's
    return positions


def _without_repeats(
    members: list[int], ids: Sequence[str], numbers: Sequence[tuple[int, ...]]
) -> list[list[int]]:
    """Divide files with names of one kind by folders, until hardly a number occurs twice."""
    divided: list[list[int]] = []
    for levels in (None, -2, -1):  # one row; a row for each split, above the classes; each folder
        rows: dict[str, list[int]] = defaultdict(list)
        for place in members:
            rows["" if levels is None else "/".join(ids[place].split("/")[:levels])].append(place)
        divided = list(rows.values())
        different = sum(len({numbers[place] for place in row}) for row in divided)
        if different >= (1 - _REPEATED) * len(members):
            break
    return divided


def _stem(id_: str) -> str:
    """Return a file's name without its folders and its ending."""
    name = id_.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _advised(pairs: Sequence[tuple[str, str]], ids: Sequence[str]) -> str:
    """Find a pattern for --patient_regex that keeps most of these pairs together, "" for none."""
    for pattern in _PATTERNS:
        found = [re.search(pattern, id_.rpartition("/")[2]) for id_ in ids]
        group = {id_: match[1] for id_, match in zip(ids, found) if match and match[1]}
        together = sum(group.get(a, a) == group.get(b, b) for a, b in pairs)
        if 2 * together > len(pairs) and len(group) <= _MOST * len(set(group.values())):
            return pattern
    return ""


def _at_distance(positions: np.ndarray, distance: int) -> np.ndarray:
    """List the pairs (P, 2) of files whose positions (N,) differ by so much, one for each."""
    values, place = np.unique(positions, return_index=True)
    other = np.minimum(np.searchsorted(values, values + distance), len(values) - 1)
    there = values[other] == values + distance
    return np.stack([place[there], place[other[there]]], axis=1)


def _mutually_nearest(points: np.ndarray) -> np.ndarray:
    """List the pairs (P, 2) of points (N, S) that are each other's nearest."""
    from scipy.spatial import cKDTree

    own, two = np.arange(len(points)), cKDTree(points).query(points, 2)[1]
    nearest = np.where(two[:, 0] == own, two[:, 1], two[:, 0])  # of equal points either is first
    mutual = (nearest[nearest] == own) & (own < nearest)
    return np.stack([own[mutual], nearest[mutual]], axis=1)
