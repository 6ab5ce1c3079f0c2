"""What one file of a dataset is: its faults, its fingerprints and its statistics.

H, W pixels of the photograph; S statistics. All that looks at the eye looks at the retina's box,
stretched to a square, because fundus photographs resemble each other in everything else; the
square also undoes black borders, resizing and a changed aspect. A bright frame of one colour is cut
off first.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from common.data.preprocessing import IMAGE_SUFFIXES, ImageError, decode_image, retina_box

SKETCH_SIDE = 64


# fault -> what it means; those before "grayscale" make a file useless
FAULTS = {
    "empty": "no bytes",
    "not_image": "no JPEG, PNG, TIFF or BMP picture; training passes over it or stops at it",
    "unreadable": "cannot be read or decoded",
    "truncated": "the file ends before the picture does",
    "grayscale": "no colour",
    "deep": "16 bits per channel",
    "alpha": "has a transparency channel",
    "tiny": "the shorter side is below 128 pixels",
    "exif_rotated": "turned by its EXIF data only",
    "black": "nearly black",
    "blurred": "no fine detail in the retina",
}


UNUSABLE = ("empty", "not_image", "unreadable", "truncated")


# what the way of saving decides, and no eye can: tells a grade only if grades were saved apart
FILE_STATISTICS = (
    "width",
    "height",
    "aspect",
    "format",
    "luma table",
    "chroma table",
    "subsampling",
    "progressive",
)


# of the quietest few or the middle of many small patches, where lesions hardly reach: tells a
# grade only if grades were photographed or enhanced apart
GROUND_STATISTICS = (
    "border share",
    "red",
    "green",
    "blue",
    "brightness",
    "sharpness",
    "fine noise",
    "noise at full size",
)


# of the whole picture, to which lesions add
WHOLE_STATISTICS = (
    "file size",
    "bytes per pixel",
    "red spread",
    "green spread",
    "blue spread",
    "contrast",
    "local contrast",
    "detail",
    "clipped share",
)


STATISTICS = {"file": FILE_STATISTICS, "ground": GROUND_STATISTICS, "whole": WHOLE_STATISTICS}


_TINY = 128  # pixels


_BRIGHT_FRAME = 120  # grey level from which the colour of the corners may be that of a frame


_FRAME_NOISE = 24  # grey levels by which compression changes a frame


_BLACK = 24  # grey levels that 99 % of a picture stay below


_BLURRED = 0.12  # see `_detail`


_FLAT = 0.5  # grey levels: below, a picture has no structure to compare


_EXIF_ORIENTATION = 274


@dataclass(frozen=True)
class FileRecord:
    """What is known of one file; what needs a picture is None or "" where there is none."""

    faults: tuple[str, ...] = ()  # of FAULTS
    detail: str = ""  # why it is useless
    bytes: int = 0
    sha256: str = ""
    pixels: str = ""  # digest of the upright RGB pixels
    width: int = 0
    height: int = 0
    statistics: np.ndarray | None = None  # (S,) of the file, the ground, the whole
    sketch: np.ndarray | None = None  # (64, 64) int8, None for a picture without structure
    hashes: np.ndarray | None = None  # (8, 32) uint8, one for each orientation of the sketch

    @property
    def usable(self) -> bool:
        """Tell whether training can read it."""
        return not any(fault in UNUSABLE for fault in self.faults)


def inspect_file(path: Path) -> FileRecord:
    """Read and judge one file; never raises for what is in it."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return FileRecord(("unreadable",), "no regular file, or a link that leads nowhere")
        if path.name.startswith(".") or not path.name.lower().endswith(IMAGE_SUFFIXES):
            return FileRecord(("not_image",), "its name is not that of a picture")
        data = path.read_bytes()
    except OSError as error:
        return FileRecord(("unreadable",), str(error.strerror))
    known = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about metadata
            image = decode_image(data, path.name)
            header = _read_header(data)
    except ImageError as error:
        fault, detail = _reason(data, error.__cause__)
        return FileRecord((fault,), detail, **known)
    return _judge(image, header, known)


def orient(sketches: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (..., 64, 64) into one of its 8 orientations: 0-3 quarter turns, 4-7 mirrored first."""
    turned = sketches if orientation < 4 else sketches[..., ::-1]
    return np.rot90(turned, orientation % 4, axes=(-2, -1))


def _reason(data: bytes, cause: BaseException | None) -> tuple[str, str]:
    text = f"{type(cause).__name__}: {cause}"
    if not data:
        return "empty", ""
    if isinstance(cause, UnidentifiedImageError):
        return "not_image", "its bytes are not those of a picture"
    return ("truncated" if "truncated" in text.lower() else "unreadable"), text


def _judge(image: np.ndarray, header: dict[str, float | bool], known: dict) -> FileRecord:
    height, width = image.shape[:2]
    inner = _unframed(image)
    # a picture made brighter by a constant has no dark ground: find its disc without that
    lift = int(np.percentile(inner[:: max(1, height // 256), :: max(1, width // 256)].max(2), 1))
    top, bottom, left, right = retina_box(cv2.subtract(inner, (lift, lift, lift, 0)))
    retina = inner[top:bottom, left:right]
    shrinking = min(retina.shape[:2]) > 256
    small = cv2.resize(
        retina, (256, 256), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = _detail(retina)
    faults = {
        "grayscale": header["grey"] or not np.ptp(small.astype(np.int16), axis=2).any(),
        "deep": header["deep"],
        "alpha": header["alpha"],
        "tiny": min(height, width) < _TINY,
        "exif_rotated": header["turned"],
        "black": np.percentile(small.max(axis=2), 99) < _BLACK,
    }
    faults["blurred"] = detail < _BLURRED and not faults["black"]
    share = retina.shape[0] * retina.shape[1] / (height * width)
    file = [
        width,
        height,
        width / height,
        header["format"],
        header["luma"],
        header["chroma"],
        header["sampling"],
        header["progressive"],
    ]
    size = [known["bytes"], known["bytes"] / (height * width)]
    statistics = [
        *file,
        1 - share,
        *_ground(small, grey, retina),
        *size,
        *_whole(small, grey),
        detail,
    ]
    statistics.append(float(np.mean((_inner(small) >= 253) | (_inner(small) <= 2))))
    sketch, hashes = _sketch(grey)
    return FileRecord(
        tuple(name for name, found in faults.items() if found),
        "",
        **known,
        pixels=hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(),
        width=width,
        height=height,
        statistics=np.array(statistics, dtype=np.float64),
        sketch=sketch,
        hashes=hashes,
    )


def _unframed(image: np.ndarray) -> np.ndarray:
    """Cut a frame of one bright colour, such as white margins, off a picture (H, W, 3)."""
    colour = int(np.median(image[[0, 0, -1, -1], [0, -1, 0, -1]].max(axis=1)))
    if colour < _BRIGHT_FRAME:
        return image
    inside = np.abs(image.max(axis=2).astype(np.int16) - colour) > _FRAME_NOISE
    rows, columns = (np.flatnonzero(inside.mean(axis=axis) > 0.01) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _read_header(data: bytes) -> dict[str, float | bool]:
    with Image.open(io.BytesIO(data)) as image:
        tables = getattr(image, "quantization", None) or {}
        depth = getattr(image, "tag_v2", {}).get(258, (8,))
        mode = image.mode
        return {
            "format": float(("JPEG", "PNG", "TIFF", "BMP", "MPO").index(image.format)),
            "grey": mode in ("1", "L", "LA", "F") or mode.startswith("I"),
            "deep": mode.startswith("I")
            or (image.format == "PNG" and data[24] == 16)
            or (image.format == "TIFF" and max(depth) == 16),
            "alpha": mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info,
            "turned": image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1),
            "luma": float(np.mean(tables[0])) if 0 in tables else 0.0,
            "chroma": float(np.mean(tables[1])) if 1 in tables else 0.0,
            "sampling": float(JpegImagePlugin.get_sampling(image)) if tables else -1.0,
            "progressive": float(bool(image.info.get("progressive"))),
        }


def _detail(retina: np.ndarray) -> float:
    """Measure the fine structure of a retina (H, W, 3) in shares of its coarse structure.

    At one scale, 256 pixels; a smaller picture is taken as it is.
    """
    side = min(256, *retina.shape[:2])
    green = cv2.resize(retina[..., 1], (side, side), interpolation=cv2.INTER_AREA)
    green = _inner(green.astype(np.float32))
    fine = green - cv2.GaussianBlur(green, (0, 0), 1.5)
    coarse = cv2.GaussianBlur(green, (0, 0), 1.5) - cv2.GaussianBlur(green, (0, 0), 12)
    return float(np.sqrt(np.mean(fine**2) / (np.mean(coarse**2) + 1.0)))


def _inner(picture: np.ndarray) -> np.ndarray:
    """Keep the middle 64 % of each side, which lies within any disc."""
    height, width = picture.shape[:2]
    top, left = round(0.18 * height), round(0.18 * width)
    return picture[top : height - top, left : width - left]


def _patches(picture: np.ndarray, side: int = 6) -> np.ndarray:
    """Cut the inner part of (H, W) into squares: (patches, side * side)."""
    inner = _inner(picture)
    rows, columns = inner.shape[0] // side, inner.shape[1] // side
    cut = inner[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)


def _ground(small: np.ndarray, grey: np.ndarray, retina: np.ndarray) -> list[float]:
    """Measure GROUND_STATISTICS on the retina's square (256, 256, 3) and at full size."""
    colours = [float(np.median(np.median(_patches(small[..., c]), axis=1))) for c in range(3)]
    colours.append(float(np.median(np.median(_patches(grey), axis=1))))
    blurred = cv2.GaussianBlur(grey, (0, 0), 1.5)
    height, width = retina.shape[:2]
    top, left = max(0, height // 2 - 128), max(0, width // 2 - 128)
    centre = cv2.cvtColor(retina[top : top + 256, left : left + 256], cv2.COLOR_RGB2GRAY)
    pictures = (
        grey - blurred,
        cv2.Laplacian(grey, cv2.CV_32F),
        cv2.Laplacian(centre.astype(np.float32), cv2.CV_32F),
    )
    quiet = [_quiet(picture) for picture in pictures]
    return [*colours, *quiet]


def _quiet(picture: np.ndarray) -> float:
    spreads = _patches(picture).std(axis=1)
    return float(np.percentile(spreads, 3)) if len(spreads) else 0.0


def _whole(small: np.ndarray, grey: np.ndarray) -> list[float]:
    low, high = np.percentile(_inner(small), (10, 90), axis=(0, 1))
    dark, bright = np.percentile(_inner(grey), (2, 98))
    local = np.percentile(_patches(grey).std(axis=1), 25)
    return [*(high - low).tolist(), float(bright - dark), float(local)]


def _disc(radius: float) -> np.ndarray:
    steps = (np.arange(SKETCH_SIDE) + 0.5) / SKETCH_SIDE * 2 - 1
    return np.hypot(steps[:, None], steps[None]) < radius


def _structure(small: np.ndarray, scales: tuple[float, float, float], radius: float) -> np.ndarray:
    """Keep the structure of (64, 64) grey levels alone, whatever the exposure, as int8.

    Band-passed between two scales, divided by its spread over the third, nothing outside the
    disc, whose edge all photographs share.
    """
    low, high, wide = scales
    band = cv2.GaussianBlur(small, (0, 0), low) - cv2.GaussianBlur(small, (0, 0), high)
    spread = np.sqrt(cv2.GaussianBlur(band**2, (0, 0), wide))
    local = np.where(_disc(radius), band / (spread + 0.5), 0)
    return np.clip(np.round(32 * local), -127, 127).astype(np.int8)


def _sketch(grey: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Reduce (256, 256) grey levels to a sketch and 8 hashes, None without structure.

    The hashes see coarse structure, which survives most; the sketch sees vessels and lesions only,
    because at coarser scales two eyes before one camera correlate up to 0.87.
    """
    small = cv2.resize(grey, (SKETCH_SIDE, SKETCH_SIDE), interpolation=cv2.INTER_AREA)
    if (small - cv2.GaussianBlur(small, (0, 0), 2))[_disc(0.8)].std() < _FLAT:
        return None, None
    return _structure(small, (0.7, 2, 5), 0.8), _hashes(_structure(small, (1, 5, 8), 0.9))


def _frequency_order(side: int) -> np.ndarray:
    rows, columns = np.divmod(np.arange(side * side), side)
    return np.lexsort((rows, np.abs(rows - columns), rows + columns))


_ORDER = _frequency_order(16)


def _hashes(structure: np.ndarray) -> np.ndarray:
    """Hash 8 orientations of (64, 64) int8 perceptually to (8, 32) uint8, low frequencies first."""
    picture = (structure.astype(np.int16) + 128).astype(np.uint8)
    bits = [
        imagehash.phash(Image.fromarray(np.ascontiguousarray(orient(picture, k))), 16).hash
        for k in range(8)
    ]
    return np.packbits(np.stack(bits).reshape(8, -1)[:, _ORDER], axis=1)
