"""What makes a file the pixels that a network takes: in words, and as a short program.

The program holds the steps of one network alone, with its numbers, and needs nothing of this
software: it is to be taken along with the network, or written anew in another language.
"""

import inspect
from collections.abc import Callable

from common.pixels.preprocessing import Preprocessing
from common.release import reference_pixels as steps

# what begins the functions that few photographs need
RARE = (
    "# -- only for rarer photographs: of 16 bits, or on a ground of one bright colour " + 18 * "-"
)
_CROP = (steps.crop_to_retina, steps.shrink, steps.least_level)
_HEAD = '''"""Make the pixels that a network takes, with OpenCV, NumPy and Pillow alone.

    session.run(None, {{"{name}": make_pixels("photograph.jpg")[None]}})

They are those of the software that the network comes from, to the bit. ValueError: a kind of file
that this program does not know, though that software may.

H, W pixels of the photograph; h, w of a copy whose longer side is at most 256 pixels.
"""

import cv2
import numpy as np
from PIL import Image, ImageOps


def make_pixels(path: str) -> np.ndarray:
    """Turn a photograph into ({size}, {size}, 3) uint8 RGB."""
'''
_CLAHE = """\
    # equalise the lightness
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE({limit!r}, ({tiles}, {tiles})).apply(lab[..., 0])
    image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
"""
_SQUARE = """\
    # centre it on a black square; an odd pixel goes to the bottom or right
    height, width = image.shape[:2]
    side = max(height, width)
    above, beside = (side - height) // 2, (side - width) // 2
    square = Image.fromarray(image).crop((-beside, -above, side - beside, side - above))
"""
_NO_SQUARE = "    square = Image.fromarray(image)\n"
_RESIZE = "    return np.asarray(square.resize(({size}, {size}), Image.Resampling.{method}))\n"


def steps_of(preprocessing: Preprocessing) -> list[str]:
    """Say in order what makes a file the pixels that a network takes."""
    size, said = preprocessing.img_size, ["decode to 8-bit RGB, turned upright as its EXIF says"]
    if preprocessing.version > 1:
        said.append(
            "scale deeper samples from the least of 8, 10, 12, 14 and 16 bits that holds them; lay "
            "what is transparent on black"
        )
    if preprocessing.crop_retina:
        if preprocessing.version > 1:
            said.append("paint a ground of one bright colour black (paint_ground_black)")
        said.append(
            "crop to the box of the retina: in a copy whose longer side is at most 256 "
            "(cv2.INTER_AREA), the largest component of max(R, G, B) > clip(0.15 x its 99th "
            "percentile, 12, 30) after opening by 3 x 3; nothing is cut where it covers less than "
            "a tenth"
        )
    if preprocessing.enable_clahe:
        tiles = preprocessing.clahe_tile_grid_size
        said.append(
            f"CLAHE on L of OpenCV's 8-bit LAB, clipLimit {preprocessing.clahe_clip_limit:g}, "
            f"{tiles} x {tiles} tiles"
        )
    if preprocessing.crop_retina:
        said.append("centre on a black square; an odd pixel goes to the bottom or right")
    said.append(f"Pillow's resize to {size} x {size}, {preprocessing.interpolation}")
    return said


def pixel_program(preprocessing: Preprocessing, name: str) -> str:
    """Write the program that makes the pixels of an input of that name."""
    size, first = preprocessing.img_size, preprocessing.version == 1
    text = _HEAD.format(name=name, size=size)
    image = "read_as_version_1(path)" if first else "read(path)"
    common: list[Callable[..., object]] = [steps.read_as_version_1 if first else steps.read]
    rare: list[Callable[..., object]] = [] if first else [steps.to_bytes]
    if preprocessing.crop_retina:
        common += _CROP
        if not first:
            image = f"paint_ground_black({image})"
            rare.append(steps.paint_ground_black)
        image = f"crop_to_retina({image})"
    text += f"    image = {image}\n"
    if preprocessing.enable_clahe:
        limit, tiles = preprocessing.clahe_clip_limit, preprocessing.clahe_tile_grid_size
        text += _CLAHE.format(limit=limit, tiles=tiles)
    text += _SQUARE if preprocessing.crop_retina else _NO_SQUARE
    text += _RESIZE.format(size=size, method=preprocessing.interpolation.upper())
    parts = [text, *map(inspect.getsource, common)]
    if rare:
        parts += [f"{RARE}\n", *map(inspect.getsource, rare)]
    return "\n\n".join(parts)
