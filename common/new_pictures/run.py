"""Grade many pictures one chunk after the other: threads read ahead, the networks follow.

What is in memory at a time are the pictures of a chunk and those that are read ahead, however many
there are. Rows come in the order of the pictures.
"""

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from common.grading.networks import Networks, Said
from common.new_pictures.journal import START_ANEW, RowSink, RunFiles, path_from
from common.new_pictures.listing import Listing, NewPicture, place_of
from common.new_pictures.rows import FileState, Row
from common.pixels.decoding import ImageError, UnreadableError
from common.pixels.preprocessing import Preprocessing, load_squares
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.log import log, printable, progress_bar

UNKNOWN_STATE = FileState(-1, 0)  # of a file that could not be opened: it is tried again
_AHEAD = 2  # pictures that a thread may be ahead
_SAY_EVERY = 120  # seconds between two lines of a log


@dataclass(frozen=True)
class ReadPicture:
    """A picture as the models see it, or why it cannot be read."""

    picture: NewPicture
    file: FileState
    squares: tuple[np.ndarray, ...] = ()  # (S, S, 3) uint8 for each model
    measured: Any = None  # of the squares, by `Look`
    notes: tuple[str, ...] = ()  # on what is odd about the file
    error: str = ""


# measures a picture as each model sees it, (S, S, 3) uint8, in the thread that reads it
Look = Callable[[Sequence[np.ndarray]], Any]
Judge = Callable[[Sequence[ReadPicture], Said], list[Row]]  # rows of readable pictures
Refuse = Callable[[ReadPicture], Row]  # the row of a picture that cannot be read


@dataclass(frozen=True)
class Work:
    """What is to be done with pictures."""

    networks: Networks
    judge: Judge
    refuse: Refuse
    look: Look
    num_workers: int


@dataclass
class _Chunk:
    """Pictures in their order, of which so many are readable."""

    read: list[ReadPicture] = field(default_factory=list)
    readable: int = 0

    def add(self, found: ReadPicture) -> None:
        self.read.append(found)
        self.readable += not found.error

    def is_full(self, size: int) -> bool:
        """Tell whether there is enough for the networks, or none of many can be read."""
        return self.readable == size or (not self.readable and len(self.read) == size)


def grade_pictures(pictures: Sequence[NewPicture], journal: RowSink, work: Work) -> None:
    """Write a row for each picture that has none yet.

    What networks say of a picture does not depend on its chunk: where an earlier process ended
    within one, the rows are still those of a run that was never interrupted.
    """
    size = work.networks.chunk
    left = [picture for picture in pictures if picture.name not in journal.done]
    progress = _Progress(len(pictures), len(pictures) - len(left))
    chunk = _Chunk()
    preprocessings, workers = work.networks.preprocessings, work.num_workers
    for found in read_ahead(left, preprocessings, workers, size, work.look):
        chunk.add(found)
        if chunk.is_full(size):
            progress.add(_grade(chunk, journal, work))
            chunk = _Chunk()
    progress.add(_grade(chunk, journal, work))
    progress.bar.close()


class _Progress:
    """A bar on a terminal; in a log, a line every few minutes."""

    def __init__(self, total: int, done: int) -> None:
        self.bar = progress_bar(None, "predict", total)
        self.bar.update(done)
        self._total, self._done, self._said = total, done, time.monotonic()

    def add(self, rows: int) -> None:
        self.bar.update(rows)
        self._done += rows
        now = time.monotonic()
        if self.bar.disable and now - self._said >= _SAY_EVERY:
            log(f"{self._done} of {self._total} pictures")
            self._said = now


def _grade(chunk: _Chunk, journal: RowSink, work: Work) -> int:
    """Write the rows of a chunk; returns how many."""
    readable = [found for found in chunk.read if not found.error]
    rows: list[Row] = []
    if readable:
        models = range(len(work.networks.preprocessings))
        pixels = [np.stack([found.squares[model] for found in readable]) for model in models]
        rows = work.judge(readable, work.networks.say(pixels))
    judged = iter(rows)
    rows = [work.refuse(found) if found.error else next(judged) for found in chunk.read]
    if rows:
        journal.add(rows)
    return len(rows)


def read_ahead(
    pictures: Iterable[NewPicture],
    preprocessings: Sequence[Preprocessing],
    num_workers: int,
    ahead: int,
    look: Look = lambda squares: None,
) -> Iterator[ReadPicture]:
    """Read pictures on threads as several models see them, in their order.

    ahead: how many are read before they are asked for, beside a few for each thread. look: measures
    what the models see.
    """
    cv2.setNumThreads(1)  # the pool already has a thread per core
    workers = worker_count(num_workers)
    waiting: deque[Future[ReadPicture]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for picture in pictures:
                waiting.append(pool.submit(_read, picture, preprocessings, look))
                if len(waiting) > _AHEAD * workers + ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(picture: NewPicture, preprocessings: Sequence[Preprocessing], look: Look) -> ReadPicture:
    """Read one picture; never raises for what is in a file."""
    state = UNKNOWN_STATE
    try:
        state = state_of(picture)
        found = load_squares(picture.path, preprocessings)
        squares = tuple(each.pixels for each in found)
        notes = dict.fromkeys(note.text for each in found for note in each.notes)
        return ReadPicture(picture, state, squares, look(squares), tuple(notes))
    except (UnreadableError, InputError, MemoryError, OSError) as error:  # a matter of this machine
        return ReadPicture(picture, UNKNOWN_STATE, error=_reason(picture, error))
    except ImageError as error:
        return ReadPicture(picture, state, error=_reason(picture, error))
    except Exception as error:  # one odd picture must not end the work on the others
        reason = f"{type(error).__name__}: {_reason(picture, error)}"
        return ReadPicture(picture, state, error=reason)


def _reason(picture: NewPicture, error: BaseException) -> str:
    """Say why a picture cannot be read, in one line and without its name."""
    text = str(error).removeprefix(f"{picture.path}: ") or type(error).__name__
    return " ".join(text.split())[:300]


def state_of(picture: NewPicture) -> FileState:
    """Tell the state of a file; raises UnreadableError for what is no regular one."""
    try:
        found = picture.path.stat()
    except OSError as error:
        lost = picture.path.is_symlink()
        reason = "the link leads nowhere" if lost else f"cannot be read ({error.strerror})"
        raise UnreadableError(reason) from error
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise UnreadableError("no regular file")
    return FileState(found.st_size, found.st_mtime_ns)


def is_unchanged(row: Row, picture: NewPicture) -> bool:
    """Tell whether a picture's file is as it was when its row was written."""
    try:
        return row.file == state_of(picture)
    except UnreadableError:
        return row.file == UNKNOWN_STATE


class Kept:
    """Decides which rows of an earlier process are kept: those whose pictures are as they were.

    A picture is known by where it lies, whatever the working folder was, and whichever of its names
    was listed. Its row then has the name that is listed now.
    """

    def __init__(self, listing: Listing, files: RunFiles) -> None:
        self._files, self._folder = files, os.path.realpath(files.jsonl.parent)
        self._by_name = {picture.name: picture for picture in listing.pictures}
        self._by_place = {
            name.place: picture
            for picture in reversed(listing.pictures)
            for name in listing.names_of(picture)
        }
        self._taken: set[str] = set()
        self.gone = 0  # rows of pictures that are not there any more, which are kept
        self.renamed = 0

    def __call__(self, row: Row) -> Row | None:
        """Return a row that is kept, None for one that is not.

        Raises InputError for that of a picture that is there but was not asked for.
        """
        picture = self._picture_of(row)
        if picture is None:
            self.gone += 1
            return row
        if picture.name in self._taken or not is_unchanged(row, picture):
            return None
        self._taken.add(picture.name)
        self.renamed += row.image != picture.name
        return replace(
            row, image=picture.name, path=path_from(self._files.jsonl.parent, picture.name)
        )

    def _picture_of(self, row: Row) -> NewPicture | None:
        """Find the picture of a row; None if it is gone."""
        place = place_of(row.image)
        if row.path and not (os.path.isabs(row.image) and os.path.lexists(place)):
            place = place_of(os.path.join(self._folder, row.path))
        found = self._by_place.get(place)
        if found is None and os.path.lexists(place):
            raise InputError(
                f"--images does not list {printable(row.image)} ({printable(place)}), of which "
                f"there is a row; list the same pictures, {START_ANEW}"
            )
        return found or self._by_name.get(row.image)  # by name: the rows were moved alone
