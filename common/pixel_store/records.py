"""The index of a cache: which row of which shard holds the pixels of which image.

R records. A shard is two files of one process: the pixels (`.u8`), a row to an image, and beside
them the rows' records (`.rows`), which are only ever appended. A record carries a checksum of its
own: one that was torn by a kill or a full disk, or damaged, is as good as absent.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PIXELS, ROWS, NOTES = ".u8", ".rows", ".notes"  # endings of a shard's files
SHARD = "shard-"  # with which their names begin
KEY_BYTES = 16
HEADER = b"pixel cache rows 1\n".ljust(32, b"\0")
RECORD = np.dtype(
    [
        ("key", f"S{KEY_BYTES}"),  # digest of ImageFile.cache_key()
        ("number", "<u4"),  # of the row
        ("checksum", "<u4"),  # CRC-32 of the row's pixels
        ("noted", "<u4"),  # 1: the notes say what is odd about the file
        ("check", "<u4"),  # of the words before
    ]
)
_CHUNK = 1 << 16  # records read at a time: 2 MB
# multilinear hashing: a record that was damaged passes with a probability of 2^-32
_FACTORS = np.random.default_rng(1).integers(1, 2**63, 8, dtype=np.uint64) * np.uint64(2) + 1


def sealed(records: np.ndarray) -> np.ndarray:
    """Give records (R,) their checksums."""
    records["check"] = _checks(records)
    return records


def _checks(records: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(records).view("<u4").reshape(len(records), 8)
    sums = (words[:, :7].astype(np.uint64) * _FACTORS[:7]).sum(axis=1, dtype=np.uint64)
    return ((sums + _FACTORS[7]) >> np.uint64(32)).astype(np.uint32)


@dataclass(frozen=True)
class Read:
    """Records that were read, where the next ones begin, and how many were damaged."""

    records: np.ndarray
    end: int  # bytes from the file's beginning
    damaged: int


def read_records(path: Path, start: int) -> Iterator[Read]:
    """Read the records of an index file from a place on, a chunk at a time.

    start: 0, or the `end` of an earlier reading. A last record that is not whole is not read.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size <= max(start, len(HEADER)):
            return
        if start == 0:
            if file.read(len(HEADER)) != HEADER:
                size = os.fstat(file.fileno()).st_size
                yield Read(np.empty(0, RECORD), size, max(1, size // RECORD.itemsize))
                return
            start = len(HEADER)
        file.seek(start)
        while content := file.read(_CHUNK * RECORD.itemsize):
            whole = len(content) // RECORD.itemsize
            records = np.frombuffer(content, RECORD, whole)
            good = _checks(records) == records["check"]
            start += whole * RECORD.itemsize
            yield Read(records[good], start, int(np.sum(~good)))
            if whole * RECORD.itemsize < len(content):
                return
