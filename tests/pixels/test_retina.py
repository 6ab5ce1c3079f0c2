"""Finding the disc on grounds of any colour, and leaving alone what has no ground."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.pixels.preprocessing import Preprocessing, preprocess
from common.pixels.retina import find_retina, retina_box, strongest

PHOTOGRAPHS = sorted(
    (Path(__file__).parents[2].parent / "shared" / "data" / "idrid").rglob("*.jpg")
)
VALIDATION = [path for path in PHOTOGRAPHS if "val" in path.parts]
needs_photographs = pytest.mark.skipif(not PHOTOGRAPHS, reason="no photographs at hand")
SETTINGS = Preprocessing(64, (0.5,) * 3, (0.5,) * 3)
EARLIER = Preprocessing(64, (0.5,) * 3, (0.5,) * 3, version=1)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def as_jpeg(image: np.ndarray, quality: int = 80) -> np.ndarray:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy()


def painted(image: np.ndarray, colour) -> np.ndarray:
    """Give the dark ground of a photograph, which is connected with its border, another colour."""
    dark = (image.max(axis=2) <= 16).astype(np.uint8)
    _, labels = cv2.connectedComponents(dark)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    ground = np.isin(labels, list(set(border.tolist()) - {0}))
    picture = image.copy()
    picture[ground] = colour
    return picture


def lifted(image: np.ndarray, levels: int) -> np.ndarray:
    return np.clip(image.astype(int) + levels, 0, 255).astype(np.uint8)


GROUNDS = {
    "white": lambda image: painted(image, 255),
    "grey": lambda image: painted(image, 128),
    "blue": lambda image: painted(image, (30, 60, 120)),
    "orange": lambda image: painted(image, (200, 120, 60)),
    "lifted by 20": lambda image: lifted(image, 20),
    "lifted by 40": lambda image: lifted(image, 40),
    "lifted by 80": lambda image: lifted(image, 80),
}


@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_the_strongest_channel_is_the_largest_of_each_pixel(kind):
    picture = np.random.default_rng(0).integers(0, 255, (7, 5, 3)).astype(kind)
    found = strongest(picture)
    assert found.dtype == kind and np.array_equal(found, picture.max(axis=2))


@needs_photographs
@pytest.mark.parametrize("ground", GROUNDS)
def test_the_disc_of_every_photograph_is_found_on_a_ground_of_any_colour(ground):
    for number, path in enumerate(VALIDATION):
        image = read(path)
        picture = GROUNDS[ground](image)
        found = find_retina(as_jpeg(picture) if number % 2 else picture)
        assert np.abs(np.subtract(found.box, retina_box(image))).max() <= 6, path.name
        assert all(corner.max() == 0 for corner in found.picture[[0, 0, -1, -1], [0, -1, 0, -1]])


@needs_photographs
def test_what_a_network_sees_hardly_depends_on_the_ground():
    for path in VALIDATION[:12]:
        image = read(path)
        expected = preprocess(image, SETTINGS).astype(int)
        for ground in ("white", "grey", "blue"):
            found = preprocess(GROUNDS[ground](image), SETTINGS)
            assert np.abs(found - expected).mean() < 4, (path.name, ground)


@needs_photographs
@pytest.mark.slow
def test_ordinary_photographs_keep_the_pixels_of_the_first_version():
    for path in PHOTOGRAPHS:
        image = read(path)
        found = find_retina(image)
        assert found.picture is image and found.box == retina_box(image), path.name
        assert found.num_discs == 1, path.name


@needs_photographs
def test_a_retina_that_fills_the_picture_is_left_alone():
    for path in VALIDATION:
        image = read(path)
        top, bottom, left, right = retina_box(image)
        height, width = bottom - top, right - left
        for share in (0.15, 0.2, 0.3, 0.4):
            rows, columns = round(share * height), round(share * width)
            crop = image[top + rows : bottom - rows, left + columns : right - columns].copy()
            for picture in (crop, cv2.GaussianBlur(crop, (0, 0), 4)):
                assert find_retina(picture).picture is picture, (path.name, share)


@pytest.mark.parametrize("grade", range(5))
def test_drawn_pictures_keep_the_pixels_of_the_first_version(grade):
    for seed in range(4):
        image = draw_fundus(grade, np.random.default_rng(seed), 128)
        assert np.array_equal(preprocess(image, SETTINGS), preprocess(image, EARLIER))


@pytest.mark.parametrize("colour", [255, 128, 60, (30, 60, 120)])
def test_a_drawn_disc_on_another_ground_is_cut_out_as_on_black(colour):
    image = np.zeros((300, 420, 3), np.uint8)
    image[20:276, 80:336] = draw_fundus(2, np.random.default_rng(5))
    expected = retina_box(image)
    for picture in (painted(image, colour), as_jpeg(painted(image, colour))):
        found = find_retina(picture)
        assert np.abs(np.subtract(found.box, expected)).max() <= 4
        alike = preprocess(picture, SETTINGS).astype(int) - preprocess(image, SETTINGS)
        assert np.abs(alike).mean() < 12  # a box of one pixel more moves the tiles of CLAHE


def test_white_margins_around_a_black_ground_are_cut_off():
    image = np.zeros((300, 420, 3), np.uint8)
    image[20:276, 80:336] = draw_fundus(2, np.random.default_rng(5))
    framed = np.pad(image, ((30, 50), (40, 20), (0, 0)), constant_values=255)
    expected = np.add(retina_box(image), (30, 30, 40, 40))
    assert np.abs(np.subtract(find_retina(framed).box, expected)).max() <= 4


@pytest.mark.parametrize("ground", [0, 255, 128])
@pytest.mark.parametrize("gap", [0, 40])
def test_two_discs_side_by_side_are_counted(ground, gap):
    eyes = [draw_fundus(1, np.random.default_rng(seed)) for seed in (1, 2)]
    between = np.zeros((256, gap, 3), np.uint8)
    both = np.concatenate([eyes[0], between, eyes[1]], axis=1)
    picture = painted(both, ground) if ground else both
    assert find_retina(picture).num_discs == 2
    assert find_retina(np.ascontiguousarray(picture.transpose(1, 0, 2))).num_discs == 2
    assert find_retina(painted(eyes[0], ground) if ground else eyes[0]).num_discs == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (7, 300)])
@pytest.mark.parametrize("level", [0, 90, 255])
def test_tiny_and_uniform_pictures_are_left_alone(shape, level):
    image = np.full((*shape, 3), level, np.uint8)
    found = find_retina(image)
    assert found.box == (0, shape[0], 0, shape[1]) and np.array_equal(found.picture, image)
