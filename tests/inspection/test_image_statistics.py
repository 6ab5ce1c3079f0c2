"""Statistics for the shortcut probe: named, finite, and of the kind that their name says."""

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.inspection.file_checks import inspect_file
from common.inspection.image_statistics import KINDS, cut_out_retina
from common.system.random_streams import random_generator


@pytest.fixture(scope="module")
def eye():
    return draw_fundus(2, random_generator("inspection", 1))


def statistics_of(path, picture, **options):
    Image.fromarray(picture).save(path, **options)
    return inspect_file(path).statistics


def test_every_statistic_is_a_finite_number_under_its_name(tmp_path, eye):
    found = statistics_of(tmp_path / "a.jpg", eye, quality=92)
    assert tuple(found) == KINDS
    assert [len(found[kind]) for kind in KINDS] == [8, 8, 9]
    assert all(np.isfinite(value) for kind in KINDS for value in found[kind].values())


def test_another_way_of_saving_changes_the_file_s_statistics_alone(tmp_path, eye):
    png, bmp = (statistics_of(tmp_path / f"a.{kind}", eye) for kind in ("png", "bmp"))
    assert png["background"] == bmp["background"]
    differing = [name for name in png["file"] if png["file"][name] != bmp["file"][name]]
    assert differing == ["format"]
    fine, coarse = (statistics_of(tmp_path / "a.jpg", eye, quality=q) for q in (95, 50))
    assert fine["file"]["luma table"] < coarse["file"]["luma table"]


def test_exif_data_that_nobody_can_read_end_no_audit(tmp_path, eye):
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0" + bytes(4)
    found = statistics_of(tmp_path / "a.jpg", eye, exif=exif)
    assert found["file"] == statistics_of(tmp_path / "a.jpg", eye)["file"]


def test_a_softened_picture_has_less_sharpness_and_detail(tmp_path, eye):
    sharp = statistics_of(tmp_path / "a.png", eye)
    soft = statistics_of(tmp_path / "b.png", cv2.GaussianBlur(eye, (0, 0), 2))
    assert soft["background"]["sharpness"] < 0.5 * sharp["background"]["sharpness"]
    assert soft["image"]["detail"] < sharp["image"]["detail"]


def test_the_retina_is_the_same_whatever_border_surrounds_it(eye):
    alone = cut_out_retina(eye)
    framed = cut_out_retina(np.pad(eye, ((20, 20), (40, 40), (0, 0)), constant_values=255))
    darkly = cut_out_retina(np.pad(eye, ((20, 20), (40, 40), (0, 0))))
    assert np.abs(alone.grey - framed.grey).mean() < 8
    assert np.abs(alone.grey - darkly.grey).mean() < 8
