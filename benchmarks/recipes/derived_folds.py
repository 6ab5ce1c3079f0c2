"""Other divisions of photographs that are divided into folds already, as links to their files."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.recipes.runs import FOLDS, Place
from common.data.folders import scan_split
from common.preparation.new_dataset import MANIFEST


def derive_folds(place: Place, name: str, files: Callable[[int], Mapping[str, Path]]) -> Place:
    """Return where runs learn from other folds, which are made unless they are there.

    name: of their folder below that of the place. files: of a fold from 1, by id ("train/2/a.jpg").
    """
    derived = replace(place, root=place.root / name)
    folds, begun = derived.root / "folds", derived.root / "folds.begun"
    if folds.is_dir():
        return derived
    shutil.rmtree(begun, ignore_errors=True)
    for number in range(1, FOLDS + 1):
        for id_, path in files(number).items():
            link = begun / place.fold(number).name / id_
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    shutil.copy(place.root / "folds" / MANIFEST, begun)
    begun.rename(folds)
    return derived


def images_learned_from(place: Place) -> int:
    """Count the images of train, in the mean over the folds."""
    counts = [len(scan_split(place.fold(number), "train")) for number in range(1, FOLDS + 1)]
    return round(sum(counts) / FOLDS)
