"""Files that belong together: equal bytes, copies by their names.

N images.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from common.data.folders import ImageFile, Split
from common.system.environment import worker_count

# what marks a copy, at the end of a name; the words of people, of Windows and of augmentation tools
_SUFFIX = re.compile(
    r"[ _.-]+(?:aug(?:ment(?:ed|ation)?)?|copy|kopie|copie|copia|dup(?:licate)?|"
    r"[hv]?flip(?:ped)?(?:[ _.-]?[hv])?|rot(?:at(?:e|ed|ion))?|mirror(?:ed)?|bright(?:ness)?|"
    r"dark(?:er)?|contrast|gamma|zoom(?:ed)?|crop(?:ped)?|shift(?:ed)?|scaled?|resized?|"
    r"translat(?:e|ed|ion)|jitter(?:ed)?|elastic|affine|noise|noisy|blur(?:red)?|clahe|"
    r"sharp(?:en(?:ed)?)?|enh(?:anced)?|smote|synth)[ _.-]*[0-9]*$|"
    r"(?:_(?:jpe?g|png|tiff?|bmp))?\.rf\.[0-9a-f]{16,}$|"  # Roboflow
    r"\.(?:jpe?g|png|tiff?|bmp)_[0-9a-f]{8}-[0-9a-f-]{27}$",  # Augmentor
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"^(?:(?:copy of|kopie von|copi[ea] de) |(?:aug(?:mented)?|copy|flip|rot)[0-9]*[ _.-]+|"
    r".{0,80}?_original_(?=.+\.(?:jpe?g|png|tiff?|bmp)_[0-9a-f]{8}-))",
    re.IGNORECASE,
)
# a number that marks a copy if there is a file without it; alone, it may be a mere numbering
_NUMBER = re.compile(r" ?\([0-9]+\)$|[ _-][0-9]{1,2}$")
_IN_BRACKETS = re.compile(r"(?<=\S) ?\([0-9]+\)$")
_SAMPLE = 4096  # bytes read of files of equal size before all of them are


def source_name(name: str) -> str:
    """Strip what marks a file as a copy: "10_left_aug1_flip (2).jpg" comes from "10_left"."""
    return _strip(os.path.splitext(name)[0], _IN_BRACKETS)


def copy_groups(ids: Sequence[str], bare_numbers: bool = True) -> np.ndarray:
    """Group ids (N,) by the file that they may be copies of, going by their names.

    A name is no proof: whether the pictures agree is for others to see. Where several folders have
    a plain file of that name (0/1.jpg, 1/1.jpg), a copy belongs to that of its own folder. A plain
    file without copies is its own group. bare_numbers: group "Mild (1)" and "Mild (2)", too,
    without a "Mild" among them, which may just be numbered.
    """
    folders, names = zip(*(name.rpartition("/")[::2] for name in ids)) if ids else ((), ())
    stems = [os.path.splitext(name)[0] for name in names]
    sources = _sources(stems, bare_numbers)
    plain = [stem == source for stem, source in zip(stems, sources)]
    counts = Counter(source for source, is_plain in zip(sources, plain) if is_plain)
    groups: dict[tuple, int] = {}
    numbers = []
    for folder, source in zip(folders, sources):
        key = (source, folder if counts[source] > 1 else "")
        numbers.append(groups.setdefault(key, len(groups)))
    result = np.array(numbers, dtype=np.int64)
    # files that merely share a name, without a copy among them, are no copies
    copied = {number for number, is_plain in zip(numbers, plain) if not is_plain}
    alone = ~np.isin(result, list(copied))
    result[alone] = len(groups) + np.arange(alone.sum())
    return result


def _sources(stems: list[str], bare_numbers: bool) -> list[str]:
    """Name the file that each of these may be a copy of, itself if none."""
    known = set(stems)
    sources = []
    for stem in stems:
        source = _strip(stem)
        shorter = _NUMBER.sub("", source)
        if shorter != source and (shorter in known or _strip(shorter) in known):
            source = _strip(shorter)
        elif bare_numbers:
            source = _strip(source, _IN_BRACKETS)
        sources.append(source)
    return sources


def _strip(stem: str, number: re.Pattern[str] | None = None) -> str:
    """Strip marks of copies, and numbers as given, from a name without its ending."""
    while True:
        shorter = _SUFFIX.sub("", _PREFIX.sub("", stem))
        shorter = number.sub("", shorter) if number else shorter
        if shorter in ("", stem):
            return stem
        stem = shorter


def identical_files(splits: Sequence[Split], workers: int = 8) -> list[list[ImageFile]]:
    """Group the images of several splits by equal bytes, two or more to a group.

    Opens only files whose size occurs twice, and reads on only where their ends agree.
    """
    images = [image for split in splits for image in split.images]
    groups = _equal(images, [image.size for image in images])
    with ThreadPoolExecutor(worker_count(workers)) as pool:
        for digest in (_digest_of_end, _digest):
            images = [image for group in groups for image in group]
            groups = _equal(images, list(pool.map(digest, [image.path for image in images])))
    return groups


def number_files(images: Iterable[ImageFile], workers: int = 8) -> dict[str, int]:
    """Number the different files, by their places: links and copies of one have one number.

    Files without a byte are different, whatever they are called. Links are not read.
    """
    by_file: dict[tuple[int, int], list[ImageFile]] = {}
    for image in {image.place: image for image in images}.values():
        found = os.stat(image.place)
        by_file.setdefault((found.st_dev, found.st_ino), []).append(image)
    first = [links[0] for links in by_file.values()]
    number = {image.place: count for count, image in enumerate(first)}
    full = Split("", tuple(image for image in first if image.size))
    for group in identical_files([full], workers):
        number |= {image.place: number[group[0].place] for image in group}
    return {link.place: number[links[0].place] for links in by_file.values() for link in links}


def _equal(images: list[ImageFile], keys: Sequence[Hashable]) -> list[list[ImageFile]]:
    """Group images by equal keys, two or more to a group."""
    groups: dict[Hashable, list[ImageFile]] = {}
    for image, key in zip(images, keys):
        groups.setdefault(key, []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def _digest_of_end(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _SAMPLE))
        return hashlib.sha256(file.read(_SAMPLE)).digest()


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
