"""Which files are pictures: by their endings, else by their first bytes."""

import os
import re

# the endings that are read, in any case, each with its format's name in Pillow; where they disagree
# with the content, that decides
PICTURE_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".jif": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".j2c": "JPEG2000",
    ".jpc": "JPEG2000",
    ".jpf": "JPEG2000",
    ".jpx": "JPEG2000",
    ".dcm": "DICOM",  # through pydicom
    ".dicom": "DICOM",
}
IMAGE_SUFFIXES = tuple(PICTURE_FORMATS)
# how files begin in the formats above, and in AVIF, HEIC, JPEG XL and PSD, which are not read
_FIRST_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|II[*+]\0|MM\0[*+]|BM.{4}\0{4}|RIFF.{4}WEBP|P[1-6]\s|"
    rb"\0\0\0\x0cjP|\xff\x4f\xff\x51|.{128}DICM|.{4}ftyp(?:hei|avi|mif|msf)|\0\0\0\x0cJXL|"
    rb"\xff\x0a|8BPS",
    re.DOTALL,
)


def ending(name: str) -> str:
    """Return the ending of a file's name in small letters, such as ".jpg"; "" for none."""
    return os.path.splitext(name)[1].lower()


def is_picture(name: str) -> bool:
    """Tell whether a file of this name is read as a picture."""
    return ending(name) in PICTURE_FORMATS


def shows_picture(path: str) -> bool:
    """Tell whether a file is a picture by its ending, else by its first bytes."""
    if is_picture(path):
        return True
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            return False
        with open(path, "rb") as file:
            return _FIRST_BYTES.match(file.read(132)) is not None
    except OSError:
        return False
