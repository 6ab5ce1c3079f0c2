"""List the pictures to be graded: of folders however deep, of files and of patterns, each once."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.data.metadata import METADATA, Metadata, read_metadata
from common.listing.picture_files import is_picture, shows_picture
from common.listing.walking import by_ending, count_of, describe, list_tree
from common.system.errors import InputError
from common.system.log import printable

_WILD = "*?["
_TABLES = (METADATA, "labels.csv")
_SHOWN = 3  # names in a remark


@dataclass(frozen=True)
class NewPicture:
    """A picture that is to be graded, or a file that was named as one."""

    name: str  # its path from what the user wrote; the name of its row
    root: str  # the folder that was given, or that a file or pattern lies in
    id: str  # relative to the root, with / between folders

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.name)

    @property
    def place(self) -> str:
        """Where it lies."""
        return place_of(self.name)

    @property
    def is_link(self) -> bool:
        """Tell whether it, or a folder between the root and it, is a link."""
        return os.path.realpath(self.name) != os.path.join(os.path.realpath(self.root), self.id)


@dataclass(frozen=True)
class Listing:
    """All pictures to be graded, in one order, and what is to be said of what else was found."""

    pictures: tuple[NewPicture, ...]
    remarks: tuple[str, ...] = ()
    # by the name of a picture: its other names, links to it, that are left out
    others: Mapping[str, Sequence[NewPicture]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that pictures lie in, each once."""
        return tuple(dict.fromkeys(picture.root for picture in self.pictures))

    def names_of(self, picture: NewPicture) -> tuple[NewPicture, ...]:
        """Return a picture under its name, then under the others that lead to it."""
        return picture, *self.others.get(picture.name, ())

    def require_apart(self, outputs: Mapping[Path, str], inputs: Sequence[Path] = ()) -> None:
        """Raise InputError where a file that is to be written would take the place of another.

        outputs: what is to be written, with the flag that names it. Pictures, tables beside them
        and what is read (inputs) stay whatever is said; nor is there to be a new one of their kind.
        """
        taken = {os.path.realpath(n.name) for p in self.pictures for n in self.names_of(p)}
        read = {os.path.realpath(path) for path in inputs}
        for path, flag in outputs.items():
            place, what = os.path.realpath(path), ""
            if place in taken or is_picture(path.name) or shows_picture(str(path)):
                what = "a picture, and pictures are never written over"
            elif path.name.lower() in _TABLES:
                what = f"{path.name}, as tables about pictures are called"
            elif place in read:
                what = "a file that this command reads"
            elif os.path.lexists(place) and not os.path.isfile(place):
                what = "something that is no file"
            if what:
                raise InputError(
                    f"{flag} writes {printable(str(path))}: expected a file of its own, found "
                    f"{what}; choose another name"
                )


def place_of(name: str) -> str:
    """Tell where a file lies, whatever the working folder is; a link is a file of its own."""
    folder, last = os.path.split(name)
    return os.path.join(os.path.realpath(folder), last)


@dataclass(frozen=True)
class _Found:
    """A file that a word of --images means."""

    picture: NewPicture
    named: bool = False  # by the word itself, so that it is taken whatever it holds


def list_pictures(places: Sequence[str]) -> Listing:
    """List the pictures of folders, files and patterns such as "left/*.jpg" or "**/*.dcm".

    In folders, what has a picture's ending or first bytes is taken; hidden files, results of this
    software and other files are passed over, the last with a remark. A file that is named itself
    is taken whatever it holds. A file that several names lead to is listed once, by the name that
    is no link, else by that of which the root's metadata.csv knows, else by the first.
    Raises InputError for a place that is not there, and for no picture at all.
    """
    files: dict[object, list[NewPicture]] = {}
    others: list[str] = []
    order: dict[str, int] = {}  # of all names
    for found in (found for place in places for found in _found(place)):
        name = found.picture.name
        if name in order:  # overlapping places are no surprise
            continue
        order[name] = len(order)
        if found.named or shows_picture(name):
            files.setdefault(_file_of(name), []).append(found.picture)
        else:
            others.append(name)
    if not files:
        given = " ".join(map(printable, places))
        held = f"{count_of(len(others), 'other file')} ({by_ending(others)})" if others else "none"
        raise InputError(f"--images {given}: expected pictures, found {held}")
    tables: dict[str, Metadata | None] = {}
    chosen = {file: _choose(names, tables) for file, names in files.items()}
    pictures = sorted(chosen.values(), key=lambda picture: order[picture.name])
    left_out = {
        picture.name: tuple(other for other in files[file] if other is not picture)
        for file, picture in chosen.items()
        if len(files[file]) > 1
    }
    return Listing(tuple(pictures), tuple(_remarks(others, left_out)), left_out)


def _file_of(name: str) -> object:
    """Tell which file a name leads to: two that lead to one are equal."""
    try:
        found = os.stat(name)
    except OSError:
        return os.path.realpath(name)
    hard_links = found.st_nlink > 1 and found.st_ino  # some file systems give no numbers
    return (found.st_dev, found.st_ino) if hard_links else os.path.realpath(name)


def _choose(names: Sequence[NewPicture], tables: dict[str, Metadata | None]) -> NewPicture:
    """Choose among the names of one file; tables: those that were read already, by root."""
    if len(names) == 1:
        return names[0]
    real = [picture for picture in names if not picture.is_link] or names
    if len({picture.place for picture in real}) == 1:
        return real[0]
    for picture in real:
        if picture.root not in tables:
            tables[picture.root] = read_metadata(Path(picture.root))
        table = tables[picture.root]
        if table is not None and picture.id in table.rows:
            return picture
    return real[0]


def _remarks(others: list[str], left_out: Mapping[str, Sequence[NewPicture]]) -> Iterator[str]:
    if others:
        yield (
            f"note: {count_of(len(others), 'file')} without a picture's ending or first bytes, "
            f"not looked at ({by_ending(others)}), such as {printable(others[0])}"
        )
    again: dict[str, str] = {}  # by the full path: overlapping places are no surprise
    for name, links in left_out.items():
        for link in links:
            if link.is_link or link.place != place_of(name):
                again.setdefault(
                    os.path.abspath(link.name), f"{printable(link.name)} is {printable(name)}"
                )
    if again:
        shown = list(again.values())[:_SHOWN]
        shown += [f"{len(again) - _SHOWN} others"] if len(again) > _SHOWN else []
        yield (
            f"note: {count_of(len(again), 'more name')} of pictures that are listed already "
            f"(links), which are graded once: {', '.join(shown)}"
        )


def _found(place: str) -> Iterator[_Found]:
    """Find the files that a word of --images means."""
    if not place:
        raise InputError("--images: expected folders, files or patterns, found ''")
    if os.path.isdir(place):
        yield from map(_Found, _in_folder(place, place))
    elif os.path.lexists(place):  # before patterns: names may hold [ and *
        yield _Found(_picture(place, os.path.dirname(place)), named=True)
    elif any(sign in place for sign in _WILD):
        yield from _matching(place)
    else:
        raise InputError(
            f"--images {printable(place)}: expected a folder, a file or a pattern, found none; "
            f"{_what_is_there(place)}"
        )


def _matching(pattern: str) -> Iterator[_Found]:
    """Find the files that match a pattern, and those in the folders that do."""
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise InputError(
            f"--images {printable(pattern)}: expected a pattern that something matches; "
            f"{_what_is_there(pattern)}"
        )
    first_sign = min(pattern.index(sign) for sign in _WILD if sign in pattern)
    root = os.path.dirname(pattern[:first_sign])
    for match in matches:
        if os.path.isdir(match):
            yield from map(_Found, _in_folder(match, root))
        else:
            yield _Found(_picture(match, root))


def _in_folder(folder: str, root: str) -> list[NewPicture]:
    """List the files of a folder in the order that those of a dataset have."""
    found = [_picture(entry.path, root) for entry in list_tree(folder, past_our_results=True)]
    return sorted(found, key=lambda picture: picture.id)


def _picture(path: str, root: str) -> NewPicture:
    """Name a file alike however a folder was written: photos, photos/ or ./photos."""
    root = str(Path(root))
    id_ = os.path.relpath(path, root).replace(os.sep, "/")
    return NewPicture(str(Path(path)), root, id_)


def _what_is_there(place: str) -> str:
    above = next((p for p in Path(place).absolute().parents if p.is_dir()), Path("/"))
    return printable(f"{above} holds {describe(above)}")
