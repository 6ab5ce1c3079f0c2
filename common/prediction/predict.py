"""Predict a split with the pair classifiers of a result directory, alone or with other processes.

N images, P pairs, K classes.
"""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from common.config import VIEWS
from common.data.folders import Split
from common.models.ovo import chunk_size
from common.pixel_store.pixel_cache import PixelCache, open_cache
from common.prediction.classes import scored_classes
from common.prediction.predictions import Cost, Origin, PairPredictions, load_predictions
from common.result_dir.run import Run
from common.sharing.parts import contribute, gather
from common.sharing.session import Session
from common.system.log import log
from common.trained_networks.cost import count_flops, count_parameters
from common.trained_networks.loading import LoadedModel, fingerprint_files, load_model
from common.trained_networks.outputs import in_grade_order, probabilities_of
from common.trained_networks.running import predict_logits


@dataclass(frozen=True)
class PredictionConfig:
    """How to predict: on which device, in which arithmetic, from which views of an image."""

    cache_dir: Path
    num_workers: int
    device: torch.device
    precision: str
    tta: str = ""  # one of `config.VIEWS`; "": what each model was trained to be used with
    session: Session | None = None  # with other processes that predict parts of a split


def predict_run(
    run: Run,
    split: Split,
    config: PredictionConfig,
    stored_in: Path | None = None,
    referable_from: str = "",
) -> PairPredictions:
    """Predict a split with the classifiers of a result directory.

    The split's labels are of the run's classes in grade order, or of fewer classes, as the split
    says. What the file `stored_in` holds is taken where checkpoints, images, precision and views
    are still the same. referable_from: the class from which on an eye is referred, if it was given.
    """
    set_classes = split.folders.classes if split.folders else None
    scored = scored_classes(run.names, run.referable_from, set_classes, referable_from)
    set_classes = set_classes if set_classes and set_classes.coarser else None
    origin = _origin(run, split, config)
    stored = _find_stored(run, origin, stored_in)
    if stored is not None:
        log(f"{run.directory.root}: predictions on {split.name} are reused, nothing has changed")
        return replace(stored, scored=scored, set_classes=set_classes)
    model = load_model(run)
    rows = _Rows(model, split, config, origin)
    rows.announce(run)
    gflops = count_flops(model) * VIEWS[origin.tta] / 1e9  # while the model is still on the CPU
    logits, seconds = rows.all()
    return PairPredictions(
        model=model.model,
        head=model.head,
        class_names=list(run.names),
        ids=np.array(split.ids),
        targets=split.labels,
        pair_probabilities=probabilities_of(logits, run),
        pair_accuracies=in_grade_order(model.pair_accuracies, run.order, are_shares=False),
        cost=Cost(count_parameters(model), gflops, len(split) / seconds, str(config.device)),
        origin=replace(origin, checkpoints=model.fingerprint),
        scored=scored,
        set_classes=set_classes,
    )


def predict_share(
    run: Run, split: Split, config: PredictionConfig, stored_in: Path | None = None
) -> None:
    """Predict what this process has of a split, for the one that calls `predict_run` with it.

    Does nothing where that finds all it needs in `stored_in`.
    """
    origin = _origin(run, split, config)
    if config.session is None or _find_stored(run, origin, stored_in) is not None:
        return
    model = load_model(run)
    rows = _Rows(model, split, config, origin)
    chunk = chunk_size(config.device)
    contribute(config.session, rows.name, len(split), chunk, rows.some)


def _origin(run: Run, split: Split, config: PredictionConfig) -> Origin:
    """Say how a split would be predicted now; its checkpoints are not read yet."""
    data, tta = split.fingerprint(with_times=True), config.tta or run.tta
    return Origin("", data, split.fingerprint(), config.precision, tta)


def _find_stored(run: Run, origin: Origin, stored_in: Path | None) -> PairPredictions | None:
    """Read the predictions in a file if they would come out the same now."""
    stored = load_predictions(stored_in) if stored_in is not None else None
    # the classifiers' files, which are large, are read last, and where nothing is stored only once
    if (
        stored is not None
        and stored.origin == replace(origin, checkpoints=stored.origin.checkpoints)
        and stored.class_names == list(run.names)
        and stored.origin.checkpoints == fingerprint_files(run.files)
    ):
        return stored
    return None


@dataclass(frozen=True)
class _Rows:
    """The logits of a split's images, all of them or some."""

    model: LoadedModel
    split: Split
    config: PredictionConfig
    origin: Origin

    def announce(self, run: Run) -> None:
        """Say what is going to be predicted."""
        tta = self.origin.tta
        views_of_each = f", {VIEWS[tta]} views of each ({tta})" if tta != "none" else ""
        log(
            f"{run.directory.root}: predicting {len(self.split)} images of {self.split.name}, "
            f"{self.config.precision} on {self.config.device}{views_of_each}"
        )

    @property
    def name(self) -> str:
        """What the logits follow from: those of another model or of other images go elsewhere."""
        told = (self.model.fingerprint, self.origin.data, self.origin.precision, self.origin.tta)
        return f"logits_{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"

    def all(self) -> tuple[np.ndarray, float]:
        """Predict all images, together with other processes if there are any; in so many seconds.

        Of a process alone these leave out the decoding.
        """
        count, session = len(self.split), self.config.session
        if session is None:
            cache = self._decode(self.split)
            started = time.perf_counter()
            logits = self._ask(cache)
        else:
            started = time.perf_counter()
            logits = gather(session, self.name, count, chunk_size(self.config.device), self.some)
        return logits, time.perf_counter() - started

    def some(self, rows: range) -> np.ndarray:
        """Predict some images, (n, P) or (n, K)."""
        own = replace(self.split, images=self.split.images[rows.start : rows.stop])
        return self._ask(self._decode(own))

    def _decode(self, split: Split) -> PixelCache:
        """Decode the images that are not in the cache yet."""
        pixels, config = self.model.preprocessing, self.config
        return open_cache(split, pixels, config.cache_dir, config.num_workers)

    def _ask(self, cache: PixelCache) -> np.ndarray:
        config = self.config
        return predict_logits(self.model, cache, config.device, config.precision, self.origin.tta)
