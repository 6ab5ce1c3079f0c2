"""The steps from a photograph to the pixels of a network, with OpenCV, NumPy and Pillow alone.

`pixel_program` takes those that a network's pixels are made by into the program that goes with it,
word for word; so nothing here may use anything else of this software.

H, W pixels of the photograph; h, w of a copy whose longer side is at most 256 pixels.
"""

import cv2
import numpy as np
from PIL import Image, ImageOps


def read(path: str) -> np.ndarray:
    """Decode a file to (H, W, 3) uint8 RGB, upright, and black where it is transparent."""
    deep = cv2.imread(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if deep is not None and deep.dtype != np.uint8:
        return to_bytes(path, deep)
    with Image.open(path) as file:
        if file.mode in ("I", "F", "LAB") or getattr(file, "n_frames", 1) > 1:
            raise ValueError(f"{path}: expected one picture of 8 bits, or a PNG of 16")
        upright = ImageOps.exif_transpose(file)
    colours, alpha = upright.convert("RGB"), upright.convert("RGBA").getchannel("A")
    if alpha.getbbox():  # what is transparent all over is taken as it is
        colours = Image.composite(colours, Image.new("RGB", colours.size), alpha)
    return np.asarray(colours)


def read_as_version_1(path: str) -> np.ndarray:
    """Decode a file to (H, W, 3) uint8 RGB, upright, as the first models of this software did."""
    with Image.open(path) as file:
        if file.mode == "F":
            raise ValueError(f"{path}: expected whole numbers as pixels")
        upright = ImageOps.exif_transpose(file)
    if upright.mode.startswith("I"):  # 16 bits of grey
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return np.asarray(upright.convert("RGB"))


def crop_to_retina(image: np.ndarray) -> np.ndarray:
    """Cut (H, W, 3) to the box of its largest bright component, as seen in a small copy."""
    scale, small = shrink(image)
    levels = small.max(axis=2)
    bright = (levels > least_level(levels)).astype(np.uint8)
    mask = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((3, 3)))
    _, _, parts, _ = cv2.connectedComponentsWithStats(mask)
    left, top, width, height, area = max(parts[1:], key=lambda part: part[4], default=(0,) * 5)
    if area < 0.1 * mask.size:
        return image
    rows = slice(int(top * scale), int(np.ceil((top + height) * scale)))
    return image[rows, int(left * scale) : int(np.ceil((left + width) * scale))]


def shrink(image: np.ndarray) -> tuple[float, np.ndarray]:
    """Return how much smaller the small copy is, and the copy, (h, w, 3)."""
    scale = max(1.0, max(image.shape[:2]) / 256)
    height, width = (max(1, round(side / scale)) for side in image.shape[:2])
    return scale, cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def least_level(levels: np.ndarray) -> float:
    """Return the level from which on something stands out from a ground at 0."""
    return float(np.clip(0.15 * np.percentile(levels, 99), 12, 30))


def to_bytes(path: str, deep: np.ndarray) -> np.ndarray:
    """Scale a PNG of 16 bits, (H, W, 3) BGR, to uint8 RGB from the least range that holds it."""
    with open(path, "rb") as file:
        head = file.read(4096)  # "sBIT" names a range, "tRNS" and colour types 4, 6 a transparency
    if head[:4] != b"\x89PNG" or b"sBIT" in head or b"tRNS" in head or head[25] > 2:
        raise ValueError(f"{path}: expected one picture of 8 bits, or a PNG of 16 that is opaque")
    greatest = min(top for top in (255, 1023, 4095, 16383, 65535) if top >= deep.max())
    return cv2.cvtColor(cv2.convertScaleAbs(deep, alpha=255 / greatest), cv2.COLOR_BGR2RGB)


def paint_ground_black(image: np.ndarray) -> np.ndarray:
    """Paint a ground of one bright colour black, such as white margins; others stay as they are.

    It has the colour of two or more flat corners, is connected with one of them, ends in an edge,
    and leaves something convex.
    """
    scale, small = shrink(image)
    sizes = [max(1, min(8, side // 8)) for side in small.shape[:2]]
    rows, columns = ((slice(size), slice(-size, None)) for size in sizes)
    corners = [(row, column) for row in rows for column in columns]
    flat = []  # colours
    for corner in corners:
        pixels = small[corner].reshape(-1, 3).astype(np.int16)
        colour = np.median(pixels, axis=0)
        spread = np.percentile(np.abs(pixels - colour).max(axis=1), 90)
        if spread <= 12 and colour.max() > 12:
            flat.append(colour)
    groups = [[b for b in flat if np.abs(a - b).max() <= 16] for a in flat]
    alike = max(groups, key=len, default=[])
    if len(alike) < 2:
        return image
    colour = np.mean(alike, axis=0).round()
    distance = np.abs(small - colour).max(axis=2)
    limit = least_level(distance)
    _, labels = cv2.connectedComponents((distance <= limit).astype(np.uint8), connectivity=4)
    kept = {int(np.bincount(labels[corner].ravel()).argmax()) for corner in corners} - {0}
    ground = np.isin(labels, list(kept)).astype(np.uint8)
    inner = cv2.erode(ground, np.ones((5, 5))) > 0
    edge = cv2.dilate(ground, np.ones((9, 9))) > cv2.dilate(ground, np.ones((5, 5)))
    if ground.mean() < 0.02 or not inner.any() or not edge.any():
        return image
    noise = float(np.percentile(distance[inner], 90))
    if noise > 12 or np.median(distance[edge]) <= 3 * (noise + 4):
        return image
    rest = cv2.morphologyEx(1 - ground, cv2.MORPH_OPEN, np.ones((3, 3)))
    outlines, _ = cv2.findContours(rest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return image
    largest = max(outlines, key=cv2.contourArea)
    area, hull = cv2.contourArea(largest), cv2.contourArea(cv2.convexHull(largest))
    if area < 0.1 * ground.size or area < 0.85 * hull:
        return image
    marks = (change(ground, np.ones((3, 3))) for change in (cv2.erode, cv2.dilate))
    size, nearest = image.shape[1::-1], cv2.INTER_NEAREST
    inside, around = (cv2.resize(mark, size, interpolation=nearest) for mark in marks)
    near = cv2.inRange(image, *(np.clip(colour + step, 0, 255) for step in (-limit, limit)))
    painted = np.where(near > 0, around, inside)
    seam = np.ones((2 * round(scale / 2) + 1,) * 2)
    image = image.copy()
    image[cv2.dilate(painted, seam) > 0] = 0
    return image
