"""The optimiser's step: forward, backward and update of several heads, in pieces that fit.

B samples of a head's effective batch, F pooled features, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.config import TrainConfig
from common.fine_tuning.averaging import average_decay, update_average
from common.fine_tuning.optimizer import set_learning_rate
from common.fine_tuning.schedule import lr_factor, plateau_factor, plateau_patience
from common.models.ovo import batch_norms, dropout_mask, enable_grad_checkpointing
from common.pairs import Head
from common.system.device import autocast, free_cached_memory, to_device
from common.system.errors import TrainingError, is_out_of_memory
from common.system.log import log
from common.system.threads import side_by_side
from common.training.context import TrainContext
from common.training.loss import focal_loss, moved_by, own_pairs, shared_focal_loss
from common.training.trainer import HeadTrainer, check_finite, score_of

_CHECK_EVERY = 32  # optimiser steps between two looks at the loss, each of which waits for the GPU


@dataclass
class Batch:
    """A head's effective batch: features (B, ...), targets (B,) and dropout mask (B, F)."""

    trainer: HeadTrainer
    features: Tensor
    targets: Tensor
    mask: Tensor

    def part(self, start: int, stop: int) -> "Batch":
        """Take some of the samples."""
        rows = slice(start, stop)
        return Batch(self.trainer, self.features[rows], self.targets[rows], self.mask[rows])


@dataclass(frozen=True)
class BatchSums:
    """What a forward and backward pass gave, summed over its samples; scalars on the device."""

    loss: Tensor
    correct: Tensor

    def __add__(self, other: "BatchSums") -> "BatchSums":
        return BatchSums(self.loss + other.loss, self.correct + other.correct)


def make_batch(
    context: TrainContext, trainer: HeadTrainer, features: Tensor, targets: Tensor
) -> Batch:
    """Add the dropout mask of the head's coming step to features (B, ...) and targets (B,)."""
    shape = (len(targets), context.backbone.num_features)
    place = trainer.step % trainer.steps_per_epoch
    stream = (context.config.seed, trainer.epoch, place, *trainer.head.classes)
    if context.channels_last and features.ndim == 4:
        features = features.contiguous(memory_format=torch.channels_last)
    mask = dropout_mask(shape, context.config.ovo_dropout, *stream)
    return Batch(trainer, features, targets, to_device(mask, context.device))


def train_step(context: TrainContext, batches: list[Batch]) -> None:
    """Update different heads on one effective batch each; all of B samples in one launch."""
    workers = context.memory.workers
    if workers > 1:
        side_by_side(lambda batch: _train_step(context, [batch]), batches, workers)
    else:
        _train_step(context, batches)


def _train_step(context: TrainContext, batches: list[Batch]) -> None:
    """Update these heads; when the device runs out of memory, ask less of it and do so again."""
    trainers = [batch.trainer for batch in batches]
    while True:
        for trainer in trainers:
            _prepare(context, trainer)
        kept = [statistics_of(trainer) for trainer in trainers]
        try:
            sums = accumulate(context, batches)
            break
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            for trainer, statistics in zip(trainers, kept):
                trainer.optimizer.zero_grad(set_to_none=True)
                restore_statistics(trainer, statistics)
            reduce_memory(context, trainers[0], error)
        free_cached_memory()
    for batch, found in zip(batches, sums):
        update(context.config, batch.trainer, found, len(batch.targets))


def _prepare(context: TrainContext, trainer: HeadTrainer) -> None:
    """Clear the gradients, and recompute activations from here on if memory asks for it."""
    trainer.optimizer.zero_grad(set_to_none=True)
    if context.memory.checkpointing and not trainer.checkpointing:
        enable_grad_checkpointing(trainer.branch)
        trainer.checkpointing = True


def accumulate(context: TrainContext, batches: list[Batch]) -> list[BatchSums]:
    """Add up the gradients of effective batches, one micro-batch at a time; one sum per head."""
    memory, size = context.memory, len(batches[0].targets)
    micro = min(memory.micro_batch or size, size)
    if batches[0].trainer.batch_statistics:  # they are those of the whole batch
        micro = size
    launches = [batches] if memory.parallel_branches else [[batch] for batch in batches]
    sums: list[BatchSums] = []
    for launch in launches:
        found = _forward_backward(context, [batch.part(0, micro) for batch in launch], size)
        for start in range(micro, size, micro):
            parts = [batch.part(start, start + micro) for batch in launch]
            more = _forward_backward(context, parts, size)
            found = [one + other for one, other in zip(found, more)]
        sums += found
    return sums


def _forward_backward(context: TrainContext, launch: list[Batch], size: int) -> list[BatchSums]:
    """Add the gradients of one micro-batch of each head, as parts of a mean over `size` samples."""
    total, sums = torch.zeros((), device=context.device), []
    for batch, logits in zip(launch, forward(context, launch)):
        head, weights = batch.trainer.head, batch.trainer.class_weights
        loss = sample_losses(context.config, head, weights, logits, batch.targets).sum()
        total = total + batch.trainer.scaler.scale(loss / size)
        correct = (decide(head, logits.detach()) == batch.targets).sum()
        sums.append(BatchSums(loss.detach(), correct.float()))
    # recomputation in the backward pass must not count a batch's statistics twice
    trainers = [batch.trainer for batch in launch if batch.trainer.checkpointing]
    kept = [statistics_of(trainer) for trainer in trainers]
    total.backward()
    for trainer, statistics in zip(trainers, kept):
        restore_statistics(trainer, statistics)
    return sums


def forward(context: TrainContext, launch: list[Batch]) -> list[Tensor]:
    """Return the logits of each head's samples, (B,) or (B, outputs), from one launch if it may."""
    with autocast(context.device, context.precision):
        parallel = context.memory.parallel_branches
        if parallel is None or len(launch) == 1:
            return [batch.trainer.branch(batch.features, batch.mask) for batch in launch]
        branches = [batch.trainer.branch for batch in launch]
        features = torch.stack([batch.features for batch in launch])
        masks = torch.stack([batch.mask for batch in launch])
        return list(parallel(branches, features, masks))


def sample_losses(
    config: TrainConfig, head: Head, class_weights: Tensor, logits: Tensor, targets: Tensor
) -> Tensor:
    """Return the loss of each sample (B,), from logits (B,) of a pair or (B, outputs).

    class_weights (2,) of a pair, (P, 2) of each pair of a shared head, (K,) of a softmax.
    """
    gamma, alpha = config.focal_loss_gamma, config.focal_loss_alpha
    if not config.enable_focal_loss:
        gamma, alpha = 0.0, 1.0
    weights, smoothing = class_weights.to(logits.device), config.label_smoothing
    if config.prior_correction:
        logits = logits + moved_by(head, weights)
    if head.kind == "shared":
        return shared_focal_loss(logits, targets, weights, head.pairs, gamma, alpha, smoothing)
    return focal_loss(logits, targets, weights, gamma, alpha, smoothing)


def decide(head: Head, logits: Tensor) -> Tensor:
    """Return the predicted targets (B,) of logits (B,) of a pair or (B, outputs).

    The pairs of a shared head vote softly, each with its probabilities, as the device can do at
    once.
    """
    if head.is_binary:
        return (logits > 0).long()
    if head.kind == "shared":
        columns, is_second = own_pairs(head.pairs, logits.device)  # (K, K - 1)
        second = torch.sigmoid(logits.float())[:, columns]  # (B, K, K - 1)
        return torch.where(is_second.bool(), second, 1 - second).sum(2).argmax(1)
    return logits.argmax(1)


def update(config: TrainConfig, trainer: HeadTrainer, found: BatchSums, size: int) -> None:
    """Take the optimiser's step on the gathered gradients of `size` samples, and note the sums."""
    trainer.scaler.unscale_(trainer.optimizer)
    if config.max_grad_norm:
        nn.utils.clip_grad_norm_(trainer.branch.parameters(), config.max_grad_norm)
    trainer.sums.learning_rate = learning_rate(config, trainer)
    set_learning_rate(trainer.optimizer, trainer.sums.learning_rate)
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    if trainer.average:
        decay = average_decay(trainer.step, config.ema_decay)
        update_average(trainer.average, trainer.branch, decay)
    trainer.step += 1
    trainer.sums.losses.append(found.loss)
    trainer.sums.correct.append(found.correct)
    trainer.sums.samples += size
    if len(trainer.sums.losses) % _CHECK_EVERY == 0:
        check_finite(trainer)


def learning_rate(config: TrainConfig, trainer: HeadTrainer) -> float:
    """Return the learning rate of the coming step."""
    factor = lr_factor(
        trainer.step,
        config.epochs * trainer.steps_per_epoch,
        config.warmup_epochs * trainer.steps_per_epoch,
        config.scheduler,
        config.min_lr / config.learning_rate,
    )
    if config.scheduler == "plateau":
        validations = [row.validation for row in trainer.history if row.validation]
        scores = [score_of(validation, config) for validation in validations]
        factor *= plateau_factor(scores, plateau_patience(config), config.min_delta)
        return max(config.min_lr, config.learning_rate * factor)
    return config.learning_rate * factor


def statistics_of(trainer: HeadTrainer) -> list[Tensor]:
    """Copy the BatchNorm layers' running statistics, if training moves them; else an empty list."""
    layers = batch_norms(trainer.branch) if trainer.batch_statistics else []
    return [buffer.clone() for layer in layers for buffer in layer.buffers()]


def restore_statistics(trainer: HeadTrainer, kept: list[Tensor]) -> None:
    """Put back what `statistics_of` has copied."""
    if kept:
        buffers = [b for layer in batch_norms(trainer.branch) for b in layer.buffers()]
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)


def reduce_memory(context: TrainContext, trainer: HeadTrainer, error: Exception) -> None:
    """Halve the micro-batch; at one sample train head by head, then recompute activations.

    trainer: one of those whose step did not fit. Raises TrainingError when nothing is left to try.
    """
    memory, config = context.memory, context.config
    micro = min(memory.micro_batch or config.effective_batch, config.effective_batch)
    if micro > 1 and not trainer.batch_statistics:
        memory.micro_batch = micro // 2
        log(
            f"out of memory: micro-batch {micro} -> {memory.micro_batch}; the effective "
            f"batch stays {config.effective_batch}"
        )
    elif memory.parallel_branches:
        memory.parallel_branches = memory.micro_batch = None
        log("out of memory: the pairs are trained one after the other from here")
    elif config.grad_checkpointing == "auto" and not memory.checkpointing:
        memory.checkpointing = True
        log("out of memory: gradient checkpointing is on from here")
    else:
        raise TrainingError(
            f"out of memory at {trainer.title} with micro-batch {micro}; try "
            "--grad_checkpointing on, a smaller --img_size, --batch_size or a smaller model"
        ) from error
