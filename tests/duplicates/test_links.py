"""Linking pictures of one eye, however they are turned or cropped, and no others."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.copies.changes import CHANGES, disc_cropped, frame_cropped, turned
from common.data.synthetic import draw_fundus
from common.duplicates.agreement import agree
from common.duplicates.links import link_pictures
from common.duplicates.near_duplicates import components
from common.duplicates.point_search import matching_pictures
from common.duplicates.signatures import signature_of
from common.inspection.image_statistics import cut_out_retina
from common.pixels.decoding import decode_image
from common.system.random_streams import random_generator

IDRID = Path(__file__).parents[3] / "shared" / "data" / "idrid"
needs_photographs = pytest.mark.skipif(not IDRID.is_dir(), reason="the photographs are not here")
# ways that hashes of the whole picture do not see
WAYS = {
    "turned by 10 degrees": lambda a: turned(a, 10),
    "turned by 25 degrees, mirrored": lambda a: turned(a, -25)[:, ::-1],
    "frame cropped by 10 %": lambda a: frame_cropped(a, 0.10),
    "disc cropped by 10 %, darker": lambda a: (disc_cropped(a, 0.10) * 0.75).astype(np.uint8),
}
# two photographs of one eye each
EYES = (("404", "046"), ("038", "126"), ("319", "338"), ("043", "401"), ("133", "282"))


def signature(picture):
    return signature_of(cut_out_retina(np.ascontiguousarray(picture)).crop)


def saved(picture, quality=80):
    data = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data[1], cv2.IMREAD_COLOR)


def photograph(number):
    path = next(IDRID.rglob(f"IDRiD_{number}.jpg"))
    return decode_image(path.read_bytes(), path.name)


def link(signatures, workers=1):
    nothing = [""] * len(signatures)
    return link_pictures(nothing, nothing, signatures, workers)


def drawn(seed, size=384):
    return draw_fundus(seed % 5, random_generator("links", seed), size)


@pytest.mark.parametrize("way", WAYS)
def test_turned_and_cropped_copies_of_drawn_pictures_are_found_and_no_others(way):
    eyes = [drawn(seed) for seed in range(8)]
    copies = [saved(WAYS[way](eye)) for eye in eyes]
    links = link([signature(picture) for picture in [*eyes, *copies]])
    groups = components(16, np.concatenate([links.pairs, links.eye_pairs]))
    assert groups.tolist() == [*range(8), *range(8)]


def test_drawn_pictures_of_different_eyes_are_not_linked():
    links = link([signature(drawn(seed, 256)) for seed in range(100, 130)])
    assert len(links.pairs) == len(links.eye_pairs) == 0


@needs_photographs
def test_altered_copies_of_photographs_are_found_among_others():
    chosen = ("138", "140", "001", "002", "017")
    originals = [photograph(number) for number in (*chosen, "142", "143", "144", "145")]
    ways = [name for name in CHANGES if name.startswith(("turned 25, disc cropped", "filtered"))]
    assert len(ways) == 3
    copies = []
    for name in ways:
        change, quality = CHANGES[name]
        copies += [saved(change(picture), quality) for picture in originals[:5]]
    links = link([signature(picture) for picture in [*originals, *copies]])
    groups = components(
        len(originals) + len(copies), np.concatenate([links.pairs, links.eye_pairs])
    )
    assert len(set(groups[:9])) == 9, "no two eyes are one"
    found = groups[9:].reshape(3, 5) == groups[:5]
    assert found.sum() >= 14 and set(groups[9:]) <= {*groups[:5], *groups[9:][~found.ravel()]}


@needs_photographs
def test_second_photographs_of_an_eye_are_found_and_are_not_called_copies():
    numbers = [number for pair in EYES for number in pair]
    links = link([signature(photograph(number)) for number in numbers])
    assert links.eye_pairs.tolist() == [[2 * k, 2 * k + 1] for k in range(5)]
    assert len(links.pairs) == 0
    assert (
        len(set(links.groups["same_eye"])) == 5 and len(set(links.groups["near_duplicates"])) == 10
    )


@needs_photographs
def test_a_named_copy_is_checked_directly():
    eye = signature(photograph("138"))
    copy, other = signature(turned(photograph("138"), 20)[:, ::-1]), signature(photograph("140"))
    found = agree(eye, copy)
    assert found.same_picture and found.mirrored and found.inliers > 100
    assert not agree(eye, other).same_eye


def test_a_crowd_of_copies_does_not_hide_others():
    crowd = [saved(turned(drawn(0), 3 * k)) for k in range(30)]
    rest = [drawn(seed) for seed in range(1, 5)]
    links = link([signature(picture) for picture in [*crowd, *rest, turned(rest[0], 12)]])
    groups = components(35, links.pairs)
    assert set(groups[:30]) == {0} and groups[30:].tolist() == [1, 2, 3, 4, 1]


def test_several_processes_find_what_one_finds(monkeypatch):
    monkeypatch.setattr("common.duplicates.point_search._FEW", 1)
    pictures = [drawn(seed, 256) for seed in range(12)]
    signatures = [signature(p) for p in [*pictures, *(turned(p, 8) for p in pictures)]]
    one, two = matching_pictures(signatures, 1), matching_pictures(signatures, 2)
    assert one.pairs.tolist() == two.pairs.tolist() and one.agreements == two.agreements
    assert len(one.pairs) >= 11


def test_nothing_and_pictures_without_structure_are_linked_with_nothing():
    black = signature_of(np.zeros((50, 50, 3), np.uint8))
    for signatures in ([], [None], [black, black], [None, black, signature(drawn(1))]):
        links = link(signatures)
        assert len(links.pairs) == len(links.eye_pairs) == 0
        assert all(len(groups) == len(signatures) for groups in links.groups.values())


def test_equal_files_and_pixels_are_kinds_of_their_own():
    one, other = signature(drawn(1)), signature(drawn(2))
    links = link_pictures(
        ["a", "a", "b", "c", ""], ["p", "p", "p", "q", ""], [one, one, one, other, None]
    )
    groups = {kind: numbers.tolist() for kind, numbers in links.groups.items()}
    assert groups["identical_files"][0] == groups["identical_files"][1]
    assert len(set(groups["identical_files"])) == 4
    assert len(set(groups["identical_pixels"][:3])) == 1
    assert len(set(groups["near_duplicates"])) == len(set(groups["same_eye"])) == 5
