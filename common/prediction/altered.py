"""Predict a split once more under alterations of its photographs.

N images of the split, n of a part of it, A alterations, S pixels of the square side, P pairs. The
altered pixels are in memory only, a part of the split at a time, and never in the pixel cache. What
the models say of them is kept, so that a killed run goes on where it was.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from common.data.folders import ImageFile, Split
from common.listing.walking import count_of
from common.pairs import heads_of_model
from common.pixels.decoding import ImageError, decode_image
from common.pixels.preprocessing import Preprocessing, preprocess
from common.prediction.alterations import ALTERATIONS, Alteration, photograph
from common.prediction.predict import PredictionConfig
from common.prediction.predictions import PairPredictions
from common.result_dir.run import Run
from common.result_dir.stored import read_predictions, write_predictions
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.log import duration, log
from common.trained_networks.loading import load_model, pixels_of
from common.trained_networks.outputs import probabilities_of
from common.trained_networks.running import predict_logits

_ROOM = 2**30  # bytes of altered pixels at a time
_MOST_IMAGES = 256  # of a part: so much is lost when the run is killed
_FOLDER = "altered_predictions"  # in the cache's folder

Logits = dict[str, np.ndarray]  # (n, P), or (n, K) of a softmax head, by alteration


@dataclass(frozen=True)
class Predicted:
    """A model, and what it says of the photographs as they are."""

    run: Run
    pairs: PairPredictions


@dataclass(frozen=True)
class AlteredPixels:
    """Pixels in memory, as `predict_logits` takes them."""

    pixels: np.ndarray  # (n, S, S, 3) uint8
    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image's pixels."""
        return self.pixels.shape[1], self.pixels.shape[2], 3

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return the pixels of the given images."""
        return self.pixels[indices]


def predict_altered(
    models: Sequence[Predicted],
    split: Split,
    alterations: Sequence[Alteration],
    config: PredictionConfig,
) -> dict[str, list[PairPredictions]]:
    """Predict a split under each alteration, by its name, with each of the models.

    A photograph is decoded and altered once for all models, and preprocessed as ever.
    """
    pixels = [pixels_of(model.run) for model in models]
    parts = list(_parts(split, pixels, len(alterations)))
    found = [[_stored(model, part, config) for model in models] for part in parts]
    todo = [i for i, part in enumerate(found) if any(_lacking(one, alterations) for one in part)]
    if todo:
        _announce(models, [parts[i] for i in todo], alterations, pixels, config)
    started = time.monotonic()
    for done, i in enumerate(todo, 1):
        missing = [a for a in alterations if any(a in _lacking(s, [a]) for s in found[i])]
        found[i] = _predict_part(models, parts[i], missing, found[i], pixels, config)
        if done < len(todo):
            left = (time.monotonic() - started) / done * (len(todo) - done)
            log(f"robustness: {done} of {len(todo)} parts done, about {duration(left)} left")
    return {
        alteration.name: [
            replace(
                model.pairs,
                pair_probabilities=probabilities_of(
                    np.concatenate([part[k][alteration.name] for part in found]), model.run
                ),
            )
            for k, model in enumerate(models)
        ]
        for alteration in alterations
    }


def altered_pixels(
    path: Path, alterations: Sequence[Alteration], wanted: Sequence[Preprocessing]
) -> list[np.ndarray]:
    """Decode a photograph once and return it altered and preprocessed: (A, S, S, 3) for each.

    Raises ImageError for what cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    found: list[list[np.ndarray]] = [[] for _ in wanted]
    for version in sorted({each.version for each in wanted}):
        photo = photograph(decode_image(data, str(path), version))
        for alteration in alterations:
            altered = np.ascontiguousarray(alteration.apply(photo))
            for place, each in enumerate(wanted):
                if each.version == version:
                    found[place].append(preprocess(altered, each))
    return [np.stack(each) for each in found]


def _parts(
    split: Split, pixels: Sequence[Preprocessing], count: int
) -> Iterator[tuple[ImageFile, ...]]:
    """Divide a split into parts whose altered pixels fit into memory."""
    sizes = {each.cache_key(): each.img_size for each in pixels}
    one = sum(3 * size**2 for size in sizes.values()) * count
    length = max(1, min(_MOST_IMAGES, _ROOM // one))
    for start in range(0, len(split), length):
        yield split.images[start : start + length]


def _predict_part(
    models: Sequence[Predicted],
    images: Sequence[ImageFile],
    alterations: Sequence[Alteration],
    stored: Sequence[Logits],
    pixels: Sequence[Preprocessing],
    config: PredictionConfig,
) -> list[Logits]:
    """Predict a part of the split with all models, and keep what they say."""
    wanted = {each.cache_key(): each for each in pixels}
    altered = _alter_all(images, alterations, list(wanted.values()), config.num_workers)
    by_key = dict(zip(wanted, altered))
    found = []
    for model, own, known in zip(models, pixels, stored):
        loaded = load_model(model.run)
        rows = by_key[own.cache_key()]  # (A, n, S, S, 3)
        source = AlteredPixels(rows.reshape(-1, *rows.shape[2:]), own)
        tta = model.pairs.origin.tta  # as the photographs were predicted as they are
        logits = predict_logits(loaded, source, config.device, config.precision, tta)
        by_name = dict(zip((a.name for a in alterations), np.split(logits, len(alterations))))
        found.append({**known, **by_name})
        path = _kept_in(model, images, config)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, found[-1], {"model": model.run.model})
    return found


def _alter_all(
    images: Sequence[ImageFile],
    alterations: Sequence[Alteration],
    wanted: Sequence[Preprocessing],
    num_workers: int,
) -> list[np.ndarray]:
    """Alter images on threads: (A, n, S, S, 3) uint8 for each way to preprocess."""
    cv2.setNumThreads(1)  # the pool already has a thread per core
    count = len(alterations)
    found = [np.empty((count, len(images), w.img_size, w.img_size, 3), np.uint8) for w in wanted]

    def fill(place: int) -> None:
        try:
            rows = altered_pixels(images[place].path, alterations, wanted)
        except ImageError as error:
            raise InputError(f"--robustness: {error}") from error
        for whole, own in zip(found, rows):
            whole[:, place] = own

    with ThreadPoolExecutor(worker_count(num_workers)) as pool:
        try:
            list(pool.map(fill, range(len(images))))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _announce(
    models: Sequence[Predicted],
    parts: Sequence[Sequence[ImageFile]],
    alterations: Sequence[Alteration],
    pixels: Sequence[Preprocessing],
    config: PredictionConfig,
) -> None:
    """Say how long it may take, by a first photograph and the speed of the predictions before."""
    images, count = sum(map(len, parts)), len(alterations)
    started = time.monotonic()
    _alter_all(parts[0][:1], alterations, list({p.cache_key(): p for p in pixels}.values()), 1)
    seconds = (time.monotonic() - started) * images / worker_count(config.num_workers)
    speeds = [model.pairs.cost.images_per_second for model in models]
    seconds += sum(images * count / speed for speed in speeds if speed > 0)
    log(
        f"robustness: {count_of(count, 'alteration')} of {count_of(images, 'image')}, "
        f"{count_of(len(models), 'model')}: about {duration(seconds)}"
    )


def _kept_in(model: Predicted, images: Sequence[ImageFile], config: PredictionConfig) -> Path:
    """Name the file of what a model says of some images altered; all that decides it is hashed."""
    tta = model.pairs.origin.tta
    deciding = [
        model.pairs.origin.checkpoints,
        config.precision,
        *([] if tta == "none" else [tta]),  # so that what earlier versions kept is found
        *(f"{each.name}: {each.title}" for each in ALTERATIONS),
        *(image.cache_key() for image in images),
    ]
    text = "\n".join(deciding).encode(errors="surrogateescape")
    return config.cache_dir / _FOLDER / f"{hashlib.sha256(text).hexdigest()[:24]}.npz"


def _stored(model: Predicted, images: Sequence[ImageFile], config: PredictionConfig) -> Logits:
    """Read what a killed run, or an earlier one, kept; nothing where it is not usable."""
    path = _kept_in(model, images, config)
    if not path.is_file():
        return {}
    try:
        arrays, _ = read_predictions(path)
    except InputError as error:
        log(f"{error}; predicted again")
        return {}
    pairs = model.pairs
    outputs = sum(head.outputs for head in heads_of_model(pairs.num_classes, pairs.head))
    shape = len(images), outputs
    return {name: array for name, array in arrays.items() if array.shape == shape}


def _lacking(stored: Logits, alterations: Sequence[Alteration]) -> list[Alteration]:
    return [alteration for alteration in alterations if alteration.name not in stored]
