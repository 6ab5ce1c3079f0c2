"""Pictures that nobody could grade are told from their pixels."""

import cv2
import numpy as np
import pytest

from common.data.folders import scan_split
from common.data.synthetic import write_dataset
from common.doubts.gradability import (
    FEWEST,
    STATISTICS,
    fit_limits,
    measure_square,
    why_ungradable,
)
from common.pixels.decoding import decode_image
from common.pixels.preprocessing import Preprocessing, preprocess

PIXELS = Preprocessing(96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def photographs(make_once):
    """Drawn photographs."""
    root = make_once("gradable", lambda folder: write_dataset(folder, {"train": 9}, 5, 160))
    paths = scan_split(root, "train").paths
    return [decode_image(path.read_bytes(), str(path), 2) for path in paths]


@pytest.fixture(scope="module")
def limits(photographs):
    return fit_limits(np.stack([measure_square(preprocess(p, PIXELS)) for p in photographs[:37]]))


def page(photograph):
    white = np.full_like(photograph, 255)
    for line in range(12, 150, 14):
        cv2.putText(white, "Dear colleague", (8, line), 0, 0.4, (0, 0, 0), 1)
    return white


UNUSABLE = {
    "black": ("black", lambda p: p * 0),
    "dark": ("black", lambda p: p // 10),
    "white": ("overexposed", lambda p: np.full_like(p, 255)),
    "overexposed": ("overexposed", lambda p: np.clip(4.0 * p, 0, 255).astype(np.uint8)),
    "blurred": ("blurred", lambda p: cv2.GaussianBlur(p, (0, 0), 5)),
    "page": ("no disc", page),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_picture_that_nobody_could_grade_is_named_with_its_reason(kind, photographs, limits):
    reason, alter = UNUSABLE[kind]
    for photograph in photographs[37:40]:
        why = why_ungradable(measure_square(preprocess(alter(photograph), PIXELS)), limits)
        assert reason in why, why


def test_photographs_like_those_of_the_training_can_be_graded(photographs, limits):
    squares = [preprocess(photograph, PIXELS) for photograph in photographs[37:]]
    assert not any(why_ungradable(measure_square(square), limits) for square in squares)


def test_limits_leave_a_margin_around_the_training_pictures_and_need_enough_of_them():
    values = np.random.default_rng(0).normal(10, 1, (200, len(STATISTICS)))
    found = fit_limits(values)
    assert found.pictures == 200
    assert sum(bool(why_ungradable(each, found)) for each in values) <= 4
    few, many = (fit_limits(np.repeat(values[:40], times, axis=0)) for times in (1, 10))
    assert (few.high >= many.high).all() and (few.low <= many.low).all(), "a wider margin"
    assert not why_ungradable(values[0], found)
    assert f"{FEWEST} are needed" in fit_limits(values[: FEWEST - 1])
