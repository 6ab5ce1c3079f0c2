"""Write a shard of the cache: pixels first, then the records that say whose they are."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from common.pixel_store.records import HEADER, NOTES, PIXELS, RECORD, ROWS, SHARD, sealed

SHARD_BYTES = 2 * 2**30  # of pixels in a shard: 14,000 images of 224 px


@dataclass(frozen=True)
class WrittenRow:
    """A row whose pixels are in the file."""

    key: bytes
    number: int
    checksum: int  # CRC-32 of the pixels
    notes: tuple[str, ...]  # what is odd about the image's file


def rows_in_shard(row_bytes: int) -> int:
    """Tell how many rows a shard holds."""
    return max(1, SHARD_BYTES // row_bytes)


class Shard:
    """A shard that this process alone writes."""

    def __init__(self, folder: Path, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self._room = rows_in_shard(row_bytes)
        self._stem = folder / f"{SHARD}{uuid4().hex}"
        self._reserved = 0  # rows
        self._pixels = os.open(self.pixel_file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._rows = -1  # opened with the first record: what has none is no shard

    @property
    def pixel_file(self) -> Path:
        """Where the pixels are."""
        return self._stem.with_suffix(PIXELS)

    @property
    def rows_file(self) -> Path:
        """Where the records are."""
        return self._stem.with_suffix(ROWS)

    @property
    def left(self) -> int:
        """Count the rows that still fit."""
        return self._room - self._reserved

    def reserve(self, count: int) -> range:
        """Set rows aside; returns their numbers."""
        first = self._reserved
        self._reserved += count
        return range(first, self._reserved)

    def write(self, number: int, pixels: memoryview) -> None:
        """Write the pixels of a row; threads may write several at once."""
        done = 0
        try:
            while done < len(pixels):  # a full disk takes a part, and says why at the next attempt
                place = number * self.row_bytes + done
                done += os.pwrite(self._pixels, pixels[done:], place)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.pixel_file)) from error

    def record(self, written: Sequence[WrittenRow]) -> None:
        """Append the records of rows, once their pixels are on the disk."""
        if not written:
            return
        try:
            os.fdatasync(self._pixels)
            noted = {row.key.hex(): row.notes for row in written if row.notes}
            if noted:
                with open(self._stem.with_suffix(NOTES), "a") as file:
                    file.write("".join(f"{json.dumps(line)}\n" for line in noted.items()))
            records = np.empty(len(written), RECORD)
            for place, row in enumerate(written):
                records[place] = (row.key, row.number, row.checksum, bool(row.notes), 0)
            self._append(sealed(records).tobytes())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.rows_file)) from error

    def _append(self, content: bytes) -> None:
        if self._rows < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._rows = os.open(self.rows_file, flags, 0o666)
            content = HEADER + content
        size = os.fstat(self._rows).st_size
        try:
            done = 0
            while done < len(content):
                done += os.write(self._rows, content[done:])
        except OSError:
            with suppress(OSError):  # a part of a record would shift those after it
                os.ftruncate(self._rows, size)
            raise

    def close(self) -> None:
        """Close the files; a shard without a record is removed."""
        os.close(self._pixels)
        if self._rows >= 0:
            os.close(self._rows)
        else:
            with suppress(OSError):
                os.unlink(self.pixel_file)
