#!/usr/bin/env python3
"""Measure what other pixels or features are worth to a linear probe, without any training.

    python -m benchmarks.pixels --dataset_path ./my_graded_photographs \\
        --weights tf_efficientnet_lite0_in1k.pth

A One-vs-One logistic regression on the pretrained network's pooled features, on the folds of
benchmarks.accuracy: a minute for what a training takes an hour for. Adds its section to
benchmarks/accuracy.json and its table to docs/accuracy.md. N images, S pixels, F features.
"""

from common.cli import Parser, guarded

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.accuracy_tables import report
from benchmarks.accuracy_tables.gather import change_result
from benchmarks.accuracy_tables.measures import Answers
from benchmarks.accuracy_tables.results import Changes, Conditions, Grid
from benchmarks.recipes.flags import add_place_flags
from benchmarks.recipes.runs import FOLDS, Place, make_folds
from benchmarks.speed.timing import processor
from common.config import PixelOptions
from common.data.class_names import GRADES
from common.data.folders import scan_split
from common.metrics.intervals import BootstrapConfig
from common.pixels.preprocessing import Preprocessing, load_pixels
from common.prediction.voting import combine_pairs
from common.system.environment import git_commit, versions
from common.system.log import log

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    from torch import nn

STRENGTH = 0.01  # C of every probe, fixed beforehand


@dataclass(frozen=True)
class PixelChange:
    """The photographs' pixels with one thing changed, or other features of them."""

    setting: str
    to: str
    pooled_stages: str = "last"  # whose features a classifier sees
    img_size: int = 0  # 0: that of all others
    clip_limit: float = 0.0  # of CLAHE; 0: without it
    kept: float = 1.0  # share of the square's side, about its centre
    picture: Callable[[np.ndarray], np.ndarray] | None = None  # (S, S, 3) uint8 to the same


def without_illumination(image: np.ndarray) -> np.ndarray:
    """Subtract the local mean colour and cut the rim off; (S, S, 3) uint8 to the same.

    Source: Graham 2015, "Kaggle diabetic retinopathy detection competition report": 4 (image -
    Gaussian of radius / 30) + 128, grey beyond 0.9 of the radius.
    """
    radius = len(image) / 2
    blurred = cv2.GaussianBlur(image, (0, 0), radius / 30)
    found = cv2.addWeighted(image, 4, blurred, -4, 128)
    disc = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(disc, (round(radius), round(radius)), round(0.9 * radius), 1, -1)
    return np.where(disc[..., None] > 0, found, 128).astype(np.uint8)


PLAIN = PixelChange("plain photographs", "as they are")
CHANGES = (
    *(PixelChange("image size", f"{size} px", img_size=size) for size in (224, 448, 512)),
    *(PixelChange("crop", f"inner {share:.0%} of the side", kept=share) for share in (0.9, 0.8)),
    *(PixelChange("CLAHE", f"clip limit {clip:g}", clip_limit=clip) for clip in (1.0, 2.0, 4.0)),
    PixelChange("normalisation", "Graham's", picture=without_illumination),
    PixelChange("features", "the mean after each stage, too", pooled_stages="trained"),
    PixelChange(
        "features", "the mean after each stage, too, 512 px", pooled_stages="trained", img_size=512
    ),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_place_flags(parser)
    parser.add_argument("--base_model", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="", metavar="PATH", help="(default: from the hub)")
    parser.add_argument("--img_size", type=int, default=320, help="of all others (default 320)")
    return parser.parse_args(argv)


def read_changed(path: Path, plain: Preprocessing, change: PixelChange) -> np.ndarray:
    """Read a photograph with one thing changed, (S, S, 3) uint8."""
    size = change.img_size or plain.img_size
    side = round(size / change.kept)
    wanted = replace(plain, img_size=side)
    if change.clip_limit:
        wanted = replace(wanted, enable_clahe=True, clahe_clip_limit=change.clip_limit)
    start = (side - size) // 2
    inner = slice(start, start + size)
    pixels = load_pixels(path, wanted)[inner, inner]
    return change.picture(pixels) if change.picture else pixels


def pooled_features(
    network: "nn.Module", files: list[Path], plain: Preprocessing, change: PixelChange
) -> np.ndarray:
    """Return the features (N, F) of all photographs with one thing changed."""
    import torch

    from common.models.ovo import chunk_size, trunk_features

    device, found = torch.device("cpu"), []
    size = chunk_size(device)
    for start in range(0, len(files), size):
        chunk = files[start : start + size]
        pixels = np.stack([read_changed(path, plain, change) for path in chunk])
        found.append(trunk_features(network, pixels, plain, device, "fp32"))
    return torch.cat(found).numpy()


def list_images(place: Place) -> tuple[list[Path], Answers]:
    """List the photographs of all folds, and their grades, folds and groups without any answer."""
    files, labels, folds, ids = [], [], [], []
    for number in range(1, FOLDS + 1):
        split = scan_split(place.fold(number), "val", GRADES)
        files += list(split.paths)
        ids += list(split.ids)
        labels.append(split.labels)
        folds += [number] * len(split)
    group = place.column("group")
    targets = np.concatenate(labels)
    nothing = np.zeros((len(ids), GRADES))
    groups = np.array([int(group[id_]) for id_ in ids])
    return files, Answers(np.array(ids), targets, np.array(folds), groups, nothing, targets)


def ask(features: np.ndarray, images: Answers) -> Answers:
    """Let probes of the other folds grade each fold, by its features (N, F)."""
    from benchmarks.recipes.probe import pair_probabilities

    shares = np.zeros_like(images.probabilities)
    for fold in np.unique(images.folds):
        own = images.folds == fold
        known, labels = features[~own], images.targets[~own]
        pairs = pair_probabilities(known, labels, features[own], STRENGTH, GRADES)
        shares[own] = combine_pairs(pairs, GRADES).probabilities
    return replace(images, probabilities=shares, predicted=shares.argmax(1))


@guarded
def main(argv: list[str] | None = None) -> int:
    """Ask a probe about the photographs with each change, and write the table."""
    args = parse_args(argv)
    import torch

    from common.models.backbones import build, preprocessing_for, resolve

    torch.set_num_threads(1)
    place = Place(root=args.output_dir.resolve(), dataset=args.dataset_path.resolve())
    make_folds(place)
    spec = resolve(args.base_model)
    plain = preprocessing_for(spec, PixelOptions(args.img_size, enable_clahe=False))
    start = (spec, plain.img_size, True, args.weights, False, 0)
    files, images = list_images(place)
    bootstrap, rows, first = BootstrapConfig(args.resamples), [], images
    grid = Grid((0,), tuple(range(1, FOLDS + 1)))
    for change in (PLAIN, *CHANGES):
        started = time.monotonic()
        network = build(*start, pooled_stages=change.pooled_stages).stages
        found = ask(pooled_features(network, files, plain, change), images)
        seconds = time.monotonic() - started
        before = None if change is PLAIN else [first]
        first = found if change is PLAIN else first
        row = change_result(
            change.setting, change.to, grid, [found], before, bootstrap, seconds / 60
        )
        rows.append(row)
        log(f"{change.setting}: {change.to}, {seconds:.0f} s")
    conditions = Conditions(
        dataset=place.dataset.name,
        grades=np.bincount(images.targets).tolist(),
        left_out=len(place.manifest.column(0)) - len(files),
        units=len(np.unique(images.groups)),
        models=[f"{spec.name} at {plain.img_size} px"],
        train_flags="",
        processor=processor(torch.device("cpu")),
        versions=versions(),
        git_commit=git_commit(),
    )
    report.publish(args.report_dir, Changes(conditions, rows), "pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
