"""What becomes of a score when the places with most evidence are blurred away.

N images, S pixels of the square's side, G x G blocks of it, C curves, F shares of the retina. The
deletion curve of Petsiuk et al. 2018, "RISE", with blurred pixels (Fong & Vedaldi 2017) in place of
grey ones, which no retina has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.special

from benchmarks.evidence_maps.maps import Asked, Look
from common.pixels.retina import retina_mask
from common.prediction.altered import AlteredPixels
from common.result_dir.stored import read_predictions, write_predictions
from common.system.log import log
from common.system.random_streams import random_generator
from common.trained_networks.outputs import probabilities_of
from common.trained_networks.running import predict_logits

BLOCKS = 16  # a side, whatever the map's own resolution
SHARES = (0.1, 0.3)  # of the retina's blocks
CURVES = ("evidence", "random", "others")  # by whose order blocks go
_BLUR = 20  # the square's side over the blur's standard deviation


@dataclass(frozen=True)
class Deletion:
    """The score of each image, in logits, as it is and with more and more of it deleted."""

    whole: np.ndarray  # (N,)
    curves: np.ndarray  # (C, N, F), in the order of CURVES

    @property
    def lost(self) -> np.ndarray:
        """How much each order takes from the score, the mean over the shares, (C, N)."""
        return self.whole - self.curves.mean(2)


def in_blocks(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Average a map (S, S) over the retina's part of each block, (G * G,).

    -inf for a block of which the retina has less than half.
    """
    size = len(values)
    place = np.arange(size) * BLOCKS // size
    block = (place[:, None] * BLOCKS + place).ravel()
    inside = mask.ravel().astype(float)
    counts = np.bincount(block, inside, BLOCKS**2)
    sums = np.bincount(block, inside * values.ravel(), BLOCKS**2)
    whole = np.bincount(block, minlength=BLOCKS**2)
    known = counts >= 0.5 * whole
    return np.where(known, sums / np.maximum(counts, 1), -np.inf)


def delete(pixels: np.ndarray, blurred: np.ndarray, values: np.ndarray, share: float) -> np.ndarray:
    """Blur the blocks of a picture (S, S, 3) whose values (G * G,) are the highest."""
    count = round(share * np.isfinite(values).sum())
    highest = np.zeros(BLOCKS**2, dtype=np.uint8)
    highest[np.argsort(-values, kind="stable")[:count]] = 1
    place = np.arange(len(pixels)) * BLOCKS // len(pixels)
    gone = highest.reshape(BLOCKS, BLOCKS)[place[:, None], place] > 0
    return np.where(gone[..., None], blurred, pixels)


def blur(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blur a picture (S, S, 3) uint8 within its retina until no vessel is left."""
    sigma = len(pixels) / _BLUR
    weights = mask.astype(np.float32)
    sums = cv2.GaussianBlur(pixels.astype(np.float32) * weights[..., None], (0, 0), sigma)
    found = sums / np.maximum(cv2.GaussianBlur(weights, (0, 0), sigma), 1e-3)[..., None]
    return np.where(mask[..., None], np.clip(found, 0, 255).round(), pixels).astype(np.uint8)


def deletion_of(
    asked: Asked, maps: Sequence[np.ndarray], weights: np.ndarray, look: Look
) -> Deletion:
    """Delete by each image's own map (S, S), by chance, and by the map of the image before it.

    The score is what the maps split: the pairs' logits, weighed (N, P). A probability would hardly
    change where the model is sure. What is kept of it is read again where it was asked for before.
    """
    content = np.round(np.stack(maps)[:, ::16, ::16], 3).tobytes()
    file = asked.file("deletion", look, SHARES, BLOCKS, content)
    if file.is_file():
        return Deletion(**read_predictions(file)[0])
    log(f"{asked.judged.method}, seed {asked.judged.seed}: deleting from {len(maps)} images")
    pixels = asked.pixels.read(np.arange(len(maps)))
    masks = [retina_mask(one) for one in pixels]
    blurred = [blur(one, mask) for one, mask in zip(pixels, masks)]
    own = [in_blocks(one, mask) for one, mask in zip(maps, masks)]
    others = [in_blocks(maps[place - 1], mask) for place, mask in enumerate(masks)]
    random = _random(own)

    def ask(order: Sequence[np.ndarray], share: float) -> np.ndarray:
        altered = [delete(*each, share) for each in zip(pixels, blurred, order)]
        return _score(asked, np.stack(altered), weights, look)

    curves = np.stack(
        [np.stack([ask(order, share) for share in SHARES]) for order in (own, random, others)]
    )  # (C, F, N)
    curves = np.ascontiguousarray(curves.swapaxes(1, 2))  # summed in the order of what is read
    found = Deletion(_score(asked, pixels, weights, look), curves)
    write_predictions(file, {"whole": found.whole, "curves": found.curves}, {})
    return found


def _random(blocks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Give the blocks of each retina values by chance."""
    return [
        np.where(np.isfinite(one), random_generator("deletion", place).random(len(one)), -np.inf)
        for place, one in enumerate(blocks)
    ]


def _score(asked: Asked, pixels: np.ndarray, weights: np.ndarray, look: Look) -> np.ndarray:
    place, source = asked.place, AlteredPixels(pixels, asked.model.preprocessing)
    logits = predict_logits(asked.model, source, place.device, place.precision, look.tta)
    pairs = np.clip(probabilities_of(logits, asked.judged.run), 1e-12, 1 - 1e-12)
    return (weights * scipy.special.logit(pairs)).sum(1)
