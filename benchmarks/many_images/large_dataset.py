"""Write a dataset of very many small pictures fast, and a model of it that was hardly trained.

A hundred eyes are drawn; each picture is one of them, rolled, brightened and with noise of its own,
so that no two files are alike. The model's ten classifiers are trained on the first pictures for an
epoch; then its configuration is made to say that it has learned from all, so that what compares a
test set with the training's pictures has as many to compare.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.data.class_names import GRADES
from common.data.folders import scan_dataset
from common.data.synthetic import draw_fundus
from common.result_dir.paths import ResultDir
from common.result_dir.run import read_config
from common.system.files import write_json
from common.system.random_streams import random_generator

SIDE = 64  # pixels
FIRST = 250  # pictures that the classifiers are trained on
_DRAWN = 20  # eyes of each grade
_SHARES = {"train": 3, "val": 1, "test": 1}  # of five pictures
_OF_FIVE = [name for name, count in _SHARES.items() for _ in range(count)]


@dataclass(frozen=True)
class _Place:
    """What a picture of some number is, and where it lies in the dataset."""

    number: int

    @property
    def grade(self) -> int:
        return self.number % GRADES

    @property
    def split(self) -> str:
        return _OF_FIVE[self.number // GRADES % len(_OF_FIVE)]

    @property
    def file(self) -> str:
        return f"dataset/{self.split}/{self.grade}/synthetic_{self.number:07d}.jpg"


def write_large(folder: Path, images: int, train: Callable[[Path], ResultDir]) -> None:
    """Write folder/dataset, folder/labels.csv, and the model that `train` makes of the first."""
    eyes = _draw_eyes()
    first = min(FIRST, images)
    _write(folder, eyes, range(first))
    model = train(folder)
    _write(folder, eyes, range(first, images))
    _say_trained_on(model, folder / "dataset")
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "grade", "split"))
        for place in map(_Place, range(images)):
            writer.writerow((Path(place.file).stem, place.grade, place.split))


def link_pictures(folder: Path, name: str, count: int) -> None:
    """Link the first pictures of the dataset into a folder of that name beside it."""
    (folder / name).mkdir()
    for place in map(_Place, range(count)):
        path = folder / place.file
        (folder / name / path.name).hardlink_to(path)


def _draw_eyes() -> list[list[np.ndarray]]:
    generator = random_generator("large dataset", "eyes")
    return [
        [draw_fundus(grade, generator, SIDE)[..., ::-1] for _ in range(_DRAWN)]
        for grade in range(GRADES)
    ]


def _write(folder: Path, eyes: list[list[np.ndarray]], numbers: range) -> None:
    """Write the pictures of some numbers."""
    generator = random_generator("large dataset", numbers.start)
    for place in map(_Place, range(len(_OF_FIVE) * GRADES)):
        (folder / place.file).parent.mkdir(parents=True, exist_ok=True)
    for place in map(_Place, numbers):
        cv2.imwrite(str(folder / place.file), _varied(eyes[place.grade], generator))


def _varied(eyes: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Vary one of some drawn eyes (64, 64, 3) uint8."""
    which, down, right, brighter = generator.integers((len(eyes), 5, 5, 30)).tolist()
    moved = np.roll(eyes[which], (down - 2, right - 2), axis=(0, 1))
    noise = generator.integers(0, 12, moved.shape, dtype=np.uint8)
    return cv2.add(moved, noise + np.uint8(brighter))


def _say_trained_on(model: ResultDir, dataset: Path) -> None:
    """Let a model's configuration say that it has learned from this dataset's train and val."""
    found = scan_dataset(dataset)
    content = read_config(model)
    content["data"] = {name: found.split(name).fingerprint() for name in ("train", "val")}
    write_json(model.config, content)
