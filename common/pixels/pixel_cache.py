"""The cache that decodes each image once.

N images of a split, S pixels of the square side. A folder for each configuration holds the uint8
pixels of `preprocessing.load_pixels` in one flat file, a row to a picture, and an index that says
which row is whose. A row is never changed for other content, so that another process can go on
reading.
"""

import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from io import BufferedRandom
from pathlib import Path

import cv2
import numpy as np

from common.data.folders import ImageFile, Split
from common.pixels.decoding import ImageError, Note, UnreadableError
from common.pixels.preprocessing import Preprocessing, load_picture, load_pixels
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.files import write_json, write_text
from common.system.log import log, printable, progress_bar

_SAVE_EVERY = 256  # images between two saves of the index
_NAMED = 10  # images that a message names


@dataclass(frozen=True)
class CacheRow:
    """Where the pixels of one image lie in the file, and the checksum (CRC-32) that they have."""

    number: int
    checksum: int


@dataclass(frozen=True)
class Decoded:
    """The row that an image was decoded into, and what is odd about its file."""

    row: CacheRow
    notes: tuple[Note, ...]


CacheIndex = dict[str, CacheRow]  # ImageFile.cache_key() -> row


class PixelCache:
    """The decoded pixels of one split under one configuration, all of them in the cache's file."""

    def __init__(
        self, file: Path, split: Split, preprocessing: Preprocessing, rows: list[CacheRow]
    ) -> None:
        """rows: one for each image of the split."""
        self.split, self.preprocessing = split, preprocessing
        self.shape = (preprocessing.img_size, preprocessing.img_size, 3)
        self._file, self._rows = file, rows
        self._verified = np.zeros(len(split), dtype=bool)
        self._handle = -1  # opened by the first reading

    def __len__(self) -> int:
        return len(self.split)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Read the pixels of the given images as (n, S, S, 3) uint8.

        A damaged row is decoded again from its file; InputError if that is gone, too.
        """
        if self._handle < 0:
            self._handle = os.open(self._file, os.O_RDONLY)
        pixels = np.empty((len(indices), *self.shape), dtype=np.uint8)
        for slot, index in enumerate(np.asarray(indices).tolist()):
            row, view = self._rows[index], pixels[slot].data.cast("B")
            length = os.preadv(self._handle, [view], row.number * len(view))
            if not self._verified[index]:
                if length != len(view) or zlib.crc32(view) != row.checksum:
                    pixels[slot] = self._repair(index)
                self._verified[index] = True
        return pixels

    def _repair(self, index: int) -> np.ndarray:
        """Decode an image whose row is damaged, and mend the row if the pixels are as before."""
        log(f"cache: damaged row of {self.split.ids[index]}, decoded again")
        try:
            pixels = np.ascontiguousarray(load_pixels(self.split.paths[index], self.preprocessing))
        except ImageError as error:
            raise InputError(f"the cache is damaged, and so is the image: {error}") from error
        row, view = self._rows[index], pixels.data.cast("B")
        if zlib.crc32(view) == row.checksum:
            with open(self._file, "r+b") as file:
                os.pwrite(file.fileno(), view, row.number * len(view))
        return pixels


def open_cache(
    split: Split, preprocessing: Preprocessing, cache_dir: Path, num_workers: int
) -> PixelCache:
    """Open the cache of a split, decoding what is new or changed first.

    Processes that fill the same cache take turns. What is odd about files that are used is logged.
    Raises InputError for unreadable images.
    """
    folder = cache_dir / preprocessing.cache_key()
    index, refused = _filled(folder, split, preprocessing, num_workers)
    if refused:
        raise InputError(_refusal(split, refused, cache_dir))
    _log_notes(folder, split)
    rows = [index[image.cache_key()] for image in split.images]
    return PixelCache(_pixel_file(folder), split, preprocessing, rows)


@dataclass(frozen=True)
class Readable:
    """The images of a split that can be read, and the ids of the others with the reasons."""

    split: Split
    skipped: dict[str, str]


def keep_readable(
    split: Split, preprocessing: Preprocessing, cache_dir: Path, num_workers: int
) -> Readable:
    """Leave out the images of a split whose files hold no usable picture, and log which.

    Raises InputError for files that this machine cannot open, which another one might read, and
    where nothing is left.
    """
    folder = cache_dir / preprocessing.cache_key()
    _, refused = _filled(folder, split, preprocessing, num_workers)
    passing: dict[str, ImageError] = {
        id_: error for id_, error in refused.items() if isinstance(error, UnreadableError)
    }
    if passing or len(refused) == len(split):
        raise InputError(_refusal(split, passing or refused, cache_dir, skipping=True))
    if not refused:
        return Readable(split, {})
    names = ", ".join(printable(id_) for id_ in list(refused)[:_NAMED])
    more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    log(
        f"note: --skip_unreadable leaves {len(refused)} of {len(split)} images of {split.name} "
        f"out: {names}{more}; reasons in {_write_refused(split, refused, cache_dir)}"
    )
    left = tuple(image for image in split.images if image.id not in refused)
    return Readable(
        replace(split, images=left), {id_: str(error) for id_, error in refused.items()}
    )


def _filled(
    folder: Path, split: Split, preprocessing: Preprocessing, num_workers: int
) -> tuple[CacheIndex, dict[str, ImageError]]:
    """Decode what the cache lacks; returns its index, and what cannot be used, by id."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [image.cache_key() for image in split.images]
    index, errors = _read_index(folder), {}
    if not all(key in index for key in keys):
        with _filling(folder):
            index = _read_index(folder)  # another process may have decoded some meanwhile
            write_json(folder / "settings.json", asdict(preprocessing))
            images = {key: image for key, image in zip(keys, split.images) if key not in index}
            if images:
                log(f"cache: decoding {len(images)} of {len(split)} images of {split.name}")
                errors = _fill(folder, index, images, preprocessing, num_workers)
    return index, {image.id: errors[key] for key, image in zip(keys, split.images) if key in errors}


def _refusal(
    split: Split, refused: dict[str, ImageError], cache_dir: Path, skipping: bool = False
) -> str:
    """Say which images cannot be used, all of them in a file where they are many."""
    shown = "; ".join(str(error) for error in list(refused.values())[:_NAMED])
    if len(refused) > _NAMED:
        path = _write_refused(split, refused, cache_dir)
        shown += f"; and {len(refused) - _NAMED} more, all of them in {path}"
    advice = "" if skipping else ", or go on without them with --skip_unreadable"
    return (
        f"{len(refused)} of {len(split)} images of {split.name} cannot be used: {shown}; remove or "
        f"mend them{advice}"
    )


def _write_refused(split: Split, refused: dict[str, ImageError], cache_dir: Path) -> Path:
    path = cache_dir / f"unreadable_{split.name}.txt"
    lines = (" ".join(str(error).split()) for error in refused.values())
    write_text(path, "".join(f"{line}\n" for line in lines))
    return path


def _log_notes(folder: Path, split: Split) -> None:
    """Log what is odd about the files of a split, each kind with its first names."""
    notes = _read_notes(folder)
    named: dict[str, list[str]] = {}
    for image in split.images:
        for note in notes.get(image.cache_key(), ()):
            named.setdefault(note, []).append(printable(image.id))
    for note, ids in sorted(named.items()):
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        log(f"note: {split.name}: {note}: {', '.join(ids[:_NAMED])}{more}")


def _notes_file(folder: Path) -> Path:
    return folder / "notes.json"


def _read_notes(folder: Path) -> dict[str, list[str]]:
    """Read what is odd about cached files, by their keys; what is damaged is as good as empty."""
    try:
        content = json.loads(_notes_file(folder).read_text())
        return {str(key): [str(note) for note in notes] for key, notes in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _pixel_file(folder: Path) -> Path:
    return folder / "pixels.u8"


def _index_file(folder: Path) -> Path:
    return folder / "index.json"


def _read_index(folder: Path) -> CacheIndex:
    """Read the index of a cache; what is damaged is as good as empty."""
    path = _index_file(folder)
    if not _pixel_file(folder).is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        index = {key: CacheRow(number, checksum) for key, (number, checksum) in content.items()}
        numbers = [n for row in index.values() for n in (row.number, row.checksum)]
        if all(isinstance(n, int) and 0 <= n < 2**32 for n in numbers):
            return index
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    log(f"cache: {path} is damaged; its images are decoded again")
    return {}


def _save(folder: Path, index: CacheIndex) -> None:
    content = {key: [row.number, row.checksum] for key, row in index.items()}
    write_json(_index_file(folder), content)


def _fill(
    folder: Path,
    index: CacheIndex,
    images: dict[str, ImageFile],
    preprocessing: Preprocessing,
    num_workers: int,
) -> dict[str, ImageError]:
    """Decode images, by their keys, on threads into new rows, and save the index as it grows.

    Returns the keys of those that cannot be used, with the reasons; the others stay in the cache.
    """
    cv2.setNumThreads(1)  # the pool already has a thread per core
    first = 1 + max((row.number for row in index.values()), default=-1)
    errors: dict[str, ImageError] = {}
    notes = _read_notes(folder)
    with (
        open(_pixel_file(folder), "r+b", opener=_open_or_create) as file,
        ThreadPoolExecutor(worker_count(num_workers)) as pool,
    ):
        jobs: dict[Future[Decoded], str] = {
            pool.submit(_decode, image, preprocessing, file, number): key
            for number, (key, image) in enumerate(images.items(), first)
        }
        split = next(iter(images.values())).split
        bar = progress_bar(as_completed(jobs), f"cache {split}", len(jobs))
        try:
            for done, job in enumerate(bar, 1):
                try:
                    decoded = job.result()
                    index[jobs[job]] = decoded.row
                    if decoded.notes:
                        notes[jobs[job]] = [note.text for note in decoded.notes]
                except ImageError as error:
                    errors[jobs[job]] = error
                if done % _SAVE_EVERY == 0:
                    _save(folder, index)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            with suppress(OSError):  # what is decoded need not be decoded again
                os.fsync(file.fileno())
                _save(folder, index)
            raise
        os.fsync(file.fileno())
    if notes:
        write_json(_notes_file(folder), notes)
    _save(folder, index)
    return errors


def _open_or_create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _decode(
    image: ImageFile, preprocessing: Preprocessing, file: BufferedRandom, number: int
) -> Decoded:
    """Decode an image into the row of this number of the cache's file."""
    try:
        picture = load_picture(image.path, preprocessing)
        stat = image.path.stat()
    except (ImageError, InputError):
        raise
    except Exception as error:  # one odd picture must not end the work on the others
        reason = " ".join(str(error).split())[:160]
        of_machine = isinstance(error, MemoryError | OSError)
        kind = UnreadableError if of_machine else ImageError
        raise kind(f"{image.path}: {type(error).__name__}: {reason}") from error
    if (stat.st_size, stat.st_mtime_ns) != (image.size, image.modified):
        raise UnreadableError(f"{image.path}: was changed while the images were read")
    pixels = np.ascontiguousarray(picture.pixels)
    view = pixels.data.cast("B")
    done = 0
    try:
        while done < len(view):  # a full disk takes a part, and says why at the next attempt
            done += os.pwrite(file.fileno(), view[done:], number * len(view) + done)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file.name)) from error
    return Decoded(CacheRow(number, zlib.crc32(view)), picture.notes)


@contextmanager
def _filling(folder: Path) -> Iterator[None]:
    """Let one process at a time fill a cache; the others wait for it."""
    with open(folder / "lock", "w") as file:
        started = time.monotonic()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"cache: another process fills {folder}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)  # the kernel lets go of it when a process dies
            log(f"cache: waited {time.monotonic() - started:.0f} s")
        yield
