"""Train the heads of one backbone, all together, each as if it were alone.

N images, B samples of a head's effective batch.
"""

import math
import time
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from common.config import LAST
from common.data.sampler import HeadBatch, epoch_order, grouped, pair_batches
from common.fine_tuning.probe import STRENGTH, fit_probe, pooled_features, set_classifier
from common.history import Validation
from common.locks.run_lock import LockedError, lock_for_a_moment
from common.metrics.classification import binary_metrics, classification_metrics
from common.models.ovo import chunk_size, trunk_features, use_batch_statistics
from common.pairs import Head, pair_name, pair_targets
from common.pixels.augmentation import augmentation_table
from common.pixels.device_pixels import DevicePixels
from common.prediction.classes import classes_of
from common.prediction.voting import combine_pairs
from common.result_dir.stored import write_history
from common.system import signals
from common.system.device import autocast, to_device
from common.system.log import duration, log, progress_bar
from common.system.threads import side_by_side
from common.trained_networks.outputs import pair_probabilities
from common.training.context import TrainContext, require_images
from common.training.loss import moved_by
from common.training.parallelism import choose_parallelism
from common.training.resume import resume_head
from common.training.step import make_batch, sample_losses, train_step
from common.training.trainer import HeadTrainer, build_trainer, finish_epoch, write_unsaved

VAL_BATCH = 32  # samples of a head; part of what makes validation repeatable
# how a log line shows the value that picks the best epoch
_BEST = {
    "val_balanced_accuracy": "bal {:.1%}",
    "val_accuracy": "acc {:.1%}",
    "val_auc": "AUC {:.3f}",
    "val_loss": "val loss {:.4f}",
}
_HISTORY_PATIENCE = 3.0  # seconds that a finished epoch waits to be written into history.csv
_HEARTBEAT = 300.0  # seconds between lines within a long epoch


class ScalarWriter(Protocol):
    """What is needed of TensorBoard's SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add a point to a curve."""


def start_heads(context: TrainContext, heads: list[Head]) -> list[HeadTrainer]:
    """Build the trainers of these heads, from their last checkpoints where there are some.

    Raises InputError if a class of these heads has no image to train or to validate on.
    """
    require_images(context.config, context.train, context.val, heads)
    trainers = [build_trainer(context, head) for head in heads]
    for trainer in trainers:
        resume_head(context, trainer)
    new = [trainer for trainer in trainers if not trainer.epoch]
    if new and context.config.classifier_init == "probe":
        start_from_probes(context, new)
    choose_parallelism(context, [trainer for trainer in trainers if not trainer.finished])
    _write_history(context, trainers)  # a run that was killed may not have come to it
    return trainers


def start_from_probes(context: TrainContext, trainers: list[HeadTrainer]) -> None:
    """Start classifiers as linear probes of the training images, none of them augmented."""
    labels, started = context.train.labels, time.monotonic()
    features = pooled_features(
        trainers[0].branch,
        lambda indices: _features(context, context.train_pixels, indices),
        len(labels),
        chunk_size(context.device),
        context.precision,
    )
    for trainer in trainers:
        weights = trainer.class_weights.double().cpu().numpy()
        weight, bias = fit_probe(features, labels, trainer.head, weights)
        if context.config.prior_correction:
            bias = bias - moved_by(trainer.head, trainer.class_weights).cpu().numpy()
        for branch in filter(None, (trainer.branch, trainer.average)):
            set_classifier(branch, weight, bias)
    sizes = [f"{t.head.name} {int(np.isin(labels, t.head.classes).sum())}" for t in trainers]
    log(
        f"classifiers start as linear probes (C {STRENGTH:g}) of so many training images: "
        f"{', '.join(sizes)}; fitted in {duration(time.monotonic() - started)}"
    )


def train(
    context: TrainContext, trainers: list[HeadTrainer], writer: ScalarWriter | None = None
) -> None:
    """Train the heads to their end.

    Raises TrainingError when it cannot go on, Stopped
    after a signal, with all epochs on the disk.
    """
    with signals.waiting_for_check():
        try:
            for epoch in range(context.config.epochs):
                # a head whose checkpoint is older catches up alone; the others wait at their epoch
                active = [t for t in trainers if not t.finished and t.epoch == epoch]
                if active:
                    run_epoch(context, active, epoch, writer)
                    _write_history(context, trainers)
        except signals.Stopped:
            for trainer in trainers:
                write_unsaved(context, trainer)
            _write_history(context, trainers)
            raise


def _write_history(context: TrainContext, trainers: list[HeadTrainer]) -> None:
    """Write all rows of these heads into the file that all trainings of a directory share.

    Where another process keeps them waiting, they are written after the next epoch.
    """
    rows = [row for trainer in trainers for row in trainer.history]
    if rows:
        try:
            with lock_for_a_moment(context.directory.lock, _HISTORY_PATIENCE):
                write_history(context.directory.history, rows, [t.head for t in trainers])
        except LockedError as error:
            log(f"note: history.csv is written later: {error}")


def run_epoch(
    context: TrainContext, trainers: list[HeadTrainer], epoch: int, writer: ScalarWriter | None
) -> None:
    """Train the given heads for one epoch, validate, record, and say how it went."""
    config, started = context.config, time.perf_counter()
    images = train_epoch(context, trainers, epoch)
    speed = images / max(time.perf_counter() - started, 1e-9)
    last = epoch + 1 == config.epochs
    due = last or (epoch + 1) % config.validation_frequency == 0
    results = validate(context, trainers) if due else {}
    seconds = time.perf_counter() - started
    for trainer in trainers:
        finish_epoch(context, trainer, results.get(trainer.head), speed, seconds)
        log(epoch_line(context, trainer))
        if writer is not None:
            _write_scalars(writer, trainer)


def train_epoch(context: TrainContext, trainers: list[HeadTrainer], epoch: int) -> int:
    """Run one pass over the training images of these heads; returns how many images that were."""
    config, labels = context.config, context.train.labels
    table = augmentation_table(config.seed, epoch, len(labels), config.augmentation)
    progress = _Progress(epoch, config.epochs, sum(t.steps_per_epoch for t in trainers))

    def features_of(indices: np.ndarray) -> Tensor:
        progress.images += len(indices)
        return _features(context, context.train_pixels, indices, table[indices])

    by_head = {trainer.head: trainer for trainer in trainers}
    order, chunk = epoch_order(config.seed, epoch, len(labels)), chunk_size(context.device)
    memory = context.memory
    together = len(trainers) if memory.parallel_branches else memory.at_once
    batches = pair_batches(order, labels, list(by_head), config.effective_batch, chunk, features_of)
    for group in grouped(batches, together, equal=memory.parallel_branches is not None):
        step = []
        for head, indices, features in group:
            targets = to_device(head.targets(labels[indices]), context.device)
            step.append(make_batch(context, by_head[head], features, targets))
        train_step(context, step)
        signals.check()
        progress.advance(len(step))
    progress.bar.close()
    return progress.images


def _features(
    context: TrainContext,
    pixels: DevicePixels,
    indices: np.ndarray,
    augmentation: np.ndarray | None = None,
) -> Tensor:
    return trunk_features(
        context.backbone.trunk,
        pixels(indices),
        context.preprocessing,
        context.device,
        context.precision,
        augmentation,
    )


class _Progress:
    """How far an epoch has come: a bar on a terminal, a line now and then in a log."""

    def __init__(self, epoch: int, epochs: int, steps: int) -> None:
        self.title = f"epoch {epoch + 1}/{epochs}"
        self.steps, self.done, self.images = steps, 0, 0
        self.bar = progress_bar(None, self.title, steps)
        self.started = self.said = time.monotonic()

    def advance(self, steps: int) -> None:
        """Count steps, and say from time to time when the epoch will end."""
        self.done += steps
        self.bar.update(steps)
        now = time.monotonic()
        if now - self.said > _HEARTBEAT:
            self.said = now
            passed = now - self.started
            left = passed * (self.steps - self.done) / self.done
            log(
                f"{self.title}: {100 * self.done / self.steps:.0f} % of {self.steps} steps, "
                f"{self.images / passed:.1f} images/s, epoch ends in {duration(left)}"
            )


@torch.no_grad()
def validate(context: TrainContext, trainers: list[HeadTrainer]) -> dict[Head, Validation]:
    """Measure loss and metrics of each head on the validation images of its classes."""
    labels = context.val.labels
    by_head = {trainer.head: trainer for trainer in trainers}
    logits: dict[Head, list[Tensor]] = {head: [] for head in by_head}
    order: dict[Head, list[np.ndarray]] = {head: [] for head in by_head}
    for trainer in trainers:
        trainer.evaluated.eval()
    batches = pair_batches(
        np.arange(len(labels)),
        labels,
        list(by_head),
        VAL_BATCH,
        chunk_size(context.device),
        lambda indices: _features(context, context.val_pixels, indices),
    )

    def logits_of(batch: HeadBatch) -> Tensor:
        with autocast(context.device, context.precision):
            return by_head[batch.head].evaluated(batch.features).float()

    for group in grouped(batches, context.memory.at_once):
        signals.check()
        for batch, values in zip(group, side_by_side(logits_of, group, context.memory.workers)):
            logits[batch.head].append(values)
            order[batch.head].append(batch.indices)
    results = {}
    for head, trainer in by_head.items():
        if trainer.batch_statistics:
            use_batch_statistics(trainer.branch)
        targets = head.targets(labels[np.concatenate(order[head])])
        results[head] = _measure(context, trainer, torch.cat(logits[head]).cpu(), targets)
    return results


def _measure(
    context: TrainContext, trainer: HeadTrainer, logits: Tensor, targets: np.ndarray
) -> Validation:
    """Score logits (N,) of a pair or (N, outputs) against targets (N,)."""
    head, weights, config = trainer.head, trainer.class_weights, context.config
    loss = float(sample_losses(config, head, weights, logits, torch.from_numpy(targets)).mean())
    if not math.isfinite(loss):  # the trainer stops there, and says where
        return Validation(loss, math.nan, math.nan, math.nan)
    if head.is_binary:
        binary = binary_metrics(torch.sigmoid(logits).numpy(), targets)
        return Validation(
            loss=loss,
            accuracy=binary.accuracy,
            balanced_accuracy=binary.balanced_accuracy,
            auc=binary.auc,
            sensitivity=binary.sensitivity,
            specificity=binary.specificity,
        )
    pair_accuracies = None
    if head.pairs:
        of_pairs = pair_probabilities(logits.numpy(), head.kind)
        probabilities = combine_pairs(of_pairs, len(head.classes)).probabilities
        pair_accuracies = _pair_accuracies(head, of_pairs, targets)
    else:
        probabilities = torch.softmax(logits, dim=1).numpy()
    cut = classes_of(config.names, config.referable_from).referable_from
    predicted = probabilities.argmax(1)
    graded = classification_metrics(targets, probabilities, predicted, referable_from=cut)
    sensitivity, specificity = (
        None if cut is None else float(graded[f"referable_{name}"])
        for name in ("sensitivity", "specificity")
    )
    return Validation(
        loss=loss,
        accuracy=float(graded["accuracy"]),
        balanced_accuracy=float(graded["balanced_accuracy"]),
        auc=float(graded["macro_auc"]),
        referable_sensitivity=sensitivity,
        referable_specificity=specificity,
        pair_accuracies=pair_accuracies,
    )


def _pair_accuracies(head: Head, of_pairs: np.ndarray, targets: np.ndarray) -> tuple[float, ...]:
    """Measure each pair's probabilities, a column of (N, P), on the images of its classes."""
    found = []
    for column, pair in enumerate(head.pairs):
        own = np.isin(targets, pair)
        scores = binary_metrics(of_pairs[own, column], pair_targets(targets[own], pair))
        found.append(scores.accuracy)
    return tuple(found)


def epoch_line(context: TrainContext, trainer: HeadTrainer) -> str:
    """Say in one line how the head's last epoch went."""
    row, config = trainer.history[-1], context.config
    seconds = float(np.mean([row.seconds for row in trainer.history[-10:]]))
    measured, kept = "not validated", "best -"
    if row.validation:
        measured = (
            f"val acc {row.validation.accuracy:6.1%}  bal {row.validation.balanced_accuracy:6.1%}  "
            f"AUC {row.validation.auc:.3f}"
        )
    of_best = trainer.history[trainer.best_epoch - 1].validation if trainer.best_epoch > 0 else None
    if config.monitor == LAST:
        kept = "keeps the last"
    elif of_best:
        value = of_best.monitored(config.monitor)
        kept = f"best {_BEST[config.monitor].format(value)} @{trainer.best_epoch}"
    state = "done" if trainer.finished else duration(seconds * (config.epochs - trainer.epoch))
    return (
        f"{trainer.title}  epoch {row.epoch:>3}/{config.epochs}  "
        f"loss {row.train_loss:.4f}  {measured}  lr {row.learning_rate:.2e}  "
        f"{row.images_per_second:.1f} images/s  ETA {state}  {kept}"
    )


def _write_scalars(writer: ScalarWriter, trainer: HeadTrainer) -> None:
    row = trainer.history[-1].to_dict()
    name, epoch = row.pop("pair"), row.pop("epoch")
    accuracies = row.pop("val_pair_accuracies", [])
    row |= {
        f"val_accuracy_{pair_name(pair)}": value
        for pair, value in zip(trainer.head.pairs, accuracies)
    }
    for key, value in row.items():
        writer.add_scalar(f"{name}/{key}", value, epoch)
