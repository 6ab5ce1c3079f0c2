"""From bytes to the square picture: crop, contrast, size, and odd files."""

import io
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.pixels import decoding
from common.pixels.decoding import ImageError, decode_image
from common.pixels.preprocessing import (
    Preprocessing,
    apply_clahe,
    load_pixels,
    load_window,
    preprocess,
    window_of,
)
from common.pixels.retina import retina_box, retina_mask

SETTINGS = Preprocessing(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def fundus():
    return draw_fundus(3, np.random.default_rng(0), 256)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_reads_the_four_formats(fundus, kind):
    found = decode_image(encoded(Image.fromarray(fundus), kind), "x")
    assert found.shape == (256, 256, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - fundus).mean() < 4


def test_converts_grey_palette_alpha_and_16_bit():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(64, 0)
    grey = Image.fromarray(ramp)
    expected = np.stack([ramp] * 3, axis=2)
    for image in (grey, grey.convert("P"), grey.convert("RGBA"), grey.convert("LA")):
        assert np.abs(decode_image(encoded(image), "x").astype(int) - expected).max() <= 1
    deep = Image.fromarray((ramp.astype(np.uint16) << 8) + 77)
    assert np.abs(decode_image(encoded(deep), "x").astype(int) - expected).max() <= 1
    assert np.array_equal(decode_image(encoded(deep), "x", version=1), expected)


def test_the_first_version_refuses_floating_point_pixels():
    data = encoded(Image.fromarray(np.full((40, 40), 0.5, dtype=np.float32)), "TIFF")
    with pytest.raises(ImageError, match="range is not known"):
        decode_image(data, "x.tif", version=1)


def test_turns_as_the_camera_says(fundus):
    exif = Image.Exif()
    exif[274] = 6  # rotate by 90 degrees to see it upright
    turned = Image.fromarray(np.rot90(fundus, 1))
    found = decode_image(encoded(turned, "PNG", exif=exif), "x")
    assert np.array_equal(found, fundus)


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"0" * 99]
)
def test_names_the_file_that_is_no_picture(data):
    with pytest.raises(ImageError, match=r"scan\.jpg: expected a picture"):
        decode_image(data, "scan.jpg")


def test_refuses_a_picture_cut_short(fundus):
    data = encoded(Image.fromarray(fundus), "JPEG")
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[: len(data) // 2], "x")


def test_refuses_a_decompression_bomb(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="limit 1000"):
        decode_image(encoded(Image.new("RGB", (40, 40))), "x")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: cannot be read"):
        load_pixels(tmp_path / "gone.jpg", SETTINGS)


def test_finds_the_disc_on_a_wide_dark_frame():
    frame = np.zeros((300, 500, 3), np.uint8)
    cv2.circle(frame, (260, 150), 100, (160, 80, 30), -1)
    frame[5:12, 5:30] = 255  # a label in the corner
    assert np.allclose(retina_box(frame), (50, 251, 160, 361), atol=4)


def test_cuts_nothing_from_a_picture_without_a_disc():
    black = np.zeros((40, 60, 3), np.uint8)
    assert retina_box(black) == (0, 40, 0, 60)
    assert preprocess(black, SETTINGS).shape == (64, 64, 3)


def test_clahe_is_opencv_s_on_the_lightness(fundus):
    lab = cv2.cvtColor(fundus, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(lab[..., 0])
    assert np.array_equal(apply_clahe(fundus, 2.0, 8), cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


CHANGES = [
    {"img_size": 96},
    {"interpolation": "bilinear"},
    {"crop_retina": False},
    {"enable_clahe": False},
    {"clahe_clip_limit": 4.0},
    {"clahe_tile_grid_size": 4},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_each_setting_changes_pixels_and_key(fundus, change):
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[20:276, 70:326] = fundus
    other = replace(SETTINGS, **change)
    assert other.cache_key() != SETTINGS.cache_key()
    assert not np.array_equal(preprocess(picture, other), preprocess(picture, SETTINGS))


def test_mean_and_std_do_not_touch_the_cached_pixels():
    other = replace(SETTINGS, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    assert other.cache_key() == SETTINGS.cache_key()
    assert other.mean == (0.1, 0.2, 0.3)


def test_the_first_version_keeps_its_cache_and_is_what_checkpoints_without_one_mean():
    earlier = replace(SETTINGS, version=1)
    assert earlier.cache_key() == "1ff660db0796cbf2", "existing caches go on being used"
    assert SETTINGS.cache_key() != earlier.cache_key()
    stored = {key: value for key, value in asdict(SETTINGS).items() if key != "version"}
    assert Preprocessing.from_dict(stored) == earlier
    assert Preprocessing.from_dict(asdict(SETTINGS)) == SETTINGS
    with pytest.raises(ValueError, match="this release knows 1 to 2"):
        replace(SETTINGS, version=3)


def test_the_first_version_keeps_pixels_that_were_not_meant_so(tmp_path):
    deep = (np.arange(64 * 64).reshape(64, 64) % 4096).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    see_through = Image.fromarray(np.full((64, 64, 4), (200, 100, 50, 0), np.uint8))
    see_through.putpixel((0, 0), (1, 2, 3, 255))
    see_through.save(tmp_path / "alpha.png")
    earlier = replace(SETTINGS, version=1, enable_clahe=False, crop_retina=False)
    later = replace(earlier, version=2)
    assert load_pixels(tmp_path / "deep.png", earlier).max() == 15
    assert load_pixels(tmp_path / "deep.png", later).max() == 255
    assert load_pixels(tmp_path / "alpha.png", earlier)[9, 9].tolist() == [200, 100, 50]
    assert load_pixels(tmp_path / "alpha.png", later)[9, 9].tolist() == [0, 0, 0]


def test_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="interpolation"):
        replace(SETTINGS, interpolation="magic")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize(
    ("shape", "disc"),
    [((300, 500), (260, 150, 100)), ((420, 300), (150, 215, 120)), ((240, 400), (200, 110, 150))],
    ids=["wide frame", "tall frame", "disc cut off above and below"],
)
def test_a_box_goes_the_way_of_the_pixels_that_it_marks(shape, disc, crop, version):
    photograph = np.zeros((*shape, 3), np.uint8)
    x, y, radius = disc
    cv2.circle(photograph, (x, y), radius, (160, 80, 30), -1)
    photograph[y - 50 : y - 38, x + 20 : x + 44] = (20, 255, 255)
    settings = replace(
        SETTINGS, img_size=200, crop_retina=crop, enable_clahe=False, version=version
    )
    marked = preprocess(photograph, settings)[..., 2] > 150
    rows, columns = np.nonzero(marked)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 200
    height, width = shape
    box = np.array([(x + 20) / width, (y - 50) / height, (x + 44) / width, (y - 38) / height])
    window = window_of(photograph, settings)
    assert np.allclose(window.to_square(box), found, atol=1 / 200)
    assert np.allclose(window.to_photograph(window.to_square(box)), box)


def test_the_window_of_a_file_is_that_of_the_upright_picture(fundus, tmp_path):
    wide = np.zeros((256, 400, 3), np.uint8)
    wide[:, 100:356] = fundus
    exif = Image.Exif()
    exif[274] = 6  # rotate by 90 degrees to see it upright
    turned = Image.fromarray(np.rot90(wide, 1))
    (tmp_path / "a.png").write_bytes(encoded(turned, exif=exif))
    assert load_window(tmp_path / "a.png", SETTINGS) == window_of(wide, SETTINGS)
    assert window_of(wide, SETTINGS).left > 0.25


def test_the_mask_of_a_retina_is_its_disc_with_what_is_dark_in_it():
    picture = np.zeros((300, 300, 3), np.uint8)
    cv2.circle(picture, (150, 150), 140, (160, 80, 30), -1)
    disc = picture[..., 0] > 0
    cv2.circle(picture, (150, 60), 30, (5, 2, 1), -1)  # a haemorrhage
    cv2.circle(picture, (270, 150), 30, (5, 2, 1), -1)  # and one at the rim
    assert (retina_mask(picture) != disc).mean() < 0.02
    assert retina_mask(np.zeros((40, 60, 3), np.uint8)).all()
