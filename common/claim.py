"""Whose a result directory is: one process at a time, and one configuration from start to end."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import artifacts
from common.artifacts import ResultDir
from common.config import FIXED_FIELDS, TrainConfig, config_differences
from common.pairs import classifiers, pair_name
from common.runtime import InputError, log, versions, write_json

# what a run may not change even with --override: its networks or its pixels would not fit
_FIXED = (*FIXED_FIELDS, "initial_weights", "synthetic")


def git_commit() -> str:
    """Name the commit of this code, "" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# -- one process at a time ---------------------------------------------------------------------


@contextlib.contextmanager
def held(directory: ResultDir) -> Iterator[None]:
    """Keep other trainings out of a result directory; InputError naming the one that is in it.

    The kernel lets go of the lock when its process dies, however it dies.
    """
    directory.root.mkdir(parents=True, exist_ok=True)
    handle = _open_locked(directory)
    try:
        before = _holder(os.pread(handle, 4096, 0))
        if before:
            log(f"{directory.lock}: left by {before}, which has ended; taken over")
        for path in directory.leftovers():
            path.unlink(missing_ok=True)
        os.ftruncate(handle, 0)
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        os.pwrite(handle, json.dumps(me).encode(), 0)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory.lock)
        os.close(handle)


def _open_locked(directory: ResultDir) -> int:
    path = directory.lock
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(os.pread(handle, 4096, 0)) or "another process"
            os.close(handle)
            raise InputError(
                f"{directory.root} is being trained by {holder}; wait for it, stop it, or "
                f"choose another --output_dir (lock: {path})"
            ) from None
        except OSError as error:  # some network file systems cannot lock
            log(f"note: {path} cannot be locked ({error.strerror}); start no second training here")
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        os.close(handle)  # its holder has just removed it: lock the new one


def _holder(text: bytes) -> str:
    """Describe who wrote a lock file; "" if it says nothing that can be read."""
    try:
        found = json.loads(text)
        return f"process {int(found['pid'])} on {str(found['host'])[:80]!r} since " + str(
            datetime.fromisoformat(found["since"]).strftime("%Y-%m-%d %H:%M:%SZ")
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


# -- one configuration -------------------------------------------------------------------------


def claim_directory(
    directory: ResultDir, config: TrainConfig, state: dict[str, Any], resume: bool, override: bool
) -> list[dict[str, Any]]:
    """Write config.json for a new run, or make sure that this one continues the one there.

    state: fingerprints of data and starting weights. Raises InputError on any difference, unless
    `override` accepts it; returns what it accepted, for `record_override`.
    """
    if not directory.config.is_file():
        if directory.models.is_dir() and any(directory.models.glob("*.pth")):
            raise InputError(f"{directory.models} holds models but {directory.config} is missing")
        content = {
            "config": config.to_dict(),
            **state,
            "seed": config.seed,
            "versions": versions(),
            "git_commit": git_commit(),
            "created": _now(),
        }
        write_json(directory.config, content)
        return []
    if not resume:
        raise InputError(
            f"{directory.root} already holds a run; pass --resume to go on with it, "
            "or choose another --output_dir"
        )
    old = artifacts.read_config(directory)
    changed = config_differences(old["config"], config)
    changed += [{"name": name, "from": old.get(name), "to": value}
                for name, value in state.items() if old.get(name) != value]  # fmt: skip
    fixed = [change for change in changed if change["name"] in _FIXED]
    if fixed or (changed and not override):
        differences = "; ".join(f"{c['name']}: {c['from']} -> {c['to']}" for c in fixed or changed)
        advice = "no --override can change that" if fixed else "--override accepts the new ones"
        raise InputError(
            f"--resume: {directory.root} was trained differently ({differences}); "
            f"use the old settings or choose another --output_dir; {advice}"
        )
    return changed


def record_override(
    directory: ResultDir, config: TrainConfig, state: dict[str, Any], changes: list[dict[str, Any]]
) -> None:
    """Write into config.json what was changed, from what, to what, when, and after which epochs.

    To be called once history.csv tells what each classifier goes on from.
    """
    content = artifacts.read_config(directory)
    rows = artifacts.read_history(directory.history)
    names = [pair_name(pair) for pair in classifiers(config.num_classes, config.head)]
    epochs = {name: sum(row["pair"] == name for row in rows) for name in names}
    entry = {"when": _now(), "changes": changes, "after_epoch": epochs, "git_commit": git_commit()}
    earlier = content.get("overrides")
    content |= {"config": config.to_dict(), **state, "seed": config.seed}
    content["overrides"] = [*(earlier if isinstance(earlier, list) else []), entry]
    write_json(directory.config, content)
    for change in changes:
        log(f"override: {change['name']}: {change['from']} -> {change['to']}, from here on")
    log("override: recorded in config.json; classifiers that are finished stay as they are")
