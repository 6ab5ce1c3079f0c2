"""Train the pair classifiers of one backbone, all together, each as if it were alone.

N images, B samples of a pair's effective batch.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.augmentation import augmentation_table
from common.data.sampler import epoch_order, grouped, pair_batches
from common.evaluation.metrics import binary_metrics, grading_summary
from common.models.ovo import chunk_size, trunk_features, use_batch_statistics
from common.pairs import Head
from common.result_dir import write_history
from common.system import signals
from common.system.device import autocast, to_device
from common.system.errors import InputError
from common.system.log import duration, log, progress_bar
from common.system.random_streams import random_generator
from common.training.context import TrainContext
from common.training.step import Batch, choose_parallelism, train_step
from common.training.trainer import PairTrainer, probabilities

VAL_BATCH = 32  # samples of a pair; part of what makes validation repeatable


# how a log line shows the value that picks the best epoch
_BEST = {
    "val_balanced_accuracy": "bal {:.1%}",
    "val_accuracy": "acc {:.1%}",
    "val_auc": "AUC {:.3f}",
    "val_loss": "val loss {:.4f}",
}


_HEARTBEAT = 300.0  # seconds between lines within a long epoch


def check_counts(setup: TrainContext, heads: list[Head]) -> None:
    """Raise InputError if a class of these heads has no image to train or to validate on."""
    for cache in (setup.train, setup.val):
        counts = cache.split.counts(setup.config.num_classes)
        empty = sorted({c for head in heads for c in head.classes if not counts[c]})
        if empty:
            raise InputError(
                f"expected images of every grade in {cache.split.name}, found none of grade "
                f"{' '.join(map(str, empty))}; add some or choose --pairs without it"
            )


def train(
    setup: TrainContext,
    heads: list[Head],
    writer: Any = None,
    resumed: Callable[[], None] | None = None,
) -> list[PairTrainer]:
    """Train the pairs to their end, from their last checkpoints where there are some.

    writer: a TensorBoard SummaryWriter or None; resumed: called once the checkpoints are read.
    Raises TrainingError when it cannot go on, Stopped after a signal, with all epochs on the disk.
    """
    check_counts(setup, heads)
    trainers = [PairTrainer(setup, head) for head in heads]
    for trainer in trainers:
        trainer.resume()
        _say_resumed(trainer)
    choose_parallelism(setup, [t for t in trainers if not t.finished])
    _write_history(setup, trainers)  # a run that was killed may not have come to it
    if resumed is not None:
        resumed()
    with signals.waiting_for_check():
        try:
            _run_epochs(setup, trainers, writer)
        except signals.Stopped:
            for trainer in trainers:
                trainer.keep()
            _write_history(setup, trainers)
            raise
    return trainers


def _run_epochs(setup: TrainContext, trainers: list[PairTrainer], writer: Any) -> None:
    for epoch in range(setup.config.epochs):
        # a pair whose checkpoint is older catches up alone; the others wait at their epoch
        active = [t for t in trainers if not t.finished and t.epoch == epoch]
        if active:
            run_epoch(setup, active, epoch, writer)
            _write_history(setup, trainers)


def _say_resumed(trainer: PairTrainer) -> None:
    if trainer.finished:
        log(f"{trainer.head.title}: is finished, {trainer.epoch} epochs")
    elif trainer.epoch:
        log(f"{trainer.head.title}: goes on after epoch {trainer.epoch}")


def _write_history(setup: TrainContext, trainers: list[PairTrainer]) -> None:
    rows = [row for trainer in trainers for row in trainer.history]
    if rows:
        write_history(setup.directory.history, rows, [t.head for t in trainers])


def run_epoch(setup: TrainContext, trainers: list[PairTrainer], epoch: int, writer: Any) -> None:
    """Train the given pairs for one epoch, validate, record, and say how it went."""
    config, started = setup.config, time.perf_counter()
    images = train_epoch(setup, trainers, epoch)
    speed = images / max(time.perf_counter() - started, 1e-9)
    last = epoch + 1 == config.epochs
    due = last or (epoch + 1) % config.validation_frequency == 0
    results = validate(setup, trainers) if due else {}
    seconds = time.perf_counter() - started
    for trainer in trainers:
        trainer.finish_epoch(results.get(trainer.head), speed, seconds)
        log(epoch_line(trainer))
        if writer is not None:
            _write_scalars(writer, trainer)


def train_epoch(setup: TrainContext, trainers: list[PairTrainer], epoch: int) -> int:
    """Run one pass over the training images of these pairs; returns how many images that were."""
    config, split = setup.config, setup.train.split
    table = augmentation_table(
        random_generator("augmentation", config.seed, epoch),
        len(split),
        config.rotation_range,
        config.brightness_range,
        config.contrast_range,
    )
    total = sum(t.steps_per_epoch for t in trainers)
    bar = progress_bar(None, f"epoch {epoch + 1}/{config.epochs}", total)
    seen, started = 0, time.monotonic()
    beat = started

    def features_of(indices: np.ndarray) -> Tensor:
        nonlocal seen
        seen += len(indices)
        return trunk_features(
            setup.backbone.trunk,
            setup.train_feed(indices),
            setup.preprocessing,
            setup.device,
            setup.precision,
            table[indices],
        )

    by_head = {t.head: t for t in trainers}
    order = epoch_order(config.seed, epoch, len(split))
    batches = pair_batches(
        order,
        split.labels,
        list(by_head),
        config.effective_batch,
        chunk_size(setup.device),
        features_of,
    )
    done = 0
    for group in grouped(batches, len(trainers) if setup.memory.stack else 1):
        train_step(setup, [_batch(by_head[head], *item) for head, *item in group])
        signals.check()
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
    targets = to_device(trainer.head.targets(labels), trainer.setup.device)
    return Batch(trainer, features, targets, trainer.dropout_mask(len(targets)))


@torch.no_grad()
def validate(setup: TrainContext, trainers: list[PairTrainer]) -> dict[Head, dict[str, float]]:
    """Measure loss and binary metrics of each pair on the validation images of its classes."""
    split = setup.val.split
    by_head = {t.head: t for t in trainers}
    logits: dict[Head, list[Tensor]] = {head: [] for head in by_head}
    order: dict[Head, list[np.ndarray]] = {head: [] for head in by_head}
    for trainer in trainers:
        trainer.top.eval()

    def features_of(indices: np.ndarray) -> Tensor:
        return trunk_features(
            setup.backbone.trunk,
            setup.val_feed(indices),
            setup.preprocessing,
            setup.device,
            setup.precision,
        )

    everything = np.arange(len(split))
    for head, indices, features in pair_batches(
        everything, split.labels, list(by_head), VAL_BATCH, chunk_size(setup.device), features_of
    ):
        signals.check()
        with autocast(setup.device, setup.precision):
            logits[head].append(by_head[head].top(features).float())
        order[head].append(indices)
    results = {}
    for head, trainer in by_head.items():
        if trainer.batch_statistics:
            use_batch_statistics(trainer.top)
        targets = head.targets(split.labels[np.concatenate(order[head])])
        values = torch.cat(logits[head]).cpu()
        loss = trainer.losses(values, torch.from_numpy(targets)).mean()
        measure = binary_metrics if head.is_binary else grading_summary
        measured = measure(probabilities(values).numpy(), targets)
        names = ("accuracy", "balanced_accuracy", "auc", "sensitivity", "specificity")
        results[head] = {"loss": float(loss), **{name: float(measured[name]) for name in names}}
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
        f"{trainer.head.title}  epoch {row['epoch']:>3}/{config.epochs}  "
        f"loss {row['train_loss']:.4f}  {measured}  lr {row['learning_rate']:.2e}  "
        f"{row['images_per_second']:.1f} images/s  ETA {state}  best {best}"
    )


def _write_scalars(writer: Any, trainer: PairTrainer) -> None:
    row = trainer.history[-1]
    for name, value in row.items():
        if name not in ("pair", "epoch"):
            writer.add_scalar(f"{row['pair']}/{name}", value, row["epoch"])
