"""Ways in which people alter photographs before they save them again."""

from collections.abc import Callable

import cv2
import numpy as np

from common.inspection.image_statistics import cut_out_retina

Change = Callable[[np.ndarray], np.ndarray]


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    """Turn (H, W, 3) about its centre, its size kept, as augmentation does."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(picture, matrix, (width, height))


def frame_cropped(picture: np.ndarray, share: float) -> np.ndarray:
    """Cut a share of the sides off each edge."""
    height, width = picture.shape[:2]
    rows, columns = round(height * share), round(width * share)
    return picture[rows : height - rows, columns : width - columns]


def disc_cropped(picture: np.ndarray, share: float) -> np.ndarray:
    """Cut a share of the retina's sides off each of its edges."""
    return frame_cropped(cut_out_retina(picture).crop, share)


def filtered(picture: np.ndarray) -> np.ndarray:
    """Filter as Ben Graham did: 4 times what differs from the surroundings, about grey."""
    around = cv2.GaussianBlur(picture, (0, 0), picture.shape[1] / 60).astype(np.float32)
    return _bytes(4 * (picture - around) + 128)


def exposed(picture: np.ndarray, contrast: float = 1, brightness: float = 0) -> np.ndarray:
    """Multiply by `contrast` about middle grey and add `brightness`, in shares of white."""
    return _bytes((picture.astype(np.float32) - 128) * contrast + 128 + 255 * brightness)


def with_gamma(picture: np.ndarray, gamma: float) -> np.ndarray:
    """Change grey levels by a power."""
    return _bytes(255 * (picture / 255.0) ** gamma)


def resized(picture: np.ndarray, width: int) -> np.ndarray:
    """Resize to a width in pixels, the aspect kept."""
    height = round(picture.shape[0] * width / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def equalised(picture: np.ndarray) -> np.ndarray:
    """Raise local contrast (CLAHE) of the lightness."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def noisy(picture: np.ndarray, spread: float) -> np.ndarray:
    """Add noise of a spread in grey levels."""
    return _bytes(picture + np.random.default_rng(0).normal(0, spread, picture.shape))


def padded(picture: np.ndarray) -> np.ndarray:
    """Pad to a square with black and a black border."""
    height, width = picture.shape[:2]
    more = (max(height, width) - height) // 2
    return cv2.copyMakeBorder(picture, more + 60, more + 60, 60, 60, cv2.BORDER_CONSTANT)


# name -> how, and the JPEG's quality
CHANGES: dict[str, tuple[Change, int]] = {
    "turned by 3 degrees": (lambda a: turned(a, 3), 90),
    "turned by 5 degrees": (lambda a: turned(a, -5), 90),
    "turned by 10 degrees": (lambda a: turned(a, 10), 90),
    "turned by 15 degrees": (lambda a: turned(a, -15), 90),
    "turned by 25 degrees": (lambda a: turned(a, 25), 90),
    "turned by 45 degrees": (lambda a: turned(a, 45), 90),
    "turned by 90 degrees": (lambda a: np.rot90(a), 90),
    "upside down": (lambda a: np.rot90(a, 2), 90),
    "frame cropped by 2 %": (lambda a: frame_cropped(a, 0.02), 90),
    "frame cropped by 5 %": (lambda a: frame_cropped(a, 0.05), 90),
    "frame cropped by 10 %": (lambda a: frame_cropped(a, 0.10), 90),
    "disc cropped by 2 %": (lambda a: disc_cropped(a, 0.02), 90),
    "disc cropped by 3 %": (lambda a: disc_cropped(a, 0.03), 90),
    "disc cropped by 5 %": (lambda a: disc_cropped(a, 0.05), 90),
    "disc cropped by 10 %": (lambda a: disc_cropped(a, 0.10), 90),
    "Ben Graham's filter": (filtered, 90),
    "mirrored": (lambda a: a[:, ::-1], 90),
    "flipped": (lambda a: a[::-1], 90),
    "brighter by 25 %": (lambda a: exposed(a, 1, 0.25), 90),
    "darker by a factor of 0.75": (lambda a: _bytes(a * 0.75), 90),
    "contrast + 25 %": (lambda a: exposed(a, 1.25), 90),
    "contrast - 25 %": (lambda a: exposed(a, 0.75), 90),
    "JPEG 50": (lambda a: a, 50),
    "256 pixels wide": (lambda a: resized(a, 256), 90),
    "224 x 224 pixels": (lambda a: cv2.resize(a, (224, 224), interpolation=cv2.INTER_AREA), 90),
    "turned 25, mirrored, brighter, JPEG 70": (
        lambda a: exposed(turned(a, 25)[:, ::-1], 1, 0.25),
        70,
    ),
    "turned 25, frame cropped 10 %, JPEG 50": (
        lambda a: frame_cropped(turned(a, -25), 0.10),
        50,
    ),
    "turned 25, disc cropped 10 %, flipped, darker, JPEG 50": (
        lambda a: _bytes(disc_cropped(turned(a, 25), 0.10)[::-1] * 0.75),
        50,
    ),
    "turned 10, disc cropped 5 %, 256 pixels, JPEG 70": (
        lambda a: resized(disc_cropped(turned(a, 10), 0.05), 256),
        70,
    ),
    "turned 25, disc cropped 10 %, mirrored, brighter, 224 x 224 pixels, JPEG 50": (
        lambda a: exposed(
            cv2.resize(
                disc_cropped(turned(a, -25), 0.10)[:, ::-1],
                (224, 224),
                interpolation=cv2.INTER_AREA,
            ),
            1,
            0.25,
        ),
        50,
    ),
    "filtered, turned 25, frame cropped 5 %": (
        lambda a: frame_cropped(turned(filtered(a), 25), 0.05),
        90,
    ),
    "gamma 0.6": (lambda a: with_gamma(a, 0.6), 90),
    "gamma 1.6": (lambda a: with_gamma(a, 1.6), 90),
    "blurred (2 pixels)": (lambda a: cv2.GaussianBlur(a, (0, 0), 2), 90),
    "noise of 12 grey levels": (lambda a: noisy(a, 12), 90),
    "black borders": (padded, 90),
    "CLAHE": (equalised, 90),
}


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
