"""Link files that show one picture or one eye, and say why.

N files, L links. Equal files and pixels are compared once. What looks alike is found in two ways:
by perceptual hashes (`near_duplicates`), quick and sure for whole pictures that are turned by
quarter turns or squeezed, and by their points (`neighbours`, `agreement`), whatever the angle and
the crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.duplicates.near_duplicates import components, near_duplicates
from common.duplicates.point_search import NEIGHBOURS, matching_pictures
from common.duplicates.signatures import Signature


@dataclass(frozen=True)
class PictureLinks:
    """Which files show one picture, and which show one eye."""

    pairs: np.ndarray  # (L, 2) places among the files: enough to connect all that show one picture
    eye_pairs: np.ndarray  # (L, 2) further pairs that show one eye
    groups: dict[str, np.ndarray]  # kind -> number of each file's group, (N,)


def link_pictures(
    file_digests: Sequence[str],
    pixel_digests: Sequence[str],
    signatures: Sequence[Signature | None],
    num_workers: int = 1,
    asked: np.ndarray | None = None,
) -> PictureLinks:
    """Link N files by bytes, by pixels and by their looks.

    asked (N,): True for the files whose links are wanted, such as those of a test set; links among
    the others may be missing. None for all. A digest is "" and a signature None where a file has no
    picture. In a crowd of equal pictures each is linked with a few, so that the crowd is connected
    but not every pair listed.
    """
    same_bytes, same_pixels = number_groups(file_digests), number_groups(pixel_digests)
    exact_pairs = np.concatenate([chains(same_bytes), chains(same_pixels)])
    exact = components(len(signatures), exact_pairs)
    _, first_of_each = np.unique(exact, return_index=True)  # exact copies are looked at once
    wanted = np.ones(len(signatures), dtype=bool) if asked is None else asked
    wanted = np.bincount(exact, wanted)[exact] > 0
    alike, eyes = _similar(signatures, first_of_each, wanted, num_workers)
    pairs = np.concatenate([exact_pairs, alike])
    pictures = components(len(signatures), pairs)
    groups = {
        "identical_files": same_bytes,
        "identical_pixels": _if_differing(same_pixels, same_bytes),
        "near_duplicates": _if_differing(pictures, exact),
        "same_eye": _if_differing(
            components(len(signatures), np.concatenate([pairs, eyes])), pictures
        ),
    }
    return PictureLinks(pairs, eyes, groups)


def number_groups(keys: Sequence[str]) -> np.ndarray:
    """Number equal keys alike; each empty one is by itself."""
    return np.unique([key or f"-{i}" for i, key in enumerate(keys)], return_inverse=True)[1]


def chains(groups: np.ndarray) -> np.ndarray:
    """Link the members of each group as pairs (L, 2), each to the next."""
    order = np.argsort(groups, kind="stable")
    joined = groups[order][1:] == groups[order][:-1]
    return np.stack([order[:-1][joined], order[1:][joined]], axis=1)


def within(groups: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Put what cannot be used into groups of its own."""
    return np.where(usable, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))


def _if_differing(groups: np.ndarray, finer: np.ndarray) -> np.ndarray:
    """Keep the groups that hold several of the finer groups; dissolve the others."""
    pairs = np.unique(np.stack([groups, finer]), axis=1)
    several = np.bincount(pairs[0], minlength=groups.max(initial=0) + 1) > 1
    return within(groups, several[groups])


def _similar(
    signatures: Sequence[Signature | None],
    candidates: np.ndarray,
    wanted: np.ndarray,
    num_workers: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs (L, 2) of one picture and those (L, 2) of one eye among candidates.

    wanted (N,): the files of which pairs are wanted.
    """
    places, compared = [], []
    for place in candidates.tolist():
        signature = signatures[place]
        if signature is not None and signature.has_structure:
            places.append(place)
            compared.append(signature)
    if len(places) < 2:
        return np.empty((0, 2), dtype=np.int64), np.empty((0, 2), dtype=np.int64)
    by_hash, _ = near_duplicates(
        np.stack([one.hashes for one in compared]), np.stack([one.sketch for one in compared])
    )
    wanted = wanted[np.array(places)]
    alike, eyes = _by_points(compared, np.arange(len(compared)), wanted, num_workers)
    alike = np.concatenate([by_hash, alike])
    groups = components(len(compared), alike)
    if np.bincount(groups).max() > NEIGHBOURS:
        # many copies of one picture hide another photograph of its eye: look again at one of each
        _, first_of_each = np.unique(groups, return_index=True)
        wanted = np.bincount(groups, wanted)[groups] > 0
        more = _by_points(compared, first_of_each, wanted, num_workers)
        alike, eyes = np.concatenate([alike, more[0]]), np.concatenate([eyes, more[1]])
    where = np.array(places, dtype=np.int64)
    return where[alike], where[eyes]


def _by_points(
    signatures: Sequence[Signature], places: np.ndarray, wanted: np.ndarray, num_workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs (L, 2) of one picture and those (L, 2) of one eye at some places."""
    chosen = [signatures[i] for i in places.tolist()]
    found = matching_pictures(chosen, num_workers, wanted[places])
    one_picture = np.array([match.same_picture for match in found.agreements], dtype=bool)
    return places[found.pairs[one_picture]], places[found.pairs[~one_picture]]
