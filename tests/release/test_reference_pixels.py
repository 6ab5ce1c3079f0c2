"""The short program that goes with an exported network makes the tool's own pixels, to the bit."""

import ast
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.pixels.preprocessing import Preprocessing, load_pixels
from common.release import reference_pixels
from common.release.reference_pixels import make_pixels

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = sorted((ROOT / "demo_photographs").glob("*/*/*.jpg"))[::70]
WAYS = {
    "crop and CLAHE": {},
    "crop alone": {"enable_clahe": False},
    "CLAHE of few tiles": {"clahe_tile_grid_size": 3, "clahe_clip_limit": 1.3},
    "no crop": {"crop_retina": False},
    "as it is": {"crop_retina": False, "enable_clahe": False, "interpolation": "bilinear"},
    "an odd size": {"img_size": 97, "interpolation": "lanczos"},
    "the first pixels": {"version": 1},
}


def pixels_of(way) -> Preprocessing:
    return Preprocessing(**{"img_size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3} | WAYS[way])


def as_input(preprocessing: Preprocessing):
    return {"pixels": json.loads(json.dumps(vars(preprocessing)))}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Real photographs, and drawn ones of odd shapes, dark, bright, grey and turned."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    drawn = draw_fundus(3, generator, 301)
    full = np.clip(drawn[100:200, 90:211].astype(int) + 30, 0, 255).astype(np.uint8)
    shown = {
        "wide": cv2.copyMakeBorder(drawn, 7, 0, 120, 61, cv2.BORDER_CONSTANT),
        "tall": np.ascontiguousarray(drawn[:, 100:183]),
        "one_pixel": drawn[150:151, 150:151],
        "black": np.zeros((33, 47, 3), np.uint8),
        "dark": drawn // 8,
        "noise": generator.integers(0, 256, (75, 333, 3), np.uint8),
        "full": full + generator.integers(0, 25, full.shape, np.uint8),
    }
    ground = drawn.max(axis=2, keepdims=True) < 12
    shown["white"] = np.where(ground, 255, drawn).astype(np.uint8)
    shown["grey"] = np.where(ground, generator.integers(90, 96, (301, 301, 1)), drawn)
    shown["grey"] = cv2.resize(shown["grey"].astype(np.uint8), (801, 633))
    for name, picture in shown.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    Image.fromarray(drawn).convert("L").save(folder / "one_channel.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(shown["wide"]).save(folder / "turned.jpg", exif=turned)
    large = cv2.resize(drawn, (1537, 1023), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(large).save(folder / "large.jpg")
    return [*sorted(folder.iterdir()), *PHOTOGRAPHS]


@pytest.mark.parametrize("way", WAYS)
def test_the_reference_makes_the_same_bytes_as_the_tool(way, pictures):
    preprocessing = pixels_of(way)
    assert len(pictures) > 8
    for path in pictures:
        expected = load_pixels(path, preprocessing)
        found = make_pixels(str(path), as_input(preprocessing))
        np.testing.assert_array_equal(found, expected, err_msg=str(path))


def test_grounds_of_a_bright_colour_are_among_these_pictures(pictures):
    changed = [
        reference_pixels.paint_ground_black(np.asarray(Image.open(p).convert("RGB")))
        for p in pictures
        if p.stem in ("white", "grey")
    ]
    assert [int(each[0, 0].max()) for each in changed] == [0, 0]


def test_what_the_reference_does_not_know_is_refused(tmp_path):
    Image.new("RGBA", (64, 64)).save(tmp_path / "clear.png")
    with pytest.raises(ValueError, match="found mode RGBA"):
        make_pixels(str(tmp_path / "clear.png"), as_input(pixels_of("crop alone")))


def test_the_reference_needs_nothing_of_the_tool():
    tree = ast.parse(Path(reference_pixels.__file__).read_text())
    used = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    used |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert used == {"cv2", "numpy", "PIL", "typing"}
