"""Divide the decoding of one cache among processes, of one machine or of several.

The images are divided into blocks by their keys. A process claims a block by creating its file,
which one alone can do, on network file systems, too. A claim is no lock: where one is taken for
dead that is not, both decode the block into shards of their own, which costs time and harms
nothing. A process shows that it lives by touching a file.
"""

import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from uuid import uuid4

_BEAT = 10.0  # seconds between two signs of life
_STALE = 60.0  # without one, after which a process of another machine is taken for dead
_ALIVE, _CLAIM = ".alive", ".claim"


class Claims:
    """The blocks that this process decodes, in a folder that all fillers of a cache share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = uuid4().hex
        self._held: set[int] = set()
        self._ending = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Claims":
        self._folder.mkdir(exist_ok=True)
        me, path = {"host": socket.gethostname(), "pid": os.getpid()}, self._alive_file(self._name)
        try:
            path.write_text(json.dumps(me))
        except OSError as error:  # a full disk names no file
            with suppress(OSError):
                path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._heart.join()
        self.release()
        with suppress(OSError):
            for path in self._folder.iterdir():  # what those that were killed have left
                dead = path.suffix == _ALIVE and not self._lives(path.stem)
                if dead or (path.suffix == _CLAIM and self._is_abandoned(path)):
                    path.unlink(missing_ok=True)
        with suppress(OSError):
            self._alive_file(self._name).unlink()

    def take(self, block: int) -> bool:
        """Claim a block; False where a process that lives has it."""
        path = self._claim_file(block)
        for _ in range(2):
            try:
                with open(path, "x") as file:
                    file.write(self._name)
                self._held.add(block)
                return True
            except FileExistsError:
                if path.is_dir():  # nobody's claim, and in the way of any
                    return True
                if not self._is_abandoned(path):
                    return False
                path.unlink(missing_ok=True)
            except OSError as error:
                with suppress(OSError):
                    path.unlink()
                raise OSError(error.errno, error.strerror, str(path)) from error
        return False  # another one was quicker

    def release(self) -> None:
        """Give back all blocks."""
        for block in list(self._held):
            with suppress(OSError):
                self._claim_file(block).unlink()
            self._held.discard(block)

    def others(self) -> bool:
        """Tell whether other processes fill this cache, too."""
        names = {path.stem for path in self._folder.glob(f"*{_ALIVE}")} - {self._name}
        return any(self._lives(name) for name in names)

    def _alive_file(self, name: str) -> Path:
        return self._folder / f"{name}{_ALIVE}"

    def _claim_file(self, block: int) -> Path:
        return self._folder / f"{block:03x}{_CLAIM}"

    def _beat(self) -> None:
        while not self._ending.wait(_BEAT):
            with suppress(OSError):
                os.utime(self._alive_file(self._name))

    def _is_abandoned(self, claim: Path) -> bool:
        try:
            name = claim.read_text()
            return not self._lives(name) if name else self._is_stale(claim)
        except FileNotFoundError:  # it was given back
            return True
        except (OSError, ValueError):
            return self._is_stale(claim)

    def _lives(self, name: str) -> bool:
        """Tell whether a process lives, going by its sign of life."""
        path = self._alive_file(name)
        try:
            holder = json.loads(path.read_text())
            if holder["host"] == socket.gethostname():
                os.kill(int(holder["pid"]), 0)
        except (FileNotFoundError, ProcessLookupError):
            return False
        except (OSError, ValueError, KeyError, TypeError):
            pass  # being written, or of another user
        return not self._is_stale(path)

    def _is_stale(self, path: Path) -> bool:
        """Tell whether a file was not touched for long, by the clock of the file system."""
        with suppress(OSError):
            mine = self._alive_file(self._name)
            os.utime(mine)
            return mine.stat().st_mtime - path.stat().st_mtime > _STALE
        return False
