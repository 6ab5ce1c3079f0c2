"""DICOM photographs against a known picture, in each colour model and depth."""

import builtins
import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from common.data.synthetic import draw_fundus
from common.inspection.file_checks import inspect_file
from common.pixels import decoding
from common.pixels.decoding import ImageError, decode_image
from common.system.errors import InputError

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402 (after importorskip)
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import convert_color_space  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

KNOWN = draw_fundus(3, np.random.default_rng(0), 256)
GREY = KNOWN[..., 1]
GREYS = np.stack([GREY] * 3, axis=2)


def dicom(pixels, kind="RGB", syntax=ExplicitVRLittleEndian, data=None, stored=0, **values):
    """Write pixels (H, W) or (H, W, 3) as a DICOM file; data: their bytes, if encoded."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"  # ophthalmic photography
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    found.Rows, found.Columns = pixels.shape[:2]
    found.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        found.PlanarConfiguration = 0
    found.PhotometricInterpretation = kind
    bits = 8 * pixels.dtype.itemsize
    found.BitsAllocated, found.BitsStored = bits, stored or bits
    found.HighBit, found.PixelRepresentation = found.BitsStored - 1, int(pixels.dtype.kind == "i")
    found.PixelData = pixels.tobytes() if data is None else data
    found["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in values.items():
        setattr(found, name, value)
    buffer = io.BytesIO()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    found.save_as(buffer, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return buffer.getvalue()


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return encapsulate([buffer.getvalue()])


def assert_alike(found, expected, levels=1):
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= levels


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_rgb_is_read_bit_for_bit_whatever_the_file_is_called(syntax):
    for name in ("a.dcm", "A.DICOM", "a.jpg"):
        assert_alike(decode_image(dicom(KNOWN, syntax=syntax), name), KNOWN, 0)


def test_planar_rgb_and_run_lengths():
    planes = np.ascontiguousarray(KNOWN.transpose(2, 0, 1))
    data = dicom(KNOWN, data=planes.tobytes(), PlanarConfiguration=1)
    assert_alike(decode_image(data, "a"), KNOWN, 0)
    source = pydicom.dcmread(io.BytesIO(dicom(KNOWN)))
    source.compress(RLELossless)
    buffer = io.BytesIO()
    source.save_as(buffer)
    assert_alike(decode_image(buffer.getvalue(), "a"), KNOWN, 0)


def test_ybr_full_and_its_subsampled_form():
    ybr = convert_color_space(KNOWN, "RGB", "YBR_FULL")
    assert_alike(decode_image(dicom(ybr, "YBR_FULL"), "a"), KNOWN, 3)
    smooth = np.repeat(KNOWN[:, ::2], 2, axis=1)  # pairs of columns share their colour
    ybr = convert_color_space(smooth, "RGB", "YBR_FULL")
    pairs = np.concatenate([ybr[:, ::2, :1], ybr[:, 1::2, :1], ybr[:, ::2, 1:]], axis=2)
    data = dicom(smooth, "YBR_FULL_422", data=np.ascontiguousarray(pairs).tobytes())
    assert_alike(decode_image(data, "a"), smooth, 3)


def test_jpeg_and_jpeg_2000():
    data = encoded(KNOWN, "JPEG", quality=95)
    found = decode_image(dicom(KNOWN, "YBR_FULL_422", JPEGBaseline8Bit, data), "a")
    assert np.abs(found.astype(int) - KNOWN).mean() < 4
    data = encoded(KNOWN, "JPEG2000", irreversible=False, no_jp2=True)
    found = decode_image(dicom(KNOWN, "RGB", JPEG2000Lossless, data), "a")
    assert_alike(found, KNOWN, 1)


def test_palettes_of_eight_and_sixteen_bits():
    image = Image.fromarray(KNOWN).quantize(256)
    index = np.asarray(image)
    table = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    table[: len(colours)] = colours
    for bits, factor in ((8, 1), (16, 257)):
        values = {}
        for channel, name in enumerate(("Red", "Green", "Blue")):
            words = (table[:, channel].astype(np.uint16) * factor).astype(f"u{bits // 8}")
            values[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
            values[f"{name}PaletteColorLookupTableData"] = words.tobytes()
        found = decode_image(dicom(index, "PALETTE COLOR", **values), "a")
        assert_alike(found, table[index])


@pytest.mark.parametrize("stored", [8, 10, 12, 16])
def test_grey_of_every_depth_in_both_directions(stored):
    values = np.round(GREY * ((2**stored - 1) / 255)).astype(np.uint16)
    values[0, 0] = 2**stored - 1
    found = decode_image(dicom(values, "MONOCHROME2", stored=stored), "a")
    assert_alike(found[1:], GREYS[1:])
    inverted = 2**stored - 1 - values
    found = decode_image(dicom(inverted, "MONOCHROME1", stored=stored), "a")
    assert_alike(found[1:], GREYS[1:])
    assert_alike(decode_image(dicom(GREY, "MONOCHROME2"), "a"), GREYS, 0)


def test_sixteen_bit_colour_and_twelve_bits_that_are_said_to_be_sixteen():
    deep = KNOWN.astype(np.uint16) * 257
    assert_alike(decode_image(dicom(deep), "a"), KNOWN)
    twelve = np.round(KNOWN * (4095 / 255)).astype(np.uint16)
    twelve[0, 0] = 4095
    assert_alike(decode_image(dicom(twelve), "a")[1:], KNOWN[1:])


def test_rescale_window_and_signed_values():
    values = GREY.astype(np.uint16) * 16
    rescaled = {"RescaleSlope": "0.5", "RescaleIntercept": "-100"}
    found = decode_image(dicom(values, "MONOCHROME2", stored=12, **rescaled), "a")
    assert_alike(found, GREYS, 2)
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    assert_alike(decode_image(dicom(values, "MONOCHROME2", **window), "a"), GREYS, 2)
    signed = (values.astype(np.int32) - 2048).astype(np.int16)
    assert_alike(decode_image(dicom(signed, "MONOCHROME2", stored=12), "a"), GREYS, 2)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
        ({"PixelData": b"\0\0"}, "expected a picture"),
        ({"Rows": 60000, "Columns": 60000}, "limit"),
        ({"BitsAllocated": 13}, "expected a picture"),
        ({"SamplesPerPixel": 7}, "expected a picture"),
    ],
)
def test_what_is_no_photograph_is_refused_by_name(change, words):
    with pytest.raises(ImageError, match=rf"eye\.dcm: .*{words}"):
        decode_image(dicom(KNOWN, **change), "eye.dcm")


def test_damaged_and_deflated_files_are_refused_by_name():
    data = dicom(KNOWN)
    for cut in (100, 140, 400, len(data) // 2):
        with pytest.raises(ImageError, match=r"eye\.dcm: expected a picture"):
            decode_image(data[:cut], "eye.dcm")
    with pytest.raises(ImageError, match="deflated"):
        decode_image(data[:200] + b"1.2.840.10008.1.2.1.99" + data[200:], "eye.dcm")
    with pytest.raises(ImageError, match="expected a picture"):
        decode_image(b"no picture at all", "eye.dcm")


def test_another_picture_called_dcm_is_read_as_what_it_is():
    buffer = io.BytesIO()
    Image.fromarray(KNOWN).save(buffer, "PNG")
    assert_alike(decode_image(buffer.getvalue(), "a.dcm"), KNOWN, 0)


def test_random_damage_never_raises_anything_else():
    data, generator = dicom(KNOWN[:32, :32]), np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(data)
        for place in generator.integers(0, 700, 3):
            damaged[place] = generator.integers(256)
        with contextlib.suppress(ImageError):
            decode_image(bytes(damaged), "a.dcm")


def test_without_pydicom_one_line_says_what_to_install(monkeypatch, tmp_path):
    original = builtins.__import__

    def without(name, *rest):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return original(name, *rest)

    data = dicom(KNOWN)
    (tmp_path / "a.dcm").write_bytes(data)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"a\.dcm: .*pip install .pydicom"):
        decode_image(data, "a.dcm")
    record = inspect_file(tmp_path / "a.dcm")
    assert record.faults == ("unreadable",) and "pip install" in record.detail


def test_the_audit_describes_a_dicom_photograph(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(KNOWN))
    record = inspect_file(tmp_path / "a.dcm")
    assert record.usable and record.faults == () and record.statistics is not None
    assert decoding.PIXEL_VERSION >= 2
