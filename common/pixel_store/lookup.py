"""Find the rows of wanted images in a cache of any size.

N images wanted, U of them different. Index files are read a chunk at a time, and of each chunk only
what is wanted is kept: memory grows with the images wanted, never with the cache.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np

from common.data.folders import Split, cache_keys
from common.pixel_store import flat_cache
from common.pixel_store.records import KEY_BYTES, NOTES, PIXELS, ROWS, SHARD, read_records
from common.system.log import log

_digest = partial(blake2b, digest_size=KEY_BYTES)
MISSING = -1


def digests(keys: Iterable[str]) -> np.ndarray:
    """Reduce the keys of images to (N,) of 16 bytes each."""
    joined = b"".join(_digest(key.encode(errors="surrogateescape")).digest() for key in keys)
    return np.frombuffer(joined, dtype=f"S{KEY_BYTES}")


@dataclass(frozen=True)
class Rows:
    """Where the pixels of N images lie, and the checksums (CRC-32) that they have."""

    files: tuple[Path, ...]  # of pixels
    file: np.ndarray  # (N,) int32, place in `files`
    number: np.ndarray  # (N,) uint32, row within the file
    checksum: np.ndarray  # (N,) uint32


@dataclass
class _IndexFile:
    """An index file that was read up to a place."""

    pixels: int  # place of its pixel file in `Lookup.files`
    end: int = 0  # bytes


@dataclass
class Lookup:
    """What was found so far of the images wanted."""

    folder: Path
    keys: np.ndarray  # (U,) ordered
    place: np.ndarray  # (N,) place in `keys` of each image
    file: np.ndarray = field(init=False)  # (U,) int32, place in `files`, or MISSING
    number: np.ndarray = field(init=False)  # (U,) uint32
    checksum: np.ndarray = field(init=False)  # (U,) uint32
    noted: np.ndarray = field(init=False)  # (U,) bool: the file is odd
    files: list[Path] = field(default_factory=list)
    _read: dict[str, _IndexFile] = field(default_factory=dict)
    _no_files: set[str] = field(default_factory=set)  # names that folders or pipes have

    def __post_init__(self) -> None:
        count = len(self.keys)
        self.file = np.full(count, MISSING, dtype=np.int32)
        self.number, self.checksum = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
        self.noted = np.zeros(count, dtype=bool)

    @property
    def complete(self) -> bool:
        """Tell whether every image was found."""
        return not (self.file == MISSING).any()

    def rows(self) -> Rows:
        """Say where the pixels of each image lie; all were found."""
        place = self.place
        return Rows(tuple(self.files), self.file[place], self.number[place], self.checksum[place])

    def refresh(self, only_new: bool = False) -> bool:
        """Read what other processes have written; only_new: look into new files alone.

        Returns whether there were new files.
        """
        names = sorted(path.name for path in self.folder.glob(f"{SHARD}*{ROWS}"))
        new = [name for name in names if name not in self._read]
        for name in new if only_new else names:
            self.read(self.folder / name)
        return bool(new)

    def read(self, path: Path) -> None:
        """Read what one index file holds beyond what was read of it."""
        if path.name not in self._read:
            pixels = path.with_suffix(PIXELS)
            if not all(os.access(each, os.R_OK) for each in (pixels, path)):
                return  # lost, or somebody's own: its images are decoded again
            for each in (pixels, path):
                if not each.is_file():
                    self._pass_over(each)
                    return
            self._read[path.name] = _IndexFile(len(self.files))
            self.files.append(pixels)
        known, damaged = self._read[path.name], 0
        with suppress(FileNotFoundError):
            for part in read_records(path, known.end):
                records = part.records
                self.keep(records["key"], records["number"], records["checksum"], known.pixels)
                self._note(records["key"][records["noted"] > 0])
                known.end, damaged = part.end, damaged + part.damaged
        if damaged:
            log(f"cache: {path} is damaged; {damaged} of its images are decoded again")

    def _pass_over(self, path: Path) -> None:
        """Say once that a folder or a pipe lies where a file should be."""
        if path.name not in self._no_files:
            self._no_files.add(path.name)
            log(f"cache: {path} is no file; its images are decoded again")

    def keep(self, keys: np.ndarray, numbers: np.ndarray, checksums: np.ndarray, file: int) -> None:
        """Keep of some rows of a file those that are wanted and not found yet."""
        places, theirs = self._wanted(keys)
        new = self.file[places] == MISSING
        places, theirs = places[new], theirs[new]
        self.number[places], self.checksum[places] = numbers[theirs], checksums[theirs]
        self.file[places] = file

    def _note(self, keys: np.ndarray) -> None:
        self.noted[self._wanted(keys)[0]] = True

    def _wanted(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find which keys are wanted: their places among the wanted and among the given."""
        if not len(self.keys):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        theirs = np.flatnonzero(self.keys[places] == keys)
        return places[theirs], theirs

    def notes(self) -> dict[int, list[str]]:
        """Read what is odd about the files of images, by their places in `keys`."""
        found = self._flat_notes()
        with_notes = np.unique(self.file[self.noted & (self.file != MISSING)]).tolist()
        for path in (self.files[file].with_suffix(NOTES) for file in with_notes):
            if not path.is_file():  # a pipe would be waited for
                continue
            with suppress(OSError), open(path, errors="replace") as file:
                for line in file:
                    with suppress(ValueError, TypeError):
                        key, notes = json.loads(line)
                        wanted = np.array([bytes.fromhex(key)], dtype=self.keys.dtype)
                        for place in self._wanted(wanted)[0].tolist():
                            found[place] = [str(note) for note in notes]
        return found

    def read_flat_cache(self) -> None:
        """Find what is missing in the cache of an earlier version."""
        index = flat_cache.read_index(self.folder)
        if index is not None:
            self.files.append(flat_cache.pixel_file(self.folder))
            numbers, checksums = index.rows.T
            self.keep(digests(index.keys), numbers, checksums, len(self.files) - 1)

    def _flat_notes(self) -> dict[int, list[str]]:
        path = flat_cache.pixel_file(self.folder)
        if path not in self.files or not (self.file == self.files.index(path)).any():
            return {}
        notes = flat_cache.read_notes(self.folder)
        places, theirs = self._wanted(digests(notes))
        every = list(notes.values())
        return {place: every[own] for place, own in zip(places.tolist(), theirs.tolist())}


def look_up(folder: Path, split: Split) -> Lookup:
    """Find the rows of a split's images in the cache of a configuration."""
    keys, place = np.unique(digests(cache_keys(split.images)), return_inverse=True)
    lookup = Lookup(folder, keys, place.astype(np.int32 if len(keys) < 2**31 else np.int64))
    lookup.refresh()
    if not lookup.complete:
        lookup.read_flat_cache()
    return lookup
