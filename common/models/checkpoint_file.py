"""Files of tensors and plain types, with a checksum; no code in them is ever run.

PyTorch is imported where tensors are read or written: to say that a file is none takes no seconds.
"""

import contextlib
import hashlib
import io
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.system.errors import InputError
from common.system.files import atomic_write

_CHECKSUM = "checksum"  # its key in a checkpoint
_ARCHIVE = b"PK\x03\x04"  # how PyTorch's files begin
_PICKLE = b"\x80"  # the same before 1.6
# the earlier trainer recorded accuracies as NumPy scalars; nothing else may be rebuilt
NUMPY_SCALARS: list[Any] = [
    np.float64(0).__reduce__()[0],  # the function that rebuilds them; its place has moved
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]


class CheckpointError(InputError):
    """A checkpoint file that cannot be used; the message names the file and the reason."""


class DamagedError(CheckpointError):
    """A checkpoint file whose bytes are not those that were written."""


def save_checkpoint(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint of tensors and plain types with its checksum, whole or not at all.

    previous: the name that the file now at `path` keeps.
    """
    write_checkpoint(path, pack_checkpoint(content), previous)


def pack_checkpoint(content: dict[str, Any]) -> memoryview:
    """Return the bytes of a checkpoint, independent of what its tensors become later."""
    import torch

    buffer = io.BytesIO()  # torch turns a full disk's OSError into others; a plain write does not
    torch.save({**content, _CHECKSUM: content_checksum(content)}, buffer)
    return buffer.getbuffer()


def write_checkpoint(path: Path, packed: memoryview, previous: Path | None = None) -> None:
    """Write the bytes of `pack_checkpoint`, whole or not at all."""
    with atomic_write(path, previous) as file:
        file.write(packed)


def content_checksum(content: dict[str, Any]) -> str:
    """Hash names, values, types, shapes and every bit of the tensors of a checkpoint (SHA-256)."""
    import torch

    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)} ".encode())
            for key, item in value.items():
                digest.update(f"{key!r}: ".encode(errors="backslashreplace"))
                add(item)
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)} ".encode())
            for item in value:
                add(item)
        else:
            digest.update(f"{type(value).__name__} {value!r} ".encode(errors="backslashreplace"))

    add({key: value for key, value in content.items() if key != _CHECKSUM})
    return digest.hexdigest()


def load_checkpoint(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """Read a checkpoint without running any code in it.

    data: the file's bytes, where they have been read already. Raises DamagedError for bytes that
    cannot be read or are not those that were written (where the file holds a checksum; earlier
    ones do not), CheckpointError for anything else.
    """
    if data is None:
        require_checkpoint(path)
    with _in_one_line(path), path.open("rb") if data is None else io.BytesIO(data) as file:
        content, kept = _unpickle(file)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a checkpoint, found a {type(content).__name__}")
    if not kept:
        raise DamagedError(f"{path}: damaged checkpoint (its content is not what was written)")
    return content


def require_checkpoint(path: Path) -> None:
    """Raise CheckpointError unless a file is there and begins as those that PyTorch writes.

    That is known without importing PyTorch.
    """
    if not path.is_file():
        there = "a folder" if path.is_dir() else "none"
        what = "no such file" if not os.path.lexists(path) else f"expected a file, found {there}"
        raise CheckpointError(f"{path}: {what}")
    with _in_one_line(path), path.open("rb") as file:
        start = file.read(len(_ARCHIVE))
        if not start or (start == _ARCHIVE and not zipfile.is_zipfile(file)):
            raise EOFError
        if start != _ARCHIVE and not start.startswith(_PICKLE):
            raise ValueError("no file of PyTorch")


@contextlib.contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    """Say in one line why a file's bytes are no checkpoint."""
    try:
        yield
    except Exception as error:  # unpickling a stranger's bytes can raise anything
        first = (str(error).splitlines() or [""])[0].split(". ")[0]  # torch adds advice
        cut = isinstance(error, EOFError | zipfile.BadZipFile) or "[Errno 22]" in first
        reason = "cut short or damaged" if cut else first[:160]
        if len(reason) < 6:
            reason = f"{type(error).__name__} {reason}".strip()
        kind = CheckpointError if _is_this_machine_s_fault(error) else DamagedError
        raise kind(f"{path}: unreadable checkpoint ({reason})") from error


def _is_this_machine_s_fault(error: Exception) -> bool:
    """Tell whether this machine rather than the file is why a checkpoint cannot be read."""
    short = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    return short or isinstance(error, PermissionError)


def _unpickle(file: BinaryIO) -> tuple[Any, bool]:
    """Read a checkpoint's content, and tell whether it agrees with its checksum, if it has one."""
    import torch

    with warnings.catch_warnings(), torch.serialization.safe_globals(NUMPY_SCALARS):
        warnings.simplefilter("ignore")  # of odd pickle protocols: the error says enough
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or _CHECKSUM not in content:
        return content, True
    checksum = content.pop(_CHECKSUM)
    return content, checksum == content_checksum(content)


def without_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what DataParallel and torch.compile put before the names of all tensors of a state."""
    names = {key: key.replace("_orig_mod.", "") for key in state}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    if len(set(names.values())) < len(state):
        return dict(state)
    return {names[key]: value for key, value in state.items()}
