"""Arrays of which each process of a launch computes some rows, put together by rank 0.

N rows in all.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.sharing.session import Session
from common.sharing.shares import ranges
from common.system.files import atomic_write

Compute = Callable[[range], np.ndarray]  # some of the rows


def gather(session: Session, name: str, count: int, step: int, compute: Compute) -> np.ndarray:
    """Compute rank 0's rows of an array (N, ...) and wait for the others'; N >= 1.

    name: says what the rows are of, and how they come about, so that only equal ones are put
    together. step: rows that are computed at once. What another process does not bring is computed
    here.
    """
    found = []
    for rank, rows in enumerate(ranges(count, session.place.size, step)):
        if rows:
            brought = _bring(session, name, rank, rows) if rank else None
            found.append(compute(rows) if brought is None else brought)
    return np.concatenate(found)


def contribute(session: Session, name: str, count: int, step: int, compute: Compute) -> None:
    """Compute the rows of a process that does not lead, and leave them to rank 0."""
    rank = session.place.rank
    rows = ranges(count, session.place.size, step)[rank]
    if rows:
        with atomic_write(_place_of(session, name, rank, rows)) as file:
            np.save(file, compute(rows), allow_pickle=False)


def _bring(session: Session, name: str, rank: int, rows: range) -> np.ndarray | None:
    """Wait for the rows of another process; None if they do not come."""
    path = _place_of(session, name, rank, rows)
    what = f"rows {rows.start} to {rows.stop - 1} ({path.name})"
    return _read(path, len(rows)) if session.wait_for(rank, what, path.exists) else None


def _place_of(session: Session, name: str, rank: int, rows: range) -> Path:
    """Name the file of some rows: processes that count each other otherwise have other ranges."""
    return session.path(f"{name}_{rows.start}_{rows.stop}", rank)


def _read(path: Path, count: int) -> np.ndarray | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if isinstance(found, np.ndarray) and len(found) == count else None
