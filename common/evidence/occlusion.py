"""A check by pixels: what happens to the logits when a part of the picture is hidden.

Unlike the maps it looks at nothing inside the network, but it shows pictures that no eye gives, and
takes a prediction for each part (Zeiler & Fergus 2014, section 4.2).

N images, P pairs, S pixels of the square side, g parts to a side.
"""

import numpy as np
import torch

from common.data.class_names import grade_order
from common.evidence.exact import pairs_in_grade_order
from common.evidence.maps import resample
from common.models.ovo import chunk_size
from common.pixels.device_pixels import PixelSource
from common.pixels.retina import strongest
from common.trained_networks.loading import LoadedModel
from common.trained_networks.running import move_to, predict_pixels

PARTS = 8  # to a side
_DARK = 10  # of 255: what is no brighter is not of the retina


def occlusion_of(
    model: LoadedModel,
    pixels: PixelSource,
    device: torch.device,
    precision: str = "fp32",
    tta: str = "none",
    parts: int = PARTS,
) -> np.ndarray:
    """Say by how much each pair's logit falls where a part is hidden, (N, P, g, g), in grade order.

    Positive: the part spoke for the pair's higher grade. It is hidden under the picture's mean
    colour.
    """
    move_to(model, device)
    maps = [
        _falls(model, pixels.read(np.array([index]))[0], device, precision, tta, parts)
        for index in range(len(pixels))
    ]
    return pairs_in_grade_order(np.stack(maps), model.head, grade_order(model.class_names))


def _falls(
    model: LoadedModel,
    picture: np.ndarray,
    device: torch.device,
    precision: str,
    tta: str,
    parts: int,
) -> np.ndarray:
    """Return (O, g, g) by how much a model's outputs for a picture fall where a part is hidden."""
    shown = np.concatenate([picture[None], hide_parts(picture, parts)])
    size = chunk_size(device)
    chunks = [shown[start : start + size] for start in range(0, len(shown), size)]
    outputs = np.concatenate(
        [predict_pixels(model, chunk, device, precision, tta).logits for chunk in chunks]
    )
    falls = outputs[0] - outputs[1:]  # (g * g, O)
    return falls.T.reshape(-1, parts, parts)


def hide_parts(picture: np.ndarray, parts: int) -> np.ndarray:
    """Hide each part of a picture (S, S, 3) in turn, row by row: (g * g, S, S, 3)."""
    lit = picture[strongest(picture) > _DARK]
    colour = lit.mean(0).round().astype(np.uint8) if len(lit) else np.zeros(3, np.uint8)
    edges = np.linspace(0, len(picture), parts + 1).round().astype(int)
    hidden = np.repeat(picture[None], parts * parts, axis=0)
    for number, one in enumerate(hidden):
        row, column = divmod(number, parts)
        one[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = colour
    return hidden


def agreement(evidence: np.ndarray, falls: np.ndarray) -> float:
    """Correlate a map (h, w) with what hiding parts did (g, g), over the parts; NaN if one is flat.

    Pearson's correlation, after the map is laid out on the parts.
    """
    one, other = resample(evidence, falls.shape).ravel(), falls.ravel()
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])
