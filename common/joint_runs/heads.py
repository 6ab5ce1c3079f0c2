"""The heads that a training has for itself, in a directory where others train other heads.

Who trains what is said by --pairs, or by a launcher; locks only keep two off one head.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from common.config import TrainConfig
from common.locks.file_lock import FileLock, Taken, advice_on, by_process, holder_of, take
from common.locks.run_lock import lock_for_a_moment, require_writable
from common.pairs import Head, heads_of_model
from common.result_dir.paths import ResultDir
from common.system.errors import InputError


@dataclass
class HeldHeads:
    """The locks of heads in a result directory, held by this process."""

    directory: ResultDir
    model: str
    wanted: Sequence[Head]
    locks: dict[Head, FileLock]
    others: dict[Head, Taken]  # wanted, but another process had it

    @property
    def heads(self) -> list[Head]:
        """The heads that are trained here, in order."""
        return [head for head in self.wanted if head in self.locks]

    def take_the_rest(self, config: TrainConfig, what: str) -> None:
        """Keep all others out of the directory, until `release_the_rest`.

        To be called by who has locked what all share. what: is not possible beside others, in
        words. Raises InputError where there are some.
        """
        others: dict[Head, Taken] = {}
        for head in heads_of_model(config.num_classes, config.head):
            if head not in self.locks:
                try:
                    self.locks[head] = take(self.directory.head_lock(self.model, head))
                except Taken as taken:
                    others[head] = taken
        if others:
            titles = ", ".join(head.title for head in others)
            raise InputError(
                f"{what}, and {titles} is being trained by {said_of(others)}; wait for it, or "
                f"stop it ({locks_of(others)})"
            )

    def release_the_rest(self) -> None:
        """Let others have what is not trained here."""
        self._release(set(self.locks) - set(self.wanted))

    def release(self) -> None:
        """Let others have all of it."""
        self._release(set(self.locks))

    def _release(self, heads: Iterable[Head]) -> None:
        for head in heads:
            self.locks.pop(head).release()


@contextlib.contextmanager
def hold_heads(
    directory: ResultDir, config: TrainConfig, heads: Sequence[Head]
) -> Iterator[HeldHeads]:
    """Lock those of the heads that nobody else trains; InputError where that is none.

    Also removes what a killed training of these has left half-written.
    """
    require_writable(directory.root)
    directory.root.mkdir(parents=True, exist_ok=True)
    held = HeldHeads(directory, config.model, heads, {}, {})
    try:
        with lock_for_a_moment(directory.lock):
            for head in heads:
                try:
                    held.locks[head] = take(directory.head_lock(config.model, head))
                except Taken as taken:
                    held.others[head] = taken
            require_some(directory, heads, held.others)
            directory.remove_leftovers(config.model, held.heads)
        yield held
    finally:
        held.release()


def held_by_others(
    directory: ResultDir, config: TrainConfig, heads: Sequence[Head]
) -> dict[Head, Taken]:
    """Tell which of the heads are being trained by other processes, without any lock."""
    found = {head: holder_of(directory.head_lock(config.model, head)) for head in heads}
    return {head: taken for head, taken in found.items() if taken}


def remove_left_locks(directory: ResultDir, model: str, heads: Iterable[Head]) -> None:
    """Remove the lock files of processes that were killed when all was done."""
    for head in heads:
        lock = directory.head_lock(model, head)
        if lock.exists():
            with contextlib.suppress(Taken):
                take(lock).release()


class AllHeldError(InputError):
    """Other processes train all that this one was to train of a backbone."""


def require_some(directory: ResultDir, heads: Sequence[Head], others: dict[Head, Taken]) -> None:
    """Raise AllHeldError where all heads that were asked for are trained by other processes."""
    if len(others) < len(heads):
        return
    which = "" if heads[0].kind != "ovo" else f", {', '.join(head.name for head in heads)}"
    pairs = "" if heads[0].kind != "ovo" else " other --pairs or"
    raise AllHeldError(
        f"{directory.root}{which} is being trained by {said_of(others)}; wait for it, stop it, or "
        f"choose{pairs} another --output_dir ({locks_of(others)})"
    )


def said_of(others: dict[Head, Taken]) -> str:
    """Name the processes that train heads, each once."""
    return "; ".join(own[0].holder for own in by_process(others.values()))


def locks_of(others: dict[Head, Taken]) -> str:
    """Name the lock, or the first of several, and all that is to be removed of dead processes."""
    first, *more = others.values()
    which = f"locks: {first.lock} and {len(more)} more" if more else f"lock: {first.lock}"
    return which + advice_on(others.values())


def names_by_holder(others: dict[Head, Taken]) -> list[str]:
    """Say who has which heads, each process once."""
    names = {taken.lock: head.name for head, taken in others.items()}
    return [
        f"{' '.join(names[taken.lock] for taken in own)} by {own[0].said}"
        for own in by_process(others.values())
    ]


def left_to_others(others: dict[Head, Taken]) -> list[str]:
    """Say in lines of the log who trains what was asked for, too."""
    titles = {taken.lock: head.title for head, taken in others.items()}
    return [
        f"note: left to {own[0].said}: {', '.join(titles[taken.lock] for taken in own)}"
        + advice_on(own)
        for own in by_process(others.values())
    ]
