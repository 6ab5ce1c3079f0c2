"""How far the trainings of a result directory are, from its files; nothing is locked or loaded.

A classifier that is trained has a lock file that names the process; one that is complete has its
own file and no checkpoint any more; one with a checkpoint whose process is gone can be resumed.
Whether a process of another machine lives, nobody here can tell: what it wrote last says how long
ago it did.
"""

import csv
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.history import EpochRow
from common.locks.holder import Holder, read_holder
from common.pairs import Head, heads_of_model
from common.result_dir.paths import ResultDir
from common.result_dir.run import model_files, read_config
from common.result_dir.stored import read_history
from common.system.errors import MISFIT, InputError

DONE, RUNNING, STOPPED, NEW = "done", "running", "stopped", "not begun"
SILENT = "silent"  # of another machine, and has written nothing for long
_SILENT = 3.0  # epochs without a sign of life until a process is called silent
_SILENT_AT_LEAST = 600.0  # seconds; epochs can be short
_SILENT_AT_FIRST = 6 * 3600.0  # seconds, before it is known how long an epoch takes
_LATE = 3.0  # epochs without a checkpoint of its own while others of its process write theirs
_RECENT = 10  # epochs that say how long one takes
_LONGEST_EPOCH = 1e8  # seconds: three years; what says more is damaged
_MOST_EPOCHS = 10**9
_LARGEST = 2**28  # bytes of a file that is read each time; 5,000 pairs have histories of 100 MB


@dataclass(frozen=True)
class HeadStanding:
    """How far one classifier is."""

    head: Head
    state: str  # DONE, RUNNING, SILENT, STOPPED or NEW
    epoch: int  # that were finished
    epochs: int  # at most
    holder: Holder | None = None  # who trains it, or was killed while doing that
    seconds: float = 0.0  # that an epoch takes; 0: not known
    waits: bool = False  # its training has ended, that of others in the same process has not
    sign_age: float | None = None  # seconds since its process, of another machine, wrote anything

    @property
    def left(self) -> float | None:
        """Seconds until it has seen all epochs; None: not known."""
        if self.waits:
            return 0.0
        return self.seconds * max(self.epochs - self.epoch, 0) if self.seconds else None


@dataclass(frozen=True)
class RunStanding:
    """How far a result directory is."""

    root: Path
    model: str  # "" where the directory does not say it
    heads: tuple[HeadStanding, ...]
    problem: str = ""  # why nothing can be said

    def of(self, state: str) -> list[HeadStanding]:
        """List the classifiers in a state."""
        return [each for each in self.heads if each.state == state]


def find_runs_below(places: Sequence[Path]) -> list[ResultDir]:
    """List result directories, those in a folder that is none in its place."""
    found: dict[Path, ResultDir] = {}
    for place in places:
        inside = []
        if not _is_run(ResultDir(place)):
            with suppress(OSError):
                inside = [path for path in sorted(place.iterdir()) if _is_run(ResultDir(path))]
        for path in inside or [place]:
            found.setdefault(path.resolve(), ResultDir(path))
    return list(found.values())


def _is_run(directory: ResultDir) -> bool:
    with suppress(OSError):  # a folder that cannot be read
        return directory.config.exists() or bool(model_files(directory))
    return False


def standing_of(directory: ResultDir) -> RunStanding:
    """Look at the files of one result directory; never raises for what is in them."""
    try:
        if not directory.root.is_dir():
            raise InputError("the folder is not there any more")
        if directory.config.exists():
            return _standing_by_config(directory)
        return _standing_by_names(directory)
    except InputError as error:
        problem = str(error)
    except (OSError, *MISFIT) as error:
        problem = f"its files cannot be understood ({type(error).__name__}: {error})"
    return RunStanding(directory.root, "", (), problem)


def _standing_by_config(directory: ResultDir) -> RunStanding:
    """See how far what config.json speaks of is; raises one of MISFIT for what makes no sense."""
    _require_readable(directory.config)
    config = read_config(directory)["config"]
    try:
        model, epochs = str(config["model"]), int(config["epochs"])
        classes, head = int(config["num_classes"]), str(config.get("head", "ovo"))
    except MISFIT as error:
        raise InputError(
            f"{directory.config} lacks a setting ({type(error).__name__}: {error})"
        ) from error
    for name, value, most in (("num_classes", classes, 100), ("epochs", epochs, _MOST_EPOCHS)):
        least = 2 if name == "num_classes" else 1
        if not least <= value <= most:
            raise InputError(f"{directory.config}: {name} {value}; expected {least} to {most:,}")
    if not model or "\0" in model:
        raise InputError(f"{directory.config}: model {model[:40]!r}; expected the name of one")
    rows: list[EpochRow] = []
    if directory.history.exists():
        _require_readable(directory.history)
        with suppress(OSError, csv.Error, *MISFIT):
            rows = read_history(directory.history)
    heads = heads_of_model(classes, head)
    found = [_head_standing(directory, model, head, epochs, rows) for head in heads]
    found = _with_signs(directory, model, _with_waiting(directory, model, found))
    return RunStanding(directory.root, model, tuple(found))


def _require_readable(path: Path) -> None:
    """Raise InputError for what would be waited for, or read for minutes, at each look."""
    if not path.is_file():
        raise InputError(f"{path}: expected a file, found a folder, a pipe or a device")
    size = path.stat().st_size
    if size > _LARGEST:
        raise InputError(f"{path}: {size / 1e6:,.0f} MB; expected {_LARGEST / 1e6:.0f} at most")


def _standing_by_names(directory: ResultDir) -> RunStanding:
    """See what the earlier trainer has left, which wrote no config.json: a file for each pair."""
    found = model_files(directory)
    if not found:
        return RunStanding(directory.root, "", (), "nothing has been begun here")
    model, files = next(iter(found.items()))
    highest = max((int(name.split("-")[1]) for name in files if "-" in name), default=0)
    if len(found) > 1 or not all("-" in name for name in files) or not 1 <= highest < 100:
        problem = f"no config.json, and {directory.models} does not hold the pairs of one model"
        return RunStanding(directory.root, "", (), problem)
    heads = [
        HeadStanding(head, DONE if head.name in files else NEW, 0, 0)
        for head in heads_of_model(highest + 1, "ovo")
    ]
    return RunStanding(directory.root, model, tuple(heads))


def _head_standing(
    directory: ResultDir, model: str, head: Head, epochs: int, rows: Sequence[EpochRow]
) -> HeadStanding:
    own = [row for row in rows if row.head == head.name]
    epoch = max((row.epoch for row in own), default=0)
    seconds = [row.seconds for row in own[-_RECENT:] if 0 < row.seconds < _LONGEST_EPOCH]
    holder = _holder_of(directory.head_lock(model, head))
    has_best = directory.best(model, head).is_file()
    goes_on = directory.goes_on(model, head)
    state = NEW
    if has_best and not goes_on and (epoch or holder is None):  # the history may be lost
        state = DONE
    elif holder is not None and not holder.is_gone():
        state = RUNNING
    elif goes_on or holder is not None or has_best:
        state = STOPPED
    return HeadStanding(
        head, state, epoch, epochs, holder, float(np.mean(seconds)) if seconds else 0.0
    )


def _with_waiting(
    directory: ResultDir, model: str, found: Sequence[HeadStanding]
) -> list[HeadStanding]:
    """Mark those that are trained no more while others of the same process are."""
    written = {each.head: _last_written(directory, model, each.head) for each in found}
    newest: dict[tuple[str | int, ...], float] = {}
    for each in found:
        if each.state == RUNNING and each.holder:
            process = each.holder.process
            newest[process] = max(newest.get(process, 0.0), written[each.head])
    marked = []
    for each in found:
        if each.state == RUNNING and each.holder and each.epoch:
            behind = newest[each.holder.process] - written[each.head]
            late = behind > _LATE * each.seconds > 0
            each = replace(each, waits=late or each.epoch >= each.epochs)
        marked.append(each)
    return marked


def _with_signs(
    directory: ResultDir, model: str, found: Sequence[HeadStanding]
) -> list[HeadStanding]:
    """Say of processes of other machines when they last wrote anything; call some silent.

    All that a process holds is looked at: what waits in it for others is not written any more.
    """
    signs: dict[tuple[str | int, ...], float] = {}
    paces: dict[tuple[str | int, ...], float] = {}
    for each in found:
        if each.holder:
            process, sign = each.holder.process, _last_sign(directory, model, each.head)
            signs[process] = max(signs.get(process, 0.0), sign)
            paces[process] = max(paces.get(process, 0.0), each.seconds)
    now, marked = time.time(), []
    for each in found:
        if each.state == RUNNING and each.holder and not each.holder.is_of_this_machine:
            pace, age = paces[each.holder.process], max(now - signs[each.holder.process], 0.0)
            patience = max(_SILENT * pace, _SILENT_AT_LEAST) if pace else _SILENT_AT_FIRST
            each = replace(each, sign_age=age, state=SILENT if age > patience else RUNNING)
        marked.append(each)
    return marked


def _last_sign(directory: ResultDir, model: str, head: Head) -> float:
    """Tell when something of a head was written last, its lock included."""
    named = (directory.best, directory.last, directory.previous, directory.head_lock)
    return max(_written_at(path(model, head)) for path in named)


def _last_written(directory: ResultDir, model: str, head: Head) -> float:
    return _written_at(directory.last(model, head))


def _written_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _holder_of(lock: Path) -> Holder | None:
    with suppress(OSError, *MISFIT):
        if lock.is_file():  # a pipe would be waited for
            with lock.open("rb") as file:
                return read_holder(file.read(4096))
    return None
