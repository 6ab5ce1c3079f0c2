"""Which file a name in a table means: with or without ending and folders, in any case."""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.listing.picture_files import is_picture

_Parts = tuple[str, ...]  # of a path, the last one without the ending of a picture


@dataclass(frozen=True)
class Matches:
    """Which files each name may mean: one where it is clear, several where it is not."""

    found: list[list[int]]  # of each name, indices into the files
    by_name_alone: int  # names with folders that are none of their file's


def match_names(names: Sequence[str], files: Sequence[str]) -> Matches:
    """Find the file that each name means.

    files: paths of pictures. A name may lack the ending, or have that of another picture format.
    Its folders, if it has any, choose among files of one name, from the last one upwards; they may
    be those of another computer. A file that agrees better with another row's folders is that
    row's. A name only ever means one of these files, wherever its path may lead.
    """
    rows = [_parts(name) for name in names]
    depth = max(map(len, rows), default=0)
    by_end: dict[_Parts, list[int]] = defaultdict(list)  # files by the last parts of their paths
    paths = [_parts(file)[-depth:] for file in files]  # further up no row names anything
    for i, parts in enumerate(paths):
        for length in range(1, min(len(parts), depth) + 1):
            by_end[parts[-length:]].append(i)
    ways: dict[_Parts, set[_Parts]] = defaultdict(set)  # rows by the last parts of their paths
    for parts in set(rows):
        for length in range(1, len(parts) + 1):
            ways[parts[-length:]].add(parts)
    known: dict[str, tuple[list[int], bool]] = {}
    for name, parts in zip(names, rows):
        if name in known:
            continue
        length = next((n for n in range(len(parts), 0, -1) if parts[-n:] in by_end), 0)
        end = parts[-length:] if length else ()
        own = ways.get(end) == {parts}
        candidates = [
            i
            for i in by_end.get(end, [])
            if own or (end == parts and not _is_anothers(paths[i], length, ways))
        ]
        known[name] = _nearest(name, candidates, files), length == 1 < len(parts)
    found = [known[name][0] for name in names]
    return Matches(found, sum(len(known[name][0]) == 1 and known[name][1] for name in names))


def _is_anothers(path: _Parts, length: int, ways: Mapping[_Parts, set[_Parts]]) -> bool:
    """Tell whether a row agrees with more than the last parts of a path."""
    return len(path) > length and path[-length - 1 :] in ways


def _nearest(name: str, candidates: list[int], files: Sequence[str]) -> list[int]:
    """Prefer files that have the name's very ending, and then its very case."""
    last = _last(name)
    for spelled in (lambda text: _plain(text), lambda text: text):
        exact = [i for i in candidates if spelled(_last(files[i])) == spelled(last)]
        candidates = exact or candidates
    return candidates


def _last(path: str) -> str:
    return (path if "/" in path else path.replace("\\", "/")).rstrip("/ ").rpartition("/")[2]


def _plain(text: str) -> str:
    """Reduce a name to what two spellings of it share."""
    return unicodedata.normalize("NFC", text).casefold().strip()


def _parts(path: str) -> _Parts:
    """Split a path of any system into the parts that name something."""
    text = _plain(path if "/" in path else path.replace("\\", "/"))
    parts = [part.strip() for part in text.split("/") if part.strip() not in ("", ".", "..")]
    if parts and is_picture(parts[-1]):
        parts[-1] = parts[-1].rpartition(".")[0]
    return tuple(parts)
