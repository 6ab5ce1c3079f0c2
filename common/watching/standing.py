"""How far the trainings of a result directory are, from its files; nothing is locked or loaded.

A classifier that is trained has a lock file that names the process; one that is complete has its
own file and no checkpoint any more; one with a checkpoint whose process is gone can be resumed.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.history import EpochRow
from common.locks.holder import Holder, read_holder
from common.pairs import Head, heads_of_model
from common.result_dir import ResultDir, read_config, read_history
from common.system.errors import MISFIT, InputError

DONE, RUNNING, STOPPED, NEW = "done", "running", "stopped", "not begun"
_LATE = 3.0  # epochs without a checkpoint of its own while others of its process write theirs
_RECENT = 10  # epochs that say how long one takes


@dataclass(frozen=True)
class HeadStanding:
    """How far one classifier is."""

    head: Head
    state: str  # DONE, RUNNING, STOPPED or NEW
    epoch: int  # that were finished
    epochs: int  # at most
    holder: Holder | None = None  # who trains it, or was killed while doing that
    seconds: float = 0.0  # that an epoch takes; 0: not known
    waits: bool = False  # its training has ended, that of others in the same process has not

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
    """List result directories, those in a folder that is none in its place; InputError for none."""
    found: dict[Path, ResultDir] = {}
    for place in places:
        if not place.is_dir():
            raise InputError(f"--watch {place}: expected a folder, found none")
        own, inside = ResultDir(place), []
        if not own.config.is_file():
            with suppress(OSError):
                inside = [p for p in sorted(place.iterdir()) if ResultDir(p).config.is_file()]
        for path in inside or [place]:
            found.setdefault(path.resolve(), ResultDir(path))
    return list(found.values())


def standing_of(directory: ResultDir) -> RunStanding:
    """Look at the files of one result directory; never raises for what is in them."""
    try:
        config = read_config(directory)["config"]
        model, epochs = str(config["model"]), int(config["epochs"])
        heads = heads_of_model(int(config["num_classes"]), str(config.get("head", "ovo")))
    except InputError as error:
        empty = not directory.config.is_file()
        problem = "nothing has been begun here" if empty else str(error)
        return RunStanding(directory.root, "", (), problem)
    except MISFIT as error:
        problem = f"{directory.config} lacks a setting ({type(error).__name__}: {error})"
        return RunStanding(directory.root, "", (), problem)
    rows: list[EpochRow] = []
    with suppress(OSError, ValueError, *MISFIT):
        rows = read_history(directory.history)
    found = [_head_standing(directory, model, head, epochs, rows) for head in heads]
    return RunStanding(directory.root, model, tuple(_with_waiting(directory, model, found)))


def _head_standing(
    directory: ResultDir, model: str, head: Head, epochs: int, rows: Sequence[EpochRow]
) -> HeadStanding:
    own = [row for row in rows if row.head == head.name]
    epoch = max((row.epoch for row in own), default=0)
    seconds = [row.seconds for row in own[-_RECENT:] if np.isfinite(row.seconds)]
    holder = _holder_of(directory.head_lock(model, head))
    has_best = directory.best(model, head).is_file()
    goes_on = directory.goes_on(model, head)
    state = NEW
    if has_best and not goes_on and epoch:
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
    newest: dict[Holder, float] = {}
    for each in found:
        if each.state == RUNNING and each.holder:
            newest[each.holder] = max(newest.get(each.holder, 0.0), written[each.head])
    marked = []
    for each in found:
        if each.state == RUNNING and each.holder and each.epoch:
            behind = newest[each.holder] - written[each.head]
            late = behind > _LATE * each.seconds > 0
            each = replace(each, waits=late or each.epoch >= each.epochs)
        marked.append(each)
    return marked


def _last_written(directory: ResultDir, model: str, head: Head) -> float:
    with suppress(OSError):
        return directory.last(model, head).stat().st_mtime
    return 0.0


def _holder_of(lock: Path) -> Holder | None:
    with suppress(OSError):
        return read_holder(lock.read_bytes()[:4096])
    return None
