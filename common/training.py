"""Train the pair classifiers of one backbone, all together, each as if it were alone.

N images, B samples of a pair's effective batch, F pooled features.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common import artifacts, stopping
from common.artifacts import DamagedError, ResultDir
from common.augmentation import augmentation_table
from common.backbones import Backbone
from common.config import TrainConfig
from common.dataset import PixelCache
from common.losses import balanced_class_weights, focal_loss
from common.metrics import binary_metrics, grading_summary
from common.ovo import (
    CHUNK,
    PairTop,
    batch_norms,
    dropout_mask,
    enable_grad_checkpointing,
    make_top,
    pair_content,
    trunk_features,
    use_batch_statistics,
)
from common.pairs import Pair, pair_name, pair_targets, pair_title
from common.preprocessing import Preprocessing
from common.runtime import InputError, autocast, log, progress_bar, random_generator
from common.schedulers import lr_factor, plateau_factor

VAL_BATCH = 32  # samples of a pair; part of what makes validation repeatable
_CHECK_EVERY = 32  # optimiser steps between two looks at the loss, each of which waits for the GPU
_DIVERGED = (
    "try --precision fp32, a lower --learning_rate or --max_grad_norm 1.0 in a new --output_dir"
)
_HEARTBEAT = 300.0  # seconds between lines within a long epoch


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


@dataclass
class Memory:
    """What the device's memory turned out to allow, shared by all pairs."""

    micro_batch: int
    checkpointing: bool


@dataclass
class Setup:
    """What the pairs of a run share."""

    config: TrainConfig
    backbone: Backbone
    settings: Preprocessing
    device: torch.device
    precision: str
    train: PixelCache
    val: PixelCache
    directory: ResultDir
    details: dict[str, Any]  # what each pair's file says of the run
    overridden: bool = False  # the settings are not those of the epochs before
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self.memory = Memory(config.effective_batch + 1, config.grad_checkpointing == "on")
        self.backbone.trunk.to(self.device)


def batch_sizes(count: int, batch: int) -> list[int]:
    """Cut `count` samples into batches; a lone last one joins the batch before it.

    A batch of one has no batch statistics.
    """
    sizes = [batch] * (count // batch)
    rest = count % batch
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the epoch's one permutation of all images, of which a pair takes its own."""
    return random_generator("order", seed, epoch).permutation(count)


def pair_batches(
    order: np.ndarray,
    labels: np.ndarray,
    pairs: list[Pair],
    batch: int,
    features_of: Callable[[np.ndarray], Tensor],
) -> Iterator[tuple[Pair, np.ndarray, Tensor]]:
    """Compute each image's features once and hand each pair its batches in its own order.

    order: image indices; labels of all images; features_of maps up to CHUNK indices to features.
    Yields (pair, indices (B,), features (B, ...)). A pair's batches depend on `order` and its own
    classes alone.
    """
    order = order[np.isin(labels[order], sorted({c for pair in pairs for c in pair}))]
    sizes = {p: batch_sizes(int(np.isin(labels[order], p).sum()), batch)[::-1] for p in pairs}
    waiting: dict[Pair, list[tuple[np.ndarray, Tensor]]] = {pair: [] for pair in pairs}
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        features = features_of(chunk)
        for pair in pairs:
            rows = np.flatnonzero(np.isin(labels[chunk], pair))
            if len(rows):
                own = features[torch.from_numpy(rows).to(features.device)]
                waiting[pair].append((chunk[rows], own))
            while sizes[pair] and sum(len(i) for i, _ in waiting[pair]) >= sizes[pair][-1]:
                indices = np.concatenate([i for i, _ in waiting[pair]])
                stacked = torch.cat([f for _, f in waiting[pair]])
                size = sizes[pair].pop()
                waiting[pair] = [(indices[size:], stacked[size:])] if len(indices) > size else []
                yield pair, indices[:size], stacked[:size].contiguous()


class PairTrainer:
    """One pair's classifier, optimiser and record."""

    def __init__(self, setup: Setup, pair: Pair) -> None:
        config = setup.config
        self.setup, self.pair = setup, pair
        self.top = make_top(setup.backbone, pair, config.seed).to(setup.device)
        self.batch_statistics = not config.pretrained and use_batch_statistics(self.top)
        self.checkpointing = False
        self.optimizer = make_optimizer(self.top, config)
        self.scaler = torch.amp.GradScaler(setup.device.type, enabled=setup.precision == "fp16")
        labels = setup.train.split.labels
        counts = [int((labels == c).sum()) for c in pair]
        self.class_weights = torch.tensor(pair_weights(config, pair, counts), device=setup.device)
        self.steps_per_epoch = len(batch_sizes(sum(counts), config.effective_batch))
        self.epoch = self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best_epoch, self.best_score, self.waited = -1, -math.inf, 0
        self.finished = False
        self._unsaved: memoryview | None = None  # state after the last epoch, if not on the disk
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._seen = 0

    # -- one optimiser step -------------------------------------------------------------------

    def train_step(self, features: Tensor, targets: Tensor) -> None:
        """Update the top on one effective batch: features (B, ...), targets (B,) 0 or 1."""
        config = self.setup.config
        mask = dropout_mask(
            (len(targets), self.setup.backbone.num_features), config.ovo_dropout,
            config.seed, self.epoch, self.step % self.steps_per_epoch, *self.pair,
        )  # fmt: skip
        mask = mask.to(self.setup.device) if mask is not None else None
        self._with_enough_memory(lambda: self._accumulate(features, targets, mask))
        self.scaler.unscale_(self.optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(self.top.parameters(), config.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if len(self._losses) % _CHECK_EVERY == 0:
            self.check_finite()

    def _accumulate(self, features: Tensor, targets: Tensor, mask: Tensor | None) -> None:
        """Add up the gradients of the effective batch, one micro-batch at a time."""
        self.optimizer.zero_grad(set_to_none=True)
        size = len(targets)
        micro = size if self.batch_statistics else min(self.setup.memory.micro_batch, size)
        loss = torch.zeros((), device=targets.device)
        correct = torch.zeros((), device=targets.device)
        for start in range(0, size, micro):
            part = slice(start, start + micro)
            with autocast(self.setup.device, self.setup.precision):
                logits = self.top(features[part], None if mask is None else mask[part])
            part_loss = self.losses(logits, targets[part]).sum() / size
            # recomputation in the backward pass must not count a batch's statistics twice
            kept = self._statistics() if self.checkpointing else []
            self.scaler.scale(part_loss).backward()
            self._restore_statistics(kept)
            loss += part_loss.detach()
            correct += (predicted(logits.detach()) == targets[part]).sum()
        self._losses.append(loss * size)
        self._correct.append(correct)
        self._seen += size

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (N,), from logits (N,) of a pair or (N, K)."""
        config = self.setup.config
        gamma, alpha = config.focal_loss_gamma, config.focal_loss_alpha
        if not config.enable_focal_loss:
            gamma, alpha = 0.0, 1.0
        weights = self.class_weights.to(logits.device)
        return focal_loss(logits, targets, weights, gamma, alpha, config.label_smoothing)

    def _with_enough_memory(self, work: Callable[[], None]) -> None:
        """Run a step; when the device runs out of memory, ask for less and run it again."""
        memory = self.setup.memory
        while True:
            if memory.checkpointing and not self.checkpointing:
                enable_grad_checkpointing(self.top)
                self.checkpointing = True
            kept = self._statistics()
            try:
                return work()
            except torch.OutOfMemoryError as error:
                self.optimizer.zero_grad(set_to_none=True)
                self._restore_statistics(kept)
                self._ask_for_less(error)
            if self.setup.device.type == "cuda":
                torch.cuda.empty_cache()

    def _ask_for_less(self, error: Exception) -> None:
        memory, config = self.setup.memory, self.setup.config
        micro = min(memory.micro_batch, config.effective_batch)
        if micro > 1 and not self.batch_statistics:
            memory.micro_batch = micro // 2
            log(
                f"out of memory: micro-batch {micro} -> {memory.micro_batch}; the effective "
                f"batch stays {config.effective_batch}"
            )
        elif config.grad_checkpointing == "auto" and not memory.checkpointing:
            memory.checkpointing = True
            log("out of memory: gradient checkpointing is on from here")
        else:
            raise TrainingError(
                f"out of memory at {pair_title(self.pair)} with micro-batch {micro}; try "
                "--grad_checkpointing on, a smaller --img_size, --batch_size or a smaller model"
            ) from error

    def _statistics(self) -> list[Tensor]:
        layers = batch_norms(self.top) if self.batch_statistics else []
        return [buffer.clone() for layer in layers for buffer in layer.buffers()]

    def _restore_statistics(self, kept: list[Tensor]) -> None:
        if kept:
            buffers = [b for layer in batch_norms(self.top) for b in layer.buffers()]
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)

    def check_finite(self) -> None:
        """Raise TrainingError naming the step if a loss of this epoch is not a number."""
        losses = torch.stack(self._losses).cpu()
        if not torch.isfinite(losses).all():
            step = int((~torch.isfinite(losses)).nonzero()[0]) + 1
            raise TrainingError(
                f"the loss is not finite at {pair_title(self.pair)}, epoch {self.epoch + 1}, "
                f"step {step} of {self.steps_per_epoch}; {_DIVERGED}"
            )

    def learning_rate(self) -> float:
        """Return the learning rate of the coming step."""
        config = self.setup.config
        factor = lr_factor(
            self.step, config.epochs * self.steps_per_epoch,
            config.warmup_epochs * self.steps_per_epoch, config.scheduler,
            config.min_lr / config.learning_rate,
        )  # fmt: skip
        if config.scheduler == "plateau":
            scores = [self._score(row) for row in self.history if "val_loss" in row]
            factor *= plateau_factor(scores, max(1, config.patience // 3), config.min_delta)
            return max(config.min_lr, config.learning_rate * factor)
        return config.learning_rate * factor

    # -- the end of an epoch ------------------------------------------------------------------

    def finish_epoch(self, val: dict[str, float] | None, speed: float, seconds: float) -> None:
        """Record the epoch, keep it if it is the best, and decide whether to stop."""
        config = self.setup.config
        self.check_finite()
        if val is not None and not math.isfinite(val["loss"]):
            raise TrainingError(
                f"the validation loss is not finite at {pair_title(self.pair)}, epoch "
                f"{self.epoch + 1}: the last steps have blown up; {_DIVERGED}"
            )
        row = {
            "pair": pair_name(self.pair),
            "epoch": self.epoch + 1,
            "train_loss": float(torch.stack(self._losses).sum()) / self._seen,
            "train_accuracy": float(torch.stack(self._correct).sum()) / self._seen,
            **{f"val_{name}": value for name, value in (val or {}).items()},
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": speed,
            "seconds": seconds,
        }
        self._losses, self._correct, self._seen = [], [], 0
        self.history.append(row)
        self.epoch += 1
        if val is not None:
            score = self._score(row)
            if score > self.best_score + config.min_delta or self.best_epoch < 0:
                self.best_epoch, self.best_score, self.waited = self.epoch, score, 0
                self.save_best(complete=False)
            else:
                self.waited += 1
        self.finished = self.epoch >= config.epochs or self.waited >= config.patience
        self._unsaved = None
        if self.finished:
            self.save_best(complete=True)
            return
        self._unsaved = artifacts.pack_checkpoint(self.state())
        if self.epoch % config.checkpoint_frequency == 0:
            self.keep()

    def keep(self) -> None:
        """Put the state after the last epoch on the disk, beside the one before it."""
        if self._unsaved is not None:
            directory, model = self.setup.directory, self.setup.config.model
            last, previous = directory.last(model, self.pair), directory.previous(model, self.pair)
            artifacts.write_checkpoint(last, self._unsaved, previous)
            self._unsaved = None

    def _score(self, row: dict[str, Any]) -> float:
        value = row[self.setup.config.monitor]
        return -value if self.setup.config.monitor == "val_loss" else value

    def save_best(self, complete: bool) -> None:
        """Write the pair's file: the weights of now, or, at the end, the full record beside them.

        A finished pair's file keeps the weights of its best epoch.
        """
        setup = self.setup
        path = setup.directory.best(setup.config.model, self.pair)
        if complete:
            content = artifacts.load_pair_content(path)
        else:
            content = pair_content(
                setup.backbone, self.top, self.pair, setup.settings, setup.details
            )
            content["best_epoch"] = self.epoch
            content["metrics"] = dict(self.history[-1])
        content["history"] = [dict(row) for row in self.history]
        content["complete"] = complete
        artifacts.save_checkpoint(path, content)

    def state(self) -> dict[str, Any]:
        """Return all that resuming needs, as tensors and plain types."""
        return {
            "format": "ovo-resume-1",
            "pair": list(self.pair),
            "top": self.top.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "waited": self.waited,
        }

    def resume(self) -> None:
        """Go on from this pair's last checkpoint, or note that it is finished.

        Where that is damaged, go on from the one before it, or from the start.
        """
        directory, model = self.setup.directory, self.setup.config.model
        best, trouble = directory.best(model, self.pair), []
        content = _if_good(best, artifacts.load_pair_content, trouble)
        if content is not None and content.get("complete"):
            self._take(best, lambda: self._take_finished(content))
            return
        for path in (directory.last(model, self.pair), directory.previous(model, self.pair)):
            state = _if_good(path, artifacts.load_checkpoint, trouble)
            if state is None:
                path.unlink(missing_ok=True)  # a damaged one must not become the previous one
            elif self._take(path, lambda s=state: self._fits_best(s, content)):
                self._take(path, lambda s=state: self._take_state(s))
                break
            else:
                trouble += [] if trouble else [f"{best} is missing or of another epoch"]
        if trouble:
            how = f"goes on after epoch {self.epoch}" if self.epoch else "is trained from the start"
            log(f"{pair_title(self.pair)}: {'; '.join(trouble)}; it {how}")

    def _fits_best(self, state: dict[str, Any], content: dict[str, Any] | None) -> bool:
        """Tell whether the pair's file holds the weights that this state calls the best so far.

        A later epoch's will do: that epoch comes again, with the same outcome if the settings are
        the same.
        """
        wanted, found = int(state["best_epoch"]), int((content or {}).get("best_epoch", -1))
        return wanted <= 0 or (found == wanted if self.setup.overridden else found >= wanted)

    def _take(self, path: Path, take: Callable[[], Any]) -> Any:
        try:
            return take()
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(
                f"{path}: cannot be continued from ({' '.join(repr(error).split())[:120]}); remove "
                "it to train this classifier from the start"
            ) from error

    def _take_finished(self, content: dict[str, Any]) -> None:
        self.history, self.best_epoch = list(content["history"]), int(content["best_epoch"])
        self.epoch, self.finished = len(self.history), True
        if not 1 <= self.best_epoch <= self.epoch:
            raise ValueError(f"best epoch {self.best_epoch} of {self.epoch}")

    def _take_state(self, state: dict[str, Any]) -> None:
        self.top.load_state_dict(state["top"])
        decays = [group["weight_decay"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, decay in zip(self.optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay  # that of now, should it have been overridden
        if state["scaler"] or not self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        for name in ("epoch", "history", "best_epoch", "best_score", "waited"):
            setattr(self, name, state[name])
        self.step = self.epoch * self.steps_per_epoch


def _if_good(
    path: Path, read: Callable[[Path], dict[str, Any]], trouble: list[str]
) -> dict[str, Any] | None:
    """Read a checkpoint; None if there is none or it is damaged, which `trouble` then says."""
    if not path.is_file():
        return None
    try:
        return read(path)
    except DamagedError as error:
        trouble.append(str(error))
        return None


def predicted(logits: Tensor) -> Tensor:
    """Return the predicted targets (N,) of logits (N,) of a pair or (N, K)."""
    return (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)


def probabilities(logits: Tensor) -> Tensor:
    """Return the probability of a pair's higher class (N,), or of every class (N, K)."""
    return torch.sigmoid(logits) if logits.ndim == 1 else torch.softmax(logits, dim=1)


def make_optimizer(top: PairTop, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW that decays matrices and kernels but not norms, biases and other vectors."""
    parameters = [p for p in top.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def pair_weights(config: TrainConfig, pair: Pair, counts: list[int]) -> list[float]:
    """Return the loss weights of the classifier's classes: given ones, or n / (K n_c)."""
    if not config.enable_class_weights:
        return [1.0] * len(pair)
    weights = balanced_class_weights(counts)
    given = [getattr(config, f"class_weight_{c}", 0.0) for c in pair]
    return [g or w for g, w in zip(given, weights)]


def check_counts(setup: Setup, pairs: list[Pair]) -> None:
    """Raise InputError if a class of these pairs has no image to train or to validate on."""
    for cache in (setup.train, setup.val):
        counts = cache.split.counts(setup.config.num_classes)
        empty = sorted({c for pair in pairs for c in pair if not counts[c]})
        if empty:
            raise InputError(
                f"expected images of every grade in {cache.split.name}, found none of grade "
                f"{' '.join(map(str, empty))}; add some or choose --pairs without it"
            )


def train(
    setup: Setup, pairs: list[Pair], writer: Any = None, resumed: Callable[[], None] | None = None
) -> list[PairTrainer]:
    """Train the pairs to their end, from their last checkpoints where there are some.

    writer: a TensorBoard SummaryWriter or None; resumed: called once the checkpoints are read.
    Raises TrainingError when it cannot go on, Stopped after a signal, with all epochs on the disk.
    """
    check_counts(setup, pairs)
    trainers = [PairTrainer(setup, pair) for pair in pairs]
    for trainer in trainers:
        trainer.resume()
    _write_history(setup, trainers)  # a run that was killed may not have come to it
    if resumed is not None:
        resumed()
    with stopping.waiting_for_check():
        try:
            _run_epochs(setup, trainers, writer)
        except stopping.Stopped:
            for trainer in trainers:
                trainer.keep()
            _write_history(setup, trainers)
            raise
    return trainers


def _run_epochs(setup: Setup, trainers: list[PairTrainer], writer: Any) -> None:
    for epoch in range(setup.config.epochs):
        # a pair whose checkpoint is older catches up alone; the others wait at their epoch
        active = [t for t in trainers if not t.finished and t.epoch == epoch]
        if active:
            run_epoch(setup, active, epoch, writer)
            _write_history(setup, trainers)


def _write_history(setup: Setup, trainers: list[PairTrainer]) -> None:
    rows = [row for trainer in trainers for row in trainer.history]
    if rows:
        artifacts.write_history(setup.directory.history, rows, [t.pair for t in trainers])


def run_epoch(setup: Setup, trainers: list[PairTrainer], epoch: int, writer: Any) -> None:
    """Train the given pairs for one epoch, validate, record, and say how it went."""
    config, started = setup.config, time.perf_counter()
    images = train_epoch(setup, trainers, epoch)
    speed = images / max(time.perf_counter() - started, 1e-9)
    last = epoch + 1 == config.epochs
    due = last or (epoch + 1) % config.validation_frequency == 0
    results = validate(setup, trainers) if due else {}
    seconds = time.perf_counter() - started
    for trainer in trainers:
        trainer.finish_epoch(results.get(trainer.pair), speed, seconds)
        log(epoch_line(trainer))
        if writer is not None:
            _write_scalars(writer, trainer)


def train_epoch(setup: Setup, trainers: list[PairTrainer], epoch: int) -> int:
    """Run one pass over the training images of these pairs; returns how many images that were."""
    config, split = setup.config, setup.train.split
    table = augmentation_table(
        random_generator("augmentation", config.seed, epoch), len(split),
        config.rotation_range, config.brightness_range, config.contrast_range,
    )  # fmt: skip
    total = sum(t.steps_per_epoch for t in trainers)
    bar = progress_bar(None, f"epoch {epoch + 1}/{config.epochs}", total)
    seen, started = 0, time.monotonic()
    beat = started

    def features_of(indices: np.ndarray) -> Tensor:
        nonlocal seen
        seen += len(indices)
        return trunk_features(
            setup.backbone.trunk, setup.train.read(indices), setup.settings, setup.device,
            setup.precision, table[indices],
        )  # fmt: skip

    by_pair = {t.pair: t for t in trainers}
    order = epoch_order(config.seed, epoch, len(split))
    batches = pair_batches(order, split.labels, list(by_pair), config.effective_batch, features_of)
    for done, (pair, indices, features) in enumerate(batches, 1):
        targets = torch.from_numpy(pair_targets(split.labels[indices], pair))
        by_pair[pair].train_step(features, targets.to(setup.device))
        stopping.check()
        bar.update()
        if time.monotonic() - beat > _HEARTBEAT:
            beat = time.monotonic()
            left = (beat - started) * (total - done) / done
            speed = seen / (beat - started)
            log(
                f"epoch {epoch + 1}/{config.epochs}: {100 * done / total:.0f} % of {total} steps, "
                f"{speed:.1f} images/s, epoch ends in {duration(left)}"
            )
    bar.close()
    return seen


@torch.no_grad()
def validate(setup: Setup, trainers: list[PairTrainer]) -> dict[Pair, dict[str, float]]:
    """Measure loss and binary metrics of each pair on the validation images of its classes."""
    split = setup.val.split
    by_pair = {t.pair: t for t in trainers}
    logits: dict[Pair, list[Tensor]] = {pair: [] for pair in by_pair}
    order: dict[Pair, list[np.ndarray]] = {pair: [] for pair in by_pair}
    for trainer in trainers:
        trainer.top.eval()

    def features_of(indices: np.ndarray) -> Tensor:
        return trunk_features(
            setup.backbone.trunk, setup.val.read(indices), setup.settings, setup.device,
            setup.precision,
        )  # fmt: skip

    everything = np.arange(len(split))
    for pair, indices, features in pair_batches(
        everything, split.labels, list(by_pair), VAL_BATCH, features_of
    ):
        stopping.check()
        with autocast(setup.device, setup.precision):
            logits[pair].append(by_pair[pair].top(features).float())
        order[pair].append(indices)
    results = {}
    for pair, trainer in by_pair.items():
        if trainer.batch_statistics:
            use_batch_statistics(trainer.top)
        targets = pair_targets(split.labels[np.concatenate(order[pair])], pair)
        values = torch.cat(logits[pair]).cpu()
        loss = trainer.losses(values, torch.from_numpy(targets)).mean()
        measure = binary_metrics if values.ndim == 1 else grading_summary
        measured = measure(probabilities(values).numpy(), targets)
        names = ("accuracy", "balanced_accuracy", "auc", "sensitivity", "specificity")
        results[pair] = {"loss": float(loss), **{name: float(measured[name]) for name in names}}
    return results


def epoch_line(trainer: PairTrainer) -> str:
    """Say in one line how the pair's last epoch went."""
    row, config = trainer.history[-1], trainer.setup.config
    seconds = np.mean([r["seconds"] for r in trainer.history[-10:]])
    measured = "not validated"
    if "val_loss" in row:
        measured = f"val acc {100 * row['val_accuracy']:5.1f} %  AUC {row['val_auc']:.3f}"
    best = "-"
    if trainer.best_epoch > 0:
        top = trainer.history[trainer.best_epoch - 1]
        best = f"{100 * top['val_accuracy']:.1f} % @{trainer.best_epoch}"
    state = "done" if trainer.finished else duration(seconds * (config.epochs - trainer.epoch))
    return (
        f"{pair_title(trainer.pair)}  epoch {row['epoch']:>3}/{config.epochs}  "
        f"loss {row['train_loss']:.4f}  {measured}  lr {row['learning_rate']:.2e}  "
        f"{row['images_per_second']:.1f} images/s  ETA {state}  best {best}"
    )


def duration(seconds: float) -> str:
    """Write seconds as "45 s", "12 min" or "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _write_scalars(writer: Any, trainer: PairTrainer) -> None:
    row = trainer.history[-1]
    for name, value in row.items():
        if name not in ("pair", "epoch"):
            writer.add_scalar(f"{row['pair']}/{name}", value, row["epoch"])
