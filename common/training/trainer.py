"""One head in training: its branch and optimiser, its record, and the files that it leaves.

N images, K classes.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.config import LAST, TrainConfig
from common.data.sampler import batch_sizes
from common.fine_tuning.averaging import start_average
from common.fine_tuning.optimizer import load_optimizer, make_optimizer
from common.history import EpochRow, Validation
from common.models.backbones import native_state
from common.models.checkpoint import (
    PairCheckpoint,
    ResumeState,
    branch_states,
    cpu_copy,
    load_pair,
)
from common.models.checkpoint_file import pack_checkpoint, save_checkpoint, write_checkpoint
from common.models.ovo import Branch, build_branch, use_batch_statistics
from common.pairs import Head, pair_head
from common.system.errors import TrainingError
from common.training.context import TrainContext
from common.training.loss import balanced_class_weights, moved_by

_DIVERGED = (
    "try --precision fp32, a lower --learning_rate or --max_grad_norm 1.0 in a new --output_dir"
)


@dataclass
class EpochSums:
    """What the steps of an epoch gave so far; on the device, so that no step waits for it."""

    losses: list[Tensor] = field(default_factory=list)  # one sum over samples per step
    correct: list[Tensor] = field(default_factory=list)  # right answers per step
    samples: int = 0
    learning_rate: float = 0.0  # of the latest step


@dataclass
class HeadTrainer:
    """The state of one head in training."""

    head: Head
    title: str  # of the head, with its classes
    branch: Branch
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    class_weights: Tensor  # (K,) of the head's classes; (P, 2) of each pair's, of a shared head
    steps_per_epoch: int
    batch_statistics: bool  # BatchNorm layers see their batch, and learn from it
    average: Branch | None = None  # the moving average of the branch's weights
    checkpointing: bool = False  # activations are recomputed
    step: int = 0  # optimiser steps done
    history: list[EpochRow] = field(default_factory=list)
    best_epoch: int = -1  # whose weights are kept, from 1; -1: none yet
    best_score: float = -math.inf
    waited: int = 0  # validations since the best one
    finished: bool = False
    sums: EpochSums = field(default_factory=EpochSums)
    unsaved: memoryview | None = None  # state after the last epoch, if not on the disk

    @property
    def evaluated(self) -> Branch:
        """Return the network that is validated and kept: the average where there is one."""
        return self.average or self.branch

    @property
    def epoch(self) -> int:
        """Count the epochs done."""
        return len(self.history)


def build_trainer(context: TrainContext, head: Head) -> HeadTrainer:
    """Start a head: its branch on the device, its optimiser, its class weights."""
    config, device = context.config, context.device
    branch = build_branch(context.backbone, head, config.seed).to(device)
    counts = [int((context.train.labels == c).sum()) for c in head.classes]
    weights = torch.tensor(loss_weights(config, head, counts), device=device)
    if config.prior_correction:  # what the loss sees starts at zero all the same
        branch.classifier.get_parameter("bias").data -= moved_by(head, weights)
    batch_statistics = not config.pretrained and use_batch_statistics(branch)
    return HeadTrainer(
        head=head,
        title=head.title_with(config.names),
        branch=branch,
        optimizer=make_optimizer(branch, config),
        scaler=torch.amp.GradScaler(device.type, enabled=context.precision == "fp16"),
        class_weights=weights,
        steps_per_epoch=len(batch_sizes(sum(counts), config.effective_batch)),
        batch_statistics=batch_statistics,
        average=start_average(branch) if config.ema_decay else None,
    )


def loss_weights(
    config: TrainConfig, head: Head, counts: list[int]
) -> list[float] | list[list[float]]:
    """Return the `class_weights` (K,) of a head, or (P, 2) of each pair of a shared one.

    counts (K,) of the training images of the head's classes.
    """
    if head.kind != "shared":
        return class_weights(config, head, counts)
    return [class_weights(config, pair_head(p), [counts[c] for c in p]) for p in head.pairs]


def class_weights(config: TrainConfig, head: Head, counts: list[int]) -> list[float]:
    """Return the loss weights (K,) of the head's classes: given ones, or n / (K n_c).

    These are taken to the power --class_weight_power: 0.5 is their square root.
    """
    if not config.enable_class_weights:
        return [1.0] * len(head.classes)
    weights = [weight**config.class_weight_power for weight in balanced_class_weights(counts)]
    given = [config.class_weight(c) for c in head.classes]
    return [g or w for g, w in zip(given, weights)]


def check_finite(trainer: HeadTrainer) -> None:
    """Raise TrainingError naming the step if a loss of this epoch is not a number."""
    losses = torch.stack(trainer.sums.losses).cpu()
    if not torch.isfinite(losses).all():
        step = int((~torch.isfinite(losses)).nonzero()[0]) + 1
        raise TrainingError(
            f"the loss is not finite at {trainer.title}, epoch {trainer.epoch + 1}, "
            f"step {step} of {trainer.steps_per_epoch}; {_DIVERGED}"
        )


def finish_epoch(
    context: TrainContext,
    trainer: HeadTrainer,
    validation: Validation | None,
    images_per_second: float,
    seconds: float,
) -> None:
    """Record the epoch, keep its weights if they are to be kept, and decide whether to stop."""
    config, sums = context.config, trainer.sums
    check_finite(trainer)
    if validation is not None and not math.isfinite(validation.loss):
        raise TrainingError(
            f"the validation loss is not finite at {trainer.title}, epoch "
            f"{trainer.epoch + 1}: the last steps have blown up; {_DIVERGED}"
        )
    row = EpochRow(
        head=trainer.head.name,
        epoch=trainer.epoch + 1,
        train_loss=float(torch.stack(sums.losses).sum()) / sums.samples,
        train_accuracy=float(torch.stack(sums.correct).sum()) / sums.samples,
        validation=validation,
        learning_rate=sums.learning_rate,
        images_per_second=images_per_second,
        seconds=seconds,
    )
    trainer.sums = EpochSums()
    trainer.history.append(row)
    if config.monitor == LAST:
        if trainer.epoch >= config.epochs:
            trainer.best_epoch = trainer.epoch
            save_best(context, trainer)
    elif validation is not None:
        score = score_of(validation, config)
        if score > trainer.best_score + config.min_delta or trainer.best_epoch < 0:
            trainer.best_epoch, trainer.best_score, trainer.waited = trainer.epoch, score, 0
            save_best(context, trainer)
        else:
            trainer.waited += 1
    trainer.finished = trainer.epoch >= config.epochs or trainer.waited >= config.patience
    if trainer.finished:
        trainer.unsaved = None
        complete_best(context, trainer)
        return
    trainer.unsaved = pack_checkpoint(resume_state(trainer).to_dict())
    if trainer.epoch % config.checkpoint_frequency == 0:
        write_unsaved(context, trainer)


def score_of(validation: Validation, config: TrainConfig) -> float:
    """Return the value that picks the best epoch, higher is better."""
    value = validation.monitored(config.monitor)
    return -value if config.monitor == "val_loss" else value


def write_unsaved(context: TrainContext, trainer: HeadTrainer) -> None:
    """Put the state after the last epoch on the disk, next to the one before it."""
    if trainer.unsaved is not None:
        directory, model = context.directory, context.config.model
        last = directory.last(model, trainer.head)
        write_checkpoint(last, trainer.unsaved, directory.previous(model, trainer.head))
        trainer.unsaved = None


def save_best(context: TrainContext, trainer: HeadTrainer) -> None:
    """Write the head's file with the weights of now, which are the ones to keep so far."""
    config, backbone, branch = context.config, context.backbone, trainer.evaluated
    stages, classifier = branch_states(branch)
    checkpoint = PairCheckpoint(
        model=backbone.spec.name,
        head=trainer.head,
        preprocessing=context.preprocessing,
        trunk=cpu_copy(native_state(backbone.trunk)),
        stages=stages,
        classifier=classifier,
        frozen_parameters=sum(p.numel() for p in backbone.trunk.parameters()),
        trainable_parameters=sum(p.numel() for p in branch.parameters()),
        class_names=config.names,
        best_epoch=trainer.epoch,
        best=trainer.history[-1],
        history=tuple(trainer.history),
        complete=False,
        synthetic=context.fingerprints.synthetic,
        config=config.to_dict(),
        data=context.fingerprints.data,
        initial_weights=context.fingerprints.initial_weights,
    )
    save_checkpoint(context.directory.best(config.model, trainer.head), checkpoint.to_dict())


def complete_best(context: TrainContext, trainer: HeadTrainer) -> None:
    """Add the whole history to the head's file, which keeps the weights of its best epoch."""
    path = context.directory.best(context.config.model, trainer.head)
    history = tuple(trainer.history)
    checkpoint = dataclasses.replace(load_pair(path), history=history, complete=True)
    save_checkpoint(path, checkpoint.to_dict())


def resume_state(trainer: HeadTrainer) -> ResumeState:
    """Gather all that resuming needs; the tensors are those of the training, not copies."""
    return ResumeState(
        head=trainer.head,
        branch=trainer.branch.state_dict(),
        average=trainer.average.state_dict() if trainer.average else {},
        optimizer=trainer.optimizer.state_dict(),
        scaler=trainer.scaler.state_dict(),
        epoch=trainer.epoch,
        step=trainer.step,
        history=tuple(trainer.history),
        best_epoch=trainer.best_epoch,
        best_score=trainer.best_score,
        waited=trainer.waited,
    )


def load_state(trainer: HeadTrainer, state: ResumeState) -> None:
    """Bring a trainer to where a state was taken; raises RuntimeError and others on a misfit.

    The steps are counted anew: an override may have changed how many make an epoch.
    """
    if state.epoch != len(state.history):
        raise ValueError(f"{len(state.history)} rows of history after {state.epoch} epochs")
    trainer.branch.load_state_dict(state.branch)
    if trainer.average:  # of now on, where an override has turned it on
        trainer.average.load_state_dict(state.average or state.branch)
    load_optimizer(trainer.optimizer, trainer.branch, state.optimizer)
    if state.scaler or not trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state.scaler)
    trainer.history = list(state.history)
    trainer.step = trainer.epoch * trainer.steps_per_epoch
    trainer.best_epoch, trainer.best_score = state.best_epoch, state.best_score
    trainer.waited = state.waited


def load_finished(trainer: HeadTrainer, checkpoint: PairCheckpoint) -> None:
    """Note that a head is trained already; raises ValueError for a record that cannot be."""
    trainer.history, trainer.best_epoch = list(checkpoint.history), checkpoint.best_epoch
    trainer.finished = True
    if not 1 <= trainer.best_epoch <= trainer.epoch:
        raise ValueError(f"best epoch {trainer.best_epoch} of {trainer.epoch}")
