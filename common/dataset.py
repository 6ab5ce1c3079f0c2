"""Graded image folders, and the cache that decodes each image once.

N images, S pixels of the square side. A dataset is listed without opening an image; the cache
holds the uint8 pixels of `preprocessing.load_pixels` in one flat file per configuration.
"""

import errno
import fcntl
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.preprocessing import IMAGE_SUFFIXES, ImageError, Preprocessing, load_pixels
from common.runtime import InputError, log, progress_bar, worker_count, write_json

SPLITS = ("train", "val", "test")
_USUAL_NAMES = (
    {"nodr", "normal", "no", "none", "healthy"},
    {"mild", "milddr", "mildnpdr"},
    {"moderate", "moderatedr", "moderatenpdr"},
    {"severe", "severedr", "severenpdr"},
    {"proliferate", "proliferatedr", "proliferative", "proliferativedr", "pdr"},
)
_SAVE_EVERY = 256  # images between two saves of the index
_SAMPLE = 4096  # bytes read of files of equal size before all of them are


@dataclass(frozen=True)
class Split:
    """The images of one split: ids relative to the root, files, labels (N,), sizes and times."""

    name: str
    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: np.ndarray  # (N,) int64
    stamps: tuple[tuple[int, int], ...]  # size in bytes, modification time in ns

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self, num_classes: int) -> list[int]:
        """Count the images of each class."""
        return np.bincount(self.labels, minlength=num_classes).tolist()

    def fingerprint(self, with_times: bool = False) -> str:
        """Hash the images' ids, labels and sizes: what a run was computed on.

        with_times: also the places and modification times, which a copied dataset does not keep.
        """
        lines = [f"{name} {label} {size}"
                 for name, label, (size, _) in zip(self.ids, self.labels, self.stamps)]  # fmt: skip
        if with_times:
            lines += [_image_key(path, stamp) for path, stamp in zip(self.paths, self.stamps)]
        text = "\n".join(lines).encode(errors="surrogateescape")  # names need not be UTF-8
        return hashlib.sha256(text).hexdigest()[:16]


def scan_split(
    root: Path, name: str, num_classes: int = 5, class_names: tuple[str, ...] = ()
) -> Split:
    """List one split's images from its class folders, in a stable order, opening none.

    Class folders are `class_names` in grade order, or "0".."K-1", or the usual names (No_DR, Mild,
    ...). A root with class folders but without split folders is itself the split "test". Raises
    InputError for a missing folder, a folder of images that is no class, or a broken link.
    """
    folder = root / name
    if not folder.is_dir() and name == "test" and not any((root / s).is_dir() for s in SPLITS):
        folder = root
    if not folder.is_dir():
        raise InputError(
            f"expected the folder {folder} with one folder per grade, found none; "
            "check --dataset_path (or DATASET_PATH)"
        )
    files: list[tuple[str, Path, int, tuple[int, int]]] = []
    for label, class_folder in enumerate(_class_folders(folder, num_classes, class_names)):
        for entry in _image_files(class_folder):
            stat = entry.stat()
            path = Path(entry.path)
            stamp = (stat.st_size, stat.st_mtime_ns)
            files.append((path.relative_to(root).as_posix(), path, label, stamp))
    if not files:
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise InputError(f"expected images ({suffixes}) in the class folders of {folder}")
    ids, paths, labels, stamps = zip(*sorted(files))
    return Split(name, ids, paths, np.array(labels, dtype=np.int64), stamps)


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
    entries = [
        Entry(path.relative_to(root).as_posix(), path, name, label)
        for name, folder in folders.items()
        for label, place in enumerate(_class_folders(folder, num_classes, class_names))
        for path in place.iterdir()
    ]
    if not entries:
        raise InputError(f"expected images in the class folders of {root}, found none")
    return sorted(entries, key=lambda entry: entry.id)


def _class_folders(folder: Path, num_classes: int, class_names: tuple[str, ...]) -> list[Path]:
    found = {entry.name: entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    if len(set(class_names)) < len(class_names):
        raise InputError(f"--class_names: {' '.join(class_names)} names a class twice")
    expected = " ".join(class_names) or f"0..{num_classes - 1} or No_DR Mild Moderate Severe PDR"
    chosen = _matching_folders(found, num_classes, class_names)
    if not chosen:
        raise InputError(
            f"expected the class folders {expected} in {folder}, found "
            f"{' '.join(found) or 'none'}; rename them or pass --class_names in grade order (an "
            "empty folder stands for a grade without images)"
        )
    others = [name for name, path in found.items() if path not in chosen]
    strange = [name for name in others if next(_image_files(found[name]), None)]
    if strange:
        raise InputError(
            f"expected the class folders {expected} in {folder}, found images in "
            f"{' '.join(strange)}, too; move them away or check --num_classes and --class_names"
        )
    return chosen


def _matching_folders(
    found: dict[str, Path], num_classes: int, class_names: tuple[str, ...]
) -> list[Path]:
    for names in (class_names, tuple(str(grade) for grade in range(num_classes))):
        if names and all(name in found for name in names):
            return [found[name] for name in names]
    if not class_names and num_classes == len(_USUAL_NAMES):
        usual = {_plain(name): path for name, path in found.items()}
        matches = [[usual[n] for n in names if n in usual] for names in _USUAL_NAMES]
        if all(len(match) == 1 for match in matches):
            return [match[0] for match in matches]
    return []


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalpha())


def _image_files(folder: Path) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            is_image = entry.name.lower().endswith(IMAGE_SUFFIXES)
            if not is_image or entry.name.startswith("."):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):
                raise InputError(f"{entry.path}: the link leads nowhere; remove or mend it")
            if entry.is_file():
                yield entry


def identical_files(splits: Sequence[Split], workers: int = 8) -> list[list[tuple[Split, int]]]:
    """Group the images of several splits by equal bytes, two or more to a group.

    An image is given as its split and position. Opens only files whose size occurs twice, and reads
    on only where their ends agree.
    """
    images = [(split, position) for split in splits for position in range(len(split))]
    groups = _equal(images, [split.stamps[position][0] for split, position in images])
    with ThreadPoolExecutor(worker_count(workers)) as pool:
        for digest in (_digest_of_end, _digest):
            images = [image for group in groups for image in group]
            paths = [split.paths[position] for split, position in images]
            groups = _equal(images, list(pool.map(digest, paths)))
    return groups


def _equal(items: list[Any], keys: list[Any]) -> list[list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item, key in zip(items, keys):
        groups.setdefault(key, []).append(item)
    return [group for group in groups.values() if len(group) > 1]


def _digest_of_end(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _SAMPLE))
        return hashlib.sha256(file.read(_SAMPLE)).digest()


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class PixelCache:
    """The decoded pixels of one split under one configuration.

    Each row of the file is one picture, (S, S, 3) uint8, with a checksum in the index; a row is
    never changed for other content, so that another process can go on reading.
    """

    def __init__(self, folder: Path, split: Split, settings: Preprocessing) -> None:
        self.settings = settings
        self.split = split
        self.shape = (settings.img_size, settings.img_size, 3)
        self._bytes = int(np.prod(self.shape))
        self._file = folder / "pixels.u8"
        self._index_path = folder / "index.json"
        index = self._read_index()
        keys = [_image_key(path, stamp) for path, stamp in zip(split.paths, split.stamps)]
        self._entries = [index.get(key) for key in keys]
        self._keys = keys
        self._verified = np.zeros(len(split), dtype=bool)
        self._handle = -1

    def __len__(self) -> int:
        return len(self.split)

    @property
    def missing(self) -> list[int]:
        """List the images that are not decoded yet."""
        return [i for i, entry in enumerate(self._entries) if entry is None]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Read the pixels of the given images as (n, S, S, 3) uint8.

        A damaged row is decoded again from its file; InputError if that is gone, too.
        """
        if self._handle < 0:
            self._handle = os.open(self._file, os.O_RDONLY)
        pixels = np.empty((len(indices), *self.shape), dtype=np.uint8)
        for slot, index in enumerate(np.asarray(indices).tolist()):
            row, checksum = self._entries[index]
            view = memoryview(pixels[slot]).cast("B")
            length = os.preadv(self._handle, [view], row * self._bytes)
            if not self._verified[index]:
                if length != self._bytes or zlib.crc32(view) != checksum:
                    pixels[slot] = self._repair(index)
                self._verified[index] = True
        return pixels

    def _read_index(self) -> dict[str, list[int]]:
        return _read_index(self._index_path) if self._file.is_file() else {}

    def _repair(self, index: int) -> np.ndarray:
        log(f"cache: damaged row of {self.split.ids[index]}, decoded again")
        try:
            pixels = load_pixels(self.split.paths[index], self.settings)
        except ImageError as error:
            raise InputError(f"the cache is damaged, and so is the image: {error}") from error
        row, checksum = self._entries[index]
        if zlib.crc32(pixels) == checksum:
            with open(self._file, "r+b") as file:
                os.pwrite(file.fileno(), memoryview(np.ascontiguousarray(pixels)).cast("B"),
                          row * self._bytes)  # fmt: skip
        return pixels

    def fill(self, num_workers: int) -> None:
        """Decode the missing images on `num_workers` threads, saving the index as it goes.

        Raises InputError naming the files that cannot be read; the others stay in the cache.
        """
        index = self._read_index()
        self._entries = [index.get(key) for key in self._keys]
        missing = self.missing
        if not missing:
            return
        log(f"cache: decoding {len(missing)} of {len(self)} images of {self.split.name}")
        cv2.setNumThreads(1)  # the pool already has a thread per core
        first = 1 + max((row for row, _ in index.values()), default=-1)
        errors: list[str] = []
        with (
            open(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file,
            ThreadPoolExecutor(worker_count(num_workers)) as pool,
        ):
            jobs = {
                pool.submit(self._store, file.fileno(), i, first + n): (i, first + n)
                for n, i in enumerate(missing)
            }
            bar = progress_bar(as_completed(jobs), f"cache {self.split.name}", len(missing))
            try:
                for done, job in enumerate(bar, 1):
                    position, row = jobs[job]
                    try:
                        self._entries[position] = [row, job.result()]
                        index[self._keys[position]] = self._entries[position]
                    except ImageError as error:
                        errors.append(str(error))
                    if done % _SAVE_EVERY == 0:
                        write_json(self._index_path, index)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                with suppress(OSError):  # what is decoded need not be decoded again
                    os.fsync(file.fileno())
                    write_json(self._index_path, index)
                raise
            os.fsync(file.fileno())
        write_json(self._index_path, index)
        if errors:
            shown = "; ".join(sorted(errors)[:5])
            raise InputError(f"{len(errors)} images cannot be used: {shown}; remove or mend them")

    def _store(self, handle: int, index: int, row: int) -> int:
        path = self.split.paths[index]
        try:
            pixels = np.ascontiguousarray(load_pixels(path, self.settings))
            stat = path.stat()
        except ImageError:
            raise
        except Exception as error:  # one odd picture must not end the work on the others
            reason = " ".join(str(error).split())[:160]
            raise ImageError(f"{path}: {type(error).__name__}: {reason}") from error
        if (stat.st_size, stat.st_mtime_ns) != self.split.stamps[index]:
            raise ImageError(f"{path}: was changed while the images were read")
        view = memoryview(pixels).cast("B")
        try:
            written = os.pwrite(handle, view, row * self._bytes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._file)) from error
        if written != self._bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file))
        return zlib.crc32(view)


def open_cache(
    split: Split, settings: Preprocessing, cache_dir: Path, num_workers: int
) -> PixelCache:
    """Open the cache of a split, decoding what is new or changed first.

    Processes that fill the same cache take turns. Raises InputError for unreadable images.
    """
    folder = cache_dir / settings.cache_key()
    folder.mkdir(parents=True, exist_ok=True)
    cache = PixelCache(folder, split, settings)
    if cache.missing:
        with _filling(folder):
            write_json(folder / "settings.json", asdict(settings))
            cache.fill(num_workers)
    return cache


def _image_key(path: Path, stamp: tuple[int, int]) -> str:
    return f"{os.path.realpath(path)}|{stamp[0]}|{stamp[1]}"


def _read_index(path: Path) -> dict[str, list[int]]:
    try:
        content = json.loads(path.read_text())
        pairs = [(row, checksum) for row, checksum in content.values()]
        if all(isinstance(n, int) and 0 <= n < 2**32 for pair in pairs for n in pair):
            return content
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    log(f"cache: {path} is damaged; its images are decoded again")
    return {}


@contextmanager
def _filling(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "w") as file:
        started = time.monotonic()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"cache: another process fills {folder}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)  # the kernel lets go of it when a process dies
            log(f"cache: waited {time.monotonic() - started:.0f} s")
        yield
