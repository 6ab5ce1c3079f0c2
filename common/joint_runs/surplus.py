"""What a process for which no classifier is left does: decode, then predict for the evaluation.

It predicts with each backbone that the others have completed, and stores what
`evaluate_ensemble.py` would compute first and now takes up. No figure comes of it: `test` is read
once, by the evaluation. Who trains is known from the locks of the classifiers alone.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common.config import TrainConfig
from common.data.folders import Dataset, Split, scan_dataset
from common.evaluation_steps.models import Model, leave_out_unreadable
from common.evaluation_steps.predicting import predict_and_keep
from common.joint_runs.finish import finished_before
from common.listing.split_folders import LEARNED_FROM, SPLITS
from common.locks.holder import Holder
from common.models.backbones import preprocessing_for, resolve
from common.pairs import Head, heads_of_model
from common.pixel_store.pixel_cache import keep_readable, open_cache
from common.prediction.classes import SetMatcher
from common.prediction.labels import label_runs, output_dir_for
from common.prediction.predict import PredictionConfig
from common.prediction.voting import VOTES
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.device import free_cached_memory, resolve_precision, select_device
from common.system.errors import InputError, is_out_of_memory
from common.system.files import remove_leftovers
from common.system.log import duration, log
from common.system.threads import use_threads
from common.training.resume import pixel_version_of
from common.watching.standing import DONE, RUNNING, HeadStanding, standing_of

_OF_EVALUATION = tuple(name for name in SPLITS if name != "train")  # test, the judged one, last
_LOOK_EVERY = 5.0  # seconds
_SAY_EVERY = 180.0
_PATIENCE = 600.0  # seconds without anybody at work, in which processes may start or change over


@dataclass(frozen=True)
class Surplus:
    """A process for which no classifier is left, among those of its launch."""

    configs: Sequence[TrainConfig]  # of all backbones that are trained
    heads: Sequence[Head]  # that are trained of each
    predicts: Sequence[TrainConfig]  # of the backbones that this process predicts with
    trainers: int  # processes that train
    local_rank: int  # among those on this machine; chooses the GPU


def help_evaluating(surplus: Surplus, dataset: Dataset) -> None:
    """Decode all splits, wait for backbones to become complete, and predict with each.

    Ends when that is done, or when nobody trains any more what is missing. What stands in the way
    of predictions is said and left to the evaluation: it is no reason to end those who train.
    """
    if not decode_all(surplus.configs, dataset):
        return
    if surplus.predicts:
        use_threads(surplus.predicts[0].threads)
    for config in complete_ones(surplus):
        folder = config.output_dir
        try:
            predict_splits(config, surplus.local_rank)
        except (InputError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            left = f"not predicted, which is left to the evaluation: {_reason(error)}"
            log(f"note: {folder}: {left}")
        free_cached_memory()  # for those that train on the same GPU


def decode_all(configs: Sequence[TrainConfig], dataset: Dataset) -> bool:
    """Decode what others will ask for, the last backbone's pixels first: these are needed last.

    Returns whether it makes sense to help on: a cache that cannot be written for train and val is
    of no use for the rest either. Raises InputError for pictures that no training can use.
    """
    later = [name for name in _OF_EVALUATION if name not in LEARNED_FROM and dataset.has(name)]
    try:
        for name in LEARNED_FROM:
            for config in reversed(configs):
                _decode(config, dataset.split(name))
    except OSError as error:  # who trains may have all it needs, and says so itself if not
        log(f"note: this process cannot help those that train, and ends: {_reason(error)}")
        return False
    for name in later:
        log(f"{name} is decoded, too, for the evaluation: pixels alone, nothing reads its labels")
        for config in reversed(configs):
            try:
                _decode(config, dataset.split(name))
            except (InputError, OSError) as error:
                log(f"note: {name} is left to the evaluation: {_reason(error)}")
    log("no classifier is left for this process; what could be decoded is in the pixel cache")
    return True


def _reason(error: Exception) -> str:
    """Say in one line what stands in the way."""
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.strerror} at {error.filename}"
    return " ".join(text.split())[:400]


def _decode(config: TrainConfig, split: Split) -> None:
    version = pixel_version_of(ResultDir(Path(config.output_dir)))
    pixels = preprocessing_for(resolve(config.model), config.pixel_options, version)
    fill = keep_readable if config.skip_unreadable else open_cache
    fill(split, pixels, Path(config.cache_dir), config.num_workers)


def complete_ones(surplus: Surplus) -> Iterator[TrainConfig]:
    """Wait for backbones and give each as soon as it is complete.

    One that those who train will not complete, or have left incomplete, is named and given up.
    """
    left, watch = list(surplus.predicts), _Watch(surplus)
    while left:
        nobody = watch.all_gone()
        for config in list(left):
            over = nobody or is_over(config, surplus.heads)  # before the look at what is there
            if is_complete(config):
                left.remove(config)
                yield config
            elif over:
                left.remove(config)
                log(
                    f"{config.output_dir}: is not complete, and nobody trains it any more; this "
                    "process predicts nothing with it"
                )
        if left:
            watch.pause(left)


def is_complete(config: TrainConfig) -> bool:
    """Tell whether all classifiers of a backbone are trained, from the files of its directory."""
    directory = ResultDir(Path(config.output_dir))
    if any(each.state != DONE for each in _heads_of(directory)):
        return False
    heads = heads_of_model(config.num_classes, config.head)
    with suppress(InputError, OSError):  # a file that is no classifier: who trains it says so
        return finished_before(directory, config, heads) is not None
    return False


def is_over(config: TrainConfig, heads: Sequence[Head]) -> bool:
    """Tell whether a launch has trained its heads of a backbone, and nobody trains others."""
    found = _heads_of(ResultDir(Path(config.output_dir)))
    done = {each.head for each in found if each.state == DONE}
    return done.issuperset(heads) and not any(each.state == RUNNING for each in found)


def _heads_of(directory: ResultDir) -> Sequence[HeadStanding]:
    """Look how far classifiers are; a directory that says nothing yet has none."""
    return standing_of(directory).heads


class _Watch:
    """Those who train a launch's backbones, as far as the locks of classifiers show them."""

    def __init__(self, surplus: Surplus) -> None:
        self._directories = [ResultDir(Path(config.output_dir)) for config in surplus.configs]
        self._trainers = surplus.trainers
        self._seen: dict[tuple[str | int, ...], Holder] = {}
        self._started = self._at_work = self._said = time.monotonic()

    def all_gone(self) -> bool:
        """Look who trains; tell whether nobody does any more.

        That is certain where all have been seen at work and each is gone. Otherwise a process may
        be starting, or between two backbones: then it takes ten minutes without anybody at work.
        """
        now = time.monotonic()
        heads = [each for directory in self._directories for each in _heads_of(directory)]
        running = [each for each in heads if each.state == RUNNING]
        self._seen |= {each.holder.process: each.holder for each in running if each.holder}
        if running:
            self._at_work = now
            return False
        certain = len(self._seen) >= self._trainers
        if certain and all(holder.is_gone() for holder in self._seen.values()):
            return True
        return now - self._at_work > _PATIENCE

    def pause(self, left: Sequence[TrainConfig]) -> None:
        """Wait a moment, and say now and then what for."""
        now = time.monotonic()
        if now - self._said > _SAY_EVERY:
            self._said = now
            names = ", ".join(config.output_dir for config in left)
            log(f"waiting for {names} to become complete, {duration(now - self._started)} so far")
        time.sleep(_LOOK_EVERY)


def predict_splits(config: TrainConfig, local_rank: int) -> None:
    """Predict what the evaluation of a complete backbone will ask for, where it will look for it.

    The evaluation that the last line of a training names: of all classes, with its own defaults.
    """
    run = find_run(ResultDir(Path(config.output_dir)))
    dataset = scan_dataset(Path(config.dataset_path), matcher=SetMatcher(run.names, (), ()))
    if output_dir_for(run, dataset, None) != run.directory:  # its images are graded otherwise
        log(
            f"note: {run.directory.root}: its results on {dataset.root} go elsewhere; not predicted"
        )
        return
    names = [name for name in _OF_EVALUATION if dataset.has(name)]
    judged = dataset.split(names[-1])
    model = Model(run, label_runs([run])[0], run.directory, dataset, judged)
    device = select_device(config.device, local_rank)
    precision = resolve_precision(config.precision, config.use_amp, device)
    how = PredictionConfig(Path(config.cache_dir), config.num_workers, device, precision)
    if config.skip_unreadable:
        leave_out_unreadable([model], how.cache_dir, how.num_workers)
    for name in names:
        path = run.directory.predictions(name)
        remove_leftovers(path.parent, path.name)  # of a process that was killed
        predict_and_keep(run, model.label, model.dataset.split(name), path, how, VOTES[0], "")
    log(
        f"{run.directory.results}: predictions on {' and '.join(names)} are there for the "
        "evaluation; no figure was computed of them"
    )
