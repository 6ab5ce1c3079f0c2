"""Make the pixels that an exported network takes, with OpenCV, NumPy and Pillow alone.

This file needs nothing else of the software that it came with: take it along with the network. It
gives the same bytes, for pictures of 8 bits, as that software does:

    contract = json.load(open("model.json"))
    pixels = make_pixels("photograph.jpg", contract["inputs"][0])
    session.run(None, {"pixels": pixels[None]})

H, W pixels of the photograph; S pixels of the network's side; h, w of a copy of at most 256 pixels.
"""

from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps


def make_pixels(path: str, network_input: dict[str, Any]) -> np.ndarray:
    """Turn a file into (S, S, 3) uint8 RGB; network_input: an entry of the contract's `inputs`."""
    settings = network_input["pixels"]
    with Image.open(path) as file:
        if file.mode not in ("RGB", "L") or "transparency" in file.info:
            raise ValueError(f"{path}: expected 8 bits of grey or of RGB, found mode {file.mode}")
        image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    if settings["crop_retina"]:
        image = crop_to_retina(image, paint=settings["version"] > 1)
    if settings["enable_clahe"]:
        tiles = (settings["clahe_tile_grid_size"],) * 2
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(settings["clahe_clip_limit"], tiles).apply(lab[..., 0])
        image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    if settings["crop_retina"]:
        height, width = image.shape[:2]
        rows, columns = (max(height, width) - side for side in (height, width))
        margins = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
        image = cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT)
    method = Image.Resampling[settings["interpolation"].upper()]
    return np.asarray(Image.fromarray(image).resize((settings["img_size"],) * 2, method))


def crop_to_retina(image: np.ndarray, paint: bool) -> np.ndarray:
    """Cut (H, W, 3) to the box of its largest bright component, as seen in the small copy."""
    if paint:
        image = paint_ground_black(image)
    height, width = image.shape[:2]
    scale, small = shrink(image)
    levels = small.max(axis=2)
    bright = (levels > least_level(levels)).astype(np.uint8)
    mask = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((3, 3)))
    _, _, found, _ = cv2.connectedComponentsWithStats(mask)
    if len(found) < 2 or found[1:, cv2.CC_STAT_AREA].max() < 0.1 * mask.size:
        return image
    left, top, across, down, _ = found[1 + found[1:, cv2.CC_STAT_AREA].argmax()]
    rows = slice(int(top * scale), min(height, int(np.ceil((top + down) * scale))))
    return image[rows, int(left * scale) : min(width, int(np.ceil((left + across) * scale)))]


def shrink(image: np.ndarray) -> tuple[float, np.ndarray]:
    """Return a copy (h, w, 3) whose longer side is at most 256, and how much smaller it is."""
    height, width = image.shape[:2]
    scale = max(1.0, max(height, width) / 256)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return scale, cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def least_level(levels: np.ndarray) -> float:
    """Return the level from which on something stands out from a ground at 0."""
    return float(np.clip(0.15 * np.percentile(levels, 99), 12, 30))


def paint_ground_black(image: np.ndarray) -> np.ndarray:
    """Paint a ground of one bright colour black, such as white margins; others stay as they are.

    It has the colour of two or more flat corners, is connected with one of them, ends in an edge,
    and leaves something convex.
    """
    scale, small = shrink(image)
    down, across = (max(1, min(8, side // 8)) for side in small.shape[:2])
    places = [
        (rows, columns)
        for rows in (slice(down), slice(-down, None))
        for columns in (slice(across), slice(-across, None))
    ]
    corners = [small[place].reshape(-1, 3).astype(np.int16) for place in places]
    colours = [np.median(corner, axis=0) for corner in corners]
    if sum(np.median(corner.max(axis=1)) > 12 for corner in corners) < 2:
        return image
    colours = [
        colour
        for colour, corner in zip(colours, corners)
        if np.percentile(np.abs(corner - colour).max(axis=1), 90) <= 12 and colour.max() > 12
    ]
    groups = [[b for b in colours if np.abs(a - b).max() <= 16] for a in colours]
    alike = max(groups, key=len, default=[])
    if len(alike) < 2:
        return image
    colour = np.mean(alike, axis=0).round().astype(np.int16)
    distance = np.abs(small.astype(np.int16) - colour).max(axis=2)
    limit = least_level(distance)
    _, labels = cv2.connectedComponents((distance <= limit).astype(np.uint8), connectivity=4)
    kept = {int(np.bincount(labels[place].ravel()).argmax()) for place in places} - {0}
    ground = np.isin(labels, list(kept)).astype(np.uint8)
    inner = cv2.erode(ground, np.ones((5, 5), np.uint8)) > 0
    near, far = (cv2.dilate(ground, np.ones((side, side), np.uint8)) > 0 for side in (5, 9))
    edge = far & ~near
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
    size, kernel = image.shape[1::-1], np.ones((3, 3), np.uint8)
    inside, around = (
        cv2.resize(change(ground, kernel), size, interpolation=cv2.INTER_NEAREST)
        for change in (cv2.erode, cv2.dilate)
    )
    low, high = (np.clip(colour + step, 0, 255).astype(np.float64) for step in (-limit, limit))
    painted = cv2.bitwise_and(cv2.inRange(image, low, high), 255 * around)
    painted = cv2.bitwise_or(painted, 255 * inside)
    seam = np.ones((2 * round(scale / 2) + 1,) * 2, np.uint8)
    image = image.copy()
    image[cv2.dilate(painted, seam) > 0] = 0
    return image
