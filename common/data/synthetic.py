"""Draw synthetic fundus photographs whose lesions follow the grade, for demonstrations and tests.

They look like the retina at a glance and are of no medical value: never mix them with photographs
of patients. Every file name and the dataset's folder say that they are synthetic.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.system.files import atomic_write, write_text
from common.system.random_streams import random_generator

_NOTICE = """# Synthetic images

Every picture in this folder was drawn by a program (`python prepare_dataset.py demo`). None shows
an eye. They exist to try the software out; a model trained on them must never be used on a patient.
"""
# lesions by grade, after the International Clinical Diabetic Retinopathy scale (Wilkinson et al.
# 2003): microaneurysms, haemorrhages, exudates, cotton-wool spots, new vessels (least, most)
_LESIONS = {
    0: {},
    1: {"microaneurysm": (45, 60)},
    2: {"microaneurysm": (4, 10), "exudate": (9, 13)},
    3: {"microaneurysm": (4, 10), "haemorrhage": (20, 28), "cotton_wool": (5, 8)},
    4: {"microaneurysm": (4, 10), "haemorrhage": (2, 5), "neovascularisation": (8, 11)},
}
_PREFIX = "synthetic_"
_BLOOD = (105, 18, 12)
_SIDE = 256  # pixels that are drawn on
_REACH = 48  # pixels from its middle that a lesion keeps within
_SEEN = 25  # levels of 255 by which a lesion changes what it covers
DISC = "optic_disc"
LESIONS_FILE = "lesions.csv"  # in the folder of a drawn dataset: where what was drawn


@dataclass(frozen=True)
class Finding:
    """What was drawn at a place: a lesion, or the optic disc."""

    kind: str
    box: tuple[float, float, float, float]  # left, top, right, bottom in shares of the side


@dataclass(frozen=True)
class DrawnFundus:
    """A drawn photograph, and where in it lesions and the optic disc are."""

    picture: np.ndarray  # (size, size, 3) uint8 RGB
    findings: tuple[Finding, ...]


def draw_fundus(grade: int, generator: np.random.Generator, size: int = _SIDE) -> np.ndarray:
    """Draw a synthetic fundus photograph of a grade 0 to 4 as (size, size, 3) uint8 RGB."""
    return draw_with_findings(grade, generator, size).picture


def draw_with_findings(
    grade: int, generator: np.random.Generator, size: int = _SIDE
) -> DrawnFundus:
    """Draw as `draw_fundus`, and tell what was drawn where.

    A box holds the pixels whose colour a lesion changes by more than a tenth of the scale; what is
    not to be seen, such as a microaneurysm on a vessel, has none.
    """
    findings: list[Finding] = []
    scale = size / _SIDE
    centre = np.array([128.0, 128.0]) + generator.uniform(-4, 4, 2)
    radius = generator.uniform(112, 120)
    side = generator.choice([-1, 1])  # a right or a left eye
    disc = centre + np.array([side * generator.uniform(50, 60), generator.uniform(-8, 8)])
    macula = centre - np.array([side * generator.uniform(12, 22), generator.uniform(-6, 6)])
    canvas = _background(generator, centre, radius)
    _soft_spot(canvas, macula, generator.uniform(16, 22), (-62, -36, -14))
    _vessels(canvas, generator, disc, side)
    with _noting(findings, DISC, canvas, disc):
        _soft_spot(canvas, disc, generator.uniform(13, 16), (90, 105, 70))
    for kind, (least, most) in _LESIONS[grade].items():
        for _ in range(generator.integers(least, most + 1)):
            at = _place(generator, centre, radius, disc, kind)
            with _noting(findings, kind, canvas, at):
                _DRAW[kind](canvas, generator, at)
    canvas += generator.normal(0, 3, canvas.shape)
    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE]
    canvas[np.hypot(columns - centre[0], rows - centre[1]) > radius] = 0
    picture = np.clip(canvas, 0, 255).astype(np.uint8)
    if scale != 1:
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return DrawnFundus(picture, tuple(findings))


@contextmanager
def _noting(
    findings: list[Finding], kind: str, canvas: np.ndarray, at: np.ndarray
) -> Iterator[None]:
    """Note what is drawn meanwhile about a place (x, y) of the canvas."""
    left, top = (max(0, int(x) - _REACH) for x in at)
    part = canvas[top : int(at[1]) + _REACH, left : int(at[0]) + _REACH]
    before = part.copy()
    yield
    # channel by channel: to reduce over three numbers at a time takes far longer
    red, green, blue = np.moveaxis(np.abs(part - before) > _SEEN, 2, 0)
    rows, columns = np.nonzero(red | green | blue)
    if len(rows):
        first, last = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
        box = [(x + start) / _SIDE for x, start in zip((*first, *last), (left, top) * 2)]
        findings.append(Finding(kind, (box[0], box[1], box[2], box[3])))


def write_dataset(root: Path, images_per_grade: dict[str, int], seed: int, size: int = 256) -> int:
    """Write root/<split>/<grade>/synthetic_*.jpg and a notice; returns the number of images.

    images_per_grade: split -> number of images of each grade. Equal seeds give equal pixels.
    lesions.csv beside them says where what was drawn, in shares of the side.
    """
    write_text(root / "SYNTHETIC.md", _NOTICE)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("image", "finding", "left", "top", "right", "bottom"))
    for split, count in images_per_grade.items():
        for grade in _LESIONS:
            for number in range(count):
                generator = random_generator("synthetic", seed, split, grade, number)
                drawn = draw_with_findings(grade, generator, size)
                picture = cv2.cvtColor(drawn.picture, cv2.COLOR_RGB2BGR)
                _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
                name = f"{_PREFIX}{split}_{grade}_{number:04d}"
                with atomic_write(root / split / str(grade) / f"{name}.jpg") as file:
                    file.write(data.tobytes())
                for found in drawn.findings:
                    writer.writerow((name, found.kind, *(f"{x:.5f}" for x in found.box)))
    write_text(root / LESIONS_FILE, table.getvalue())
    return sum(images_per_grade.values()) * len(_LESIONS)


def _background(generator: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[0:256, 0:256]
    tone = np.array([190, 88, 38]) * generator.uniform(0.9, 1.1) + generator.uniform(-6, 6, 3)
    lit = centre + generator.uniform(-30, 30, 2)
    shade = 1 - 0.35 * (np.hypot(columns - lit[0], rows - lit[1]) / radius) ** 2
    texture = cv2.GaussianBlur(generator.normal(0, 30, (256, 256)), (0, 0), 6)
    return tone * shade[..., None] + texture[..., None]


def _soft_spot(canvas: np.ndarray, at: np.ndarray, radius: float, change: tuple) -> None:
    # farther than three radii nothing of it is left
    left, top, right, bottom = (
        int(np.clip(place, 0, _SIDE)) for place in (*(at - 3 * radius), *(at + 3 * radius + 1))
    )
    rows, columns = np.mgrid[top:bottom, left:right]
    distance = np.hypot(columns - at[0], rows - at[1]) / radius
    canvas[top:bottom, left:right] += np.exp(-(distance**4))[..., None] * np.array(change)


def _stroke(canvas: np.ndarray, points: np.ndarray, width: int, color: tuple) -> None:
    cv2.polylines(
        canvas, [np.round(points * 8).astype(np.int32)], False, color, width, cv2.LINE_AA, shift=3
    )


def _vessels(
    canvas: np.ndarray, generator: np.random.Generator, disc: np.ndarray, side: int
) -> None:
    for arch in (-1, 1):
        for number, width in ((0, 3), (1, 2), (2, 2)):
            angle = np.deg2rad(arch * (75 - 38 * number + generator.uniform(-8, 8)))
            bend = -arch * generator.uniform(0.010, 0.018) / (1 + number)
            point, points = disc.copy(), [disc.copy()]
            for _ in range(34):
                point = point + 6 * np.array([-side * np.cos(angle), np.sin(angle)])
                angle += bend * 6 + generator.normal(0, 0.05)
                points.append(point.copy())
            _stroke(canvas, np.array(points), width, (112, 36, 20))
            start = generator.integers(6, 14)
            branch = np.cumsum(
                np.vstack(
                    [
                        points[start],
                        generator.normal(0, 1.5, (14, 2)) + 5 * np.array([-side * 0.7, arch * 0.7]),
                    ]
                ),
                axis=0,
            )
            _stroke(canvas, branch, 1, (120, 42, 24))


def _place(
    generator: np.random.Generator, centre: np.ndarray, radius: float, disc: np.ndarray, kind: str
) -> np.ndarray:
    while True:  # anywhere in the retina but on the optic disc
        angle, distance = generator.uniform(0, 2 * np.pi), radius * generator.uniform(0.1, 0.8)
        at = centre + distance * np.array([np.cos(angle), np.sin(angle)])
        if np.hypot(*(at - disc)) > (34 if kind == "neovascularisation" else 24):
            return at


def _blob(
    canvas: np.ndarray, at: np.ndarray, size: tuple[float, float], angle: float, color: tuple
) -> None:
    cv2.ellipse(
        canvas, (tuple(at.tolist()), (2 * size[0], 2 * size[1]), angle), color, -1, cv2.LINE_AA
    )


def _microaneurysm(canvas: np.ndarray, generator: np.random.Generator, at: np.ndarray) -> None:
    _blob(canvas, at, (3.2, 3.2), 0, _BLOOD)


def _haemorrhage(canvas: np.ndarray, generator: np.random.Generator, at: np.ndarray) -> None:
    for _ in range(4):
        size = (generator.uniform(3, 8), generator.uniform(3, 6))
        _blob(canvas, at + generator.normal(0, 2.5, 2), size, generator.uniform(0, 180), _BLOOD)


def _exudate(canvas: np.ndarray, generator: np.random.Generator, at: np.ndarray) -> None:
    for _ in range(generator.integers(7, 13)):  # hard exudates come in clusters
        size = generator.uniform(1.5, 3.2)
        _blob(canvas, at + generator.normal(0, 7, 2), (size, size), 0, (240, 222, 120))


def _cotton_wool(canvas: np.ndarray, generator: np.random.Generator, at: np.ndarray) -> None:
    _soft_spot(canvas, at, generator.uniform(8, 12), (60, 95, 90))


def _neovascularisation(canvas: np.ndarray, generator: np.random.Generator, at: np.ndarray) -> None:
    for _ in range(14):  # a tangle of fine new vessels
        angle, point, points = generator.uniform(0, 2 * np.pi), at.copy(), [at.copy()]
        for _ in range(9):
            angle += generator.normal(0, 0.7)
            point = point + 3.4 * np.array([np.cos(angle), np.sin(angle)])
            points.append(point.copy())
        _stroke(canvas, np.array(points), 1, (128, 14, 26))


_DRAW = {
    "microaneurysm": _microaneurysm,
    "haemorrhage": _haemorrhage,
    "exudate": _exudate,
    "cotton_wool": _cotton_wool,
    "neovascularisation": _neovascularisation,
}


def synthetic_note(ids: Iterable[str]) -> str:
    """Return what titles add when any of these images (ids or paths) was drawn, else nothing."""
    drawn = any(str(name).rsplit("/", 1)[-1].startswith(_PREFIX) for name in ids)
    return " (SYNTHETIC images)" if drawn else ""
