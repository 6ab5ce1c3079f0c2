"""Files that belong together: equal bytes, copies by their names.

N images.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from common.data.folders import ImageFile, Split
from common.system.environment import worker_count

_SUFFIX = re.compile(
    r"(?:[ _.-]+(?:aug(?:ment(?:ed)?)?|copy|dup|[hv]?flip(?:ped)?|rot(?:ated?)?|mirror(?:ed)?|"
    r"bright(?:ness)?|dark(?:er)?|contrast|gamma|zoom|crop(?:ped)?|shift(?:ed)?|noise|noisy|blur|"
    r"clahe|sharp(?:en(?:ed)?)?|enh(?:anced)?|smote|synth)[ _.-]*[0-9]*| ?\([0-9]+\))$",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^(?:aug(?:mented)?|copy|flip|rot)[0-9]*[ _.-]+", re.IGNORECASE)
_SAMPLE = 4096  # bytes read of files of equal size before all of them are


def source_name(name: str) -> str:
    """Strip what marks a file as a copy: "10_left_aug1_flip.jpg" comes from "10_left"."""
    stem = os.path.splitext(name)[0]
    while (shorter := _SUFFIX.sub("", _PREFIX.sub("", stem))) not in ("", stem):
        stem = shorter
    return stem


def copy_groups(ids: Sequence[str]) -> np.ndarray:
    """Group ids (N,) by the file that they are copies of, going by their names.

    Where several folders have a plain file of that name (0/1.jpg, 1/1.jpg), a copy belongs to that
    of its own folder. A plain file without copies is its own group.
    """
    folders, names = zip(*(name.rpartition("/")[::2] for name in ids)) if ids else ((), ())
    sources = [source_name(name) for name in names]
    plain = [os.path.splitext(name)[0] == source for name, source in zip(names, sources)]
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
