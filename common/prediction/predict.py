"""Load the pair classifiers of a result directory and predict with them.

N images, P pairs, K classes.
"""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.special
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common.config import VIEWS
from common.data.class_names import quoted
from common.data.folders import Split
from common.models.checkpoint import PairCheckpoint, load_pair, restore_pair
from common.models.ovo import Branch, chunk_size, trunk_features, trunk_key
from common.pairs import (
    Head,
    class_pairs,
    has_pair_outputs,
    heads_of_model,
    is_one_network,
    with_head,
)
from common.pixel_store.pixel_cache import open_cache
from common.pixels.device_pixels import DevicePixels, PixelSource, views
from common.pixels.preprocessing import Preprocessing
from common.prediction.classes import scored_classes
from common.prediction.predictions import Cost, Origin, PairPredictions, load_predictions
from common.result_dir import ResultDir, Run
from common.sharing.parts import contribute, gather
from common.sharing.session import Session
from common.system.device import autocast, tune_malloc
from common.system.errors import InputError
from common.system.log import log, progress_bar


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
        log(f"{stored.model}: predictions on {split.name} are reused, nothing has changed")
        return replace(stored, scored=scored, set_classes=set_classes)
    model = load_model(run)
    rows = _Rows(model, split, config, origin)
    rows.announce()
    gflops = count_flops(model) * VIEWS[origin.tta] / 1e9  # while the model is still on the CPU
    started = time.perf_counter()
    logits = rows.all()
    speed = len(split) / (time.perf_counter() - started)
    return PairPredictions(
        model=model.model,
        head=model.head,
        class_names=list(run.names),
        ids=np.array(split.ids),
        targets=split.labels,
        pair_probabilities=probabilities_of(logits, run),
        pair_accuracies=in_grade_order(model.pair_accuracies, run.order, are_shares=False),
        cost=Cost(count_parameters(model), gflops, speed, str(config.device)),
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

    model: "LoadedModel"
    split: Split
    config: PredictionConfig
    origin: Origin

    def announce(self) -> None:
        """Say what is going to be predicted."""
        tta = self.origin.tta
        views_of_each = f", {VIEWS[tta]} views of each ({tta})" if tta != "none" else ""
        log(
            f"{with_head(self.model.model, self.model.head)}: predicting {len(self.split)} images "
            f"of {self.split.name}, {self.config.precision} on {self.config.device}{views_of_each}"
        )

    @property
    def name(self) -> str:
        """What the logits follow from: those of another model or of other images go elsewhere."""
        told = (self.model.fingerprint, self.origin.data, self.origin.precision, self.origin.tta)
        return f"logits_{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"

    def all(self) -> np.ndarray:
        """Predict all images, together with other processes if there are any."""
        count, session = len(self.split), self.config.session
        if session is None:
            return self.some(range(count))
        return gather(session, self.name, count, chunk_size(self.config.device), self.some)

    def some(self, rows: range) -> np.ndarray:
        """Predict some images, (n, P) or (n, K)."""
        config, pixels = self.config, self.model.preprocessing
        own = replace(self.split, images=self.split.images[rows.start : rows.stop])
        cache = open_cache(own, pixels, config.cache_dir, config.num_workers)
        return predict_logits(self.model, cache, config.device, config.precision, self.origin.tta)


def in_grade_order(
    values: np.ndarray, order: tuple[int, ...], are_shares: bool = True
) -> np.ndarray:
    """Arrange values of pairs (..., P) of classes in any order as those in grade order.

    order (K,): the place of each class. are_shares: they are probabilities of a pair's second
    class, and turn over with the pair.
    """
    columns = {pair: column for column, pair in enumerate(class_pairs(len(order)))}
    found = []
    for a, b in columns:
        first, second = order[a], order[b]
        column = values[..., columns[min(first, second), max(first, second)]]
        found.append(1 - column if are_shares and first > second else column)
    return np.stack(found, axis=-1)


def probabilities_of(logits: np.ndarray, run: Run) -> np.ndarray:
    """Turn a model's logits into pair probabilities (N, P) in grade order.

    Raises InputError where they are not finite.
    """
    finite = np.isfinite(logits).all(0)
    if not finite.all():
        path = run.files[0 if is_one_network(run.head) else int(np.argmin(finite))]
        raise InputError(f"{path}: gives values that are not finite; train this classifier again")
    return in_grade_order(pair_probabilities(logits, run.head), run.order)


def pair_probabilities(logits: np.ndarray, head: str) -> np.ndarray:
    """Turn logits (N, P) of pairs, or (N, K) of a softmax head, into pair probabilities (N, P).

    Those of a softmax head are p_b / (p_a + p_b): the coupling then gives back its probabilities.
    """
    return scipy.special.expit(pair_logits(logits.astype(np.float64), head))


def pair_logits(outputs: np.ndarray, head: str) -> np.ndarray:
    """Turn outputs (..., P) of pairs, or (..., K) of a softmax head, into logits (..., P) of pairs.

    Those of a softmax head are the differences of its outputs.
    """
    if has_pair_outputs(head):
        return outputs
    columns = class_pairs(outputs.shape[-1])
    return np.stack([outputs[..., b] - outputs[..., a] for a, b in columns], axis=-1)


@dataclass(frozen=True)
class Columns:
    """A branch, and which columns of the logits it gives."""

    columns: slice
    branch: Branch


@dataclass(frozen=True)
class TrunkGroup:
    """A trunk and the branches that work on its features."""

    trunk: nn.Module
    branches: list[Columns]

    @property
    def modules(self) -> list[nn.Module]:
        """The trunk and the branches."""
        return [self.trunk, *(own.branch for own in self.branches)]


@dataclass(frozen=True)
class LoadedModel:
    """The classifiers of one backbone; equal trunks are kept once."""

    model: str
    head: str
    class_names: list[str]  # in the order of the training
    preprocessing: Preprocessing
    groups: list[TrunkGroup]
    pair_accuracies: np.ndarray  # (P,) validation accuracy of each pair's best epoch
    fingerprint: str = ""  # of the files, as by `fingerprint_files`

    @property
    def num_outputs(self) -> int:
        """Count the columns of the logits: P pairs, or K classes of a softmax head."""
        return max(own.columns.stop for group in self.groups for own in group.branches)


def pixels_of(run: Run) -> Preprocessing:
    """Read which pixels the classifiers of a result directory see, from one of them."""
    return load_pair(run.files[0]).preprocessing


def load_model(run: Run) -> LoadedModel:
    """Load all classifiers of a result directory.

    Raises InputError when one is unreadable or was trained on different pixels.
    """
    groups: dict[object, TrunkGroup] = {}
    checkpoints: list[PairCheckpoint] = []
    digests: list[bytes] = []
    heads = heads_of_model(run.num_classes, run.head)
    for column, (path, head) in enumerate(zip(run.files, heads, strict=True)):
        data = path.read_bytes()
        digests.append(hashlib.sha256(data).digest())
        checkpoint = load_pair(path, data)
        classifier = restore_pair(checkpoint, str(path))
        checkpoints.append(checkpoint)
        _check_belongs(checkpoint, checkpoints[0], run, head, path)
        group = groups.setdefault(trunk_key(classifier.trunk), TrunkGroup(classifier.trunk, []))
        columns = slice(column, column + head.outputs)
        group.branches.append(Columns(columns, classifier.branch))
    unfinished = sum(not checkpoint.complete for checkpoint in checkpoints)
    if unfinished:
        log(
            f"note: {unfinished} of {len(checkpoints)} classifiers of {run.model} are unfinished; "
            "train_ovo.py --resume goes on with them"
        )
    accuracies = [value for checkpoint in checkpoints for value in checkpoint.pair_accuracies]
    if not has_pair_outputs(run.head):  # equal weights leave the weighted vote as it is
        accuracies = [1.0] * len(class_pairs(run.num_classes))
    return LoadedModel(
        model=run.model,
        head=run.head,
        class_names=list(run.trained_names),
        preprocessing=checkpoints[0].preprocessing,
        groups=list(groups.values()),
        pair_accuracies=np.array(accuracies),
        fingerprint=_join_digests(digests),
    )


def _check_belongs(
    checkpoint: PairCheckpoint, first: PairCheckpoint, run: Run, head: Head, path: Path
) -> None:
    """Raise InputError unless a file is what its name says, trained on the first one's pixels."""
    if (checkpoint.model, checkpoint.head) != (run.model, head):
        raise InputError(
            f"{path}: holds {checkpoint.head.title} of {checkpoint.model}; its name says another"
        )
    if checkpoint.preprocessing != first.preprocessing:
        raise InputError(
            f"{path}: was trained on other pixels than {run.files[0].name} "
            f"({checkpoint.preprocessing} and {first.preprocessing}); train the pairs of one "
            "directory alike"
        )
    require_names(checkpoint, run.trained_names, run.directory, path)


def require_names(
    checkpoint: PairCheckpoint, names: tuple[str, ...], directory: ResultDir, path: Path
) -> None:
    """Raise InputError unless a classifier's classes are called as config.json calls them."""
    if checkpoint.class_names[: len(names)] != names:
        raise InputError(
            f"{path}: was trained on the classes {quoted(checkpoint.class_names)}, but "
            f"{directory.config} says {quoted(names)}; restore that file"
        )


def count_parameters(model: LoadedModel) -> int:
    """Count the parameters of all classifiers, those of a shared trunk once."""
    modules = [module for group in model.groups for module in group.modules]
    return sum(p.numel() for module in modules for p in module.parameters())


def count_flops(model: LoadedModel) -> int:
    """Count the multiplications and additions for one view of an image; the model is on the CPU."""
    size = model.preprocessing.img_size
    image, flops = torch.zeros(1, 3, size, size), 0
    # the counter does not know every fused form of attention
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        for group in model.groups:
            with FlopCounterMode(display=False) as of_trunk:
                features = group.trunk(image)
            with FlopCounterMode(display=False) as of_branch:
                group.branches[0].branch(features)
            flops += of_trunk.get_total_flops()
            flops += len(group.branches) * of_branch.get_total_flops()
    return flops


def fingerprint_files(files: Iterable[Path]) -> str:
    """Hash the contents of files, to know later whether they are still the same."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return _join_digests(digests)


def _join_digests(digests: list[bytes]) -> str:
    """Make one fingerprint of the files' SHA-256 digests, in their order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def predict_logits(
    model: LoadedModel, cache: PixelSource, device: torch.device, precision: str, tta: str = "none"
) -> np.ndarray:
    """Return the logits (N, P) float32 of every pair for every image, each trunk run once per view.

    (N, K) of a softmax head. tta: as in `predict_pixels`.
    """
    if cache.preprocessing.cache_key() != model.preprocessing.cache_key():
        raise InputError(f"{model.model} was trained on other pixels than this cache holds")
    move_to(model, device)
    logits = np.empty((len(cache), model.num_outputs), dtype=np.float32)
    pixels_on_device, chunk = DevicePixels(cache, device), chunk_size(device)
    for start in progress_bar(range(0, len(cache), chunk), f"predict {model.model}"):
        indices = np.arange(start, min(start + chunk, len(cache)))
        found = predict_pixels(model, pixels_on_device(indices), device, precision, tta)
        logits[indices] = found.logits
    return logits


def move_to(model: LoadedModel, device: torch.device) -> None:
    """Bring a model to the device that `predict_pixels` is to run it on."""
    if device.type == "cpu":
        tune_malloc()
    for group in model.groups:
        for module in group.modules:
            module.to(device)


@dataclass(frozen=True)
class Outputs:
    """What a model's classifiers say of n pictures, and what these look like to its networks."""

    logits: np.ndarray  # (n, P) float32, or (n, K) of a softmax head
    features: np.ndarray  # (n, F) float32, pooled, of the pictures as they are; mean over branches


@torch.inference_mode()
def predict_pixels(
    model: LoadedModel,
    pixels: np.ndarray | Tensor,
    device: torch.device,
    precision: str,
    tta: str = "none",
) -> Outputs:
    """Show n pictures (n, S, S, 3) uint8, n <= `chunk_size`, to all classifiers of a model.

    `move_to` comes first. Every layer sees a chunk of one size, filled up with the last picture, so
    that on the CPU what is said of a picture is the same to the last bit wherever it stands and
    whatever is beside it. Logits are averaged over the views that `tta` names: a softmax
    head's differences, which are its pairs' logits, are then averaged alike.
    """
    count = len(pixels)
    shown = views(torch.as_tensor(pixels), tta)
    found = [_run_branches(model, view, device, precision) for view in shown]
    logits = np.empty((count, model.num_outputs), dtype=np.float32)
    of_branches = [own.columns for group in model.groups for own in group.branches]
    for columns, values in zip(of_branches, zip(*(view.logits for view in found))):
        mean = sum(values[1:], values[0]) / len(values)  # only now is the device waited for
        logits[:, columns] = mean[:count].reshape(count, -1).cpu().numpy()
    return Outputs(logits, found[0].features[:count].cpu().numpy())


@dataclass(frozen=True)
class _View:
    """What the branches say of one view of a chunk of pictures."""

    logits: list[Tensor]  # (C,), or (C, outputs), of each branch in turn; the first n are asked for
    features: Tensor  # (C, F) float32


def branch_logits(
    model: LoadedModel, pixels: Tensor, device: torch.device, precision: str
) -> list[Tensor]:
    """Return the logits (C,), or (C, outputs), of each branch in turn for n <= C pictures.

    What comes after the first n fills the chunk up, as in `predict_pixels`.
    """
    return _run_branches(model, pixels, device, precision).logits


def _run_branches(
    model: LoadedModel, pixels: Tensor, device: torch.device, precision: str
) -> _View:
    logits, pooled = [], []
    for group in model.groups:
        features = trunk_features(
            group.trunk, pixels, model.preprocessing, device, precision, padded=True
        )
        with autocast(device, precision):
            for own in group.branches:
                pooled.append(own.branch.stages(features))
                logits.append(own.branch.classify(pooled[-1]).float())
    return _View(logits, torch.stack(pooled).float().mean(0))
