"""Run a script as a command: one line for a user's mistake, and an exit status."""

import argparse
import contextlib
import functools
import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from common.sharing.launcher import Place, find_place, without_launcher
from common.system import signals
from common.system.errors import (
    InputError,
    LeftToOthersError,
    TrainingError,
    is_out_of_memory,
)
from common.system.log import line_mark, log, marked, utc_now

_VARIABLE = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::?-(?P<other>[^}]*))?\}|(?P<plain>[A-Za-z_]\w*))"
)
_AGAIN = "nothing that was complete is lost; run the same command again"
_OBJECTS = 100_000  # between two looks for unreachable ones; Python's own number is 700 or 2,000


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("prog", _module_command())
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the command line; no file name holds a zero byte."""
        if any("\0" in word for word in args or []):
            self.error("found a zero byte in a flag")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the error without the page of usage, exit 2."""
        self.exit(2, f"{line_mark()}error: {message} (see {self.prog} --help)\n")


def _module_command() -> str | None:
    """Return how a module was started with -m; None of a script, which argparse names itself."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else None


def guarded(
    main: Callable[..., int | None], advice: str = _AGAIN, shares: bool = False
) -> Callable[..., int]:
    """Turn a user's mistake into one line on stderr and exit status 2, never a traceback.

    A training that cannot go on exits 1, one that must not leave anything to others and did 3,
    Ctrl-C 130, SIGTERM 143. advice: what to do after the
    script was interrupted. shares: started several times, by torchrun say, it shares its work among
    the processes; any other script then does all of it in the first, and the others end at once.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):  # file names need not be UTF-8
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            with signals.ending_at_once(), _quiet_threads(), contextlib.ExitStack() as stack:
                place = find_place()
                stack.enter_context(marked(place.name))
                if not shares and not place.alone:
                    if not place.leads:
                        return 0
                    log(f"note: this command works in one process; the other {_rest(place)}")
                    stack.enter_context(without_launcher())
                return main(argv) or 0
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except TrainingError as error:
            return _fail(error, 1)
        except LeftToOthersError as error:
            return _fail(error, 3)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            smaller = "try a smaller model or --img_size, or another --device"
            return _fail(f"out of memory ({str(error)[:160]}); {smaller}; {advice}", 1)
        except InputError as error:
            return _fail(error, 2)
        except OSError as error:
            where = f" at {error.filename}" if error.filename else ""
            return _fail(f"{error.strerror or error}{where}; nothing that was complete is lost", 2)
        except signals.Stopped as stopped:
            return _fail(f"stopped by {stopped.name}; {advice}", stopped.status)
        except KeyboardInterrupt:
            return _fail(f"interrupted; {advice}", 130)

    return run


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python look for unreachable objects less often: a script makes many, and ends soon.

    PyTorch, SciPy and matplotlib leave about a million objects in memory, each of which is looked
    at each time. Measured: an evaluation of stored predictions takes a sixth less of the
    processor, and 6 % more memory.
    """
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _rest(place: Place) -> str:
    return "one has nothing to do" if place.size == 2 else f"{place.size - 1} have nothing to do"


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device was too small; what runs without PyTorch does not import it here."""
    if "torch" not in sys.modules:
        return False
    return "DefaultCPUAllocator" in str(error) or is_out_of_memory(error)


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """Leave a full disk to the main thread, which meets it when it closes what the thread wrote."""
    before = threading.excepthook

    def report(problem: Any) -> None:
        if not issubclass(problem.exc_type, OSError):
            before(problem)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


def _mark() -> str:
    """Name this process among several, as the log does."""
    with contextlib.suppress(InputError), marked(find_place().name):
        return line_mark()
    return ""


def _fail(message: object, status: int) -> int:
    for stream, text in (
        (sys.stdout, ""),
        (sys.stderr, f"{_mark()}error: {' '.join(str(message).split())} [{utc_now()}]\n"),
    ):
        try:
            stream.write(text)
            stream.flush()
        except OSError:  # it is on a full disk or its reader is gone; what it holds is dropped
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return status


def boolean(text: str) -> bool:
    """Read true/false, yes/no, on/off, 1/0."""
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")


def whole_number(text: str) -> int:
    """Read a whole number of 0 or more."""
    if not text.isdecimal() or len(text) > 18:
        shown = repr(text[:40])
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, found {shown}")
    return int(text)


def folder(text: str) -> Path:
    """Read the name of a folder, with ~ for the home; an empty one is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder, found '' (the current one is .)")
    return Path(expand_home(text))


def named_file(text: str) -> Path:
    """Read the name of a file, with ~ for the home."""
    if not text or text.endswith("/"):
        raise argparse.ArgumentTypeError(f"expected a file, found {text!r}")
    return Path(expand_home(text))


def known_folder(text: str) -> Path:
    """Read the name of a folder that .env may hold: with ~, $NAME, ${NAME} and ${NAME:-other}."""
    return folder(_expand_variables(str(text)))


def expand_home(text: str) -> str:
    """Put the home for a ~ that no shell has expanded, unless there is a file of that name."""
    return text if os.path.lexists(text) else os.path.expanduser(text)


def _expand_variables(text: str) -> str:
    if os.path.lexists(text):
        return text

    def value_of(found: re.Match[str]) -> str:
        name = found["braced"] or found["plain"]
        value = os.environ.get(name) or found["other"]
        if value is None:
            raise argparse.ArgumentTypeError(
                f"expected a folder, found {text!r}, and {name} is not set, neither in the "
                "environment nor in .env"
            )
        return value

    return _VARIABLE.sub(value_of, text)
