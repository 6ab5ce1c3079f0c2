"""The short program that goes with an exported network makes the tool's own pixels, to the bit."""

import ast
import io
import tokenize
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.pixels.preprocessing import Preprocessing, load_pixels
from common.recipes import RECIPES
from common.release.pixel_program import RARE, pixel_program
from common.release.reference_pixels import paint_ground_black, read

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


def program_of(preprocessing: Preprocessing):
    """Return make_pixels of the program that is written."""
    names: dict[str, object] = {}
    exec(compile(pixel_program(preprocessing, "pixels"), "x_pixels.py", "exec"), names)
    return names["make_pixels"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Real photographs, and drawn ones of odd shapes, grounds, depths and kinds of file."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    drawn = draw_fundus(3, generator, 301)
    full = np.clip(drawn[100:200, 90:211].astype(int) + 30, 0, 255).astype(np.uint8)
    wide = cv2.copyMakeBorder(drawn, 7, 0, 120, 61, cv2.BORDER_CONSTANT)
    ground = drawn.max(axis=2, keepdims=True) < 12
    grey = np.where(ground, generator.integers(90, 96, (301, 301, 1)), drawn).astype(np.uint8)
    shown = {
        "wide": wide,
        "tall": np.ascontiguousarray(drawn[:, 100:183]),
        "one_pixel": drawn[150:151, 150:151],
        "few_pixels": drawn[150:153, 150:152],
        "one_row": drawn[150:151],
        "black": np.zeros((33, 47, 3), np.uint8),
        "dark": drawn // 8,
        "noise": generator.integers(0, 256, (75, 333, 3), np.uint8),
        "full": full + generator.integers(0, 25, full.shape, np.uint8),
        "white": np.where(ground, 255, drawn).astype(np.uint8),
        "grey": cv2.resize(grey, (801, 633)),
    }
    for name, picture in shown.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    picture, turned = Image.fromarray(wide), Image.Exif()
    for turned[274] in range(2, 9):
        picture.save(folder / f"turned_{turned[274]}.jpg", exif=turned)
    for mode in ("L", "P", "1", "CMYK", "LA"):
        picture.convert(mode).save(folder / f"mode_{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
    alpha = Image.fromarray(generator.integers(0, 256, wide.shape[:2], np.uint8))
    for name, mask in (("half", alpha), ("all", alpha.point(lambda _: 0))):
        clear = picture.convert("RGBA")
        clear.putalpha(mask)
        clear.save(folder / f"transparent_{name}.png", exif=turned)
    picture.convert("P").save(folder / "clear_colour.png", transparency=3)
    deep = cv2.resize(wide, (300, 199)).astype(np.uint16) * 257
    for name, values in (("16", deep), ("14", deep // 5), ("12", deep // 17), ("8", deep // 400)):
        cv2.imwrite(str(folder / f"deep_{name}.png"), values)
    cv2.imwrite(str(folder / "deep_grey.png"), deep[..., 1] // 40)
    Image.fromarray(deep[..., 1]).save(folder / "deep_turned.png", exif=turned)
    picture.save(folder / "x.tif")
    large = cv2.resize(drawn, (1537, 1023), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(large).save(folder / "large.jpg")
    return [*sorted(folder.iterdir()), *PHOTOGRAPHS]


@pytest.mark.parametrize("way", WAYS)
def test_the_program_makes_the_same_bytes_as_the_tool(way, pictures):
    preprocessing = pixels_of(way)
    make_pixels = program_of(preprocessing)
    assert len(pictures) > 30
    only_numbers = way in ("CLAHE of few tiles", "an odd size")  # are others
    for path in pictures[:: 4 if only_numbers else 1]:
        expected = load_pixels(path, preprocessing)
        np.testing.assert_array_equal(make_pixels(str(path)), expected, err_msg=str(path))


def test_grounds_of_a_bright_colour_are_among_these_pictures(pictures):
    found = [paint_ground_black(read(str(p))) for p in pictures if p.stem in ("white", "grey")]
    assert [int(each[0, 0].max()) for each in found] == [0, 0]


def test_what_the_program_does_not_know_is_refused(tmp_path):
    make_pixels, drawn = program_of(pixels_of("crop alone")), np.full((40, 40), 999, np.uint16)
    pages = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    cv2.imwrite(str(tmp_path / "clear.png"), np.stack([drawn] * 4, axis=2))
    cv2.imwrite(str(tmp_path / "deep.tif"), np.stack([drawn] * 3, axis=2))
    cv2.imwrite(str(tmp_path / "deep_grey.tif"), drawn)
    Image.fromarray(drawn.astype(np.float32)).save(tmp_path / "real.tif")
    Image.fromarray(drawn.astype(np.int32)).save(tmp_path / "whole.tif")
    pages[0].convert("LAB").save(tmp_path / "lab.tif")
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    data = (tmp_path / "clear.png").read_bytes()
    (tmp_path / "range.png").write_bytes(data[:33] + b"\0\0\0\3sBIT\x0c\x0c\x0c1234" + data[33:])
    assert len(list(tmp_path.iterdir())) == 8
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=r"expected one picture of 8 bits, or a PNG of 16"):
            make_pixels(str(path))


def code_lines(text: str) -> int:
    """Count the lines that are neither blank, comment nor docstring."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    words = [w for w in tokenize.generate_tokens(io.StringIO(text).readline) if w.string]
    lines = {n for w in words if w.type not in skipped for n in range(w.start[0], w.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_the_program_is_as_short_as_the_page_says():
    page = (ROOT / "docs" / "export.md").read_text()
    small = "crop and CLAHE" if RECIPES["small_data"].get("enable_clahe", True) else "crop alone"
    for way, most, said in (("crop and CLAHE", 43, "{} lines with CLAHE"), (small, 40, "{} lines")):
        text = pixel_program(pixels_of(way), "pixels")
        usual, rare = (code_lines(part) for part in text.split(RARE))
        assert usual <= most and said.format(usual) in page
        assert f"{rare} more" in page
        assert max(map(len, text.splitlines())) <= 100


def test_the_program_holds_only_what_its_network_needs_and_nothing_of_the_tool():
    words = {"CLAHE": "createCLAHE", "crop": "crop_to_retina", "grounds": "paint_ground_black"}
    has = {}
    for way in WAYS:
        text = pixel_program(pixels_of(way), "pixels")
        has[way] = {name for name, word in words.items() if word in text}
        tree = ast.parse(text)
        used = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        used |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert used == {"cv2", "numpy", "PIL"}
    assert has["crop and CLAHE"] == set(words) and has["crop alone"] == {"crop", "grounds"}
    assert has["no crop"] == {"CLAHE"} and has["as it is"] == set()
    assert has["the first pixels"] == {"CLAHE", "crop"}
