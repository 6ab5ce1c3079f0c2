"""Graded image folders, listed without decoding a picture; whatever else lies there is named.

N images.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np

from common.data.class_names import (
    FolderLabels,
    Matcher,
    grade_of,
    match_folders,
    may_be_class,
    quoted,
    titles_of,
)
from common.listing.advice import folds_in, require_folder, what_instead
from common.listing.picture_files import IMAGE_SUFFIXES, is_picture, shows_picture
from common.listing.split_folders import ALL, SPLIT_NAMES, SPLITS, split_folders, split_of
from common.listing.unused import EXPECTED_FILES, Unused, examples, unused_lines
from common.listing.walking import (
    count_of,
    describe,
    holds_our_results,
    holds_pictures,
    is_folder,
    leads_nowhere,
    leads_up,
    list_folder,
    list_tree,
)
from common.system.errors import InputError
from common.system.log import printable


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One graded image as it lies on the disk, in some 300 bytes: there may be millions."""

    id: str  # relative to the dataset's root
    place: str  # its path
    split: str  # of SPLITS, or ALL
    label: int
    size: int  # bytes; -1 for a link that leads nowhere
    modified: int  # ns since 1970
    class_folder: str = ""  # its name

    @property
    def path(self) -> Path:
        """The image's file."""
        return Path(self.place)

    def cache_key(self) -> str:
        """Tell this state of the file from all others: its real place, size and time."""
        return f"{os.path.realpath(self.place)}|{self.size}|{self.modified}"


def cache_keys(images: Iterable[ImageFile]) -> Iterator[str]:
    """Give each image's `cache_key`, asking once for each folder where it really lies."""
    real: dict[str, str] = {}
    for image in images:
        folder, name = os.path.split(image.place)
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        place = os.path.join(real[folder], name)
        if os.path.islink(place):
            place = os.path.realpath(place)
        yield f"{place}|{image.size}|{image.modified}"


@dataclass(frozen=True)
class Split:
    """The images of one split, ordered by their ids."""

    name: str  # of SPLITS, or ALL; its folder may be called otherwise
    images: tuple[ImageFile, ...]
    folders: FolderLabels | None = None  # which class each folder holds, as it was matched

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The images' ids."""
        return tuple(image.id for image in self.images)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The images' files."""
        return tuple(image.path for image in self.images)

    @cached_property
    def labels(self) -> np.ndarray:
        """The images' grades, (N,) int64."""
        return np.array([image.label for image in self.images], dtype=np.int64)

    def counts(self, num_classes: int) -> list[int]:
        """Count the images of each class."""
        return np.bincount(self.labels, minlength=num_classes).tolist()

    def fingerprint(self, with_times: bool = False) -> str:
        """Hash the images' ids, labels and sizes: what a run was computed on.

        with_times: also the places and modification times, which a copied dataset does not keep.
        """
        return self._fingerprint_with_times if with_times else self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self._hash(())

    @cached_property
    def _fingerprint_with_times(self) -> str:
        return self._hash(cache_keys(self.images))

    def _hash(self, places: Iterable[str]) -> str:
        lines = (f"{image.id} {image.label} {image.size}" for image in self.images)
        digest, between = hashlib.sha256(), b""
        for line in chain(lines, places):
            digest.update(between + line.encode(errors="surrogateescape"))  # need not be UTF-8
            between = b"\n"
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """All that lies in a dataset: the images of its splits, and what is not used."""

    root: Path
    splits: dict[str, Split]  # of SPLITS, or ALL alone; may be empty
    problems: dict[str, str]  # split -> why its folder cannot be listed
    unused: tuple[Unused, ...]

    def split(self, name: str) -> Split:
        """Return a split to work on.

        A dataset without split folders is its own "test". Raises InputError for a split that is not
        there or cannot be listed, without images, or with a link that leads nowhere.
        """
        chosen = ALL if name == "test" and self.has(ALL) else name
        if chosen in self.problems:
            raise InputError(self.problems[chosen])
        if chosen not in self.splits:
            advice = "check --dataset_path (or DATASET_PATH)"
            if self.has(ALL):
                advice = f"prepare_dataset.py split divides them; {advice}"
            raise InputError(
                f"expected a folder {' or '.join(SPLIT_NAMES.get(name, (name,)))} in "
                f"{self.root}, found {describe(self.root)}; {advice}"
            )
        split = self.splits[chosen]
        lost = [image for image in split.images if image.size < 0]
        if lost:
            more = f" ({len(lost)} such links)" if len(lost) > 1 else ""
            raise InputError(f"{lost[0].path}: the link leads nowhere; remove or mend it{more}")
        if not split.images:
            raise self._no_images(f"{name} in {self.root}")
        if chosen == name:
            return split
        images = tuple(replace(image, split=name) for image in split.images)
        return Split(name, images, split.folders)

    def without(self, ids: Collection[str]) -> "Dataset":
        """Leave images out of all splits, by their ids."""
        left = {
            name: replace(split, images=tuple(i for i in split.images if i.id not in ids))
            for name, split in self.splits.items()
        }
        return replace(self, splits=left)

    @property
    def titles(self) -> tuple[str, ...]:
        """Call each class as tables do, by its folder's name in the first split."""
        found = (split.folders.classes.names for split in self.splits.values() if split.folders)
        return titles_of(next(found, ()))

    def has(self, name: str) -> bool:
        """Tell whether there is a folder for this split, whatever is in it."""
        return name in self.splits or name in self.problems

    def all_images(self) -> list[ImageFile]:
        """List the images of all splits, by their ids; links that lead nowhere, too.

        Raises InputError where a split cannot be listed, or for no image.
        """
        for problem in self.problems.values():
            raise InputError(problem)
        images = [image for split in self.splits.values() for image in split.images]
        if not images:
            raise self._no_images(str(self.root))
        return sorted(images, key=lambda image: image.id)

    def _no_images(self, place: str) -> InputError:
        others = "; ".join(unused_lines(self.unused)) or "there is no other file, either"
        suffixes = " ".join(IMAGE_SUFFIXES)
        return InputError(
            f"expected images ({suffixes}) in the class folders of {place}, found none; {others}"
        )

    @property
    def unused_pictures(self) -> int:
        """Count the pictures that lie in the dataset and are not used."""
        return sum(file.picture for file in self.unused)

    def remarks(self) -> list[str]:
        """Say in a few lines what is not used, and what is used although it lies deeper."""
        depth = 1 if ALL in self.splits else 2
        deeper = [
            image.id
            for split in self.splits.values()
            for image in split.images
            if image.id.count("/") > depth
        ]
        lines = []
        if deeper:
            lines.append(
                f"note: {count_of(len(deeper), 'picture')} in subfolders of class folders, used "
                f"with the grade of the class folder, such as {examples(deeper)}"
            )
        return lines + unused_lines(self.unused)


def scan_split(
    root: Path,
    name: str,
    num_classes: int = 5,
    class_names: tuple[str, ...] = (),
    matcher: Matcher | None = None,
) -> Split:
    """List one split's images; see `scan_dataset` and `Dataset.split`."""
    return scan_dataset(root, num_classes, class_names, matcher).split(name)


def scan_dataset(
    root: Path,
    num_classes: int = 5,
    class_names: tuple[str, ...] = (),
    matcher: Matcher | None = None,
) -> Dataset:
    """List all that lies in a dataset, in a stable order, decoding nothing.

    A split is a folder of one of the usual names for it; without any, the root is the one split
    ALL. matcher: decides which folder holds which class; by default `match_folders`, which wants
    every class. Pictures in subfolders of a class folder belong to it. What operating systems leave
    behind, what is hidden and what this software has written is passed over. Raises InputError for
    no folder, or two for one split; what is wrong within a split is raised where that split is
    asked for.
    """
    require_folder(root)
    matcher = matcher or partial(match_folders, num_classes=num_classes, class_names=class_names)
    walk = _Walk(root, matcher)
    folders = split_folders(root, may_be_class)
    if not folders:
        try:
            split, unused = walk.split(ALL, root)
        except InputError as error:
            folds = folds_in(root)
            raise InputError(
                folds or f"no split folders ({', '.join(SPLITS)}) in {root}; {error}"
            ) from error
        return Dataset(root, {ALL: split}, {}, tuple(unused))
    splits: dict[str, Split] = {}
    problems: dict[str, str] = {}
    unused = []
    for name, folder in folders.items():
        try:
            splits[name], others = walk.split(name, folder)
            unused += others
        except InputError as error:
            problems[name] = str(error)
    if splits:  # else it is no dataset, and may hold anything
        known = {folder.name for folder in folders.values()}
        unused += walk.beside(root, known, _why_no_split)
        for name, problem in problems.items():
            reason = problem.partition("; ")[0]
            unused += walk.folder(folders[name], walk.name_of(folders[name]), reason)
    return Dataset(root, splits, problems, tuple(sorted(unused, key=lambda file: file.id)))


def _why_no_split(name: str) -> str:
    """Say why a folder beside those of the splits is not one of them."""
    split = split_of(name)
    return (
        f"no class folder with pictures, so not the split {split}"
        if split
        else "no split has that name"
    )


class _Walk:
    """A walk through a dataset, one folder after the other."""

    def __init__(self, root: Path, matcher: Matcher) -> None:
        self.root = root
        self.matcher = matcher
        self.prefix = os.path.join(root, "").removeprefix("./")

    def id_of(self, path: str | Path) -> str:
        """Name a file or folder as seen from the root."""
        return str(path).removeprefix("./").removeprefix(self.prefix)

    def name_of(self, folder: Path) -> str:
        """Name a folder for people."""
        return "the dataset's own folder" if folder == self.root else f"{self.id_of(folder)}/"

    def split(self, name: str, folder: Path) -> tuple[Split, list[Unused]]:
        """List a split's images and what else lies in its folder. Raises InputError."""
        match = _class_folders(folder, self.matcher)
        images: list[ImageFile] = []
        unused: list[Unused] = []
        place = f"the class folders of {self.name_of(folder)}"
        for class_name, label in match.labels.items():
            others = {other.casefold() for other in match.labels} - {class_name.casefold()}
            class_folder = folder / class_name
            for entry in list_tree(class_folder, (self.root, folder)):
                if not is_picture(entry.name):
                    unused.append(self.odd(entry, place))
                elif leads_nowhere(entry) or entry.is_file():
                    _refuse_doubtful(entry, class_folder, label, others)
                    images.append(self.image(entry, name, label, class_name))
                else:
                    unused.append(Unused(self.id_of(entry.path), place, "no regular file", True))
        reason = match.left_out or "no class has that name"
        unused += self.beside(folder, match.labels, lambda _: reason)
        ordered = tuple(sorted(images, key=lambda image: image.id))
        return Split(name, ordered, match), unused

    def image(self, entry: os.DirEntry, split: str, label: int, class_folder: str) -> ImageFile:
        """Note an image's size and time."""
        size, modified = -1, 0
        if not leads_nowhere(entry):
            stat = entry.stat()
            size, modified = stat.st_size, stat.st_mtime_ns
        id_ = self.id_of(entry.path)
        return ImageFile(id_, entry.path, split, label, size, modified, class_folder)

    def beside(
        self, folder: Path, known: Collection[str], why: Callable[[str], str]
    ) -> list[Unused]:
        """List what lies in a folder beside the known folders in it; why: by a folder's name."""
        unused: list[Unused] = []
        for entry in list_folder(folder):
            if is_folder(entry):
                if entry.name not in known and not leads_up(entry, (self.root, folder)):
                    unused += self.folder(
                        Path(entry.path), self.name_of(entry.path), why(entry.name)
                    )
            elif folder != self.root or entry.name not in EXPECTED_FILES:
                place = self.name_of(folder)
                id_ = self.id_of(entry.path)
                unused.append(
                    Unused(id_, place, "in no class folder", True)
                    if is_picture(entry.name)
                    else self.odd(entry, place)
                )
        return unused

    def folder(self, folder: Path, place: str, reason: str) -> list[Unused]:
        """List all files in a folder, however deep, as not used for one reason."""
        if holds_our_results(folder):
            return []
        try:
            return [
                Unused(self.id_of(entry.path), place, reason, shows_picture(entry.path))
                for entry in list_tree(folder, (self.root,), past_our_results=True)
            ]
        except InputError as error:
            return [Unused(self.id_of(folder), place, str(error), False)]

    def odd(self, entry: os.DirEntry, place: str) -> Unused:
        """Note a file whose ending is not that of a picture."""
        id_ = self.id_of(entry.path)
        if leads_nowhere(entry):
            return Unused(id_, place, "links that lead nowhere", True)
        if shows_picture(entry.path):
            reason = "pictures under an ending that is not read; convert or rename them"
            return Unused(id_, place, reason, True)
        return Unused(id_, place, "no pictures, going by their endings", False)


def _refuse_doubtful(entry: os.DirEntry, folder: Path, label: int, others: Collection[str]) -> None:
    """Raise InputError for a picture in a subfolder that has the name of a class or a split.

    folder: the class folder of this label; others: the names of the others, case folded.
    """
    if os.path.dirname(entry.path) == str(folder):
        return
    for name in Path(entry.path).relative_to(folder).parts[:-1]:
        other_grade = grade_of(name) not in (None, grade_of(folder.name), label)
        if name.casefold() in others or other_grade or split_of(name):
            raise InputError(
                f"expected pictures of one class in {folder}, found {printable(entry.path)}: is "
                f"its grade that of {folder.name} or of {name}, or is {name} a split? Rename or "
                "move the inner folder (expected: split/class/pictures)"
            )


def _class_folders(folder: Path, matcher: Matcher) -> FolderLabels:
    """Find the class folders and their classes; raises InputError where they are not clear."""

    def labels_of(names: list[str]) -> dict[str, int]:
        with suppress(InputError):
            return matcher(names, folder).labels
        return {}

    def are_classes(names: list[str]) -> bool:
        return bool(labels_of(names))

    entries = list(list_folder(folder))
    found = [e.name for e in entries if is_folder(e) and not leads_up(e, (folder,))]
    lost = [e.name for e in entries if leads_nowhere(e)]
    for name in set(lost) & labels_of([*found, *lost]).keys() if lost else ():
        raise InputError(f"{folder / name}: the link leads nowhere; remove or mend it")
    try:
        match = matcher(found, folder)
    except InputError as error:
        raise InputError(f"{error}; {what_instead(folder, are_classes)}") from error
    others = [name for name in found if name not in match.labels]
    strange = [name for name in others if holds_pictures(folder / name)]
    if strange and not match.left_out:
        raise InputError(
            f"expected the class folders {match.expected} in {folder}, found images in "
            f"{printable(quoted(strange))}, too; {match.advice}"
        )
    return match
