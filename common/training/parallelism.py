"""How several heads share the device: side by side on a CPU, in one launch on a GPU."""

import math
import time

import numpy as np
import torch
from torch import Tensor

from common.models.ovo import trunk_features
from common.models.parallel_branches import ParallelBranches
from common.pairs import heads_of_model
from common.system.device import free_memory, wait_for
from common.system.errors import InputError, is_out_of_memory
from common.system.log import log
from common.system.threads import workers_for
from common.training.context import TrainContext
from common.training.step import (
    Batch,
    accumulate,
    forward,
    make_batch,
    restore_statistics,
    statistics_of,
)
from common.training.trainer import HeadTrainer

_STREAM = 1000  # steps: many, of which each head has one at a time
_ROOM = 2  # times what one head's step keeps for its gradients must be free for each of several


def choose_parallelism(context: TrainContext, trainers: list[HeadTrainer]) -> None:
    """Let heads share launches where that is asked for, or measures faster on a GPU.

    On a CPU "auto" trains several side by side, but not in fp32, nor in a run that an earlier
    release began one after the other. Raises InputError where "on" cannot be.
    """
    wanted, memory = context.config.pair_parallelism, context.memory
    if wanted == "auto" and context.device.type == "cpu":
        if context.precision != "fp32" and trainers and context.fingerprints.kernel_version > 3:
            _share_threads(context, trainers)
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
        elif is_out_of_memory(error):
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


def _share_threads(context: TrainContext, trainers: list[HeadTrainer]) -> None:
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
    samples, statistics = min(2, len(batch.targets)), statistics_of(trainer)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(context, [batch.part(0, samples)])
    restore_statistics(trainer, statistics)
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
