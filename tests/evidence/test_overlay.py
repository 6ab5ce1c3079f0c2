"""Drawings of evidence: one scale for all, the sign as a colour, nothing where there is nothing."""

import numpy as np
import pytest
from PIL import Image

from common.evidence.overlay import AGAINST, FOR, choose_scale, draw_overlay, tint, tinted_map


def test_the_scale_is_a_round_number_of_logits_that_holds_nearly_all_values():
    assert choose_scale([np.array([0.001, -0.002])]) == 1, "noise stays pale"
    assert choose_scale([np.array([0.1]), np.array([[-1.7]])]) == 2
    assert choose_scale([np.full(9, -4.9)]) == 5 and choose_scale([np.full(9, 51.0)]) == 60
    assert choose_scale([np.r_[np.zeros(9999), 1000]]) == 1, "one value alone does not count"
    assert choose_scale([np.full(3, 10.0)]) == 10


def test_colour_tells_the_sign_and_opacity_the_amount():
    found = tint(np.array([[2.0, -1.0, 0.0, 9.0]]), 2.0)
    assert [tuple(pixel[:3]) for pixel in found[0, :2]] == [FOR, AGAINST]
    assert found[0, :, 3].tolist() == [217, 108, 0, 217]


def test_a_drawing_shows_the_square_picture_with_the_map_in_its_place():
    square, values = np.full((64, 64, 3), 90, np.uint8), np.zeros((4, 4), np.float32)
    values[0, 3] = 5
    drawn = draw_overlay(
        square, values, 5, ["grade 2 or 3", "score +1.25: naïve\n\x00 " + "x" * 90]
    )
    assert drawn.width == 384 and drawn.height > 440
    pixels = np.asarray(drawn)
    assert tuple(pixels[300, 60]) == (90, 90, 90), "no evidence, no colour"
    assert pixels[20, 370, 0] > pixels[20, 370, 2] + 80, "vermilion in the upper right corner"
    assert isinstance(tinted_map(values, 5, 64), Image.Image)
    assert tinted_map(values, 5, 64).size == (64, 64)


@pytest.mark.parametrize("side", [384, 512])
def test_large_pictures_are_drawn_as_they_are(side):
    drawn = draw_overlay(np.zeros((side, side, 3), np.uint8), np.ones((7, 7)), 1, [])
    assert drawn.width == side
