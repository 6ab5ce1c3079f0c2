"""Decode a picture file to upright RGB, whatever its format.

H, W pixels of the photograph.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from common.listing.picture_files import PICTURE_FORMATS
from common.pixels import deep, dicom
from common.pixels.deep import TiffPage

# what a file's pixels are has a version, which a model's checkpoint keeps: raise it when a change
# moves a pixel, and leave the earlier ones as they are
PIXEL_VERSION = 2
# a photograph has 1 to 60 megapixels; what claims more is a mistake or a decompression bomb
MAX_PIXELS = 178_000_000
FORMATS = tuple(sorted({*PICTURE_FORMATS.values()} - {"DICOM"}))  # that Pillow reads
_TRANSPARENT = ("LA", "PA", "RGBA", "La", "RGBa")
_MOST_MISSING = 0.05  # share of its pixels that a JPEG file may lack
_BLOCK = 16  # rows that JPEG codes at a time
# bytes at the beginning of pictures in other formats
_NOT_READ = {
    b"ftypheic": "HEIC",
    b"ftypheix": "HEIC",
    b"ftypmif1": "HEIC",
    b"ftypavif": "AVIF",
    b"JXL ": "JPEG XL",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
}
_TURNS = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# of Pillow, about metadata that nothing here reads
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class ImageError(ValueError):
    """A file that holds no usable picture; the message names the file and the reason."""


class UnreadableError(ImageError):
    """A file that this machine cannot open now: a matter of rights, disks or links."""


@dataclass(frozen=True)
class Note:
    """Something odd about a file that can be used."""

    kind: str  # a fault of the audit: "cut_short", "several_pages" or "two_discs"
    text: str


@dataclass(frozen=True)
class Picture:
    """A decoded photograph, and what is odd about its file though it can be used."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright
    notes: tuple[Note, ...] = ()


def check_size(width: int, height: int) -> None:
    """Raise ValueError for more pixels than a photograph has, also once it is made square."""
    if width * height > MAX_PIXELS or max(width, height) ** 2 > 2 * MAX_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels, limit {MAX_PIXELS} and {int((2 * MAX_PIXELS) ** 0.5)} "
            "a side"
        )


def decode_image(data: bytes, name: str, version: int = PIXEL_VERSION) -> np.ndarray:
    """Decode a picture file to (H, W, 3) uint8 RGB as by `decode_picture`."""
    return decode_picture(data, name, version).pixels


def decode_picture(data: bytes, name: str, version: int = PIXEL_VERSION) -> Picture:
    """Decode a picture file, turned as its EXIF data says; its content tells the format.

    Grey, palette, CMYK and LAB pictures are converted, transparent ones laid on black, deeper ones
    than 8 bits scaled by `deep.to_bytes`; of several pages the largest is taken. version: 1 for the
    pixels of earlier checkpoints, which differ for deep, transparent and many-paged files. Raises
    ImageError for bytes that are no such picture, are cut short, or claim more pixels than
    `check_size` allows.
    """
    try:
        if dicom.is_dicom(data, name):
            return Picture(dicom.decode(data, check_size))
        return _decode_first_version(data) if version == 1 else _decode(data)
    except MemoryError:
        raise
    except dicom.NoPydicomError as error:
        raise dicom.NoPydicomError(f"{name}: {error}") from error
    except Exception as error:  # decoders raise a dozen kinds of exception on hostile bytes
        raise ImageError(f"{name}: expected a picture ({why_unusable(data, error)})") from error


def decode_small(data: bytes, name: str, side: int) -> Image.Image:
    """Decode a picture to be shown, no side longer than so many pixels.

    A JPEG file is decoded small at once, ten times as fast. Raises ImageError as `decode_picture`.
    """
    pixels = _decode_small_jpeg(data, side)
    return shrunk(Image.fromarray(decode_image(data, name) if pixels is None else pixels), side)


def _decode_small_jpeg(data: bytes, side: int) -> np.ndarray | None:
    """Decode a JPEG file to about twice a side; None for other files, and for damaged ones."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as file:
            check_size(file.width, file.height)
            if file.format != "JPEG":  # several pictures, of which the first may not be the one
                return None
            file.draft("RGB", (2 * side, 2 * side))
            return _turned(np.asarray(file.convert("RGB")), orientation_of(file))
    except Exception:  # `decode_picture` says what is wrong
        return None


def shrunk(picture: Image.Image, side: int) -> Image.Image:
    """Make a picture smaller, unless no side is longer than so many pixels; none becomes 0."""
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(scale * length)) for length in picture.size)
    return picture.resize((width, height))


def why_unusable(data: bytes, error: BaseException | None) -> str:
    """Say in a few words why bytes are no usable picture."""
    if not data:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        kind = next((kind for mark, kind in _NOT_READ.items() if mark in data[:16]), "")
        if kind:
            return f"{kind}, which is not read; save it as PNG or JPEG"
        return "its bytes are of no format that is read"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _decode_first_version(data: bytes) -> Picture:
    """Decode as the first version did; nothing here may change."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as file:
        check_size(file.width, file.height)
        if file.mode == "F":
            raise ValueError("floating-point pixels, whose range is not known")
        image: Image.Image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip to white
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return Picture(np.asarray(image.convert("RGB")))


def _decode(data: bytes) -> Picture:
    if deep.is_tiff(data):
        return _decode_tiff(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as file:
        check_size(file.width, file.height)
        kind, notes = str(file.format), _choose_frame(file)
        if declared := deep.declared_greatest(data, kind):
            file.load()  # OpenCV passes over damage
            pixels = _turned(_from_samples(deep.read_deep(data), declared), orientation_of(file))
            return Picture(pixels, notes)
        try:
            if kind == "JPEG" and _ends_in_zeros(data):  # as copies do that broke off
                raise OSError("image file is truncated (its end is all zeros)")
            file.load()
        except OSError as error:
            if kind != "JPEG" or "truncated" not in str(error):
                raise
            return _decode_cut_jpeg(data.rstrip(b"\0"), error)
        if file.mode == "RGB" and "transparency" not in file.info:
            return Picture(_turned(np.asarray(file), orientation_of(file)), notes)
        return Picture(_to_rgb(_upright(file)), notes)


def _ends_in_zeros(data: bytes) -> bool:
    """Tell whether a JPEG file's end is missing and filled with zeros."""
    return data[-64:] == bytes(64) and not data.rstrip(b"\0").endswith(b"\xff\xd9")


def _to_rgb(image: Image.Image, declared: int = 0, white_is_zero: bool = False) -> np.ndarray:
    """Convert a picture of any of Pillow's modes to (H, W, 3) uint8 RGB."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = deep.to_bytes(np.asarray(image), declared)
        return np.stack([255 - grey if white_is_zero else grey] * 3, axis=2)
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        return np.asarray(converted)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return deep.on_black(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _from_samples(values: np.ndarray, declared: int, white_is_zero: bool = False) -> np.ndarray:
    """Turn samples (H, W) or (H, W, 3 or 4) of any depth into (H, W, 3) uint8 RGB."""
    if values.ndim == 3 and values.shape[2] == 4:
        return deep.on_black(values, declared)
    scaled = deep.to_bytes(values, declared)
    if scaled.ndim == 2:
        scaled = np.stack([255 - scaled if white_is_zero else scaled] * 3, axis=2)
    return scaled


def _decode_tiff(data: bytes) -> Picture:
    """Decode the largest page of a TIFF file; thumbnails and masks come before and after it."""
    pages = deep.tiff_pages(data)
    pictures = [page for page in pages if not page.is_mask] or pages
    page = max(pictures, key=lambda one: one.pixels)  # the first of equals
    check_size(page.width, page.height)
    equal = sum(other.pixels == page.pixels for other in pictures)
    notes = _several(f"{equal} pages of one size") if equal > 1 else ()
    try:
        file = Image.open(io.BytesIO(data), formats=("TIFF",))
        file.seek(page.number)
    except (OSError, SyntaxError, EOFError):  # colour of 32 bits a sample is not Pillow's
        if page.bits <= 8:
            raise
        return Picture(_decode_deep_page(data, page), notes)
    with file:
        if page.bits > 8 and file.mode in ("RGB", "RGBA", "RGBX"):  # Pillow drops bits
            file.load()  # OpenCV passes over damage
            return Picture(_decode_deep_page(data, page), notes)
        return Picture(_to_rgb(_upright(file), page.greatest, page.white_is_zero), notes)


def _decode_deep_page(data: bytes, page: TiffPage) -> np.ndarray:
    values = deep.read_deep(data, page.number)  # which OpenCV turns upright in this format alone
    return _from_samples(values, page.greatest, page.white_is_zero)


def orientation_of(file: Image.Image) -> int:
    """Read how a picture is to be turned; 1, as it is, where its EXIF data cannot be read."""
    try:
        return int(file.getexif().get(deep.ORIENTATION, 1))
    except Exception:  # Pillow raises half a dozen kinds of exception on odd tags
        return 1


def _upright(file: Image.Image) -> Image.Image:
    """Turn a picture; not by `ImageOps.exif_transpose`, which fails if any other tag is odd."""
    file.load()
    turn = _TURNS.get(orientation_of(file))
    return file if turn is None else file.transpose(turn)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W, 3) upright."""
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def _choose_frame(file: Image.Image) -> tuple[Note, ...]:
    """Go to the largest of the pictures in one JPEG file, of an animation to the first frame."""
    if file.format != "MPO":
        animated = getattr(file, "is_animated", False)
        return _several("an animation of several frames") if animated else ()
    sizes = []
    for number in range(min(16, getattr(file, "n_frames", 1))):
        file.seek(number)
        sizes.append(file.width * file.height)
    file.seek(sizes.index(max(sizes)))  # the first of equals
    check_size(file.width, file.height)
    equal = sizes.count(max(sizes))
    return _several(f"{equal} pictures of one size in one file") if equal > 1 else ()


def _several(what: str) -> tuple[Note, ...]:
    return (Note("several_pages", f"{what}; the first is used"),)


def _decode_cut_jpeg(data: bytes, error: OSError) -> Picture:
    """Decode a JPEG file that lacks its last bytes; raises `error` if that is more than a trifle.

    What is missing is filled in by the decoder. Where it begins is seen from two decodings, one of
    the bytes alone and one of them with bytes added, which agree only above it.
    """
    filler = bytes(range(1, 255)) * 256
    first, second = (_load_jpeg(data + end + b"\xff\xd9") for end in (b"", filler))
    differing = (first != second).any(axis=2)  # (H, W)
    rows = np.flatnonzero(differing.any(axis=1))
    below = len(first) - int(rows[0]) - _BLOCK if len(rows) else 0
    missing = max(float(differing.mean()), below / len(first))
    if missing > _MOST_MISSING or not _has_all_scans(data):
        raise error
    if not _is_progressive(data):  # there, only details are missing
        first = np.where(differing[..., None], 0, first)  # as the ground is, not the decoder's grey
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as file:
        orientation = orientation_of(file)
    text = "cut short: its last rows or its finest details are missing, at most 5 %"
    return Picture(_turned(first, orientation), (Note("cut_short", text),))


def _load_jpeg(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as file:
        return np.asarray(file.convert("RGB"))


def _is_progressive(data: bytes) -> bool:
    return b"\xff\xc2" in data[:65536]


def _has_all_scans(data: bytes) -> bool:
    """Tell whether a progressive JPEG file has begun its last scan; others have one at once."""
    if not _is_progressive(data):
        return True
    refined, place = set(), data.find(b"\xff\xda")
    while 0 <= place < len(data) - 5:
        count = data[place + 4]
        end = place + 5 + 2 * count
        if end + 2 < len(data) and data[end] > 0 and data[end + 2] & 15 == 0:  # AC to the last bit
            refined |= {data[place + 5 + 2 * n] for n in range(count)}
        place = data.find(b"\xff\xda", place + 2)
    return len(refined) >= 3
