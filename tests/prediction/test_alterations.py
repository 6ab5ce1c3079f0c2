"""Each alteration does what it says, in the same measure at any resolution."""

import cv2
import numpy as np
import pytest

from common.data.synthetic import draw_fundus
from common.pixels.retina import find_retina
from common.prediction.alterations import ALTERATIONS, chosen_alterations, photograph
from common.system.errors import InputError

BY_NAME = {each.name: each for each in ALTERATIONS}
PICTURE = draw_fundus(2, np.random.default_rng(3), 512)
PHOTO = photograph(PICTURE)


def altered(name: str, picture: np.ndarray = PICTURE) -> np.ndarray:
    return BY_NAME[name].apply(photograph(picture))


def brightness(picture: np.ndarray) -> float:
    return float(picture[PHOTO.ground == 0].mean())


def detail(picture: np.ndarray) -> float:
    """Measure what is fine within the disc, by its Laplacian."""
    inner = picture[150:360, 150:360].astype(np.float32)
    return float(np.abs(cv2.Laplacian(inner, cv2.CV_32F)).mean())


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("shape", [(512, 512, 3), (64, 80, 3), (5, 3, 3), (1, 1, 3)])
def test_an_alteration_is_repeatable_and_keeps_size_and_input(name, shape):
    picture = np.ascontiguousarray(cv2.resize(PICTURE, shape[1::-1]))
    before = picture.copy()
    first, second = altered(name, picture), altered(name, picture)
    assert first.shape == shape and first.dtype == np.uint8
    assert np.array_equal(first, second) and np.array_equal(picture, before)
    if shape[0] > 5:
        assert not np.array_equal(first, picture)


@pytest.mark.parametrize(
    "name", ["darker", "brighter", "underexposed", "overexposed", "low_contrast", "colour_cast"]
)
def test_an_alteration_of_light_leaves_the_black_around_the_disc(name):
    found = altered(name)
    assert np.array_equal(found[PHOTO.ground > 0], PICTURE[PHOTO.ground > 0])


def test_gamma_and_exposure_go_the_way_they_say():
    usual = brightness(PICTURE)
    assert (
        brightness(altered("darker")) < 0.9 * usual < 1.1 * usual < brightness(altered("brighter"))
    )
    assert brightness(altered("underexposed")) == pytest.approx(0.75 * usual, rel=0.02)
    assert 1.1 * usual < brightness(altered("overexposed")) <= 1.25 * usual


def test_contrast_is_lost_about_the_mean():
    usual, found = (p[PHOTO.ground == 0].astype(float) for p in (PICTURE, altered("low_contrast")))
    assert found.mean() == pytest.approx(usual.mean(), abs=1)
    assert found.std(0) == pytest.approx(0.7 * usual.std(0), rel=0.03)


def test_blur_and_half_resolution_take_detail_and_noise_adds_it():
    usual = detail(PICTURE)
    assert detail(altered("blur")) < 0.7 * usual
    assert detail(altered("half_resolution")) < 0.95 * usual
    assert detail(altered("noise")) > 1.2 * usual


def test_the_colour_cast_is_red():
    usual, found = (p[PHOTO.ground == 0].mean(0) for p in (PICTURE, altered("colour_cast")))
    assert found[0] > 1.05 * usual[0] and found[2] < 0.85 * usual[2]
    assert found[1] == pytest.approx(usual[1])


def test_the_picture_is_turned_by_ten_degrees_about_the_disc():
    found = altered("rotation")
    matrix = cv2.getRotationMatrix2D((256, 256), -10, 1)
    back = cv2.warpAffine(found, matrix, (512, 512))
    usual, back, found = (
        cv2.GaussianBlur(p, (0, 0), 4)[150:360, 150:360].astype(int) for p in (PICTURE, back, found)
    )
    assert np.abs(back - usual).mean() < 0.2 * np.abs(found - usual).mean()


def test_a_bright_ground_stays_as_it_is_where_the_picture_is_turned():
    white = np.where(PHOTO.ground[..., None] > 0, 255, PICTURE).astype(np.uint8)
    found = find_retina(altered("rotation", white))
    assert np.abs(np.subtract(found.box, PHOTO.disc)).max() <= 8


@pytest.mark.parametrize("name", ["blur", "noise", "rotation", "low_contrast"])
def test_a_strength_means_the_same_at_any_resolution(name):
    large = cv2.resize(PICTURE, (2048, 2048), interpolation=cv2.INTER_CUBIC)
    usual = [cv2.resize(p, (128, 128), interpolation=cv2.INTER_AREA) for p in (PICTURE, large)]
    found = [
        cv2.resize(altered(name, p), (128, 128), interpolation=cv2.INTER_AREA)
        for p in (PICTURE, large)
    ]
    small_gap, large_gap = (
        np.abs(f.astype(int) - u).mean() for f, u in zip(found, usual, strict=True)
    )
    assert large_gap == pytest.approx(small_gap, rel=0.15)


def test_jpeg_is_saved_at_the_quality_that_it_says():
    _, data = cv2.imencode(".jpg", PICTURE[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert np.abs(altered("jpeg").astype(int) - expected).mean() < 1


def test_alterations_are_chosen_by_name_in_their_usual_order():
    assert chosen_alterations([]) == ALTERATIONS
    assert [a.name for a in chosen_alterations(["blur", "jpeg"])] == ["jpeg", "blur"]
    with pytest.raises(InputError, match=r"--robustness: expected some of jpeg, .*, found 'fog'"):
        chosen_alterations(["fog"])
