"""The optimiser's step: forward, backward and update of several heads, in pieces that fit.

B samples of a head's effective batch, F pooled features, K classes.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from common.config import TrainConfig
from common.fine_tuning.averaging import average_decay, update_average
from common.fine_tuning.optimizer import set_learning_rate
from common.models.ovo import (
    batch_norms,
    dropout_mask,
    enable_grad_checkpointing,
    trunk_features,
)
from common.models.parallel_branches import ParallelBranches
from common.pairs import Head, heads_of_model
from common.system.device import autocast, free_memory, to_device, wait_for
from common.system.errors import InputError, TrainingError
from common.system.log import log
from common.system.threads import side_by_side, workers_for
from common.training.context import TrainContext
from common.training.loss import focal_loss, moved_by, own_pairs, shared_focal_loss
from common.training.schedule import lr_factor, plateau_factor, plateau_patience
from common.training.trainer import HeadTrainer, check_finite, score_of

_STREAM = 1000  # steps: many, of which each head has one at a time
_ROOM = 2  # times what one head's step keeps for its gradients must be free for each of several
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
        kept = [_statistics(trainer) for trainer in trainers]
        try:
            sums = accumulate(context, batches)
            break
        except torch.OutOfMemoryError as error:
            for trainer, statistics in zip(trainers, kept):
                trainer.optimizer.zero_grad(set_to_none=True)
                _restore_statistics(trainer, statistics)
            reduce_memory(context, trainers[0], error)
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
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
    kept = [_statistics(trainer) for trainer in trainers]
    total.backward()
    for trainer, statistics in zip(trainers, kept):
        _restore_statistics(trainer, statistics)
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


def _statistics(trainer: HeadTrainer) -> list[Tensor]:
    """Copy the BatchNorm layers' running statistics, if training moves them."""
    layers = batch_norms(trainer.branch) if trainer.batch_statistics else []
    return [buffer.clone() for layer in layers for buffer in layer.buffers()]


def _restore_statistics(trainer: HeadTrainer, kept: list[Tensor]) -> None:
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


def choose_parallelism(context: TrainContext, trainers: list[HeadTrainer]) -> None:
    """Let heads share launches where that is asked for, or measures faster on a GPU.

    On a CPU "auto" trains several side by side, but not in fp32, nor in a run that an earlier
    release began one after the other. Raises InputError where "on" cannot be.
    """
    wanted, memory = context.config.pair_parallelism, context.memory
    if wanted == "auto" and context.device.type == "cpu":
        if context.precision != "fp32" and trainers and context.fingerprints.kernel_version > 3:
            share_threads(context, trainers)
        return
    if len(trainers) < 2:
        if wanted == "on":
            log("--pair_parallelism on: a single classifier has none to share launches with")
        return
    reason = ""
    if trainers[0].batch_statistics:
        reason = "batch statistics are trained"
    elif memory.checkpointing:
        reason = "of gradient checkpointing"
    if wanted == "on" and reason:
        raise InputError(f"--pair_parallelism on cannot be because {reason}; take auto or off")
    if wanted == "off" or reason:
        return
    parallel = ParallelBranches(trainers[0].branch)
    try:
        loop = _time_launches(context, trainers, None)
        together = _time_launches(context, trainers, parallel)
    except RuntimeError as error:  # of vmap, or out of memory
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        if wanted == "auto":
            log(f"pairs are trained one after the other ({reason})")
        elif isinstance(error, torch.OutOfMemoryError):
            memory.parallel_branches = parallel  # a step asks for less until it fits
        else:
            raise InputError(f"--pair_parallelism on: {reason}; take off") from error
        return
    share = wanted == "on" or together < loop
    memory.parallel_branches = parallel if share else None
    log(
        f"{len(trainers)} pairs {'share launches' if share else 'are trained one after the other'}"
        f": {1000 * together:.0f} ms together, {1000 * loop:.0f} ms in a loop"
    )


def share_threads(context: TrainContext, trainers: list[HeadTrainer]) -> None:
    """Train heads side by side, each with a part of a CPU's threads, as many as memory is free for.

    How large a part is follows from the threads and from how many heads the whole model has, not
    from how many of them are trained, are left, or fit: sums round in another way with other
    threads, and a head is to become the same after a stop, and whatever is trained beside it.
    """
    memory, config, threads = context.memory, context.config, torch.get_num_threads()
    heads = heads_of_model(config.num_classes, config.head)
    memory.workers = workers_for(_STREAM, threads, most=len(heads))
    if memory.workers == 1:
        return
    room = free_memory() / (_ROOM * _bytes_of_a_step(context, trainers[0]))
    memory.at_once = max(1, int(min(memory.workers, room)))
    count, own = min(memory.at_once, len(trainers)), threads // memory.workers
    what = f"{count} pairs are trained side by side, each" if count > 1 else "a pair is trained"
    more = ", as memory is free for no more" if memory.at_once < memory.workers else ""
    if count == 1:
        more += "; --pair_parallelism off gives it all of them"
    log(f"{what} with {own} of {threads} threads{more}")


def _bytes_of_a_step(context: TrainContext, trainer: HeadTrainer) -> float:
    """Return how much the backward pass of a head's effective batch needs of the forward pass."""
    kept: dict[int, int] = {}  # by address

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    (batch,) = _black_batches(context, [trainer])
    samples, statistics = min(2, len(batch.targets)), _statistics(trainer)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(context, [batch.part(0, samples)])
    _restore_statistics(trainer, statistics)
    for weights in trainer.branch.parameters():
        kept.pop(weights.untyped_storage().data_ptr(), None)
    return sum(kept.values()) / samples * context.config.effective_batch


def _time_launches(
    context: TrainContext, trainers: list[HeadTrainer], parallel: ParallelBranches | None
) -> float:
    """Return the seconds of a forward and backward pass of all heads; moves no weight."""
    batches, best = _black_batches(context, trainers), math.inf
    context.memory.parallel_branches = parallel
    try:
        for _ in range(3):
            wait_for(context.device)
            started = time.perf_counter()
            accumulate(context, batches)
            wait_for(context.device)
            best = min(best, time.perf_counter() - started)
    finally:
        context.memory.parallel_branches = None
        for trainer in trainers:
            trainer.optimizer.zero_grad(set_to_none=True)
    return best


def _black_batches(context: TrainContext, trainers: list[HeadTrainer]) -> list[Batch]:
    """Make an effective batch of black pictures for each of these heads."""
    size, count = context.preprocessing.img_size, context.config.effective_batch
    pixels = np.zeros((1, size, size, 3), dtype=np.uint8)
    features = trunk_features(
        context.backbone.trunk, pixels, context.preprocessing, context.device, context.precision
    )
    features = features.repeat(count, *[1] * (features.ndim - 1))
    targets = torch.zeros(count, dtype=torch.long, device=context.device)
    return [make_batch(context, trainer, features, targets) for trainer in trainers]
