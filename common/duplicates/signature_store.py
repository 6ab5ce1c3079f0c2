"""Keep what was computed of each picture, so that audit, split and evaluation compute it once.

A folder of files that are written whole and never changed: each holds a batch of records, and a
first line that says where each one lies. Processes write files of their own and need no lock. What
is damaged is as good as absent: it is computed again.
"""

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from common.system.files import atomic_write

_SUFFIX = ".records"
_ALIGNED = 8  # bytes


@dataclass(frozen=True)
class StoredRecord:
    """What is stored of one picture."""

    values: dict[str, Any]  # of JSON
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # of numbers


@dataclass(frozen=True)
class _Place:
    """Where a record lies."""

    key: str
    offset: int  # bytes from the file's beginning
    length: int
    checksum: int  # CRC-32


class SignatureStore:
    """Records by key, such as `ImageFile.cache_key()`, in a folder of the cache."""

    def __init__(self, cache_dir: Path, version: str) -> None:
        """version: of what is computed; records of another one are not seen."""
        self._folder = cache_dir / f"signatures-{version}"

    def read(self, keys: Iterable[str]) -> dict[str, StoredRecord]:
        """Return the records that are there for these keys, and whole.

        Their arrays are views of the files, so that the system can do without the memory when it
        needs it.
        """
        wanted = set(keys)
        found: dict[str, StoredRecord] = {}
        for path, places in self._places():
            mine = [place for place in places if place.key in wanted]
            if not mine:
                continue
            with suppress(OSError, ValueError), open(path, "rb") as file:
                content = mmap(file.fileno(), 0, access=ACCESS_READ)
                for place in mine:
                    record = _unpack(content, place)
                    if record is not None:
                        found[place.key] = record
                        wanted.discard(place.key)
        return found

    def add(self, records: Mapping[str, StoredRecord]) -> None:
        """Write records, whole or not at all, as one more file."""
        if not records:
            return
        contents = {key: _pack(record) for key, record in records.items()}
        table, offset = [], 0
        for key, content in contents.items():
            table.append([key, offset, len(content), zlib.crc32(content)])
            offset += len(content)
        with atomic_write(self._folder / f"{uuid4().hex}{_SUFFIX}") as file:
            file.write(_line(json.dumps(table).encode()))
            for content in contents.values():
                file.write(content)

    def _places(self) -> Iterator[tuple[Path, list[_Place]]]:
        """Tell where the records of each file lie."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            with suppress(OSError, ValueError, TypeError, RecursionError), open(path, "rb") as file:
                line = file.readline()
                places = [
                    _Place(str(key), len(line) + offset, length, checksum)
                    for key, offset, length, checksum in json.loads(line)
                    if min(offset, length, checksum) >= 0
                ]
                yield path, places


def file_key(path: Path) -> str:
    """Tell this state of a file from all others: its real place, size and time; "" if it is gone.

    As `ImageFile.cache_key()`.
    """
    try:
        stat = path.stat()
        return f"{os.path.realpath(path)}|{stat.st_size}|{stat.st_mtime_ns}"
    except OSError:
        return ""


def _pack(record: StoredRecord) -> bytes:
    """Write a record as one line of JSON and the bytes of its arrays, at multiples of 8 bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in record.arrays.items()}
    shapes = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    head = json.dumps({"values": record.values, "arrays": shapes}).encode()
    whole = _line(head) + b"".join(array.tobytes() for array in arrays.values())
    return whole + bytes(-len(whole) % _ALIGNED)


def _line(text: bytes) -> bytes:
    """End a line where a multiple of 8 bytes ends."""
    return text + b" " * (-(len(text) + 1) % _ALIGNED) + b"\n"


def _unpack(file: mmap, place: _Place) -> StoredRecord | None:
    """Read what `_pack` has written; None if it is damaged."""
    content = memoryview(file)[place.offset : place.offset + place.length]
    if len(content) != place.length or zlib.crc32(content) != place.checksum:
        return None
    try:
        end = file.find(b"\n", place.offset, place.offset + place.length) - place.offset
        described = json.loads(bytes(content[:end]))
        arrays, start = {}, end + 1
        for name, (dtype, shape) in described["arrays"].items():
            count = math.prod(shape)
            flat = np.frombuffer(content, dtype, count, start) if count else np.empty(0, dtype)
            # those of earlier files lie anywhere
            arrays[name] = (flat if flat.flags.aligned else flat.copy()).reshape(shape)
            start += flat.nbytes
        return StoredRecord(described["values"], arrays)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
