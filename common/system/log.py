"""Lines for the log and the terminal, each with the time in UTC."""

import contextlib
import shlex
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

_mark = ""  # before each line, of one process among several
_quiet = False


@contextlib.contextmanager
def marked(name: str) -> Iterator[None]:
    """Let lines name the process that writes them, and show no bars: others share the terminal.

    name: "" of a process that is alone.
    """
    global _mark
    before, _mark = _mark, f"[{name}] " if name else ""
    try:
        yield
    finally:
        _mark = before


@contextlib.contextmanager
def said_once(says: bool) -> Iterator[None]:
    """Keep `log` quiet unless this process says what several would say alike."""
    global _quiet
    before, _quiet = _quiet, not says
    try:
        yield
    finally:
        _quiet = before


def line_mark() -> str:
    """Return what stands before each line of this process, "" of one that is alone."""
    return _mark


def utc_now() -> str:
    """Write the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def log(message: str = "") -> None:
    """Print a line with the time in UTC at once, so that `tail -f` and `tee` read well."""
    if _quiet:
        return
    from tqdm import tqdm

    tqdm.write(f"{utc_now()}  {_mark}{message}" if message else "", file=sys.stdout)
    sys.stdout.flush()


def shell_path(path: Path | str) -> str:
    """Write a path as a word of a command, which is not to look like a flag."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def printable(text: str) -> str:
    """Write names that no terminal should be given (control characters, odd bytes) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def progress_bar(
    steps: Iterable[object] | None, description: str, total: int | None = None
) -> "tqdm":
    """Wrap an iterable in a bar that shows on a terminal only, never in a log.

    steps: None where the bar is moved by hand.
    """
    from tqdm import tqdm

    shown = sys.stderr.isatty() and sys.stdout.isatty() and not _mark
    return tqdm(steps, desc=description, total=total, disable=not shown, leave=False)


def duration(seconds: float) -> str:
    """Write seconds as "45 s", "12 min" or "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
