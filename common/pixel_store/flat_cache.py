"""Read caches of earlier versions: all pixels in `pixels.u8`, who has which row in `index.json`.

R rows. Nothing is added to such a cache; what it lacks goes into shards beside it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.system.log import log

_NO_JSON = (ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class FlatIndex:
    """The rows of a flat cache."""

    keys: list[str]  # ImageFile.cache_key()
    rows: np.ndarray  # (R, 2) uint32: number and checksum (CRC-32)


def pixel_file(folder: Path) -> Path:
    """Where the pixels of all rows are."""
    return folder / "pixels.u8"


def read_index(folder: Path) -> FlatIndex | None:
    """Read the index of a flat cache; None if there is none, or it is damaged, which is logged."""
    path = folder / "index.json"
    if not pixel_file(folder).is_file():
        return None
    try:
        content = json.loads(path.read_text())
        rows = [(number, checksum) for number, checksum in content.values()]
        if all(isinstance(n, int) and 0 <= n < 2**32 for row in rows for n in row):
            return FlatIndex(list(content), np.array(rows, dtype=np.uint32).reshape(-1, 2))
    except FileNotFoundError:
        return None
    except (OSError, *_NO_JSON):
        pass
    log(f"cache: {path} is damaged; its images are decoded again")
    return None


def read_notes(folder: Path) -> dict[str, list[str]]:
    """Read what is odd about cached files, by their keys; what is damaged is as good as empty."""
    try:
        content = json.loads((folder / "notes.json").read_text())
        return {str(key): [str(note) for note in notes] for key, notes in content.items()}
    except (OSError, *_NO_JSON):
        return {}
