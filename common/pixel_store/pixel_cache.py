"""The cache that decodes each image once.

N images of a split, S pixels of the square side. A folder for each configuration holds the uint8
pixels of `preprocessing.load_pixels` in shards, a row to an image, and beside each shard the
records that say which row is whose. A row is never changed for other content, and a shard is
written by the process alone that began it, so that any number of processes, of any number of
machines, fill and read a cache at once.
"""

import errno
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from common.data.folders import Split
from common.pixel_store.filling import fill
from common.pixel_store.lookup import Lookup, Rows, look_up
from common.pixels.decoding import ImageError, UnreadableError
from common.pixels.preprocessing import Preprocessing, load_pixels
from common.system.errors import InputError
from common.system.files import write_json, write_text
from common.system.log import log, printable

_NAMED = 10  # images that a message names
_OPEN_FILES = 256  # shards at most that a cache keeps open


class PixelCache:
    """The decoded pixels of one split under one configuration, all of them in the cache's files."""

    def __init__(self, split: Split, preprocessing: Preprocessing, rows: Rows) -> None:
        """rows: one for each image of the split."""
        self.split, self.preprocessing = split, preprocessing
        self.shape = (preprocessing.img_size, preprocessing.img_size, 3)
        self._rows = rows
        self._verified = np.zeros(len(split), dtype=bool)
        self._open: dict[int, _OpenFile] = {}  # those read last come last

    def __len__(self) -> int:
        return len(self.split)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Read the pixels of the given images as (n, S, S, 3) uint8.

        A damaged row is decoded again from its file; InputError if that is gone, too.
        """
        rows, pixels = self._rows, np.empty((len(indices), *self.shape), dtype=np.uint8)
        for slot, index in enumerate(np.asarray(indices).tolist()):
            view, number = pixels[slot].data.cast("B"), int(rows.number[index])
            file = self._file(int(rows.file[index]))
            length = os.preadv(file.handle, [view], number * len(view))
            if not self._verified[index]:
                if length != len(view) or zlib.crc32(view) != rows.checksum[index]:
                    pixels[slot] = self._repair(index)
                self._verified[index] = True
        return pixels

    def _file(self, number: int) -> "_OpenFile":
        file = self._open.pop(number, None) or _OpenFile(self._rows.files[number])
        self._open[number] = file
        if len(self._open) > _OPEN_FILES:
            with suppress(StopIteration, RuntimeError):  # another thread was quicker
                self._open.pop(next(iter(self._open)), None)
        return file

    def _repair(self, index: int) -> np.ndarray:
        """Decode an image whose row is damaged, and mend the row if the pixels are as before."""
        log(f"cache: damaged row of {self.split.ids[index]}, decoded again")
        try:
            pixels = np.ascontiguousarray(load_pixels(self.split.paths[index], self.preprocessing))
        except ImageError as error:
            raise InputError(f"the cache is damaged, and so is the image: {error}") from error
        rows, view = self._rows, pixels.data.cast("B")
        if zlib.crc32(view) == rows.checksum[index]:
            # a cache that cannot be written is of use all the same
            with suppress(OSError), open(rows.files[rows.file[index]], "r+b") as file:
                os.pwrite(file.fileno(), view, int(rows.number[index]) * len(view))
        return pixels


class _OpenFile:
    """A file that is closed when nobody reads it any more, whatever thread that may be."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.handle)


def open_cache(
    split: Split, preprocessing: Preprocessing, cache_dir: Path, num_workers: int
) -> PixelCache:
    """Open the cache of a split, decoding what is new or changed first.

    Processes that fill the same cache share the work. What is odd about files that are used is
    logged.
    Raises InputError for unreadable images.
    """
    lookup, refused = _filled(split, preprocessing, cache_dir, num_workers)
    if refused:
        raise InputError(_refusal(split, refused, cache_dir))
    _log_notes(lookup, split)
    return PixelCache(split, preprocessing, lookup.rows())


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
    _, refused = _filled(split, preprocessing, cache_dir, num_workers)
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
    split: Split, preprocessing: Preprocessing, cache_dir: Path, num_workers: int
) -> tuple[Lookup, dict[str, ImageError]]:
    """Decode what the cache lacks; returns where all is, and what cannot be used, by id."""
    folder = cache_dir / preprocessing.cache_key()
    with _named_as_cache(cache_dir):
        folder.mkdir(parents=True, exist_ok=True)
        lookup = look_up(folder, split)
        if lookup.complete:
            return lookup, {}
        if not (folder / "settings.json").exists():  # says that this is a cache
            write_json(folder / "settings.json", asdict(preprocessing))
        return lookup, fill(lookup, split, preprocessing, num_workers)


@contextmanager
def _named_as_cache(cache_dir: Path) -> Iterator[None]:
    """Name the cache, and the flag that moves it, where one of its files cannot be written."""
    try:
        yield
    except OSError as error:
        # what names no file of the cache is of something else, such as a log on a full disk
        path = Path(str(error.filename or ""))
        if not error.filename or not (
            path.is_relative_to(cache_dir) or cache_dir.is_relative_to(path)
        ):
            raise
        raise OSError(
            error.errno or errno.EIO,
            f"{error.strerror} ({path.name}): the cache of decoded pixels cannot be written; make "
            "room, or give another folder with --cache_dir, in place of the one",
            str(cache_dir),
        ) from error


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


def _log_notes(lookup: Lookup, split: Split) -> None:
    """Log what is odd about the files of a split, each kind with its first names."""
    notes = lookup.notes()
    if not notes:
        return
    named: dict[str, list[str]] = {}
    for place, id_ in zip(lookup.place.tolist(), split.ids):
        for note in notes.get(place, ()):
            named.setdefault(note, []).append(printable(id_))
    for note, ids in sorted(named.items()):
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        log(f"note: {split.name}: {note}: {', '.join(ids[:_NAMED])}{more}")
