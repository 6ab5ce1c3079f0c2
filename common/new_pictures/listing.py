"""List the pictures to be graded: of folders however deep, of files and of patterns, each once."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.listing.picture_files import shows_picture
from common.listing.walking import by_ending, count_of, describe, list_tree
from common.system.errors import InputError
from common.system.log import printable

_WILD = "*?["


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


@dataclass(frozen=True)
class Listing:
    """All pictures to be graded, in one order, and what is to be said of what else was found."""

    pictures: tuple[NewPicture, ...]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that pictures lie in, each once."""
        return tuple(dict.fromkeys(picture.root for picture in self.pictures))


@dataclass(frozen=True)
class _Found:
    """A file that a word of --images means."""

    picture: NewPicture
    named: bool = False  # by the word itself, so that it is taken whatever it holds


def list_pictures(places: Sequence[str]) -> Listing:
    """List the pictures of folders, files and patterns such as "left/*.jpg" or "**/*.dcm".

    In folders, what has a picture's ending or first bytes is taken; hidden files, results of this
    software and other files are passed over, the last with a remark. A file that is named itself
    is taken whatever it holds. A file that is met again, also through a link, is listed once.
    Raises InputError for a place that is not there, and for no picture at all.
    """
    pictures: list[NewPicture] = []
    others: list[str] = []
    names: set[str] = set()
    real_names: set[str] = set()
    again = 0
    for found in (found for place in places for found in _found(place)):
        name = found.picture.name
        if name in names:  # overlapping places are no surprise
            continue
        names.add(name)
        if not (found.named or shows_picture(name)):
            others.append(name)
            continue
        real = os.path.realpath(name)
        again += real in real_names
        if real not in real_names:
            real_names.add(real)
            pictures.append(found.picture)
    if not pictures:
        given = " ".join(map(printable, places))
        held = f"{count_of(len(others), 'other file')} ({by_ending(others)})" if others else "none"
        raise InputError(f"--images {given}: expected pictures, found {held}")
    return Listing(tuple(pictures), tuple(_remarks(others, again)))


def _remarks(others: list[str], again: int) -> Iterator[str]:
    if others:
        yield (
            f"note: {count_of(len(others), 'file')} without a picture's ending or first bytes, "
            f"not looked at ({by_ending(others)}), such as {printable(others[0])}"
        )
    if again:
        yield (
            f"note: {count_of(again, 'more name')} of pictures that are listed already (links), "
            "which are graded once"
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
