"""Decode what a cache lacks, beside other processes that do the same.

U different images of a split. Each process takes blocks of images that no other one has, decodes
them on threads into a shard of its own, and records them. What was recorded stays, however the
process ends.
"""

import time
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from common.data.folders import ImageFile, Split
from common.pixel_store.claims import Claims
from common.pixel_store.lookup import MISSING, Lookup
from common.pixel_store.shard import Shard, WrittenRow, rows_in_shard
from common.pixels.decoding import ImageError, UnreadableError
from common.pixels.preprocessing import Preprocessing, load_picture
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.log import log, progress_bar

_BATCH = 64  # images at least that are decoded between two records
_PER_THREAD = 32  # and for each thread
_BLOCK_BITS = 12  # of a key: blocks of 250 images where a million are missing
_LONGEST_PAUSE = 1.0  # seconds between two looks at what others have done
Errors = dict[int, ImageError]  # place in Lookup.keys -> why an image cannot be used


def fill(
    lookup: Lookup, split: Split, preprocessing: Preprocessing, num_workers: int
) -> dict[str, ImageError]:
    """Decode the images of a split that were not found; returns those that cannot be used, by id.

    The others are found afterwards, and stay in the cache.
    """
    cv2.setNumThreads(1)  # the pool already has a thread per core
    workers = worker_count(num_workers)
    _, first = np.unique(lookup.place, return_index=True)
    missing = int(np.sum(lookup.file[lookup.place] == MISSING))
    log(f"cache: decoding {missing} of {len(split)} images of {split.name}")
    with (
        Claims(lookup.folder / "filling") as claims,
        ThreadPoolExecutor(workers) as pool,
        progress_bar(None, f"cache {split.name}", missing) as bar,
        closing(_Filler(lookup, split, first, preprocessing, pool, bar)) as filler,
    ):
        _fill_blocks(filler, claims, max(_BATCH, _PER_THREAD * workers))
        errors = filler.errors
    if not errors:
        return {}
    return {
        image.id: errors[place]
        for place, image in zip(lookup.place.tolist(), split.images)
        if place in errors
    }


class _Filler:
    """Decodes images of one split into shards of its own."""

    def __init__(
        self,
        lookup: Lookup,
        split: Split,
        first: np.ndarray,
        preprocessing: Preprocessing,
        pool: ThreadPoolExecutor,
        bar: tqdm,
    ) -> None:
        """first: (U,) which image of the split has each of the lookup's keys."""
        self.lookup, self.errors = lookup, Errors()
        self._split, self._first = split, first
        self._preprocessing, self._pool, self._bar = preprocessing, pool, bar
        self._row_bytes = preprocessing.img_size**2 * 3
        self._shard: Shard | None = None

    def missing(self, block: slice) -> list[int]:
        """List the images of a block that are not in the cache, and may be usable."""
        places = block.start + np.flatnonzero(self.lookup.file[block] == MISSING)
        return [place for place in places.tolist() if place not in self.errors]

    def decode(self, places: Sequence[int], size: int) -> None:
        """Decode images into the cache, recording them after each `size`."""
        size = min(size, rows_in_shard(self._row_bytes))
        for start in range(0, len(places), size):
            self._decode_together(places[start : start + size])

    def close(self) -> None:
        """Close the shard."""
        if self._shard is not None:
            self._shard.close()
        self._shard = None

    def _decode_together(self, places: Sequence[int]) -> None:
        if self._shard is None or self._shard.left < len(places):
            self.close()
            self._shard = Shard(self.lookup.folder, self._row_bytes)
        shard = self._shard
        jobs: dict[Future[WrittenRow], int] = {
            self._pool.submit(self._decode_one, place, shard, number): place
            for place, number in zip(places, shard.reserve(len(places)))
        }
        written: list[WrittenRow] = []
        try:
            for job in as_completed(jobs):
                try:
                    written.append(job.result())
                except ImageError as error:
                    self.errors[jobs[job]] = error
                self._bar.update()
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            with suppress(OSError):  # what is decoded need not be decoded again
                shard.record(written)
            raise
        shard.record(written)
        self.lookup.read(shard.rows_file)

    def _decode_one(self, place: int, shard: Shard, number: int) -> WrittenRow:
        """Decode an image into a row of a shard."""
        image = self._split.images[self._first[place]]
        pixels, notes = _decode(image, self._preprocessing)
        view = pixels.data.cast("B")
        shard.write(number, view)
        return WrittenRow(self.lookup.keys[place], number, zlib.crc32(view), notes)


def _fill_blocks(filler: _Filler, claims: Claims, size: int) -> None:
    """Decode one block after the other; those that others have claimed are waited for."""
    blocks = _blocks(filler.lookup)
    beside, pause = True, 0.0  # whether others fill, too
    while blocks:
        taken: list[slice] = []
        count = 0
        for _ in range(len(blocks)):
            number, block = blocks.popleft()
            missing = len(filler.missing(block))
            if missing and claims.take(number):
                taken.append(block)
                count += missing
            elif missing:
                blocks.append((number, block))  # another process has it
            if count >= size:
                break
        now = claims.others()
        filler.lookup.refresh(only_new=not (now or beside))  # others may have just done a block
        beside = now
        if taken:
            filler.decode([place for block in taken for place in filler.missing(block)], size)
            claims.release()
            pause = 0.0
        elif blocks:
            pause = _pause(filler.lookup.folder, pause)


def _blocks(lookup: Lookup) -> deque[tuple[int, slice]]:
    """Divide the keys, which are ordered, by their first bits; each process begins elsewhere."""
    first = lookup.keys.view(np.uint8).reshape(len(lookup.keys), -1)[:, :2].astype(np.int64)
    numbers = (first[:, 0] << 8 | first[:, 1]) >> (16 - _BLOCK_BITS)
    found, starts = np.unique(numbers, return_index=True)
    ends = np.append(starts[1:], len(numbers))
    blocks = deque(
        (number, slice(start, end))
        for number, start, end in zip(found.tolist(), starts.tolist(), ends.tolist())
    )
    blocks.rotate(int(np.random.default_rng().integers(len(blocks))))
    return blocks


def _pause(folder: Path, before: float) -> float:
    """Wait for other processes, longer each time; before: the wait before this one, in seconds."""
    if not before:
        log(f"cache: another process fills {folder}; waiting for it")
    pause = min(_LONGEST_PAUSE, max(0.05, 2 * before))
    time.sleep(pause)
    return pause


def _decode(image: ImageFile, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode an image to its pixels (S, S, 3) uint8, and say what is odd about its file."""
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
    return np.ascontiguousarray(picture.pixels), tuple(note.text for note in picture.notes)
