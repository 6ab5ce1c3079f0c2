"""Odd pictures against a known one: depth, transparency, colour models, pages, cut files."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from common.data.synthetic import draw_fundus
from common.listing.picture_files import PICTURE_FORMATS
from common.pixels import decoding, deep
from common.pixels.decoding import ImageError, decode_image, decode_picture, decode_small

KNOWN = draw_fundus(3, np.random.default_rng(0), 256)
GREY = KNOWN[..., 1]
GREYS = np.stack([GREY] * 3, axis=2)


def encoded(image, kind="PNG", **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(ending: str, rgb: np.ndarray) -> bytes:
    bgr = rgb[..., [2, 1, 0, 3][: rgb.shape[2]]] if rgb.ndim == 3 else rgb
    done, data = cv2.imencode(ending, np.ascontiguousarray(bgr))
    assert done
    return data.tobytes()


def tiff(*pages: np.ndarray, tags: dict[int, int] | None = None) -> bytes:
    """Write pages (H, W) or (H, W, C) as an uncompressed TIFF file, with further tags."""
    data = bytearray(b"II\x2a\0\0\0\0\0")
    link = 4
    for page in pages:
        height, width = page.shape[:2]
        channels = page.shape[2] if page.ndim == 3 else 1
        place, depth = len(data), page.dtype.itemsize * 8
        data += page.astype(page.dtype.newbyteorder("<")).tobytes()
        depths, formats = len(data), len(data) + 8
        data += struct.pack("<4H", *[depth] * 4)
        data += struct.pack("<4H", *[{"u": 1, "i": 2, "f": 3}[page.dtype.kind]] * 4)
        entries = {
            256: (4, 1, width),
            257: (4, 1, height),
            258: (3, channels, depths if channels > 2 else depth | depth << 16),
            259: (3, 1, 1),
            262: (3, 1, 2 if channels > 2 else 1),
            273: (4, 1, place),
            277: (3, 1, channels),
            278: (4, 1, height),
            279: (4, 1, page.nbytes),
            339: (3, channels, formats if channels > 2 else data[formats]),
        }
        if channels == 4:
            entries[338] = (3, 1, 2)
        entries |= {
            tag: (4 if value > 65535 else 3, 1, value) for tag, value in (tags or {}).items()
        }
        data[link : link + 4] = struct.pack("<I", len(data))
        data += struct.pack("<H", len(entries))
        for tag, (kind, count, value) in sorted(entries.items()):
            data += struct.pack("<HHII", tag, kind, count, value)
        link = len(data)
        data += b"\0\0\0\0"
    return bytes(data)


def assert_alike(found: np.ndarray, expected: np.ndarray, levels: int = 1) -> None:
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= levels


@pytest.mark.parametrize("ending", sorted(set(PICTURE_FORMATS) - {".dcm", ".dicom"}))
def test_every_ending_is_read_by_its_format(ending):
    kind = PICTURE_FORMATS[ending]
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind == "GIF":
        found = decode_image(encoded(GREY, kind), f"a{ending}")
        assert_alike(found, GREYS)
        return
    found = decode_image(encoded(KNOWN, kind, **options), f"a{ending}")
    assert np.abs(found.astype(int) - KNOWN).mean() < (4 if kind == "JPEG" else 0.001)
    wrong = ".png" if kind == "JPEG" else ".jpg"
    again = decode_image(encoded(KNOWN, kind, **options), f"a{wrong}")
    assert np.array_equal(found, again), "the content decides"


@pytest.mark.parametrize("greatest", deep.RANGES)
@pytest.mark.parametrize("picture", [KNOWN, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("kind", ["png", "tiff", "own tiff", "ppm", "jp2"])
def test_sixteen_bit_samples_are_scaled_by_the_depth_that_they_were_made_in(
    greatest, picture, kind
):
    values = np.round(picture * (greatest / 255)).astype(np.uint16)
    values.flat[0] = greatest  # the camera's white
    if kind == "own tiff":
        data = tiff(values)
    elif kind == "jp2":
        lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
        order = values[..., ::-1] if values.ndim == 3 else values
        data = cv2.imencode(".jp2", np.ascontiguousarray(order), lossless)[1].tobytes()
    else:
        grey_kind = "pgm" if kind == "ppm" and picture.ndim == 2 else kind
        data = by_opencv(f".{grey_kind}", values)
    expected = (KNOWN if picture.ndim == 3 else GREYS).copy()
    found = decode_image(data, "a")
    assert_alike(found[1:], expected[1:])


def test_a_dark_sixteen_bit_picture_stays_dark():
    dark = (KNOWN.astype(np.uint16) * 257) // 8
    found = decode_image(by_opencv(".png", dark), "a")
    assert found.max() <= 4 * 255 // 8 + 1


def test_what_a_file_says_of_its_range_is_believed():
    values = GREY.astype(np.uint16) * 4  # as of 10 bits
    chunk = PngImagePlugin.PngInfo()
    chunk.add(b"sBIT", b"\x0c")
    assert_alike(decode_image(encoded(values, pnginfo=chunk), "a"), GREYS // 4, 2)
    assert_alike(decode_image(tiff(values, tags={281: 4095}), "a"), GREYS // 4, 2)
    header = b"P5\n256 256\n4095\n"
    found = decode_image(header + values.astype(">u2").tobytes(), "a")
    assert_alike(found, GREYS // 4, 2)
    text = b"P3 256 256 65535\n" + b" ".join(str(16 * int(v)).encode() for v in KNOWN.flat)
    assert_alike(decode_image(text, "a"), KNOWN, 2)
    header = b"P6\n256 256\n1023\n"
    deep_rgb = np.round(KNOWN * (1023 / 255)).astype(">u2")
    assert_alike(decode_image(header + deep_rgb.tobytes(), "a"), KNOWN)


@pytest.mark.parametrize("kind", [np.uint32, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("greatest", [1, 255, 4095, 65535])
@pytest.mark.parametrize("picture", [GREY, KNOWN], ids=["grey", "colour"])
def test_wide_and_floating_samples_are_scaled_by_their_range(kind, greatest, picture):
    if greatest == 1 and np.dtype(kind).kind != "f":
        pytest.skip("no picture")
    values = (picture * (greatest / 255)).astype(kind)
    values.flat[0] = greatest
    expected = KNOWN if picture.ndim == 3 else GREYS
    try:
        found = decode_image(tiff(values), "a.tif")
    except ImageError as error:
        assert picture.ndim == 3 and np.dtype(kind).kind != "f", error
        assert "a.tif: expected a picture" in str(error)
        return
    assert_alike(found[1:], expected[1:], 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1e9])
def test_floating_samples_of_no_known_range_are_refused_by_name(value):
    values = GREY.astype(np.float32) / 255
    values[3, 3] = value
    with pytest.raises(ImageError, match=r"scan\.tif: .*(not numbers|range is not known)"):
        decode_image(tiff(values), "scan.tif")


def test_a_float_picture_that_overshoots_a_little_is_clipped():
    values = GREY.astype(np.float32) / 255
    values[3, 3], values[4, 4] = 1.02, -0.001
    found = decode_image(tiff(values), "a")
    assert found[3, 3].tolist() == [255] * 3 and found[4, 4].tolist() == [0] * 3


ALPHA = np.where(np.hypot(*np.mgrid[-128:128, -128:128]) < 100, 255, 0).astype(np.uint8)
SHOWN = np.where(ALPHA[..., None] > 0, KNOWN, 0).astype(np.uint8)
WHITE_BELOW = np.where(ALPHA[..., None] > 0, KNOWN, 255).astype(np.uint8)


def _palette_with_transparency() -> bytes:
    index = np.where(ALPHA > 0, GREY // 2, 255).astype(np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette([2 * (i // 3) % 256 for i in range(3 * 256)])
    return encoded(image, transparency=255)


def test_what_is_transparent_lies_on_black():
    rgba = np.dstack([WHITE_BELOW, ALPHA])
    deep_rgba = rgba.astype(np.uint16) * 257
    files = [
        encoded(rgba),
        encoded(rgba, "TIFF"),
        encoded(rgba, "WEBP", lossless=True, exact=True),
        by_opencv(".png", deep_rgba),
        tiff(rgba),
        tiff(deep_rgba),
    ]
    for data in files:
        assert_alike(decode_image(data, "a"), SHOWN)
    grey_alpha = encoded(Image.fromarray(np.dstack([WHITE_BELOW[..., 1], ALPHA]), "LA"))
    assert_alike(decode_image(grey_alpha, "a"), np.stack([SHOWN[..., 1]] * 3, axis=2))
    found = decode_image(_palette_with_transparency(), "a")
    assert_alike(found, np.stack([np.where(ALPHA > 0, GREY // 2 * 2, 0)] * 3, axis=2))
    key = encoded(WHITE_BELOW, transparency=(255, 255, 255))
    assert_alike(decode_image(key, "a"), SHOWN)


def test_half_transparent_pixels_are_half_as_bright_premultiplied_or_not():
    rgba = np.dstack([KNOWN, np.full_like(GREY, 128)])
    assert_alike(decode_image(encoded(rgba), "a"), KNOWN // 2)
    premultiplied = np.dstack([KNOWN // 2, np.full_like(GREY, 128)])
    assert_alike(decode_image(tiff(premultiplied, tags={338: 1}), "a"), KNOWN // 2, 2)


def test_a_picture_that_is_transparent_all_over_is_read_as_it_is():
    assert_alike(decode_image(encoded(np.dstack([KNOWN, np.zeros_like(GREY)])), "a"), KNOWN, 0)


def test_cmyk_lab_palette_and_one_bit_pictures_have_their_colours():
    cmyk = Image.fromarray(KNOWN).convert("CMYK")
    assert_alike(decode_image(encoded(cmyk, "TIFF"), "a"), KNOWN, 2)
    found = decode_image(encoded(cmyk, "JPEG", quality=98, subsampling=0), "a")
    assert np.abs(found.astype(int) - KNOWN).mean() < 4
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(KNOWN), *profiles, outputMode="LAB")
    assert np.abs(decode_image(encoded(lab, "TIFF"), "a").astype(int) - KNOWN).mean() < 2
    red = tiff(np.full((8, 8, 3), (138, 81, 70), np.uint8), tags={262: 8})  # L 54.3, a 80.8, b 69.9
    assert np.abs(decode_image(red, "a")[0, 0].astype(int) - (255, 0, 0)).max() < 6
    one_bit = Image.fromarray(GREY).convert("1")
    assert_alike(decode_image(encoded(one_bit), "a"), np.asarray(one_bit.convert("RGB")), 0)


def test_the_largest_page_of_a_tiff_is_taken_wherever_it_is():
    thumbnail = cv2.resize(KNOWN, (32, 32))
    for pages in ([thumbnail, KNOWN], [KNOWN, thumbnail], [thumbnail, thumbnail, KNOWN]):
        assert_alike(decode_image(tiff(*pages), "a"), KNOWN, 0)
    deep_page = KNOWN.astype(np.uint16) * 257
    assert_alike(decode_image(tiff(thumbnail.astype(np.uint16), deep_page), "a"), KNOWN)
    assert_alike(decode_image(tiff(thumbnail[..., 1], GREY), "a"), GREYS, 0)
    pages = Image.fromarray(thumbnail)
    data = encoded(pages, "TIFF", save_all=True, append_images=[Image.fromarray(KNOWN)])
    assert_alike(decode_image(data, "a"), KNOWN, 0)
    assert_alike(decode_image(tiff(thumbnail, KNOWN), "a", version=1), thumbnail, 0)


def test_the_largest_picture_of_a_multi_picture_jpeg_is_taken():
    thumbnail = Image.fromarray(cv2.resize(KNOWN, (32, 32)))
    data = encoded(thumbnail, "MPO", save_all=True, append_images=[Image.fromarray(KNOWN)])
    assert decode_image(data, "a").shape == KNOWN.shape


def test_several_pages_of_one_size_and_animations_are_noted():
    other = Image.fromarray(KNOWN[::-1].copy())
    for kind in ("TIFF", "GIF", "WEBP", "PNG"):
        data = encoded(KNOWN, kind, save_all=True, append_images=[other])
        picture = decode_picture(data, "a")
        assert [note.kind for note in picture.notes] == ["several_pages"], kind
        assert np.abs(picture.pixels.astype(int) - KNOWN).mean() < 12, "the first"
    assert decode_picture(encoded(KNOWN), "a").notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_as_the_camera_says(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    expected = decode_image(encoded(KNOWN, exif=exif), "a")
    deep_page = KNOWN.astype(np.uint16) * 257
    assert_alike(decode_image(tiff(KNOWN, tags={274: orientation}), "a"), expected, 0)
    assert_alike(decode_image(tiff(deep_page, tags={274: orientation}), "a"), expected)
    grey_page = deep_page[..., 1].copy()
    found = decode_image(tiff(grey_page, tags={274: orientation}), "a")
    assert_alike(found, np.stack([expected[..., 1]] * 3, axis=2))


def exif_with(orientation: bytes, tag: int, kind: int, value: bytes) -> bytes:
    """Write EXIF data of an orientation, 4 bytes, and of one more tag of any type."""
    tags = sorted([(274, 3, 1, orientation), (tag, kind, 4 if kind == 2 else 1, value)])
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("tag, kind", [(282, 2), (256, 2), (282, 9), (271, 3)])
def test_a_tag_of_a_wrong_type_neither_hides_a_picture_nor_how_it_is_turned(mode, tag, kind):
    picture = Image.fromarray(KNOWN[:100]).convert(mode)
    turned = {6: (256, 100), 1: (100, 256)}
    for orientation, shape in turned.items():
        exif = exif_with(struct.pack("<HH", orientation, 0), tag, kind, b"\xff\xff\xff\xff")
        data = encoded(picture, "JPEG", exif=exif)
        assert decode_image(data, "a").shape[:2] == shape
        small = decode_small(data, "a", 64)
        assert small.size == ((25, 64) if orientation == 6 else (64, 25)) and small.mode == "RGB"


def test_a_picture_made_small_is_the_one_that_is_decoded_whatever_its_shape():
    strip = np.full((2, 3000, 3), 200, np.uint8)
    assert decode_small(encoded(strip), "a", 100).size == (100, 1)
    assert decode_small(encoded(GREY[:80], "TIFF"), "a", 300).size == (256, 80), "never larger"
    other = Image.fromarray(255 - KNOWN).resize((512, 512))
    several = encoded(KNOWN, "MPO", save_all=True, append_images=[other])
    small = np.asarray(decode_small(several, "a", 64))
    whole = np.asarray(Image.fromarray(decode_image(several, "a")).resize((64, 64)))
    assert np.abs(small.astype(int) - whole).mean() < 3, "the larger one"


def test_black_is_black_also_where_a_tiff_says_that_zero_is_white():
    for values in (255 - GREY, 65535 - GREY.astype(np.uint16) * 257):
        assert_alike(decode_image(tiff(values, tags={262: 0}), "a"), GREYS)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_bytes_is_used_and_noted(progressive):
    data = encoded(KNOWN, "JPEG", quality=90, progressive=progressive)
    whole = decode_image(data, "a")
    for missing in (2, 20):
        picture = decode_picture(data[:-missing], "a")
        assert np.abs(picture.pixels[:240].astype(int) - whole[:240]).mean() < 1
        assert not picture.notes or picture.notes[0].kind == "cut_short"
    assert picture.notes, "20 bytes are missed"
    for left in (0.5, 0.8, 0.1):
        with pytest.raises(ImageError, match="truncated"):
            decode_image(data[: int(left * len(data))], "a")
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[:-20], "a", version=1)


def test_a_jpeg_whose_end_is_filled_with_zeros_is_one_that_is_cut_short():
    data = encoded(KNOWN, "JPEG", quality=90)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[: len(data) // 2] + bytes(len(data) // 2), "a")
    picture = decode_picture(data[:-20] + bytes(200), "a")
    assert picture.notes[0].kind == "cut_short" and picture.pixels[-2:].max() < 40
    assert decode_picture(data + bytes(200), "a").notes == (), "zeros behind a whole picture"


def test_a_png_of_wrong_checksum_is_refused():
    for whole in (encoded(KNOWN), by_opencv(".png", KNOWN.astype(np.uint16) * 16)):
        data = bytearray(whole)
        data[len(data) // 2] ^= 0xFF
        with pytest.raises(ImageError, match="expected a picture"):
            decode_image(bytes(data), "a")


@pytest.mark.parametrize("ending", [".png", ".tiff", ".ppm"])
def test_a_deep_picture_that_is_cut_short_is_refused(ending):
    data = by_opencv(ending, np.round(KNOWN * 16.0).astype(np.uint16))
    with pytest.raises(ImageError, match="expected a picture"):
        decode_image(data[: len(data) // 2], "a")


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "BMP"])
def test_a_bomb_is_refused_in_every_format_before_it_is_decoded(kind, monkeypatch):
    data = encoded(Image.new("RGB", (40, 40)), kind)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for version in (1, 2):
        with pytest.raises(ImageError, match="limit 1000"):
            decode_image(data, "a", version)


def test_a_later_page_that_is_a_bomb_is_refused(monkeypatch):
    data = tiff(KNOWN[:8, :8], KNOWN)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="limit 1000"):
        decode_image(data, "a")


def test_pages_that_point_at_each_other_end():
    data = bytearray(tiff(KNOWN, KNOWN))
    first = struct.unpack("<I", data[4:8])[0]
    data[-4:] = struct.pack("<I", first)
    assert len(deep.tiff_pages(bytes(data))) == 2
    assert decode_image(bytes(data), "a").shape == KNOWN.shape


@pytest.mark.parametrize(
    "data, kind",
    [
        (b"\0\0\0\x20ftypheic" + bytes(200), "HEIC"),
        (b"\0\0\0\x20ftypavif" + bytes(200), "AVIF"),
        (b"\0\0\0\x0cJXL \r\n" + bytes(200), "JPEG XL"),
        (b"plain text", "its bytes are of no format"),
    ],
)
def test_a_format_that_is_not_read_is_named(data, kind):
    with pytest.raises(ImageError, match=rf"a\.jpg: expected a picture \({kind}"):
        decode_image(data, "a.jpg")


def test_ordinary_pictures_are_those_of_the_first_version():
    for kind in ("JPEG", "PNG", "TIFF", "BMP"):
        data = encoded(KNOWN, kind)
        assert np.array_equal(decode_image(data, "a"), decode_image(data, "a", version=1))
