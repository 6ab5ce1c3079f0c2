"""Measure a file and its picture in numbers, for the probe that looks for shortcuts to the grade.

H, W pixels of the photograph; h, w pixels of the retina in it. There are three kinds of statistics,
by what can cause them: of the file, of the background between lesions, and of the whole image.
Everything but the file is measured on the retina's box, stretched to a square, because fundus
photographs resemble each other in everything else; the square also undoes black borders, resizing
and a changed aspect.
"""

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from common.pixels.decoding import FORMATS, orientation_of
from common.pixels.deep import declared_greatest, is_tiff
from common.pixels.retina import find_retina

# the kinds of statistics: of the file, which no eye can cause; of the background, measured where
# lesions hardly reach; of the whole image, to which lesions add
KINDS = ("file", "background", "image")
Statistics = dict[str, dict[str, float]]  # kind -> name -> value
# formats, each with a number for the probe
_KINDS = ("JPEG", "PNG", "TIFF", "BMP", "MPO", "WEBP", "GIF", "PPM", "JPEG2000", "DICOM")
_BITS_PER_SAMPLE = 258  # a tag of TIFF


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's file says before its pixels are decoded."""

    grey: bool
    deep: bool  # more than 8 bits per channel
    alpha: bool  # a transparency channel
    turned: bool  # by its EXIF data
    format: float  # place in a list of formats
    luma_table: float  # mean of the JPEG quantisation table of brightness, 0 where there is none
    chroma_table: float  # and of colour
    subsampling: float  # of JPEG's colour, as Pillow numbers it; -1 where there is none
    progressive: float


@dataclass(frozen=True)
class Retina:
    """The retina of a photograph (H, W, 3)."""

    share: float  # of the photograph's pixels that its box covers
    crop: np.ndarray  # (h, w, 3) uint8, at full size
    square: np.ndarray  # (256, 256, 3) uint8, stretched
    grey: np.ndarray  # (256, 256) float32, the grey levels of the square
    detail: float  # fine structure in shares of the coarse structure
    num_discs: int  # 2 where two eyes lie side by side


def read_header(data: bytes) -> PictureHeader:
    """Read the header of a picture that can be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _read_header(data, image)
    except UnidentifiedImageError:  # DICOM, and TIFF files that are not Pillow's
        kind = "TIFF" if is_tiff(data) else "DICOM"
        return PictureHeader(
            False, kind == "TIFF", False, False, float(_KINDS.index(kind)), 0.0, 0.0, -1.0, 0.0
        )


def _read_header(data: bytes, image: Image.Image) -> PictureHeader:
    tables = getattr(image, "quantization", None) or {}
    depth = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    mode, kind = image.mode, str(image.format)
    return PictureHeader(
        grey=mode in ("1", "L", "LA", "F") or mode.startswith("I"),
        deep=mode.startswith(("I", "F"))
        or declared_greatest(data, kind) > 0
        or (kind == "TIFF" and max(depth) > 8),
        alpha=mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info,
        turned=orientation_of(image) not in (0, 1),
        format=float(_KINDS.index(kind)),
        luma_table=float(np.mean(tables[0])) if 0 in tables else 0.0,
        chroma_table=float(np.mean(tables[1])) if 1 in tables else 0.0,
        subsampling=float(JpegImagePlugin.get_sampling(image)) if tables else -1.0,
        progressive=float(bool(image.info.get("progressive"))),
    )


def cut_out_retina(image: np.ndarray) -> Retina:
    """Cut the retina out of a photograph (H, W, 3) uint8 RGB on a ground of any colour."""
    height, width = image.shape[:2]
    found = find_retina(image)
    crop = found.crop
    shrinking = min(crop.shape[:2]) > 256
    square = cv2.resize(
        crop, (256, 256), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
    return Retina(
        share=crop.shape[0] * crop.shape[1] / (height * width),
        crop=crop,
        square=square,
        grey=cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float32),
        detail=_detail(crop),
        num_discs=found.num_discs,
    )


def measure(
    width: int, height: int, num_bytes: int, header: PictureHeader, retina: Retina
) -> Statistics:
    """Measure the statistics of all kinds. width, height of the photograph in pixels."""
    return {
        "file": _file_statistics(width, height, header),
        "background": _background_statistics(retina),
        "image": _image_statistics(num_bytes, num_bytes / (height * width), retina),
    }


def _file_statistics(width: int, height: int, header: PictureHeader) -> dict[str, float]:
    """Measure how a file was saved; that predicts a grade only if grades were saved differently."""
    return {
        "width": float(width),
        "height": float(height),
        "aspect": width / height,
        "format": header.format,
        "luma table": header.luma_table,
        "chroma table": header.chroma_table,
        "subsampling": header.subsampling,
        "progressive": header.progressive,
    }


def _background_statistics(retina: Retina) -> dict[str, float]:
    """Measure the quietest or the middle of many small patches, where lesions hardly reach.

    They predict a grade only if grades were photographed or enhanced differently.
    """
    red, green, blue = (_middle_patch(retina.square[..., channel]) for channel in range(3))
    height, width = retina.crop.shape[:2]
    top, left = max(0, height // 2 - 128), max(0, width // 2 - 128)
    centre = cv2.cvtColor(retina.crop[top : top + 256, left : left + 256], cv2.COLOR_RGB2GRAY)
    return {
        "border share": 1 - retina.share,
        "red": red,
        "green": green,
        "blue": blue,
        "brightness": _middle_patch(retina.grey),
        "sharpness": _quietest_patches(retina.grey - cv2.GaussianBlur(retina.grey, (0, 0), 1.5)),
        "fine noise": _quietest_patches(cv2.Laplacian(retina.grey, cv2.CV_32F)),
        "noise at full size": _quietest_patches(
            cv2.Laplacian(centre.astype(np.float32), cv2.CV_32F)
        ),
    }


def _image_statistics(num_bytes: int, bytes_per_pixel: float, retina: Retina) -> dict[str, float]:
    """Measure the whole image, to which lesions add."""
    colours = _inner(retina.square)
    red, green, blue = np.ptp(np.percentile(colours, (10, 90), axis=(0, 1)), axis=0).tolist()
    dark, bright = np.percentile(_inner(retina.grey), (2, 98))
    return {
        "file size": float(num_bytes),
        "bytes per pixel": bytes_per_pixel,
        "red spread": red,
        "green spread": green,
        "blue spread": blue,
        "contrast": float(bright - dark),
        "local contrast": float(np.percentile(_patches(retina.grey).std(axis=1), 25)),
        "detail": retina.detail,
        "clipped share": float(np.mean((colours >= 253) | (colours <= 2))),
    }


def _detail(crop: np.ndarray) -> float:
    """Measure the fine structure of a retina (h, w, 3) in shares of its coarse structure.

    At one scale, 256 pixels; a smaller picture is taken as it is.
    """
    side = min(256, *crop.shape[:2])
    green = cv2.resize(crop[..., 1], (side, side), interpolation=cv2.INTER_AREA)
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


def _middle_patch(picture: np.ndarray) -> float:
    """Return the middle one of the patches' grey levels."""
    return float(np.median(np.median(_patches(picture), axis=1)))


def _quietest_patches(picture: np.ndarray) -> float:
    """Return the spread within the quietest 3 % of the patches, 0 for a picture without any."""
    spreads = _patches(picture).std(axis=1)
    return float(np.percentile(spreads, 3)) if len(spreads) else 0.0
