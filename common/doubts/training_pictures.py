"""Look at a model's training pictures once, and keep what new ones are compared with.

N pictures that are looked at, S pixels of the square side, F features, Q statistics.
"""

from dataclasses import dataclass, replace

import numpy as np

from common.data.folders import Split
from common.doubts.gradability import fit_limits, measure_square
from common.doubts.references import (
    Reference,
    choose_neighbourhood,
    load_reference,
    save_reference,
)
from common.fitting.sources import Trained
from common.models.ovo import chunk_size
from common.pairs import with_head
from common.pixel_store.pixel_cache import open_cache
from common.prediction.predict import PredictionConfig
from common.system.errors import InputError
from common.system.log import log, progress_bar
from common.system.random_streams import random_generator
from common.trained_networks.loading import LoadedModel, load_model
from common.trained_networks.running import move_to, predict_pixels


def keep_reference(trained: Trained, checkpoints: str, config: PredictionConfig, most: int) -> str:
    """Look at pictures of a model's train and val, unless that was done; says why not if it cannot.

    checkpoints: fingerprint of the model's files. most: of each of the two, drawn at random.
    """
    if _is_kept(trained, checkpoints, most):
        return ""
    if not most:
        return "--reference_pictures 0"
    if trained.train is None:
        return "its training images are not at hand"
    path = trained.run.directory.reference
    try:
        save_reference(path, _look_at(trained, trained.train, checkpoints, config, most))
    except InputError as error:  # training images that cannot be read are not evaluated
        return str(error)
    except OSError as error:
        return f"{path} cannot be written ({error.strerror})"
    return ""


def _look_at(
    trained: Trained, train: Split, checkpoints: str, config: PredictionConfig, most: int
) -> Reference:
    model = load_model(trained.run)
    move_to(model, config.device)
    of_train = _look(model, _drawn(train, most), config)
    of_val = _Seen.nothing(of_train)
    if trained.val is not None:
        of_val = _look(model, _drawn(trained.val, most), config)
    limits = fit_limits(of_train.statistics)
    return Reference(
        checkpoints,
        model.preprocessing.cache_key(),
        most,
        choose_neighbourhood(of_train.features, of_val.features),
        None if isinstance(limits, str) else limits,
        limits if isinstance(limits, str) else "",
    )


def _is_kept(trained: Trained, checkpoints: str, most: int) -> bool:
    """Tell whether what is kept is of these classifiers, and not of another number of pictures.

    Where the training images are not at hand any more, what is there is not made anew.
    """
    path = trained.run.directory.reference
    if not path.is_file():
        return False
    try:
        kept = load_reference(path)
    except InputError as error:
        log(f"{error}")
        return False
    gone = trained.train is None or not most
    return kept.checkpoints == checkpoints and (gone or kept.drawn == most)


@dataclass(frozen=True)
class _Seen:
    """What pictures look like."""

    features: np.ndarray  # (N, F) float32, pooled
    statistics: np.ndarray  # (N, Q)

    @classmethod
    def nothing(cls, like: "_Seen") -> "_Seen":
        """Return what no picture looks like, in the shapes of others."""
        return cls(like.features[:0], like.statistics[:0])


def _drawn(split: Split, most: int) -> Split:
    """Draw some pictures of a split; all of them if there are no more."""
    if len(split) <= most:
        return split
    generator = random_generator("reference", split.name, split.fingerprint())
    rows = np.sort(generator.permutation(len(split))[:most])
    return replace(split, images=tuple(split.images[row] for row in rows))


def _look(model: LoadedModel, split: Split, config: PredictionConfig) -> _Seen:
    """Show pictures to a model, each once and as it is, whatever views it is used with."""
    cache = open_cache(split, model.preprocessing, config.cache_dir, config.num_workers)
    chunk, features, statistics = chunk_size(config.device), [], []
    what = f"look at {split.name} for {model.model}"
    count = len(split)
    name = with_head(model.model, model.head)
    log(f"{name}: looks once at {count} pictures of {split.name}, to compare new ones with")
    for start in progress_bar(range(0, len(cache), chunk), what):
        pixels = cache.read(np.arange(start, min(start + chunk, len(cache))))
        found = predict_pixels(model, pixels, config.device, config.precision)
        features.append(found.features)
        statistics += [measure_square(square) for square in pixels]
    return _Seen(np.concatenate(features), np.stack(statistics))
