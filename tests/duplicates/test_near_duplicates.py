"""Finding altered copies among many pictures, and no others."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.duplicates.near_duplicates import (
    candidate_pairs,
    components,
    correlations,
    near_duplicates,
    orient,
)
from common.inspection.file_checks import inspect_file
from common.system.random_streams import random_generator

IDRID = Path(__file__).parents[3] / "shared" / "data" / "idrid"
CHANGES = {
    "smaller": lambda a: cv2.resize(a, (150, 150), interpolation=cv2.INTER_AREA),
    "squeezed": lambda a: cv2.resize(a, (224, 180), interpolation=cv2.INTER_AREA),
    "mirrored": lambda a: a[:, ::-1],
    "flipped": lambda a: a[::-1],
    "turned": lambda a: np.rot90(a),
    "upside down": lambda a: np.rot90(a, 2),
    "transposed": lambda a: a.transpose(1, 0, 2),
    "brighter": lambda a: np.clip(a * 1.25 + 8, 0, 255).astype(np.uint8),
    "darker": lambda a: (a * 0.6).astype(np.uint8),
    "lifted": lambda a: np.clip(a.astype(int) + 60, 0, 255).astype(np.uint8),
    "framed in white": lambda a: np.pad(a, ((20, 20), (20, 20), (0, 0)), constant_values=255),
    "turned, darker, smaller": lambda a: cv2.resize(np.rot90(a, 3) // 2, (200, 200)),
}


def fingerprints_of(pictures, folder, quality=85):
    signatures = []
    for number, picture in enumerate(pictures):
        path = folder / f"{number}.jpg"
        Image.fromarray(np.ascontiguousarray(picture)).save(path, quality=quality)
        signatures.append(inspect_file(path).signature)
    return np.stack([s.hashes for s in signatures]), np.stack([s.sketch for s in signatures])


@pytest.mark.parametrize("real", [False, True], ids=["drawn", "photographs"])
def test_altered_copies_are_found_and_other_eyes_are_not(real, tmp_path):
    if real and not IDRID.is_dir():
        pytest.skip("the photographs are not here")
    if real:
        paths = [IDRID / f"train/0/IDRiD_{n}.jpg" for n in (138, 140, 142, 143, 144, 145)]
        eyes = [np.asarray(Image.open(path)) for path in paths]
    else:
        eyes = [draw_fundus(k % 5, random_generator("duplicates", k)) for k in range(6)]
    copies = [change(eye) for eye in eyes for change in CHANGES.values()]
    hashes, sketches = fingerprints_of([*eyes, *copies], tmp_path)
    pairs, scores = near_duplicates(hashes, sketches)
    source = np.array([*range(6), *np.repeat(range(6), len(CHANGES))])
    assert (source[pairs[:, 0]] == source[pairs[:, 1]]).all(), "no two eyes are one"
    assert (scores > 0.72).all()
    groups = components(len(source), pairs)
    assert (groups == groups[source]).all(), "every copy is with its source"


def test_a_crowd_of_equal_hashes_is_joined_in_linear_time():
    generator = np.random.default_rng(0)
    hashes = np.tile(generator.integers(0, 256, (1, 8, 32), dtype=np.uint8), (4000, 1, 1))
    sketches = np.tile(generator.integers(-99, 99, (1, 64, 64), dtype=np.int8), (4000, 1, 1))
    started = time.monotonic()
    pairs, _ = near_duplicates(hashes, sketches)
    assert len(pairs) < 4000 * 100 and time.monotonic() - started < 30
    assert components(4000, pairs).max() == 0


def test_candidates_within_15_bits_are_all_found():
    generator = np.random.default_rng(1)
    hashes = generator.integers(0, 256, (300, 8, 32), dtype=np.uint8)
    near = hashes[:, :1].repeat(8, axis=1)
    for row in near:
        for bit in generator.choice(256, 15, replace=False):
            row[:, bit // 8] ^= np.uint8(1 << (bit % 8))
    found = {(a, b) for a, b, _ in candidate_pairs(np.concatenate([hashes, near]))}
    assert all((k, 300 + k) in found for k in range(300))


def test_correlations_know_the_orientation():
    sketches = np.random.default_rng(2).integers(-99, 99, (2, 64, 64), dtype=np.int8)
    sketches[1] = np.rot90(sketches[0])
    scores = correlations(sketches, np.array([[0, 1, k] for k in range(8)]))
    assert scores.argmax() == 1 and scores[1] == pytest.approx(1) and scores[0] < 0.2


def test_nothing_has_no_duplicates():
    none = np.empty((0, 8, 32), np.uint8)
    assert len(near_duplicates(none, np.empty((0, 64, 64), np.int8))[0]) == 0
    assert components(3, np.empty((0, 2), int)).tolist() == [0, 1, 2]


def test_orientations_are_the_eight_of_the_square():
    square = np.arange(16).reshape(4, 4)
    assert len({orient(square, k).tobytes() for k in range(8)}) == 8
    stack = np.stack([square, square + 1])
    assert (orient(stack, 5)[1] == orient(square + 1, 5)).all()
