"""The cache that decodes each image once.

S pixels of the square side. It holds the uint8 pixels of `preprocessing.load_pixels` in one flat
file per configuration.
"""

import errno
import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from common.data.folders import Split, image_key
from common.data.preprocessing import ImageError, Preprocessing, load_pixels
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log, progress_bar

_SAVE_EVERY = 256  # images between two saves of the index


class PixelCache:
    """The decoded pixels of one split under one configuration.

    Each row of the file is one picture, (S, S, 3) uint8, with a checksum in the index; a row is
    never changed for other content, so that another process can go on reading.
    """

    def __init__(self, folder: Path, split: Split, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.split = split
        self.shape = (preprocessing.img_size, preprocessing.img_size, 3)
        self._bytes = int(np.prod(self.shape))
        self._file = folder / "pixels.u8"
        self._index_path = folder / "index.json"
        index = self._read_index()
        keys = [image_key(path, stamp) for path, stamp in zip(split.paths, split.stamps)]
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
            pixels = load_pixels(self.split.paths[index], self.preprocessing)
        except ImageError as error:
            raise InputError(f"the cache is damaged, and so is the image: {error}") from error
        row, checksum = self._entries[index]
        if zlib.crc32(pixels) == checksum:
            with open(self._file, "r+b") as file:
                os.pwrite(
                    file.fileno(),
                    memoryview(np.ascontiguousarray(pixels)).cast("B"),
                    row * self._bytes,
                )
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
            pixels = np.ascontiguousarray(load_pixels(path, self.preprocessing))
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
    split: Split, preprocessing: Preprocessing, cache_dir: Path, num_workers: int
) -> PixelCache:
    """Open the cache of a split, decoding what is new or changed first.

    Processes that fill the same cache take turns. Raises InputError for unreadable images.
    """
    folder = cache_dir / preprocessing.cache_key()
    folder.mkdir(parents=True, exist_ok=True)
    cache = PixelCache(folder, split, preprocessing)
    if cache.missing:
        with _filling(folder):
            write_json(folder / "settings.json", asdict(preprocessing))
            cache.fill(num_workers)
    return cache


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
