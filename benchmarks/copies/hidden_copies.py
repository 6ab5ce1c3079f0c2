"""Write what an audit keeps of pictures: of photographs, altered copies, and many made-up ones.

A made-up picture has the points of one photograph; around each lies what lies around some point of
any photograph, every number of it changed by up to 12 of 255 (`near_duplicates.mixed`). Its sketch
is the sum of four photographs' sketches with noise, so that it resembles none of them enough. Of
its hash, each band of 16 bits is that of some photograph in all orientations, a tenth of the bits
flipped. All else that is kept is a photograph's. Two made-up pictures thus share a place of a
retina as often as they share a photograph, which is more often than strangers' eyes do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.copies.changes import CHANGES
from benchmarks.near_duplicates import copy_of, mixed
from common.duplicates.signature_store import SignatureStore
from common.duplicates.signatures import Signature
from common.inspection.file_checks import FileRecord
from common.inspection.many_files import from_stored, inspect_files, to_stored
from common.system.errors import InputError
from common.system.files import read_json, write_json
from common.system.log import log
from common.system.random_streams import random_generator

_BATCH = 256  # records of a file, as an audit writes them
_MADE_AT_ONCE = 2048  # pictures
_BANDS, _BAND_BYTES = 16, 2
_FLIPPED = 0.1  # share of a hash's bits
_SUMMED = 4  # sketches
_NOISE = 10.0  # of a sketch, in its levels


@dataclass(frozen=True)
class Hidden:
    """What was written, in its order: photographs, their copies, then made-up pictures."""

    folder: Path
    photographs: int
    sources: tuple[int, ...]  # of each copy: the place of its photograph
    seed: int

    @property
    def name(self) -> str:
        """Tell what is written for these photographs, copies and seed from all else."""
        sources = f"{hash(self.sources) & 0xFFFFFFFF:08x}"
        return f"hidden-{self.seed}-{self.photographs}-{sources}"

    @property
    def real(self) -> int:
        """Count the photographs and their copies."""
        return self.photographs + len(self.sources)

    def keys(self, pictures: int) -> list[str]:
        """Name the records of so many pictures."""
        names = [f"photograph {i}" for i in range(self.photographs)]
        names += [f"copy {i} of photograph {s}" for i, s in enumerate(self.sources)]
        return names + [f"made up {i}" for i in range(pictures - self.real)]

    def read(self, pictures: int) -> list[FileRecord]:
        """Read the records of so many pictures, as an audit does."""
        keys = self.keys(pictures)
        found = {key: from_stored(one) for key, one in _store(self).read(keys).items()}
        return [found[key] for key in keys]


def write_hidden(
    folder: Path, paths: Sequence[Path], copied: int, of_each: int, pictures: int, seed: int
) -> Hidden:
    """Inspect photographs, alter some of them, and make up the rest; what lies there is kept.

    copied: so many photographs, by lot, get `of_each` copies each. pictures: all of them together.
    """
    if not 0 < copied <= len(paths):
        raise InputError(f"expected 1 to {len(paths)} photographs to copy, found {copied}")
    chosen = np.sort(random_generator("hidden", seed).permutation(len(paths))[:copied])
    hidden = Hidden(folder, len(paths), tuple(np.repeat(chosen, of_each).tolist()), seed)
    if pictures <= hidden.real:
        raise InputError(f"expected more than {hidden.real} pictures: so many are no made-up ones")
    records = inspect_files(paths, 1, folder)
    marker = folder / f"{hidden.name}.json"
    done = int(read_json(marker)) if marker.is_file() else 0
    if not done:
        useless = [path.name for path, each in zip(paths, records) if not _is_useful(each)]
        if useless:
            raise InputError(f"{useless[0]}: expected a photograph with structure to compare")
        copies = [
            replace(records[source], signature=_altered(paths[source], number))
            for number, source in enumerate(hidden.sources)
        ]
        _add(hidden, hidden.keys(hidden.real), [*records, *copies])
        log(f"{hidden.photographs} photographs, {len(copies)} altered copies")
    for start in range(hidden.real, pictures, _MADE_AT_ONCE):
        end = start + _MADE_AT_ONCE
        if done < end:
            made = made_up(records, _MADE_AT_ONCE, f"{seed} {start}")
            _add(hidden, hidden.keys(end)[start:], made)
            write_json(marker, end)
    return hidden


def _store(hidden: Hidden) -> SignatureStore:
    return SignatureStore(hidden.folder, hidden.name)


def _is_useful(record: FileRecord) -> bool:
    return record.signature is not None and len(record.signature.points) > 0


def _altered(path: Path, number: int) -> Signature:
    """Copy a photograph in one of the ways, each in its turn."""
    change, quality = list(CHANGES.values())[number % len(CHANGES)]
    return copy_of(path, change, quality)


def _add(hidden: Hidden, keys: Sequence[str], records: Sequence[FileRecord]) -> None:
    for start in range(0, len(keys), _BATCH):
        part = zip(keys[start : start + _BATCH], records[start : start + _BATCH])
        _store(hidden).add({key: to_stored(record) for key, record in part})


def made_up(records: Sequence[FileRecord], count: int, name: str) -> list[FileRecord]:
    """Make up records of pictures from those of photographs; equal names give equal ones."""
    generator = random_generator("made up", name)
    signatures = [one.signature for one in records if one.signature is not None]
    sketches = np.stack([one.sketch for one in signatures])
    hashes = np.stack([one.hashes for one in signatures])  # (N, 8, 32)
    made = []
    for one in mixed(signatures, count, int(generator.integers(1 << 31))):
        summed = sketches[generator.integers(len(sketches), size=_SUMMED)].astype(np.float32)
        sketch = summed.sum(axis=0) / 2 + generator.normal(0, _NOISE, sketches.shape[1:])
        looks = replace(
            one,
            sketch=np.clip(np.round(sketch), -127, 127).astype(np.int8),
            hashes=_mixed_hashes(hashes, generator),
        )
        made.append(replace(records[int(generator.integers(len(records)))], signature=looks))
    return made


def _mixed_hashes(hashes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Mix hashes (N, 8, 32) of photographs, band by band, as (8, 32)."""
    sources = np.repeat(generator.integers(len(hashes), size=_BANDS), _BAND_BYTES)
    whole = hashes[sources, :, np.arange(len(sources))].T
    return whole ^ np.packbits(generator.random(8 * len(sources)) < _FLIPPED)
