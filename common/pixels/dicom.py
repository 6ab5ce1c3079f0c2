"""Decode DICOM files that hold one photograph, through pydicom where that is installed.

H, W pixels of the photograph.
"""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from common.pixels import deep
from common.system.errors import InputError

_ENDINGS = (".dcm", ".dicom")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_RCT", "YBR_ICT")
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # its transfer syntax


class NoPydicomError(InputError):
    """A DICOM file is to be read and pydicom is not installed."""


def is_dicom(data: bytes, name: str) -> bool:
    """Tell whether a file is DICOM: by its bytes, or by a name that says so and unknown bytes."""
    if data[128:132] == b"DICM":
        return True
    known = deep.is_tiff(data) or data[:2] in (b"\xff\xd8", b"\x89P", b"BM")
    return bool(data) and name.lower().endswith(_ENDINGS) and not known


def decode(data: bytes, check_size: Callable[[int, int], None]) -> np.ndarray:
    """Decode a DICOM file of one frame to (H, W, 3) uint8 RGB.

    check_size: raises for a width and height that are too large. Raises NoPydicomError, or
    ValueError for files that hold no photograph.
    """
    try:
        import pydicom
        import pydicom.pixels  # since version 3
    except ImportError as error:
        raise NoPydicomError(
            "DICOM files are read through pydicom, which is not installed; pip install 'pydicom>=3'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of pydicom, about values that are not as the standard says
        if _DEFLATED in data[:2048]:  # may unfold to any size
            raise ValueError("a deflated DICOM file, which is not read")
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        for name in ("Rows", "Columns", "PhotometricInterpretation", "PixelData"):
            if name not in dataset:
                raise ValueError(f"a DICOM file without {name}")
        check_size(int(dataset.Columns), int(dataset.Rows))
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames > 1:
            raise ValueError(f"a DICOM file of {frames} frames, expected one photograph")
        return _to_rgb(dataset)


def _to_rgb(dataset: Any) -> np.ndarray:
    """Decode the only frame of a DICOM data set."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    kind = str(dataset.PhotometricInterpretation).strip()
    if kind not in (*_COLOURS, *_GREYS, _PALETTE):
        raise ValueError(f"a DICOM file of {kind} pixels, which are not read")
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
        dataset.ensure_file_meta()
        plain = "1.2.840.10008.1.2" if dataset.original_encoding[0] else "1.2.840.10008.1.2.1"
        dataset.file_meta.TransferSyntaxUID = plain
    values = pixel_array(dataset, index=0)  # YBR becomes RGB
    stored = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    declared = 2**stored - 1 if stored < 16 else 0  # 16 is also said of less
    if kind == _PALETTE:
        return deep.to_bytes(apply_color_lut(values, dataset)[..., :3])
    if kind in _COLOURS:
        return deep.to_bytes(values, declared)
    grey = _grey(apply_modality_lut(values, dataset), dataset, stored, declared)
    return np.stack([255 - grey if kind == "MONOCHROME1" else grey] * 3, axis=2)


def _grey(values: np.ndarray, dataset: Any, stored: int, declared: int) -> np.ndarray:
    """Scale grey values, after the rescale, by their window or by the range of their bits."""
    slope, intercept = (
        float(dataset.get(name, usual))
        for name, usual in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    signed = bool(dataset.get("PixelRepresentation", 0))
    width, centre = _first(dataset.get("WindowWidth")), _first(dataset.get("WindowCenter"))
    if width is not None and centre is not None and width > 1:  # PS3.3 C.11.2.1.2.1
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    elif signed or slope != 1 or intercept or "ModalityLUTSequence" in dataset:
        least, greatest = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, declared)
        low, high = least * slope + intercept, (greatest or 65535) * slope + intercept
        if "ModalityLUTSequence" in dataset:
            low, high = 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    else:
        return deep.to_bytes(values, declared)
    shares = (values.astype(np.float32) - low) * (255 / (high - low))
    return np.rint(np.clip(shares, 0, 255)).astype(np.uint8)


def _first(value: Any) -> float | None:
    """Read a number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float | str) else value[0])
