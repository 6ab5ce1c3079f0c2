"""Trained models on their way through an evaluation, and what they must not be."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.data.folders import Dataset, Split
from common.evaluation.outcome import Outcome
from common.fitting.ensemble import ModelResult
from common.grading.grader_file import earlier_grader
from common.listing.split_folders import CHOSEN_ON
from common.pixel_store.pixel_cache import keep_readable
from common.prediction.labels import same_classifiers
from common.prediction.predictions import PairPredictions
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run
from common.system.errors import InputError


@dataclass
class Model:
    """A trained model on its way through the evaluation."""

    run: Run
    label: str
    output: ResultDir  # where its results go
    dataset: Dataset
    split: Split  # the images, graded as it was trained
    pairs: PairPredictions = field(init=False)  # what its classifiers say
    result: ModelResult = field(init=False)  # the classes that follow
    outcome: Outcome = field(init=False)  # how good they are

    @property
    def checkpoints(self) -> str:
        """The fingerprint of the classifiers that have predicted."""
        return self.pairs.origin.checkpoints


def require_own_place(models: Sequence[Model], ensemble: Path) -> None:
    """Raise InputError where an ensemble's results would take the place of a model's own."""
    for model in models if len(models) > 1 else ():
        if model.output.root.resolve() == ensemble.resolve():
            raise InputError(
                f"--output_dir {ensemble}: the results of {model.label} alone lie there, and those "
                "of the ensemble would take their place; choose another directory"
            )


def require_one_dataset(models: Sequence[Model], ensemble: Path, dataset: Path) -> None:
    """Raise InputError where results on another dataset would be written over.

    A dataset that is not where it was any more is no other one; of the models' own directories it
    was seen whose they are.
    """
    places = [model.output for model in models if model.output != model.run.directory]
    for place in [*places, *([ResultDir(ensemble)] if len(models) > 1 else [])]:
        earlier = earlier_grader(place.grader)
        before = Path(earlier.dataset_path) if earlier and earlier.dataset_path else dataset
        if before.is_dir() and before.resolve() != dataset.resolve():
            raise InputError(
                f"{place.root}: results on {before} lie there, and those on {dataset} would take "
                "their place; choose another --output_dir"
            )


def require_different(model: Model, others: Sequence[Model]) -> None:
    """Raise InputError for a model that is another one once more: its answers would count twice.

    That is a copy, or a second training with the same seed and settings.
    """
    answers = model.pairs.pair_probabilities
    for other in others:
        if model.checkpoints == other.checkpoints or np.array_equal(
            answers, other.pairs.pair_probabilities
        ):
            raise InputError(same_classifiers(model.run, other.run))


def leave_out_unreadable(
    models: Sequence[Model], cache_dir: Path, num_workers: int
) -> dict[str, list[str]]:
    """Go on, with all models alike, without images that one of them cannot read.

    Returns their ids, by split.
    """
    from common.trained_networks.loading import pixels_of

    first, skipped = models[0], {}
    fitted_on = [name for name in CHOSEN_ON if first.dataset.has(name)]
    for name in dict.fromkeys([first.split.name, *fitted_on]):
        unreadable: set[str] = set()
        for pixels in {pixels_of(model.run) for model in models}:
            images = first.dataset.split(name)
            unreadable |= keep_readable(images, pixels, cache_dir, num_workers).skipped.keys()
        if unreadable:
            skipped[name] = sorted(unreadable)
    left_out = {id_ for ids in skipped.values() for id_ in ids}
    for model in models:
        model.dataset = model.dataset.without(left_out)
        model.split = model.dataset.split(model.split.name)
    return skipped
