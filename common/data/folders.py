"""Graded image folders, listed without opening an image.

N images.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from common.data.class_names import FolderLabels, Matcher, match_folders, quoted
from common.system.errors import InputError

# the endings that are read, each with its format's name in Pillow; where they disagree with the
# content, that decides
PICTURE_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".dcm": "DICOM",  # through pydicom
    ".dicom": "DICOM",
}
IMAGE_SUFFIXES = tuple(PICTURE_FORMATS)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ImageFile:
    """One graded image as it lies on the disk."""

    id: str  # relative to the dataset's root
    path: Path
    split: str
    label: int
    size: int  # bytes
    modified: int  # ns since 1970

    def cache_key(self) -> str:
        """Tell this state of the file from all others: its real place, size and time."""
        return f"{os.path.realpath(self.path)}|{self.size}|{self.modified}"


@dataclass(frozen=True)
class Split:
    """The images of one split, ordered by their ids."""

    name: str
    images: tuple[ImageFile, ...]
    folders: FolderLabels | None = None  # which class each folder holds, as it was matched

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The images' ids."""
        return tuple(image.id for image in self.images)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The images' files."""
        return tuple(image.path for image in self.images)

    @cached_property
    def labels(self) -> np.ndarray:
        """The images' grades, (N,) int64."""
        return np.array([image.label for image in self.images], dtype=np.int64)

    def counts(self, num_classes: int) -> list[int]:
        """Count the images of each class."""
        return np.bincount(self.labels, minlength=num_classes).tolist()

    def fingerprint(self, with_times: bool = False) -> str:
        """Hash the images' ids, labels and sizes: what a run was computed on.

        with_times: also the places and modification times, which a copied dataset does not keep.
        """
        lines = [f"{image.id} {image.label} {image.size}" for image in self.images]
        if with_times:
            lines += [image.cache_key() for image in self.images]
        text = "\n".join(lines).encode(errors="surrogateescape")  # names need not be UTF-8
        return hashlib.sha256(text).hexdigest()[:16]


def scan_split(
    root: Path,
    name: str,
    num_classes: int = 5,
    class_names: tuple[str, ...] = (),
    matcher: Matcher | None = None,
) -> Split:
    """List one split's images from its class folders, in a stable order, opening none.

    matcher: decides which folder holds which class; by default `match_folders`, which wants every
    class: `class_names` in grade order, or "0".."K-1", or the usual names (No_DR, Mild, ...). A
    root with class folders but without split folders is itself the split "test". Raises
    InputError for a missing folder, a folder of images that is no class, or a broken link.
    """
    matcher = matcher or partial(match_folders, num_classes=num_classes, class_names=class_names)
    folder = root / name
    if not folder.is_dir() and name == "test" and not any((root / s).is_dir() for s in SPLITS):
        folder = root
    if not folder.is_dir():
        raise InputError(
            f"expected the folder {folder} with one folder per grade, found none; "
            "check --dataset_path (or DATASET_PATH)"
        )
    images = []
    match = _class_folders(folder, matcher)
    for folder_name, label in match.labels.items():
        for file in _image_files(folder / folder_name):
            path, stat = Path(file.path), file.stat()
            id_ = path.relative_to(root).as_posix()
            images.append(ImageFile(id_, path, name, label, stat.st_size, stat.st_mtime_ns))
    if not images:
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise InputError(f"expected images ({suffixes}) in the class folders of {folder}")
    return Split(name, tuple(sorted(images, key=lambda image: image.id)), match)


@dataclass(frozen=True)
class Entry:
    """Anything that lies in a class folder, picture or not."""

    id: str  # relative to the root
    path: Path
    split: str  # "all" in a dataset without splits
    label: int


def list_entries(root: Path, num_classes: int, class_names: tuple[str, ...]) -> list[Entry]:
    """List all that lies in the class folders of all splits that are there, opening nothing.

    Class folders are found as by `scan_split`; without split folders, the root holds them. Raises
    InputError where they are missing or nothing is in them.
    """
    folders = {name: root / name for name in SPLITS if (root / name).is_dir()} or {"all": root}
    if not root.is_dir():
        raise InputError(f"expected a dataset in {root}, found no such folder")
    matcher = partial(match_folders, num_classes=num_classes, class_names=class_names)
    entries = [
        Entry(path.relative_to(root).as_posix(), path, name, label)
        for name, folder in folders.items()
        for place, label in _class_folders(folder, matcher).labels.items()
        for path in (folder / place).iterdir()
    ]
    if not entries:
        raise InputError(f"expected images in the class folders of {root}, found none")
    return sorted(entries, key=lambda entry: entry.id)


def _class_folders(folder: Path, matcher: Matcher) -> FolderLabels:
    """Find the class folders and their classes; raises InputError where they are not clear."""
    found = {entry.name: entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    match = matcher(list(found), folder)
    others = [name for name in found if name not in match.labels]
    strange = [name for name in others if next(_image_files(found[name]), None)]
    if strange:
        raise InputError(
            f"expected the class folders {match.expected} in {folder}, found images in "
            f"{quoted(strange)}, too; {match.advice}"
        )
    return match


def _image_files(folder: Path) -> Iterator[os.DirEntry]:
    """List a folder's pictures by their names; raises InputError for a broken link."""
    with os.scandir(folder) as entries:
        for entry in entries:
            is_image = entry.name.lower().endswith(IMAGE_SUFFIXES)
            if not is_image or entry.name.startswith("."):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):
                raise InputError(f"{entry.path}: the link leads nowhere; remove or mend it")
            if entry.is_file():
                yield entry
