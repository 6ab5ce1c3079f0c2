"""Stop where nothing is lost when the system or the user asks for it."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType

from common.system.log import line_mark

_HINTS: dict[int, str] = {
    signal.SIGINT: "press Ctrl-C again to end at once",
    signal.SIGTERM: "again ends at once",
}

_SAME = 2.0  # seconds within which a second SIGTERM is the first one, sent by two
_waiting: list[int] = []  # the signals that wait for the next `check`
_terminated: list[float] = []  # when the first SIGTERM came, on the monotonic clock


class Stopped(BaseException):
    """A signal has asked the program to stop; nothing that was complete is lost."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """Return the exit status that shells give to a program ended by this signal."""
        return 128 + self.number

    @property
    def name(self) -> str:
        """Name the signal as a user knows it."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Let SIGTERM raise Stopped and Ctrl-C KeyboardInterrupt, so that files are closed."""
    _waiting.clear()
    _terminated.clear()
    with _handling(_end):
        yield


@contextlib.contextmanager
def waiting_for_check() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C wait for the next `check`; the second one ends at once."""

    def note(number: int, frame: FrameType | None) -> None:
        if _waiting:
            _end(number, frame)
        _waiting.append(number)
        name = Stopped(number).name  # not print(): the signal may have come in the middle of one
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}"
        text = f"{now}  {line_mark()}{name}: stopping after this step; {_HINTS[number]}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    with _handling(note):
        yield


def check() -> None:
    """Raise Stopped if a signal waits."""
    if _waiting:
        raise Stopped(_waiting[0])


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle both signals in the main thread; one that the parent told us to ignore stays so.

    SLURM, systemd and others send a SIGTERM to all processes of a job, and the script that waits
    for us hands its own on: two that come together are one.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            _terminated.append(time.monotonic())
            if len(_terminated) > 1 and _terminated[-1] - _terminated[0] < _SAME:
                return
        handler(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HINTS}
    taken = [number for number, old in before.items() if old != signal.SIG_IGN]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
