"""Train the pair classifiers of one backbone, all together, each as if it were alone.

N images, B samples of a pair's effective batch, F pooled features.
"""

import math
import time
from collections.abc import Callable
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
from common.batching import batch_sizes, epoch_order, grouped, pair_batches
from common.config import TrainConfig
from common.dataset import PixelCache
from common.feeding import PixelFeed, room_for_pixels
from common.losses import balanced_class_weights, focal_loss
from common.metrics import binary_metrics, grading_summary
from common.ovo import (
    PairTop,
    batch_norms,
    chunk_size,
    dropout_mask,
    enable_grad_checkpointing,
    make_top,
    pair_content,
    trunk_features,
    use_batch_statistics,
)
from common.pairs import Pair, pair_name, pair_targets, pair_title
from common.preprocessing import Preprocessing
from common.runtime import InputError, autocast, log, progress_bar, random_generator, wait_for
from common.schedulers import lr_factor, plateau_factor
from common.stacking import Stack

VAL_BATCH = 32  # samples of a pair; part of what makes validation repeatable
_CHECK_EVERY = 32  # optimiser steps between two looks at the loss, each of which waits for the GPU
_DIVERGED = (
    "try --precision fp32, a lower --learning_rate or --max_grad_norm 1.0 in a new --output_dir"
)
# how a log line shows the value that picks the best epoch
_BEST = {
    "val_balanced_accuracy": "bal {:.1%}",
    "val_accuracy": "acc {:.1%}",
    "val_auc": "AUC {:.3f}",
    "val_loss": "val loss {:.4f}",
}
_HEARTBEAT = 300.0  # seconds between lines within a long epoch


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


@dataclass
class Memory:
    """What the device turned out to allow, shared by all pairs."""

    micro_batch: int
    checkpointing: bool
    stack: Stack | None = None  # runs several pairs in one launch; None: one after the other


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
    train_feed: PixelFeed = field(init=False)
    val_feed: PixelFeed = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        self.memory = Memory(config.effective_batch + 1, config.grad_checkpointing == "on")
        self.backbone.trunk.to(self.device)
        self.train_feed, self.val_feed = (
            PixelFeed(cache, self.device, room_for_pixels(self.device))
            for cache in (self.train, self.val)
        )


class PairTrainer:
    """One pair's classifier, optimiser and record."""

    def __init__(self, setup: Setup, pair: Pair) -> None:
        config = setup.config
        self.setup, self.pair = setup, pair
        self.top = make_top(setup.backbone, pair, config.seed).to(setup.device)
        self.batch_statistics = not config.pretrained and use_batch_statistics(self.top)
        if self.batch_statistics and config.effective_batch < 2:
            raise InputError(
                f"{config.model} from scratch needs the statistics of a batch, and the effective "
                "batch is one image; raise --batch_size or --gradient_accumulation_steps"
            )
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

    def prepare_step(self) -> None:
        """Clear the gradients, and recompute activations from here on if memory asks for it."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.setup.memory.checkpointing and not self.checkpointing:
            enable_grad_checkpointing(self.top)
            self.checkpointing = True

    def dropout_mask(self, count: int) -> Tensor:
        """Draw the mask (B, F) of the coming step on `count` samples."""
        config, width = self.setup.config, self.setup.backbone.num_features
        mask = dropout_mask(
            (count, width), config.ovo_dropout, config.seed, self.epoch,
            self.step % self.steps_per_epoch, *self.pair,
        )  # fmt: skip
        return mask.to(self.setup.device)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (N,), from logits (N,) of a pair or (N, K)."""
        config = self.setup.config
        gamma, alpha = config.focal_loss_gamma, config.focal_loss_alpha
        if not config.enable_focal_loss:
            gamma, alpha = 0.0, 1.0
        weights = self.class_weights.to(logits.device)
        return focal_loss(logits, targets, weights, gamma, alpha, config.label_smoothing)

    def update(self, loss: Tensor, correct: Tensor, size: int) -> None:
        """Take the optimiser's step on the gathered gradients, and note what the batch gave.

        loss: the sum over the `size` samples; correct: how many of them were right.
        """
        config = self.setup.config
        self.scaler.unscale_(self.optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(self.top.parameters(), config.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._losses.append(loss)
        self._correct.append(correct)
        self._seen += size
        if len(self._losses) % _CHECK_EVERY == 0:
            self.check_finite()

    def statistics(self) -> list[Tensor]:
        """Copy the BatchNorm layers' running statistics, if training moves them."""
        layers = batch_norms(self.top) if self.batch_statistics else []
        return [buffer.clone() for layer in layers for buffer in layer.buffers()]

    def restore_statistics(self, kept: list[Tensor]) -> None:
        """Put back what `statistics` returned."""
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
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


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
        _say_resumed(trainer)
    choose_parallelism(setup, [t for t in trainers if not t.finished])
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


def _say_resumed(trainer: PairTrainer) -> None:
    if trainer.finished:
        log(f"{pair_title(trainer.pair)}: is finished, {trainer.epoch} epochs")
    elif trainer.epoch:
        log(f"{pair_title(trainer.pair)}: goes on after epoch {trainer.epoch}")


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


@dataclass
class Batch:
    """A pair's effective batch: features (B, ...), targets (B,) and dropout mask (B, F)."""

    trainer: PairTrainer
    features: Tensor
    targets: Tensor
    mask: Tensor

    def part(self, start: int, stop: int) -> "Batch":
        """Take some of the samples."""
        rows = slice(start, stop)
        return Batch(self.trainer, self.features[rows], self.targets[rows], self.mask[rows])


def train_step(setup: Setup, batches: list[Batch]) -> None:
    """Update different pairs on one effective batch each, all of B samples.

    When the device runs out of memory, less is asked of it and the step is run again.
    """
    while True:
        for batch in batches:
            batch.trainer.prepare_step()
        kept = [batch.trainer.statistics() for batch in batches]
        try:
            sums = accumulate(setup, batches)
            break
        except torch.OutOfMemoryError as error:
            for batch, statistics in zip(batches, kept):
                batch.trainer.optimizer.zero_grad(set_to_none=True)
                batch.trainer.restore_statistics(statistics)
            ask_for_less(setup, batches, error)
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
    for batch, (loss, correct) in zip(batches, sums):
        batch.trainer.update(loss, correct, len(batch.targets))


def accumulate(setup: Setup, batches: list[Batch]) -> list[tuple[Tensor, Tensor]]:
    """Add up the gradients of effective batches, one micro-batch at a time.

    Returns, for each pair, the sum of its samples' losses and the number of right answers.
    """
    size = len(batches[0].targets)
    statistics = batches[0].trainer.batch_statistics  # they are those of the whole batch
    micro = size if statistics else min(setup.memory.micro_batch, size)
    launches = [batches] if setup.memory.stack else [[batch] for batch in batches]
    sums = []
    for launch in launches:
        parts = []
        for start in range(0, size, micro):
            micro_batches = [batch.part(start, start + micro) for batch in launch]
            parts.append(_forward_backward(setup, micro_batches, size))
        sums += [(sum(p[i][0] for p in parts), sum(p[i][1] for p in parts))
                 for i in range(len(launch))]  # fmt: skip
    return sums


def _forward_backward(setup: Setup, launch: list[Batch], size: int) -> list[tuple[Tensor, Tensor]]:
    """Add the gradients of one micro-batch of each pair, as parts of a mean over `size` samples."""
    total, sums = torch.zeros((), device=setup.device), []
    for batch, logits in zip(launch, _logits(setup, launch)):
        loss = batch.trainer.losses(logits, batch.targets).sum()
        total = total + batch.trainer.scaler.scale(loss / size)
        correct = (predicted(logits.detach()) == batch.targets).sum()
        sums.append((loss.detach(), correct.float()))
    # recomputation in the backward pass must not count a batch's statistics twice
    kept = [b.trainer.statistics() if b.trainer.checkpointing else [] for b in launch]
    total.backward()
    for batch, statistics in zip(launch, kept):
        batch.trainer.restore_statistics(statistics)
    return sums


def _logits(setup: Setup, launch: list[Batch]) -> list[Tensor]:
    with autocast(setup.device, setup.precision):
        if len(launch) == 1:
            return [launch[0].trainer.top(launch[0].features, launch[0].mask)]
        features = torch.stack([batch.features for batch in launch])
        masks = torch.stack([batch.mask for batch in launch])
        return list(setup.memory.stack([batch.trainer.top for batch in launch], features, masks))


def ask_for_less(setup: Setup, batches: list[Batch], error: Exception) -> None:
    """Halve the micro-batch; at one sample train pair by pair, then recompute activations.

    Raises TrainingError when nothing is left to try.
    """
    memory, config = setup.memory, setup.config
    micro = min(memory.micro_batch, config.effective_batch)
    statistics = batches[0].trainer.batch_statistics
    if micro > 1 and not statistics:
        memory.micro_batch = micro // 2
        log(
            f"out of memory: micro-batch {micro} -> {memory.micro_batch}; the effective "
            f"batch stays {config.effective_batch}"
        )
    elif memory.stack:
        memory.stack, memory.micro_batch = None, config.effective_batch + 1
        log("out of memory: the pairs are trained one after the other from here")
    elif config.grad_checkpointing == "auto" and not memory.checkpointing:
        memory.checkpointing = True
        log("out of memory: gradient checkpointing is on from here")
    else:
        raise TrainingError(
            f"out of memory at {pair_title(batches[0].trainer.pair)} with micro-batch {micro}; try "
            "--grad_checkpointing on, a smaller --img_size, --batch_size or a smaller model"
        ) from error


def choose_parallelism(setup: Setup, trainers: list[PairTrainer]) -> None:
    """Let pairs share launches where that is asked for, or measures faster on a GPU.

    On a CPU a loop over the pairs is the faster way. Raises InputError where "on" cannot be.
    """
    wanted, memory = setup.config.pair_parallelism, setup.memory
    reason = ""
    if trainers and trainers[0].batch_statistics:
        reason = "batch statistics are trained"
    elif memory.checkpointing:
        reason = "of gradient checkpointing"
    if wanted == "on" and reason:
        raise InputError(f"--pair_parallelism on cannot be because {reason}; take auto or off")
    if wanted == "off" or reason or len(trainers) < 2:
        return
    if wanted == "auto" and setup.device.type == "cpu":
        return
    stack = Stack(trainers[0].top)
    try:
        loop, together = (_time_launches(setup, trainers, kind) for kind in (None, stack))
    except RuntimeError as error:  # of vmap, or out of memory
        if wanted == "on":
            raise InputError(f"--pair_parallelism on: {_first_line(error)}; take off") from error
        log(f"pairs are trained one after the other ({_first_line(error)})")
        return
    memory.stack = stack if wanted == "on" or together < loop else None
    way = "share launches" if memory.stack else "are trained one after the other"
    log(f"{len(trainers)} pairs {way}: {1000 * together:.0f} ms together, "
        f"{1000 * loop:.0f} ms in a loop")  # fmt: skip


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _time_launches(setup: Setup, trainers: list[PairTrainer], stack: Stack | None) -> float:
    """Return the seconds of a forward and backward pass of all pairs; moves no weight."""
    config, size = setup.config, setup.settings.img_size
    pixels = np.zeros((1, size, size, 3), dtype=np.uint8)
    features = trunk_features(
        setup.backbone.trunk, pixels, setup.settings, setup.device, setup.precision
    )
    features = features.repeat(config.effective_batch, *[1] * (features.ndim - 1))
    targets = torch.zeros(config.effective_batch, dtype=torch.long, device=setup.device)
    batches = [Batch(t, features, targets, t.dropout_mask(len(targets))) for t in trainers]
    setup.memory.stack, best = stack, math.inf
    try:
        for _ in range(3):
            wait_for(setup.device)
            started = time.perf_counter()
            accumulate(setup, batches)
            wait_for(setup.device)
            best = min(best, time.perf_counter() - started)
    finally:
        setup.memory.stack = None
        for trainer in trainers:
            trainer.optimizer.zero_grad(set_to_none=True)
    return best


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
            setup.backbone.trunk, setup.train_feed(indices), setup.settings, setup.device,
            setup.precision, table[indices],
        )  # fmt: skip

    by_pair = {t.pair: t for t in trainers}
    order = epoch_order(config.seed, epoch, len(split))
    batches = pair_batches(
        order, split.labels, list(by_pair), config.effective_batch, chunk_size(setup.device),
        features_of,
    )  # fmt: skip
    done = 0
    for group in grouped(batches, len(trainers) if setup.memory.stack else 1):
        train_step(setup, [_batch(by_pair[pair], *item) for pair, *item in group])
        stopping.check()
        done += len(group)
        bar.update(len(group))
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


def _batch(trainer: PairTrainer, indices: np.ndarray, features: Tensor) -> Batch:
    labels = trainer.setup.train.split.labels[indices]
    targets = torch.from_numpy(pair_targets(labels, trainer.pair)).to(trainer.setup.device)
    return Batch(trainer, features, targets, trainer.dropout_mask(len(targets)))


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
            setup.backbone.trunk, setup.val_feed(indices), setup.settings, setup.device,
            setup.precision,
        )  # fmt: skip

    everything = np.arange(len(split))
    for pair, indices, features in pair_batches(
        everything, split.labels, list(by_pair), VAL_BATCH, chunk_size(setup.device), features_of
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
        measured = (
            f"val acc {row['val_accuracy']:6.1%}  bal {row['val_balanced_accuracy']:6.1%}  "
            f"AUC {row['val_auc']:.3f}"
        )
    best = "-"
    if trainer.best_epoch > 0:
        top = trainer.history[trainer.best_epoch - 1]
        best = f"{_BEST[config.monitor].format(top[config.monitor])} @{trainer.best_epoch}"
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
