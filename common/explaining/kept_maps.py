"""The maps of a run, picture by picture in a folder, and which of them an earlier process has made.

A picture is done when its NPZ file is there: it comes last, and whole. Beside the folders stands
what the maps were made with: maps of another model or of other flags never get into one folder.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.evidence.exact import Evidence
from common.evidence.explanation import Explained, Sources, explain_picture
from common.grading.stored_grader import StoredGrader
from common.listing.walking import count_of
from common.locks.run_lock import lock_directory
from common.new_pictures.journal import RunSettings, path_from, require_same_settings
from common.new_pictures.listing import Listing, NewPicture
from common.new_pictures.rows import FileState
from common.new_pictures.run import ReadPicture, state_of
from common.pairs import class_pairs
from common.pixels.decoding import UnreadableError
from common.result_dir.paths import EvidenceDir
from common.result_dir.stored import read_predictions, write_predictions
from common.system.errors import InputError
from common.system.files import atomic_write, read_json, remove_leftovers, write_json
from common.system.log import log, printable

START_ANEW = "write elsewhere with --output_dir FOLDER, or start anew with --overwrite"
_MAPS = re.compile(r"\d{5,}_.*\.npz")
_KEY = re.compile(r"referable|grade|\d+-\d+")  # of a `Decision`
_PARTS = ("maps", "constants", "logits")  # of an `Evidence`
_OF_FINER = "finer_"
_LETTERS = 60  # of a picture's name in the names of its files


@dataclass
class KeptMaps:
    """The maps in a folder, each in files that are named by its picture's number."""

    place: EvidenceDir
    numbers: Mapping[str, int]  # of all pictures that any process was to explain, by name
    done: set[str]  # the pictures whose maps are there, by name
    drawn: set[Path] = field(default_factory=set)  # what this process has drawn

    def stem(self, name: str) -> str:
        """Name a picture's files: by its number, and what can be read of its name."""
        return _stem(self.numbers[name], name)

    def square(self, name: str) -> Path:
        """Return the file of the square that the networks saw."""
        return self.place.picture(self.stem(name))

    def is_there(self, name: str) -> bool:
        """Tell whether a picture has maps and its square."""
        return self.place.maps(self.stem(name)).is_file() and self.square(name).is_file()

    def add(self, read: ReadPicture, sources: Sources, grader: StoredGrader) -> None:
        """Write the square of a picture, then all that its maps are made from, and their sums."""
        name = read.picture.name
        with atomic_write(self.square(name)) as file:
            Image.fromarray(read.squares[0]).save(file, "JPEG", quality=95)
        explained = explain_picture(name, sources, grader)
        details = _details(explained, sources, grader) | _state(read.file)
        path = self.place.maps(self.stem(name))
        write_predictions(path, _arrays(explained, sources, grader), details)
        self.done.add(name)

    def sources(self, name: str) -> Sources:
        """Read what a picture's maps are made from; raises InputError where it is damaged."""
        path = self.place.maps(self.stem(name))
        arrays, details = read_predictions(path)
        try:
            return _sources(arrays, details)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: expected maps of explain.py ({error!r})") from error

    def in_order(self, listing: Listing) -> list[str]:
        """List the pictures that are done, as they are listed, those that are gone last."""
        names = [picture.name for picture in listing.pictures if picture.name in self.done]
        return [*names, *(name for name in self.numbers if name in self.done - set(names))]

    def remove_others(self) -> None:
        """Remove drawings of decisions that are not taken any more, and files of no picture."""
        stems = {self.stem(name) for name in self.done}
        for path in _files_of(self.place, {self.stem(name) for name in self.numbers}):
            known = path in self.drawn if path.suffix == ".png" else path.stem in stems
            if not known:
                path.unlink()


@contextmanager
def open_kept_maps(
    place: EvidenceDir, settings: RunSettings, listing: Listing, overwrite: bool
) -> Iterator[KeptMaps]:
    """Open the folder of a run, to begin it or to go on with it.

    Raises InputError for maps of another model, of other flags or of pictures that are not listed,
    unless they are to be overwritten, and where another process writes to the folder.
    """
    with lock_directory(place.folder, place.lock, f"{place.folder} is written"):
        for folder in (place.folder, *place.parts):
            remove_leftovers(folder)
        if overwrite:
            for path in (*_files_of(place, _numbered(place)), place.settings, place.page):
                path.unlink(missing_ok=True)
        content = _settings_to_go_on(place, settings)
        listed = {path_from(place.folder, each.name): each.name for each in listing.pictures}
        every = list(dict.fromkeys([*content["pictures"], *listed]))
        names = [listed.get(path) or _name_of(path, place) for path in every]
        kept = KeptMaps(place, {name: number for number, name in enumerate(names)}, set())
        earlier = len(content["pictures"])
        _require_free(place, [kept.stem(name) for name in names[earlier:]], is_first=not earlier)
        there = {name for name in names if kept.is_there(name)}
        _require_listed(there - set(listed.values()), place)
        kept.done |= _leave_out_changed(there, kept, listing)
        if every != content["pictures"] or not place.settings.is_file():
            write_json(place.settings, content | {"pictures": every})
        yield kept


def _name_of(path: str, place: EvidenceDir) -> str:
    """Name a picture that is not listed, seen from the working folder."""
    return os.path.relpath(os.path.join(os.path.realpath(place.folder), path))


def _stem(number: int, name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).stem)[:_LETTERS]
    return f"{number:05}_{plain or 'picture'}"


def _numbered(place: EvidenceDir) -> set[str]:
    """Name the files of all pictures that earlier processes have numbered.

    Raises InputError where what says that is of another program, or damaged.
    """
    if not place.settings.is_file():  # what the maps say of themselves is left
        maps = [path for path in place.parts[2].glob("*") if _MAPS.fullmatch(path.name)]
        return {path.stem for path in maps if _says_whose(path)}
    content = read_json(place.settings)
    names = content.get("pictures") if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{place.settings}: expected paths of pictures, as explain.py writes them; move it "
            "away, or write elsewhere with --output_dir FOLDER"
        )
    return {_stem(number, name) for number, name in enumerate(names)}


def _says_whose(path: Path) -> bool:
    """Tell whether a file holds maps of this software."""
    try:
        return "made_from" in read_predictions(path)[1]
    except InputError:
        return False


def _files_of(place: EvidenceDir, stems: Collection[str]) -> list[Path]:
    """List what there is of pictures, by the exact names that it is given.

    The user may keep files of his own in folders of such names.
    """
    drawn = []
    for path in place.parts[1].glob("*.png"):
        stem, _, key = path.stem.rpartition("_")
        if stem in stems and _KEY.fullmatch(key):
            drawn.append(path)
    others = [path for stem in stems for path in (place.picture(stem), place.maps(stem))]
    return [*drawn, *(path for path in others if path.is_file())]


def _require_free(place: EvidenceDir, stems: Collection[str], is_first: bool) -> None:
    """Raise InputError where files of others lie at the places of those that come.

    stems: of the pictures that no process has numbered before. is_first: no run has been here.
    """
    there = [place.page] if is_first and os.path.lexists(place.page) else []
    there += _files_of(place, set(stems))
    if there:
        raise InputError(
            f"{there[0]} is there and no run that {place.settings.name} tells of has written it; "
            "move it away, or write elsewhere with --output_dir FOLDER"
        )


def _settings_to_go_on(place: EvidenceDir, settings: RunSettings) -> dict[str, Any]:
    """Return what a run is made with, and where the pictures lie that others have numbered."""
    numbered = _numbered(place)
    maps = [path for path in map(place.maps, sorted(numbered)) if path.is_file()]
    if maps and not place.settings.is_file():
        raise InputError(
            f"{maps[0]} is there and {place.settings.name}, which says what it was made with, "
            f"is not; {START_ANEW}"
        )
    if maps:
        require_same_settings(place.settings, settings, f"{place.folder} holds maps", START_ANEW)
        return read_json(place.settings)
    for path in _files_of(place, numbered):  # squares of a run that was killed before its first map
        path.unlink()
    return {**settings.to_json(), "pictures": []}


def _require_listed(others: Collection[str], place: EvidenceDir) -> None:
    """Raise InputError if maps are there of a picture that exists but is not listed."""
    for name in sorted(others):
        if os.path.lexists(name):
            raise InputError(
                f"--images does not list {printable(name)}, whose maps are in {place.folder}; "
                f"list the same pictures, {START_ANEW}"
            )
    if others:
        log(f"note: maps of {count_of(len(others), 'picture')} that are not there any more stay")


def _leave_out_changed(there: set[str], kept: KeptMaps, listing: Listing) -> set[str]:
    """Leave out the pictures whose maps are damaged, or not of the file as it is now."""
    changed = set()
    for picture in listing.pictures:
        path = kept.place.maps(kept.stem(picture.name))
        if picture.name in there and not _is_of(path, picture):
            changed.add(picture.name)
            path.unlink()
    if changed:
        pictures = count_of(len(changed), "picture")
        log(f"{kept.place.folder}: {pictures} changed, or with damaged maps, come anew")
    return there - changed


def _is_of(path: Path, picture: NewPicture) -> bool:
    """Tell whether maps are whole, and of a picture's file as it is now."""
    try:
        _, details = read_predictions(path)
        state = state_of(picture)
    except InputError as error:
        log(f"note: {error}")
        return False
    except UnreadableError:
        return False
    return _state(state).items() <= details.items()


# -- the file of a picture -----------------------------------------------------------------------


def _arrays(explained: Explained, sources: Sources, grader: StoredGrader) -> dict[str, np.ndarray]:
    """Return all that the maps of a picture are made from, and the sums."""
    arrays = {"pairs": np.array(class_pairs(len(grader.class_names))), "weights": grader.weights}
    for start, each in (("", sources.evidence), (_OF_FINER, sources.finer)):
        for number, own in enumerate(each):
            for name in _PARTS:
                arrays[f"{start}{name}_{number}"] = getattr(own, name)[0]
    for number, falls in enumerate(sources.falls):
        arrays[f"occlusion_{number}"] = falls[0]
    for found in explained.evidence:
        arrays[f"map_{found.decision.key}"] = found.whole.values
    return arrays


def _sources(arrays: Mapping[str, np.ndarray], details: Mapping[str, Any]) -> Sources:
    """Read what `_arrays` wrote."""

    def evidence(start: str, methods: Sequence[str]) -> tuple[Evidence, ...]:
        numbers = range(len(methods))
        parts = [[arrays[f"{start}{name}_{n}"][None] for name in _PARTS] for n in numbers]
        return tuple(
            Evidence(maps, constants, logits, method)
            for (maps, constants, logits), method in zip(parts, methods)
        )

    made_from = details["made_from"]
    falls = [arrays[name][None] for name in arrays if name.startswith("occlusion_")]
    return Sources(
        evidence("", made_from["maps"]), evidence(_OF_FINER, made_from["finer"]), tuple(falls)
    )


def _state(found: FileState) -> dict[str, int]:
    return {"file_bytes": found.size, "file_modified_ns": found.modified}


def _details(explained: Explained, sources: Sources, grader: StoredGrader) -> dict[str, Any]:
    return {
        "image": explained.name,
        "model": grader.fingerprint,
        "members": [member.label for member in grader.members],
        "method": list(sources.methods),
        "made_from": {
            "maps": [own.method for own in sources.evidence],
            "finer": [own.method for own in sources.finer],
        },
        "class_names": list(grader.class_names),
        "scored": list(grader.scored.names),
        "of_model": list(grader.of_model),
        "probabilities": explained.probabilities.tolist(),
        "predicted": explained.predicted,
        "decisions": [
            {
                "key": each.decision.key,
                "title": each.decision.title,
                "positive_speaks_for": each.decision.speaks_for,
                "negative_speaks_for": each.decision.speaks_against,
                "constant": None if np.isnan(each.whole.constant) else each.whole.constant,
                "score": each.whole.score,
            }
            for each in explained.evidence
        ],
    }
