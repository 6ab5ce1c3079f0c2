"""Measure how many altered copies of photographs are found, and how long the search takes.

    python -m benchmarks.near_duplicates --dataset_path ./my_graded_photographs --mixed 20000

Copies of some photographs, chosen by lot, are made in each way and saved as JPEG; each way's copies
are searched for among all photographs. Beside it stands what the hashes of whole pictures find
alone. With `--mixed`, the search is timed on so many signatures, mixed from the photographs'.
"""

from common.cli import Parser, guarded

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.copies.changes import CHANGES, Change
from common.data.folders import IMAGE_SUFFIXES
from common.duplicates.links import PictureLinks, link_pictures
from common.duplicates.near_duplicates import components, near_duplicates
from common.duplicates.point_search import matching_pictures
from common.duplicates.signatures import Signature, signature_of
from common.inspection.image_statistics import cut_out_retina
from common.pixels.decoding import decode_image
from common.reporting.table import format_table
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.random_streams import random_generator


@dataclass(frozen=True)
class Recall:
    """What was found of one way's copies."""

    found: int
    by_hashes: int  # of those, by hashes of the whole picture alone
    false: int  # copies that were taken for those of another picture


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of recall, the pairs among the photographs themselves, and times."""
    args = parse_args(argv)
    paths = sorted(
        path
        for path in args.dataset_path.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if len(paths) < args.photographs:
        raise InputError(f"{args.dataset_path}: {len(paths)} pictures, {args.photographs} wanted")
    workers = worker_count(args.num_workers)
    originals, wall, cores = _timed(_map, _signature_of_file, paths, workers)
    print(f"signatures of {len(paths)} photographs: {wall:.0f} s, {cores:.0f} s of one core")
    links, wall, cores = _timed(_link, originals, workers)
    print(f"search among them: {wall:.0f} s with {workers} processes, {cores:.0f} s of one core")
    _print_pairs(paths, links)

    chosen = np.sort(
        random_generator("near_duplicates", args.seed).permutation(len(paths))[: args.photographs]
    )
    rows: list[list[object]] = []
    for name, (change, quality) in CHANGES.items():
        copies = [copy_of(paths[i], change, quality) for i in chosen.tolist()]
        found = measure(originals, links, copies, chosen, workers)
        rows.append([name, found.by_hashes, found.found, found.false])
        print(*rows[-1], sep=" | ", flush=True)
    header = ["change", "hashes alone", f"found of {args.photographs}", "false"]
    print(format_table(header, rows))
    if args.mixed:
        pictures = mixed(originals, args.mixed, args.seed)
        matches, wall, cores = _timed(matching_pictures, pictures, workers)
        print(f"{args.mixed} signatures of points mixed by lot: {len(matches.pairs)} pairs")
        print(f"search: {wall:.0f} s with {workers} processes, {cores:.0f} s of one core")
    return 0


def measure(
    originals: Sequence[Signature],
    known: PictureLinks,
    copies: Sequence[Signature],
    chosen: np.ndarray,
    workers: int,
) -> Recall:
    """Search for copies of the chosen ones among all originals.

    known: what belongs together among the originals alone.
    """
    everything = [*originals, *copies]
    count, own = len(everything), np.arange(len(originals), len(everything))
    links = _link(everything, workers)
    together = components(count, np.concatenate([links.pairs, links.eye_pairs]))
    eyes = components(len(originals), np.concatenate([known.pairs, known.eye_pairs]))
    false = 0
    for copy, source in zip(own, chosen):
        others = np.flatnonzero(together[: len(originals)] == together[copy])
        false += bool((eyes[others] != eyes[source]).any())
    hashed = components(count, _hash_pairs(everything))
    return Recall(
        found=int((together[own] == together[chosen]).sum()),
        by_hashes=int((hashed[own] == hashed[chosen]).sum()),
        false=false,
    )


def mixed(signatures: Sequence[Signature], count: int, seed: int) -> list[Signature]:
    """Make signatures of pictures that are not there, to time a search among many.

    Each has the points of one picture, around which lies what lies around points of any pictures,
    a little changed.
    """
    generator = random_generator("near_duplicates", seed, "mixed")
    usable = [one for one in signatures if len(one.points)]
    pool = np.concatenate([one.descriptors for one in usable]).astype(np.int16)
    made = []
    for _ in range(count):
        base = usable[generator.integers(len(usable))]
        taken = pool[generator.integers(len(pool), size=len(base.points))]
        changed = taken + generator.integers(-12, 13, size=taken.shape, dtype=np.int16)
        descriptors = np.where(taken > 0, np.clip(changed, 0, 255), 0).astype(np.uint8)
        made.append(replace(base, descriptors=descriptors))
    return made


def _signature_of_file(path: Path) -> Signature:
    return signature_of(cut_out_retina(decode_image(path.read_bytes(), path.name)).crop)


def copy_of(path: Path, change: Change, quality: int) -> Signature:
    """Reduce a photograph that was changed and saved as JPEG again."""
    changed = np.ascontiguousarray(change(decode_image(path.read_bytes(), path.name)))
    bgr = cv2.cvtColor(changed, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return signature_of(cut_out_retina(decode_image(data, path.name)).crop)


def _link(signatures: Sequence[Signature], workers: int) -> PictureLinks:
    nothing = [""] * len(signatures)
    return link_pictures(nothing, nothing, signatures, workers)


def _hash_pairs(signatures: Sequence[Signature]) -> np.ndarray:
    places = np.flatnonzero([one.has_structure for one in signatures])
    hashes = np.stack([signatures[i].hashes for i in places.tolist()])
    sketches = np.stack([signatures[i].sketch for i in places.tolist()])
    return places[near_duplicates(hashes, sketches)[0]]


def _print_pairs(paths: Sequence[Path], links: PictureLinks) -> None:
    for kind, pairs in (("one picture", links.pairs), ("one eye", links.eye_pairs)):
        for a, b in np.unique(pairs, axis=0).tolist():
            names = [f"{path.parent.name}/{path.name}" for path in (paths[a], paths[b])]
            print(f"{kind}: {' '.join(names)}")


def _map(work: Callable, items: Sequence, workers: int) -> list:
    if workers < 2:
        return [work(item) for item in items]
    cv2.setNumThreads(1)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context) as pool:
        return list(pool.map(work, items, chunksize=8))


def _timed(work: Callable, *inputs: object) -> tuple[Any, float, float]:
    """Return what a piece of work returns, its seconds, and those of all its processes' cores."""
    started, before = time.monotonic(), os.times()
    found = work(*inputs)
    seconds, after = time.monotonic() - started, os.times()
    return found, seconds, sum(after[:4]) - sum(before[:4])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the flags."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--dataset_path", type=Path, required=True, help="folder with photographs, at any depth"
    )
    parser.add_argument("--photographs", type=int, default=30, help="so many are copied each way")
    parser.add_argument("--mixed", type=int, default=0, help="time the search on so many, too")
    parser.add_argument("--num_workers", type=int, default=8, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="of what is chosen and drawn")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
