"""Train and ask what is compared, fold by fold, in a folder where it can be gone on with.

    OUTPUT_DIR/folds/fold_<k>/                            by prepare_dataset.py split --folds
    OUTPUT_DIR/runs/<model>/<recipe>/seed_<s>/fold_<k>/   a result directory of train_ovo.py
        val_<views>.npz                                   what its classifiers say of val
        run.json                                          written last: the run is complete

N images, F features, P pairs.
"""

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from benchmarks.recipes.methods import BEST, CHANGED, PROBES, SOUP, flags_of, trial_of, views_of
from benchmarks.speed.timing import in_own_process, processor
from common.config import TrainConfig, config_differences
from common.data.folders import scan_dataset, scan_split
from common.data.patients import AUTO, recognise_patients
from common.fitting.ensemble import apply_vote
from common.fitting.images import FittingImages, fitting_images
from common.flags.training import parse_training
from common.listing.tables import Table, read_table
from common.prediction.predictions import load_predictions, save_predictions
from common.preparation.folds import fold_names
from common.preparation.new_dataset import MANIFEST
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run, read_config
from common.result_dir.stored import read_history
from common.system.environment import git_commit, versions
from common.system.errors import InputError
from common.system.files import read_json, write_json
from common.system.log import duration, log

ROOT = Path(__file__).parents[2]
FOLDS = 5
# the settings that a probe depends on
_OF_PROBE = (
    "img_size",
    "enable_clahe",
    "clahe_clip_limit",
    "clahe_tile_grid_size",
    "pooled_stages",
)


@dataclass(frozen=True)
class Run:
    """One training, or the fitting of a probe, on the train of one fold."""

    recipe: str
    model: str
    seed: int
    fold: int  # from 1

    @property
    def title(self) -> str:
        """Name it in the log."""
        return f"{self.recipe}, {self.model}, seed {self.seed}, fold {self.fold}"


@dataclass(frozen=True)
class Place:
    """Where all is kept, and what is the same for all runs."""

    root: Path
    dataset: Path
    weights: dict[str, str] = field(default_factory=dict)  # file by model; else from the hub
    train_flags: str = ""  # of train_ovo.py, for all trainings
    device: str = "auto"
    patient_regex: str = AUTO  # of prepare_dataset.py: which names stay together

    def fold(self, number: int) -> Path:
        """Return the dataset of a fold."""
        return self.root / "folds" / fold_names(FOLDS)[number - 1]

    def directory(self, run: Run) -> Path:
        """Return the result directory of a run."""
        own = f"seed_{run.seed}", fold_names(FOLDS)[run.fold - 1]
        return self.root.joinpath("runs", run.model, run.recipe, *own)

    def predictions(self, run: Run, tta: str = "") -> Path:
        """Return the file of what a run's classifiers say of val.

        tta: the views of an image that are averaged; "": those of the recipe.
        """
        if run.recipe in PROBES:
            return self.directory(run) / "val_none.npz"
        return self.directory(run) / f"val_{tta or self.config(run).tta}.npz"

    @property
    def cache(self) -> Path:
        """Folder of decoded pixels."""
        return self.root / "cache"

    @cached_property
    def manifest(self) -> Table:
        """Which file is in which fold."""
        return read_table(self.root / "folds" / MANIFEST)

    def column(self, name: str) -> dict[str, str]:
        """Return a column of the manifest by the id that an image has in val of its fold."""
        table, columns = self.manifest, self.manifest.columns
        ids = (f"val/{file}" for file in table.column(columns.index("file")))
        return dict(zip(ids, table.column(columns.index(name))))

    def words(self, run: Run) -> list[str]:
        """Write the flags of train_ovo.py that decide what is learned."""
        words = ["--base_models", run.model, *shlex.split(flags_of(run.recipe))]
        if run.recipe == "guide":  # the same pixels for all, as far as their number goes
            size = self.config(replace(run, recipe=BEST)).img_size
            words += ["--img_size", str(size)]
        weights = self.weights.get(run.model)
        words += ["--weights", weights] if weights else []
        return [*words, "--seed", str(run.seed), *shlex.split(self.train_flags)]

    def config(self, run: Run) -> TrainConfig:
        """Return the configuration that a training has; a probe has its pixels."""
        return _configured(tuple(self.words(run)))

    def is_complete(self, run: Run) -> bool:
        """Tell whether a run is complete; raises InputError if its settings were others."""
        views = views_of(run.recipe)
        if views:
            return self.predictions(replace(run, recipe=CHANGED), views).is_file()
        directory = self.directory(run)
        if not (directory / "run.json").is_file() or not self.predictions(run).is_file():
            return False
        found = read_config(ResultDir(directory))["config"]
        changes = config_differences(found, self.config(run))
        if run.recipe in PROBES:
            changes = [change for change in changes if change.name in _OF_PROBE]
        if changes:
            first = changes[0]
            raise InputError(
                f"{directory}: was made with {first.name} {first.before}, and {run.recipe} now has "
                f"{first.now}; move it away, or take another --output_dir"
            )
        return True

    def complete(self, recipe: str, model: str) -> list[Run]:
        """List the complete runs of a recipe and backbone."""
        root = self.root / "runs" / model / recipe
        places = [path.parent for path in sorted(root.glob("seed_*/fold_*/run.json"))]
        names = fold_names(FOLDS)
        found = [
            Run(recipe, model, int(p.parent.name.removeprefix("seed_")), names.index(p.name) + 1)
            for p in places
        ]
        return [run for run in found if self.is_complete(run)]

    def images(self, run: Run, tta: str = "") -> FittingImages:
        """Read what a complete run says of val of its fold."""
        file = self.predictions(run, tta)
        pairs = load_predictions(file)
        if pairs is None:
            raise InputError(f"{file}: expected predictions; remove {file.parent} and run it again")
        return fitting_images(pairs, "val")

    def seconds(self, run: Run) -> float:
        """Read how long the training of a complete run took."""
        return float(read_json(self.directory(run) / "run.json")["seconds"])


@cache
def _configured(words: tuple[str, ...]) -> TrainConfig:
    return parse_training(list(words), "").configs[0]


def make_folds(place: Place) -> None:
    """Divide the dataset into grouped folds, or see that those that are there are of its images."""
    source = place.root / "folds"
    try:
        ids = {image.id for image in scan_dataset(place.dataset).all_images()}
    except InputError as error:
        raise InputError(
            f"{error}; this command is for five grades and has no such flag"
        ) from error
    if not source.exists():
        place.root.mkdir(parents=True, exist_ok=True)
        words = ["split", str(place.dataset), str(source), "--folds", str(FOLDS), "--seed", "0"]
        words += ["--test", "0", "--cal", "0", "--cache_dir", str(place.cache)]
        words += [f"--patient_regex={place.patient_regex}"]
        command = [sys.executable, str(ROOT / "prepare_dataset.py"), *words]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise InputError(f"--dataset_path {place.dataset}: could not be divided; see above")
    listed = place.manifest.column(place.manifest.columns.index("source"))
    if set(listed) != ids:
        raise InputError(
            f"{source}: expected folds of the {len(ids)} images in {place.dataset}, found those of "
            f"{len(listed)} others; take another --output_dir"
        )
    if place.patient_regex != AUTO:
        _require_whole(place)


def _require_whole(place: Place) -> None:
    """See that folds that are there keep together whom the regular expression names."""
    table, columns = place.manifest, place.manifest.columns
    wanted = ("source", "file", "part")
    listed, files, parts = (table.column(columns.index(name)) for name in wanted)
    groups = recognise_patients(listed, place.patient_regex).groups.tolist()
    first: dict[int, str] = {}
    for group, file, part in zip(groups, files, parts):
        if file and first.setdefault(group, part) != part:
            raise InputError(
                f"{place.root / 'folds'}: was divided without --patient_regex "
                f"{place.patient_regex}, since one patient by it is in {first[group]} and in "
                f"{part}; take another --output_dir"
            )


def run_all(place: Place, runs: Sequence[Run], cores: Sequence[int]) -> None:
    """Make all runs, one at a time on each core; raises InputError for the first that fails.

    Those that only ask classifiers again come after all trainings.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    later = [run for run in runs if run.recipe == SOUP or views_of(run.recipe)]
    _run_side_by_side(place, [run for run in runs if run not in later], cores)
    _run_side_by_side(place, later, cores)


def _run_side_by_side(place: Place, runs: Sequence[Run], cores: Sequence[int]) -> None:
    free: SimpleQueue[int] = SimpleQueue()
    for core in cores:
        free.put(core)

    def pin() -> None:  # the processes that a thread starts stay on its core
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {free.get()})

    children = _Children()
    with ThreadPoolExecutor(len(cores), initializer=pin) as pool:
        futures = [pool.submit(_attempt, place, run, children) for run in runs]
        try:
            wait(futures)
        finally:
            children.end()
    if children.failure is not None:
        raise children.failure


def _attempt(place: Place, run: Run, children: "_Children") -> None:
    """Make one run, unless another one has failed; then the trainings beside it end, too."""
    if children.ended:
        return
    try:
        _make(place, run, children)
    except BaseException as error:
        children.end(error)


class _Children:
    """The trainings that are going on."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.ended = False
        self.failure: BaseException | None = None  # the first

    def call(self, command: Sequence[str], log_file: Path) -> int:
        """Run a command to its end, with what it says in a file; returns its status."""
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as said:
            with self._lock:
                if self.ended:
                    return -1
                child = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
                self._running.add(child)
            status = child.wait()
            with self._lock:
                self._running.discard(child)
        return status

    def end(self, failure: BaseException | None = None) -> None:
        """Ask all that still run to stop, which keeps what is complete, and start no other."""
        with self._lock:
            if not self.ended:
                self.failure = failure
            self.ended = True
            for child in self._running:
                child.terminate()


def _make(place: Place, run: Run, children: _Children) -> None:
    """Make one run unless it is complete."""
    import torch

    from benchmarks.recipes.soup import average_weights

    if place.is_complete(run):
        return
    log(f"{run.title}: begins")
    started = time.monotonic()
    if views_of(run.recipe):
        in_own_process(predict_val, place, replace(run, recipe=CHANGED), views_of(run.recipe))
        return
    if run.recipe in PROBES:
        seconds = in_own_process(fit_probe, place, run)
    elif run.recipe == SOUP:
        seeds = [one for one in place.complete(BEST, run.model) if one.fold == run.fold]
        if len(seeds) < 2:
            log(f"{run.title}: left out, because fewer than two seeds of {BEST} are complete")
            return
        directories = [ResultDir(place.directory(seed)) for seed in seeds]
        average_weights(directories, ResultDir(place.directory(run)))
        in_own_process(predict_val, place, run)
        seconds = sum(map(place.seconds, seeds))
    else:
        _train(place, run, children)
        in_own_process(predict_val, place, run)
        seconds = training_seconds(place.directory(run))
    content = {
        "seconds": seconds,
        "flags": place.words(run) if run.recipe not in PROBES else [],
        "processor": processor(torch.device("cpu")),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    write_json(place.directory(run) / "run.json", content)
    log(f"{run.title}: complete after {duration(time.monotonic() - started)}")


def _train(place: Place, run: Run, children: _Children) -> None:
    directory = place.directory(run)
    trial = trial_of(run.recipe)
    script = ["-m", "benchmarks.accuracy_trials", trial] if trial else [str(ROOT / "train_ovo.py")]
    command = [sys.executable, *script, *place.words(run), "--resume"]
    command += ["--dataset_path", str(place.fold(run.fold)), "--output_dir", str(directory)]
    command += ["--cache_dir", str(place.cache), "--device", place.device]
    log_file = directory / "training.log"
    status = children.call(command, log_file)
    if status:
        lines = log_file.read_text(errors="replace").strip().splitlines() or ["nothing"]
        raise InputError(f"{run.title}: ended with status {status} ({lines[-1]}); see {log_file}")


def training_seconds(directory: Path) -> float:
    """Add up how long the epochs of a run took, validation included, whenever they were made."""
    rows = read_history(ResultDir(directory).history)
    by_epoch: dict[int, float] = {}
    for row in rows:  # the classifiers of an epoch are trained together
        by_epoch[row.epoch] = max(row.seconds, by_epoch.get(row.epoch, 0.0))
    return sum(by_epoch.values())


def predict_val(place: Place, run: Run, tta: str = "") -> None:
    """Ask the classifiers of a run about val of its fold, and keep what they say."""
    import torch

    from common.prediction.predict import PredictionConfig, predict_run
    from common.system.device import resolve_precision, select_device

    torch.set_num_threads(1)
    device = select_device(place.device)
    precision = resolve_precision("auto", True, device)
    config = PredictionConfig(place.cache, 1, device, precision, tta or place.config(run).tta)
    split = scan_split(place.fold(run.fold), "val")
    pairs = predict_run(find_run(ResultDir(place.directory(run))), split, config)
    classes = apply_vote(run.title, pairs, "coupling").classes
    save_predictions(place.predictions(run, tta), pairs, classes, "coupling")


def fit_probe(place: Place, run: Run) -> float:
    """Fit a probe on train of a fold and keep what it says of val; returns the seconds it took."""
    import torch

    from benchmarks.recipes.probe import ProbeSetting, ask_probe
    from common.system.device import select_device

    torch.set_num_threads(1)
    started = time.perf_counter()
    config = place.config(run)
    train, val = (scan_split(place.fold(run.fold), name) for name in ("train", "val"))
    groups = place.column("group")
    setting = ProbeSetting(
        config=config,
        device=select_device(place.device),
        cache=place.cache,
        groups=np.array([int(groups[f"val/{id_.partition('/')[2]}"]) for id_ in train.ids]),
    )
    pairs = ask_probe(train, val, setting)
    directory = place.directory(run)
    classes = apply_vote(run.title, pairs, "coupling").classes
    save_predictions(place.predictions(run), pairs, classes, "coupling")
    write_json(ResultDir(directory).config, {"config": config.to_dict()})
    return time.perf_counter() - started
