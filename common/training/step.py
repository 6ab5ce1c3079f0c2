"""The optimiser's step: several pairs together, in pieces as large as memory allows.

B samples of a pair's effective batch, F pooled features.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.models.ovo import trunk_features
from common.models.parallel_branches import ParallelBranches
from common.system.device import autocast, wait_for
from common.system.errors import InputError
from common.system.log import log
from common.training.context import TrainContext
from common.training.trainer import PairTrainer, TrainingError, predicted


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


def train_step(setup: TrainContext, batches: list[Batch]) -> None:
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
            reduce_memory(setup, batches, error)
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
    for batch, (loss, correct) in zip(batches, sums):
        batch.trainer.update(loss, correct, len(batch.targets))


def accumulate(setup: TrainContext, batches: list[Batch]) -> list[tuple[Tensor, Tensor]]:
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
        sums += [
            (sum(p[i][0] for p in parts), sum(p[i][1] for p in parts)) for i in range(len(launch))
        ]
    return sums


def _forward_backward(
    setup: TrainContext, launch: list[Batch], size: int
) -> list[tuple[Tensor, Tensor]]:
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


def _logits(setup: TrainContext, launch: list[Batch]) -> list[Tensor]:
    with autocast(setup.device, setup.precision):
        if len(launch) == 1:
            return [launch[0].trainer.top(launch[0].features, launch[0].mask)]
        features = torch.stack([batch.features for batch in launch])
        masks = torch.stack([batch.mask for batch in launch])
        return list(setup.memory.stack([batch.trainer.top for batch in launch], features, masks))


def reduce_memory(setup: TrainContext, batches: list[Batch], error: Exception) -> None:
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
            f"out of memory at {batches[0].trainer.head.title} with micro-batch {micro}; try "
            "--grad_checkpointing on, a smaller --img_size, --batch_size or a smaller model"
        ) from error


def choose_parallelism(setup: TrainContext, trainers: list[PairTrainer]) -> None:
    """Let pairs share launches where that is asked for, or measures faster on a GPU.

    On a CPU a loop over the pairs is the faster way. Raises InputError where "on" cannot be.
    """
    wanted, memory = setup.config.pair_parallelism, setup.memory
    reason = ""
    if trainers and trainers[0].batch_statistics:
        reason = "batch statistics are trained"
    elif memory.checkpointing:
        reason = "of gradient checkpointing"
    if wanted == "on" and reason and len(trainers) > 1:
        raise InputError(f"--pair_parallelism on cannot be because {reason}; take auto or off")
    if wanted == "off" or reason or len(trainers) < 2:
        if wanted == "on":
            log("--pair_parallelism on: a single classifier has none to share launches with")
        return
    if wanted == "auto" and setup.device.type == "cpu":
        return
    stack = ParallelBranches(trainers[0].top)
    try:
        loop, together = (_time_launches(setup, trainers, kind) for kind in (None, stack))
    except RuntimeError as error:  # of vmap, or out of memory
        if wanted == "on" and isinstance(error, torch.OutOfMemoryError):
            memory.stack = stack  # a step asks for less until it fits
            return
        if wanted == "on":
            raise InputError(f"--pair_parallelism on: {_first_line(error)}; take off") from error
        log(f"pairs are trained one after the other ({_first_line(error)})")
        return
    memory.stack = stack if wanted == "on" or together < loop else None
    way = "share launches" if memory.stack else "are trained one after the other"
    log(
        f"{len(trainers)} pairs {way}: {1000 * together:.0f} ms together, "
        f"{1000 * loop:.0f} ms in a loop"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _time_launches(
    setup: TrainContext, trainers: list[PairTrainer], stack: ParallelBranches | None
) -> float:
    """Return the seconds of a forward and backward pass of all pairs; moves no weight."""
    config, size = setup.config, setup.preprocessing.img_size
    pixels = np.zeros((1, size, size, 3), dtype=np.uint8)
    features = trunk_features(
        setup.backbone.trunk, pixels, setup.preprocessing, setup.device, setup.precision
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
