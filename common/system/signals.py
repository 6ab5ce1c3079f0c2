"""Stop where nothing is lost when the system or the user asks for it."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

_HINTS = {signal.SIGINT: "press Ctrl-C again to end at once", signal.SIGTERM: "again ends at once"}


_asked: list[int] = []  # the signals that wait for the next `check`


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
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise Stopped, so that files are closed and a message is written."""

    def end(number: int, _: Any) -> None:
        raise Stopped(number)

    _asked.clear()
    with _handling(end, signal.SIGTERM):
        yield


@contextlib.contextmanager
def waiting_for_check() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C wait for the next `check`; the second one ends at once."""

    def note(number: int, _: Any) -> None:
        if _asked:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
        _asked.append(number)
        name = Stopped(number).name  # not print(): the signal may have come in the middle of one
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}"
        text = f"{now}  {name}: stopping after this step; {_HINTS[number]}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    with _handling(note, signal.SIGINT, signal.SIGTERM):
        yield


def check() -> None:
    """Raise Stopped if a signal waits."""
    if _asked:
        raise Stopped(_asked[0])


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], None], *numbers: int) -> Iterator[None]:
    """Handle signals in the main thread; one that the parent has told us to ignore stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
