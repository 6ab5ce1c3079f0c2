"""What processes of one launch tell each other through files in one folder, rank 0 in the lead.

A folder may hold what a launch that was killed has left, and processes of it may still work. So
rank 0 empties it first, each other process then leaves a word there that nobody else can know, and
goes on when rank 0's answer repeats it. The answer also names the launch, at random, and so do all
later files. Each process holds a lock while it works: one that is gone is not waited for.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.locks.file_lock import Taken, holder_of, take
from common.locks.run_lock import lock_directory
from common.sharing.launcher import Place
from common.system.errors import InputError
from common.system.files import read_json, write_json
from common.system.log import duration, log

_LOOK_EVERY = 0.1  # seconds
_SAY_FIRST = 10.0
_SAY_EVERY = 60.0
_PATIENCE = 600.0  # seconds that the processes of one launch may start apart
_AND_A_HALF = 1.5  # who follows waits longer than rank 0 may wait for others
_NAMED = 8  # ranks that a message names
_HELLO, _DONE, _ANSWER = "hello", "done", "answer.json"


@dataclass(frozen=True)
class Session:
    """A process's way to the others of its launch."""

    folder: Path
    place: Place
    launch: str  # its name, which no other one has
    present: frozenset[int] = frozenset()  # ranks that rank 0 has heard of

    def path(self, name: str, rank: int) -> Path:
        """Name a file of one process."""
        return self.folder / f"{name}.{self.launch}.{rank}"

    def wait_for_end(self, rank: int) -> bool:
        """Wait until another process has done all of its part; False if it has ended before."""
        return self.wait_for(rank, "its part", self.path(_DONE, rank).exists)

    def wait_for(self, rank: int, what: str, there: Callable[[], bool]) -> bool:
        """Wait until something is there that another process makes; False if it will not come.

        what: it is, in words.
        """
        waiting = _Waiting()
        while not there():
            if rank not in self.present or self.path(_DONE, rank).exists():
                return there()
            if not self._works(rank):
                if not there():
                    log(f"rank {rank} has ended without {what}, which is made here now")
                return there()
            waiting.pause(f"rank {rank}, which works, to bring {what}")
        return True

    def _works(self, rank: int) -> bool:
        return holder_of(_lock_of(self.folder, rank)) is not None


@contextmanager
def lead(folder: Path, place: Place, about: str = "", keep: bool = False) -> Iterator[Session]:
    """Gather the processes of a launch, as rank 0; the folder is emptied before, and at the end.

    Those that do not come within ten minutes are done without. Raises InputError where another
    launch works in the folder. about: says what must be alike in all of them. keep: leave what is
    there when an error or a signal ends this process, for the next launch.
    """
    try:
        with _lock(folder, 0):
            _empty(folder)
            words, launch = _hear(folder, place), uuid.uuid4().hex[:16]
            answer = {"words": list(words.values()), "launch": launch, "about": about}
            write_json(folder / _ANSWER, answer)
            try:
                yield Session(folder, place, launch, frozenset(words))
            except BaseException:
                if not keep:
                    _empty(folder)
                raise
            _empty(folder)
            _remove_dead_locks(folder)
    finally:
        _remove(folder)


def clear_away(folder: Path) -> None:
    """Remove what a launch that was killed has left, unless another one works there."""
    if folder.is_dir():
        with suppress(InputError, OSError), _lock(folder, 0):
            _empty(folder)
            _remove_dead_locks(folder)
        _remove(folder)


def _hear(folder: Path, place: Place) -> dict[int, str]:
    """Wait for a word of each of the other processes."""
    words: dict[int, str] = {}
    missing, waiting = list(range(1, place.size)), _Waiting(_PATIENCE)
    while missing and waiting.seconds < _PATIENCE:
        for rank in missing:
            if word := _word_in(folder / f"{_HELLO}.{rank}"):
                words[rank] = word
        missing = [rank for rank in missing if rank not in words]
        waiting.pause(f"a first sign of {_ranks(missing)} (if one has ended, stop all, start anew)")
    if missing:
        log(f"note: going on without {_ranks(missing)}, of which nothing was heard")
    return words


def _ranks(ranks: Sequence[int]) -> str:
    """Name some ranks, the first few of many."""
    more = f" and {len(ranks) - _NAMED} more" if len(ranks) > _NAMED else ""
    return f"rank {', '.join(map(str, ranks[:_NAMED]))}{more}"


@contextmanager
def follow(folder: Path, place: Place, about: str = "") -> Iterator[Session]:
    """Join rank 0 of the same launch; raises InputError where it does not begin, or is not alike.

    about: says what must be alike.
    """
    word, hello = uuid.uuid4().hex, folder / f"{_HELLO}.{place.rank}"
    try:
        with _lock(folder, place.rank):
            try:
                answer = _ask(folder, hello, word)
            finally:
                hello.unlink(missing_ok=True)
            if answer.about != about:
                raise InputError(
                    f"{folder}: rank 0 was started with other flags, models or kinds of device "
                    f"than rank {place.rank}; start all processes with the same command"
                )
            session = Session(folder, place, answer.launch)
            try:
                yield session
                with suppress(FileNotFoundError):  # rank 0 has all it needs, and empties the folder
                    write_json(session.path(_DONE, place.rank), {})
            finally:
                if _answer_to(word, folder) is None:  # rank 0 of this launch takes nothing any more
                    for path in folder.glob(f"*.{answer.launch}.{place.rank}"):
                        path.unlink(missing_ok=True)
    finally:
        _remove(folder)


def _ask(folder: Path, hello: Path, word: str) -> "_Answer":
    """Leave a word until rank 0 answers it."""
    waiting = _Waiting(_PATIENCE * _AND_A_HALF)
    while (answer := _answer_to(word, folder)) is None:
        if waiting.seconds > _PATIENCE * _AND_A_HALF:
            raise InputError(
                f"{folder}: rank 0 has not begun within {duration(waiting.seconds)}; see what "
                "it says, and start all processes together"
            )
        if _word_in(hello) != word:  # rank 0 may just have emptied the folder, or does so now
            with suppress(FileNotFoundError):
                write_json(hello, {"word": word})
        waiting.pause("rank 0 to begin")
    return answer


def _word_in(path: Path) -> str:
    with suppress(InputError, KeyError, TypeError):
        return str(read_json(path)["word"])
    return ""


@dataclass(frozen=True)
class _Answer:
    launch: str
    about: str


def _answer_to(word: str, folder: Path) -> _Answer | None:
    """Read what rank 0 has answered to a word; None if it has not."""
    with suppress(InputError, KeyError, TypeError):
        found = read_json(folder / _ANSWER)
        if word in found["words"]:
            return _Answer(str(found["launch"]), str(found["about"]))
    return None


def _lock(folder: Path, rank: int) -> AbstractContextManager[None]:
    """Hold what tells the others that this process works."""
    what = f"{folder.parent} is written, as rank {rank},"
    return lock_directory(folder, _lock_of(folder, rank), what, "place for the results")


def _lock_of(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank}.lock"


def _empty(folder: Path) -> None:
    """Remove all but the locks."""
    for path in folder.iterdir():
        if not path.name.startswith("rank_"):
            with suppress(OSError):
                path.unlink()


def _remove_dead_locks(folder: Path) -> None:
    """Remove the locks that killed processes have left, where they are surely gone."""
    for lock in folder.glob("rank_*.lock"):
        with suppress(Taken, OSError):
            if lock.stat().st_size and holder_of(lock) is None:
                take(lock).release()


def _remove(folder: Path) -> None:
    """Remove the folder, unless another process has not let go of its lock yet: that one will."""
    with suppress(OSError):
        folder.rmdir()


class _Waiting:
    """Waiting for something, with a line soon and each minute that says for what, how long."""

    def __init__(self, most: float = 0.0) -> None:
        """most: seconds after which it is given up; 0: it ends in another way."""
        self._most, self._started = most, time.monotonic()
        self._say_at = self._started + _SAY_FIRST

    @property
    def seconds(self) -> float:
        """For how long."""
        return time.monotonic() - self._started

    def pause(self, what: str) -> None:
        """Wait a moment; what: for, in words."""
        if (now := time.monotonic()) > self._say_at:
            most = f", {duration(self._most)} at most" if self._most else ""
            log(f"waiting for {what}: {duration(self.seconds)} so far{most}")
            self._say_at = now + _SAY_EVERY
        time.sleep(_LOOK_EVERY)
