"""The formats of what is read back: histories of trainings, predictions, numbers.

N images, K classes, P pairs.
"""

import contextlib
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from common.history import HISTORY_COLUMNS, EpochRow
from common.pairs import Head
from common.system.errors import MISFIT, InputError
from common.system.files import atomic_write, write_text

_MAX_PREDICTIONS = 2**31  # bytes; a million images take a tenth of it


def write_history(path: Path, rows: list[EpochRow], heads: list[Head]) -> None:
    """Replace the rows of `heads` in history.csv, keeping those of others."""
    names = {head.name for head in heads}
    kept = [row for row in read_history(path) if row.head not in names]
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in sorted([*kept, *rows], key=lambda row: (row.head, row.epoch)):
        writer.writerow(row.to_dict())
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[EpochRow]:
    """Read history.csv without the rows that nobody here wrote; an absent file has none."""
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(file):
            with contextlib.suppress(*MISFIT):
                rows.append(EpochRow.from_dict(row))
    return rows


def write_predictions(path: Path, arrays: dict[str, np.ndarray], details: dict[str, Any]) -> None:
    """Write predictions as arrays without pickles, and `details` as JSON among them."""
    with atomic_write(path) as file:
        np.savez_compressed(
            file, allow_pickle=False, details=np.array(json.dumps(details)), **arrays
        )


def read_predictions(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_predictions` wrote; raises InputError for anything else."""
    try:
        data = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(data) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_PREDICTIONS:
            raise ValueError(f"{size} bytes when unpacked, limit {_MAX_PREDICTIONS}")
        data.seek(0)
        with np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        odd = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if odd:
            raise TypeError(f"{odd[0][:40]!r} is no array")
        details = json.loads(str(arrays.pop("details")))
        if not isinstance(details, dict):
            raise TypeError(f"details are a {type(details).__name__}")
    except Exception as error:  # a stranger's bytes can raise anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: expected predictions of this tool ({reason})") from error
    return arrays, details
