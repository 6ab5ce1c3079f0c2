"""Which models are judged on which images: each on such as it has not learned from, with lesions.

N images of a split.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.evidence_maps.lesions import Boxes, read_boxes
from common.audit.shared_pictures import compare_bytes
from common.config import LAST
from common.data.folders import Dataset, Split, scan_dataset
from common.data.metadata import read_metadata
from common.data.patients import AUTO, recognise_patients
from common.fitting.sources import find_training
from common.listing.advice import folds_in
from common.listing.tables import read_table
from common.pairs import with_head
from common.prediction.classes import SetMatcher, classes_of, scored_classes
from common.preparation.new_dataset import MANIFEST
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, find_run, read_config
from common.system.errors import InputError
from common.trained_networks.loading import pixels_of


@dataclass(frozen=True)
class Judged:
    """A model, and the images that it is judged on."""

    run: Run
    method: str  # what models that differ in seed and fold alone are called
    seed: int
    referable_from: int  # the first of the model's classes that is referred
    split: Split  # of these images alone, all of them referable and with a lesion
    boxes: dict[str, Boxes]  # by the image's id
    groups: dict[str, str]  # what belongs together, by the image's id
    synthetic: bool  # the model has learned from drawn pictures
    note: str = ""  # what the reader has to know of its images


@dataclass(frozen=True)
class Search:
    """Where images are looked for."""

    dataset: Path | None  # a dataset, or the folds of one; None: what each model was trained on
    lesions: Path  # the table of boxes
    split: str = ""  # "": test where there is one, else val
    referable_from: str = ""
    num_workers: int = 1


def find_judged(folder: Path, search: Search) -> Judged:
    """Find a model and the images that it is judged on; raises InputError where there are none."""
    directory = ResultDir(folder)
    run = find_run(directory)
    config = read_config(directory)
    dataset = _dataset_of(run, search)
    name = search.split or ("test" if dataset.has("test") else "val")
    split = dataset.split(name)
    _require_new(run, dataset, split, search)
    labels = split.folders.classes if split.folders else None
    given = search.referable_from
    cut = scored_classes(run.names, run.referable_from, labels, given).referable_from
    model = classes_of(run.names, given or run.referable_from)
    if cut is None or model.referable_from is None:
        raise InputError(f"{folder}: which classes are referable is {model.referable}")
    referable = [image for image in split.images if image.label >= cut]
    boxes = read_boxes(search.lesions, [image.id for image in referable])
    chosen = tuple(i for i in referable if i.id in boxes and len(boxes[i.id].lesions))
    if not chosen:
        raise InputError(
            f"{search.lesions}: expected lesions in the {len(referable)} referable images of "
            f"{name} in {dataset.root}, found none; does the table name these files?"
        )
    settings = config["config"]
    last = settings.get("monitor") == LAST
    return Judged(
        run=run,
        method=f"{with_head(run.model, run.head)}, {pixels_of(run).img_size} px",
        seed=int(settings.get("seed", 0)),
        referable_from=model.referable_from,
        split=replace(split, images=chosen),
        boxes={image.id: boxes[image.id] for image in chosen},
        groups=_groups(dataset, [image.id for image in chosen]),
        synthetic=bool(config.get("synthetic")),
        note="" if name != "val" or last else "each model's epochs were chosen on these images",
    )


def _dataset_of(run: Run, search: Search) -> Dataset:
    """Find the dataset; among the folds of one, that whose train the model has learned from."""
    root = search.dataset or Path(run.dataset_path)
    matcher = SetMatcher(run.names)
    if not root.is_dir() or not folds_in(root):
        return scan_dataset(root, matcher=matcher)
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            dataset = scan_dataset(folder, matcher=matcher)
            if dataset.split("train").fingerprint() == run.train_fingerprint:
                return dataset
        except InputError:
            continue  # no fold
    raise InputError(
        f"{run.directory.root}: has learned from the train of none of the folds in {root}; pass "
        "the folds that it was trained on"
    )


def _require_new(run: Run, dataset: Dataset, split: Split, search: Search) -> None:
    """Raise InputError unless the images of a split are new to a model, going by their bytes."""
    own = find_training([("", run)], dataset)[0]
    if own.train is None:
        raise InputError(
            f"{run.directory.root}: what it has learned from is neither in {run.dataset_path!r} "
            f"nor in {dataset.root}, so nothing tells whether the images there are new to it"
        )
    shared = compare_bytes([split, own.train], search.num_workers).find(
        split, [own.train], "what it has learned from"
    )
    if shared.ids:
        raise InputError(f"{run.directory.root}: {'; '.join(shared.lines)}; pass other images")


def _groups(dataset: Dataset, ids: Sequence[str]) -> dict[str, str]:
    """Say which images belong together: by the dataset's manifest, or by their patients."""
    manifest = dataset.root / MANIFEST
    if manifest.is_file():
        table = read_table(manifest)
        if {"file", "group"} <= set(table.columns):
            files, groups = (table.column(table.columns.index(n)) for n in ("file", "group"))
            known = dict(zip(files, groups))
            if set(ids) <= known.keys():
                return {id_: known[id_] for id_ in ids}
    patients = recognise_patients(ids, AUTO, read_metadata(dataset.root))
    return {id_: f"{dataset.root} {group}" for id_, group in zip(ids, patients.groups.tolist())}


def number_groups(judged: Sequence[Judged]) -> dict[str, int]:
    """Number what belongs together, by the image's id."""
    names = {id_: group for one in judged for id_, group in one.groups.items()}
    numbers = np.unique(list(names.values()), return_inverse=True)[1].tolist()
    return dict(zip(names, numbers))


def methods_of(judged: Sequence[Judged]) -> dict[str, dict[int, list[Judged]]]:
    """Sort models by method and seed, in the order in which they are given.

    Raises InputError where two of one seed judge the same image.
    """
    found: dict[str, dict[int, list[Judged]]] = {}
    for one in judged:
        beside = found.setdefault(one.method, {}).setdefault(one.seed, [])
        for other in beside:
            both = set(one.split.ids) & set(other.split.ids)
            if both:
                raise InputError(
                    f"{one.run.directory.root} and {other.run.directory.root} are both "
                    f"{one.method}, seed {one.seed}, and judge {min(both)}; pass one of them"
                )
        beside.append(one)
    return found


def note_uneven(judged: Sequence[Judged]) -> list[str]:
    """Say which seeds judge fewer images than their method's seeds do together."""
    found = []
    for method, by_seed in methods_of(judged).items():
        ids = {seed: {i for one in own for i in one.split.ids} for seed, own in by_seed.items()}
        every = set[str]().union(*ids.values())
        found += [
            f"{method}, seed {seed} judges {len(own)} of {len(every)} images"
            for seed, own in ids.items()
            if own != every
        ]
    return found
