"""Inspecting single files: each fault by its name, whatever the bytes."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.inspection.file_checks import FAULTS, inspect_file
from common.system.random_streams import random_generator


@pytest.fixture(scope="module")
def eye():
    return draw_fundus(2, random_generator("inspection", 1))


def saved(tmp_path, picture, name="a.png", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_a_good_picture_has_no_fault_and_a_full_record(tmp_path, eye):
    record = inspect_file(saved(tmp_path, eye, "a.jpg", quality=92))
    assert record.faults == () and record.usable
    assert record.signature.sketch.shape == (64, 64) and record.signature.hashes.shape == (8, 32)
    assert len(record.sha256) == len(record.pixels) == 64
    assert record.statistics["file"]["width"] == record.statistics["file"]["height"] == 256


def test_each_fault_is_named(tmp_path, eye):
    turned = Image.Exif()
    turned[274] = 6
    grey = Image.fromarray(eye).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    cases = {
        "grayscale": saved(tmp_path, grey, "grey.png"),
        "deep": saved(tmp_path, deep, "deep.png"),
        "alpha": saved(tmp_path, Image.fromarray(eye).convert("RGBA"), "alpha.png"),
        "tiny": saved(tmp_path, eye[64:164, 64:164], "tiny.png"),
        "exif_rotated": saved(tmp_path, Image.fromarray(eye), "exif.jpg", exif=turned),
        "black": saved(tmp_path, eye // 16, "black.png"),
        "blurred": saved(tmp_path, cv2.GaussianBlur(eye, (0, 0), 5), "blurred.png"),
    }
    for fault, path in cases.items():
        record = inspect_file(path)
        assert fault in record.faults and record.usable, (fault, record.faults)
    assert inspect_file(cases["deep"]).faults == ("grayscale", "deep")
    flat = saved(tmp_path, np.zeros((200, 200, 3), np.uint8), "flat.png")
    assert not inspect_file(flat).signature.has_structure


def test_useless_files_are_told_apart(tmp_path, eye):
    whole = saved(tmp_path, eye, "whole.jpg").read_bytes()
    contents = {"empty": b"", "not_image": b"no picture", "truncated": whole[: len(whole) // 2]}
    for fault, content in contents.items():
        path = tmp_path / f"{fault}.jpg"
        path.write_bytes(content)
        assert inspect_file(path).faults == (fault,)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert inspect_file(tmp_path / "notes.txt").faults == ("not_image",)
    for name in ("gone.jpg", "pipe.jpg", "folder.jpg"):
        assert inspect_file(tmp_path / name).faults == ("unreadable",)
    assert set(contents) < set(FAULTS)


def test_damaged_bytes_never_raise(tmp_path, eye):
    generator = random_generator("damage")
    for name in ("a.jpg", "a.png", "a.tiff", "a.bmp"):
        data = bytearray(saved(tmp_path, eye[::4, ::4], name).read_bytes())
        for _ in range(15):
            damaged = bytearray(data)
            for place in generator.integers(0, min(len(data), 400), 4):
                damaged[place] = generator.integers(256)
            (tmp_path / name).write_bytes(damaged)
            assert isinstance(inspect_file(tmp_path / name).faults, tuple)


def test_the_digest_of_pixels_ignores_the_file_format(tmp_path, eye):
    first, second = (inspect_file(saved(tmp_path, eye, name)) for name in ("a.png", "a.bmp"))
    assert first.pixels == second.pixels and first.sha256 != second.sha256


def test_what_is_odd_but_used_is_named_with_its_reason(tmp_path, eye):
    whole = saved(tmp_path, eye, "whole.jpg", quality=95).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-10])
    twice = Image.fromarray(eye)
    twice.save(tmp_path / "pages.tif", save_all=True, append_images=[twice])
    cases = {
        "cut_short": tmp_path / "cut.jpg",
        "several_pages": tmp_path / "pages.tif",
        "two_discs": saved(tmp_path, np.concatenate([eye, eye], axis=1), "both.png"),
        "deep": saved(tmp_path, Image.fromarray(np.float32(eye[..., 1]) / 255), "float.tif"),
    }
    for fault, path in cases.items():
        record = inspect_file(path)
        assert fault in record.faults and record.usable, (fault, record)
    assert "cut short" in inspect_file(cases["cut_short"]).detail


def test_a_photograph_on_white_is_described_as_on_black(tmp_path, eye):
    black = np.zeros((300, 420, 3), np.uint8)
    black[20:276, 80:336] = eye
    white = np.where(black.max(axis=2, keepdims=True) == 0, 255, black).astype(np.uint8)
    on_black, on_white = (
        inspect_file(saved(tmp_path, picture, f"{name}.png")).statistics
        for name, picture in (("black", black), ("white", white))
    )
    for name, value in on_black["background"].items():
        assert on_white["background"][name] == pytest.approx(value, rel=0.1, abs=2), name
