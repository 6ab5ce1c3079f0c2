"""Inspect many files in several processes, and each file once: what is found is stored.

N files.
"""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2

from common.duplicates import signatures
from common.duplicates.signature_store import SignatureStore, StoredRecord, file_key
from common.duplicates.signatures import Signature
from common.inspection.file_checks import FileRecord, inspect_file
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.log import log, progress_bar

# of what a FileRecord holds; another one makes stored records expire
VERSION = f"2-{signatures.VERSION}"
_SAVE_EVERY = 256  # files between two savings


def inspect_files(
    paths: Sequence[Path], num_workers: int, cache_dir: Path | None = None, title: str = "audit"
) -> list[FileRecord]:
    """Inspect files (N,), those of which `cache_dir` has no record yet.

    Records of files that can be used are stored there as they are made; title: of the progress bar.
    Raises InputError if a process dies.
    """
    if cache_dir is None:
        return list(progress_bar(_inspect(paths, num_workers), title, len(paths)))
    store = SignatureStore(cache_dir, VERSION)
    keys = [_key(path) for path in paths]
    records = {key: from_stored(found) for key, found in store.read(keys).items()}
    left = {key: path for key, path in zip(keys, paths) if key not in records}
    if left:
        results = progress_bar(_inspect(list(left.values()), num_workers), title, len(left))
        records |= _stored_as_made(left, results, store)
    return [records[key] for key in keys]


def _key(path: Path) -> str:
    """Tell a file's state from all others; its name counts, too, which decides how it is read."""
    return f"{file_key(path)}|{path.name if path.is_file() else path}"


def _stored_as_made(
    files: dict[str, Path], results: Iterator[FileRecord], store: SignatureStore
) -> dict[str, FileRecord]:
    """Store the records of files, given by their keys, as they come; returns them all.

    What is stored is let go of and read again at the end, which takes no memory of its own.
    """
    records: dict[str, FileRecord] = {}
    stored: list[str] = []
    unsaved: dict[str, FileRecord] = {}

    def save() -> None:
        if _save(store, unsaved):
            stored.extend(unsaved)
        else:
            records.update(unsaved)
        unsaved.clear()

    try:
        for (key, path), record in zip(files.items(), results):
            if record.usable and _key(path) == key:
                unsaved[key] = record
            else:  # or one that was changed meanwhile
                records[key] = record
            if len(unsaved) == _SAVE_EVERY:
                save()
    finally:
        save()  # when interrupted, too
    again = {key: from_stored(found) for key, found in store.read(stored).items()}
    lost = [key for key in stored if key not in again]
    return records | again | {key: inspect_file(files[key]) for key in lost}


def _save(store: SignatureStore, records: dict[str, FileRecord]) -> bool:
    """Store records; False where that cannot be done: they are computed again next time."""
    try:
        store.add({key: to_stored(record) for key, record in records.items()})
    except OSError as error:
        log(f"note: what was computed of {len(records)} pictures could not be kept ({error})")
        return False
    return True


def _inspect(paths: Sequence[Path], num_workers: int) -> Iterator[FileRecord]:
    """Inspect files in several processes, in their order."""
    workers = min(worker_count(num_workers), len(paths))
    if workers < 2:
        yield from map(inspect_file, paths)
        return
    # forked: a spawned process would import PyTorch first. Children do not touch it, and OpenCV's
    # threads, whose locks they would inherit, end here
    cv2.setNumThreads(1)
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(workers, context, _start_worker) as pool:
            yield from pool.map(inspect_file, paths, chunksize=max(1, min(32, len(paths) // 64)))
    except BrokenProcessPool as error:
        raise InputError(
            "a process that reads pictures died (out of memory?); "
            "run again with a smaller --num_workers"
        ) from error


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which it ends its workers


def to_stored(record: FileRecord) -> StoredRecord:
    """Put what is known of a file as it is stored."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    signature = values.pop("signature")
    return StoredRecord(values, {} if signature is None else vars(signature))


def from_stored(stored: StoredRecord) -> FileRecord:
    """Read what `to_stored` has put."""
    values: dict[str, Any] = {**stored.values, "faults": tuple(stored.values["faults"])}
    signature = Signature(**stored.arrays) if stored.arrays else None
    return FileRecord(**values, signature=signature)
