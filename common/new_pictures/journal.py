"""The files that a run writes, row by row, and goes on with however it ended.

What counts is the JSONL file: a row is there when its line is whole. A line that was cut off is
cut away; the CSV file is then written anew from what remains. Beside them stands what the rows
were made with: rows of another model or of other flags never get into one file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from common.listing.walking import count_of
from common.locks.run_lock import lock_directory
from common.new_pictures.listing import place_of
from common.new_pictures.rows import FIRST_COLUMNS, PATIENT_COLUMNS, FileState, Row, RowFormat
from common.system.errors import InputError
from common.system.files import atomic_write, read_json, write_json
from common.system.log import log, printable

_APPENDED = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_PART = "rows"  # how the names of the files of such processes begin
_AT_ONCE = 1000  # rows that are written together
_SHOWN = 60  # letters of a setting in a message
START_ANEW = "write elsewhere with --csv FILE, or start anew with --overwrite"


@dataclass(frozen=True)
class RunFiles:
    """The names of what a run writes: the CSV file's, with other endings."""

    csv: Path

    @property
    def jsonl(self) -> Path:
        """The rows for programs."""
        return self._beside(".jsonl")

    @property
    def settings(self) -> Path:
        """What the rows were made with."""
        return self._beside(".run.json")

    @property
    def patients(self) -> Path:
        """A row for each patient."""
        return self._beside("_patients.csv")

    @property
    def parts(self) -> Path:
        """Folder of what several processes of a run leave to the first of them."""
        return self.jsonl.parent.resolve() / f".{self.jsonl.name}.parts"

    @property
    def lock(self) -> Path:
        """Locked by the run that writes; one for all names that lead to the same rows."""
        return self.jsonl.parent.resolve() / f".{self.jsonl.name}.lock"

    @property
    def all(self) -> tuple[Path, ...]:
        """All files but the lock."""
        return self.jsonl, self.csv, self.settings, self.patients

    def _beside(self, ending: str) -> Path:
        return self.csv.with_name(f"{self.csv.name.removesuffix('.csv')}{ending}")


class Deciding(Protocol):
    """What a run that goes on must have alike: a frozen dataclass of values that JSON knows."""

    @property
    def device(self) -> str:
        """What computes, such as "cuda:1"."""
        ...


@dataclass(frozen=True)
class RunSettings:
    """What rows were made with."""

    deciding: Deciding
    telling: object  # more that a reader wants to know, a dataclass, too

    @property
    def fingerprint(self) -> str:
        """Hash what decides, alike in all processes of a launch, whichever GPU each has."""
        kind = self.deciding.device.partition(":")[0]
        text = json.dumps({**vars(self.deciding), "device": kind}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return all of it, as it is stored."""
        return {**vars(self.deciding), **vars(self.telling)}

    @property
    def part(self) -> str:
        """Name the rows of a process that does not hold the journal: only equal ones are taken."""
        return f"{_PART}_{self.fingerprint}"


class RowSink(Protocol):
    """Where the rows of pictures go."""

    done: dict[str, FileState]  # the pictures whose rows are there, by name

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows; when this returns they are on the disk."""


class Journal:
    """The rows of a run, some of which may stem from an earlier process."""

    def __init__(self, files: RunFiles, form: RowFormat, done: dict[str, FileState]) -> None:
        """done: the pictures whose rows are there, by name."""
        self.files, self.form, self.done = files, form, done
        self._handles = [os.open(path, _APPENDED, 0o666) for path in (files.jsonl, files.csv)]

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows to both files; when this returns they are on the disk."""
        rows = _with_paths(self.files, rows)
        self.done.update((row.image, row.file) for row in rows)
        lines, table = self._handles
        path = self.files.jsonl
        try:
            _write(lines, "".join(f"{self.form.to_json(row)}\n" for row in rows))
            os.fsync(lines)
            path = self.files.csv
            _write(table, "".join(map(self.form.to_csv, rows)))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def add_part(self, part: Path, listed: Container[str]) -> None:
        """Write the rows of another process, as far as they are whole and not there yet.

        listed: the names of the pictures; those of others, which it was given alone, are left out.
        """
        rows, others = read_rows(part, self.form), 0
        while some := list(islice(rows, _AT_ONCE)):
            others += sum(row.image not in listed for row in some)
            self.add([r for r in some if r.image in listed and r.image not in self.done])
        if others:
            what = count_of(others, "row")
            log(f"note: left out {what} of pictures that only another process was given ({part})")

    def rows(self) -> Iterator[Row]:
        """Read all rows, one after the other."""
        return read_rows(self.files.jsonl, self.form)

    def finish(self, images: Sequence[str]) -> None:
        """Close the files, with the rows in the order of the images, those of others last.

        Earlier processes may have left them in another order: some pictures were changed or added.
        """
        self.close()
        place = {image: number for number, image in enumerate(images)}
        order, start = [], 0
        with self.files.jsonl.open("rb") as file:
            for line in file:
                order.append((place.get(self.form.from_json(line).image, len(place)), start))
                start += len(line)
            if order == sorted(order):
                return
            with atomic_write(self.files.jsonl) as sorted_file:
                for _, start in sorted(order):
                    file.seek(start)
                    sorted_file.write(file.readline())
        _write_csv(self.files, self.form)

    def close(self) -> None:
        """Close the files."""
        while self._handles:
            os.close(self._handles.pop())


class JournalPart:
    """The rows that one of several processes leaves to the first, which holds the journal."""

    def __init__(self, files: RunFiles, form: RowFormat, part: Path) -> None:
        """part: the file of this process."""
        self.files, self.form, self._part = files, form, part
        self.done = {row.image: row.file for row in read_rows(files.jsonl, form)}

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows; when this returns they are on the disk."""
        text = "".join(f"{self.form.to_json(row)}\n" for row in _with_paths(self.files, rows))
        handle = os.open(self._part, _APPENDED, 0o666)
        try:
            _write(handle, text)
            os.fsync(handle)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._part)) from error
        finally:
            os.close(handle)


def _with_paths(files: RunFiles, rows: Sequence[Row]) -> list[Row]:
    return [replace(row, path=path_from(files.jsonl.parent, row.image)) for row in rows]


def path_from(folder: Path, image: str) -> str:
    """Tell where a picture lies, seen from a folder of results; both may be moved together."""
    return os.path.relpath(place_of(image), os.path.realpath(folder))


def _write(handle: int, text: str) -> None:
    data = memoryview(text.encode())
    while data:  # a full disk takes a part, and says why at the next attempt
        data = data[os.write(handle, data) :]


@contextmanager
def open_journal(
    files: RunFiles,
    form: RowFormat,
    settings: RunSettings,
    overwrite: bool,
    keep: Callable[[Row], Row | None],
) -> Iterator[Journal]:
    """Open the files of a run, to begin it or to go on with it.

    keep: says what a row that is there is to be, under another name, say; None: it is taken out.
    Raises InputError for files of another program, model or flags, unless they are to be
    overwritten, and where another process writes to them.
    """
    with lock_directory(files.csv.parent, files.lock, f"{files.csv} is written", "--csv"):
        if overwrite:
            for path in (*files.all, *_left_parts(files)):
                path.unlink(missing_ok=True)
        done = _go_on(files, form, settings, keep)
        journal = Journal(files, form, done)
        try:
            yield journal
        finally:
            journal.close()


def _go_on(
    files: RunFiles,
    form: RowFormat,
    settings: RunSettings,
    keep: Callable[[Row], Row | None],
) -> dict[str, FileState]:
    """Mend the files of an earlier process, or begin new ones; returns whose rows are there."""
    require_ours(files)
    goes_on = files.settings.is_file()
    if goes_on:
        require_same_settings(files.settings, settings, f"{files.csv} holds rows")
    else:
        write_json(files.settings, settings.to_json())
    _cut_torn_line(files.jsonl)
    own = [path for path in _left_parts(files) if goes_on and _is_of(path, settings)]
    _remove_others(files, own)
    _take_parts(files, form, own)
    done: dict[str, FileState] = {}
    kept: list[tuple[str, str] | None] = []  # name and path that each row is to have
    changed = False
    for row in read_rows(files.jsonl, form):
        new = keep(row)
        kept.append(None if new is None else (new.image, new.path))
        changed |= kept[-1] != (row.image, row.path)
        if new is not None:
            done[new.image] = new.file
    if outdated := kept.count(None):
        log(f"{files.jsonl}: {count_of(outdated, 'row')} of changed pictures, which come anew")
    if changed:
        _rewrite(files.jsonl, form, kept)
    _write_csv(files, form)
    return done


def _left_parts(files: RunFiles) -> list[Path]:
    """List the rows that processes of an earlier run, which was killed, had left to its first."""
    return sorted(files.parts.glob(f"{_PART}[._]*"))


def _is_of(part: Path, settings: RunSettings) -> bool:
    return part.name.startswith(f"{settings.part}.")


def _remove_others(files: RunFiles, own: Sequence[Path]) -> None:
    """Remove what processes left of a run that is not this one: its settings may be others."""
    if others := [path for path in _left_parts(files) if path not in own]:
        for path in others:
            path.unlink(missing_ok=True)
        what = count_of(len(others), "file")
        log(f"{files.parts}: removed {what} of rows that another run, which was killed, had left")


def _take_parts(files: RunFiles, form: RowFormat, parts: Sequence[Path]) -> None:
    """Move such rows to the others; of pictures that have one already they say the same."""
    there = None
    for part in parts:
        if there is None:
            there = {row.image for row in read_rows(files.jsonl, form)}
        with files.jsonl.open("ab") as file:
            for row in read_rows(part, form):
                if row.image not in there:
                    there.add(row.image)
                    file.write(f"{form.to_json(row)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        part.unlink()


def require_ours(files: RunFiles) -> None:
    """Raise InputError where a file is there that no run has written."""
    if not files.settings.is_file():
        for path in (files.csv, files.jsonl):
            if os.path.lexists(path):
                raise InputError(
                    f"{path} is there and {files.settings.name}, which says what its rows were "
                    f"made with, is not; {START_ANEW}"
                )
    begins = {
        files.jsonl: '{"image": ',
        files.csv: ",".join(FIRST_COLUMNS),
        files.patients: ",".join(PATIENT_COLUMNS),
    }
    for path, text in begins.items():
        if os.path.lexists(path):
            with path.open("rb") as file:
                found = file.read(len(text))
            if found != text.encode()[: len(found)]:  # less, where a line was cut off
                raise InputError(f"{path} is there and predict.py has not written it; {START_ANEW}")


def _write_csv(files: RunFiles, form: RowFormat) -> None:
    """Write the CSV file anew from the rows that are there."""
    with atomic_write(files.csv) as file:
        file.write(form.header().encode())
        for row in read_rows(files.jsonl, form):
            file.write(form.to_csv(row).encode())


def require_same_settings(
    file: Path, settings: RunSettings, holds: str, start_anew: str = START_ANEW
) -> None:
    """Raise InputError where a run that goes on has other settings than its file says.

    holds: what was made with those, such as "a.csv holds rows". start_anew: what else can be done.
    """
    stored = read_json(file)
    if not isinstance(stored, dict):
        raise InputError(f"{file}: expected the settings of a run; {start_anew}")
    wanted = json.loads(json.dumps(vars(settings.deciding)))  # tuples are lists there
    different = [
        f"{name.replace('_', ' ')} was {_short(stored.get(name))}, is {_short(value)}"
        for name, value in wanted.items()
        if stored.get(name) != value
    ]
    if different:
        raise InputError(
            f"{holds} that were made otherwise: {'; '.join(different)}; go on as it was begun, "
            f"{start_anew}"
        )


def _short(value: Any) -> str:
    text = printable(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _cut_torn_line(path: Path) -> None:
    """Cut away a last line whose end was not written any more."""
    if not path.is_file():
        path.touch()
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        place, block = end, b""
        while place > 0 and b"\n" not in block:
            start = max(0, place - 65536)
            file.seek(start)
            block = file.read(place - start)
            place = start
        whole = place + block.rfind(b"\n") + 1  # 0 where there is no line at all
        if whole < end:
            file.truncate(whole)
            os.fsync(file.fileno())
            log(f"{path}: its last line was cut off; that picture is graded again")


def _rewrite(path: Path, form: RowFormat, kept: Sequence[tuple[str, str] | None]) -> None:
    """Give the rows of a JSONL file other names and paths, or take them out."""
    with atomic_write(path) as file:
        for row, new in zip(read_rows(path, form), kept, strict=True):
            if new is not None:
                row = replace(row, image=new[0], path=new[1])
                file.write(f"{form.to_json(row)}\n".encode())


def read_rows(path: Path, form: RowFormat) -> Iterator[Row]:
    """Read the rows of a JSONL file, one after the other; one that is not there yet has none.

    A last line whose end is not written, or not yet, is no row. Raises InputError naming the line
    for anything else that `RowFormat.to_json` does not write.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield form.from_json(line)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise InputError(
                    f"{path}: line {number} is no row of this run ({error}); {START_ANEW}"
                ) from error
