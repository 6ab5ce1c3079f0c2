"""One pair's classifier in training: its optimiser, its record, and what resuming it needs.

N images, B samples of a pair's effective batch, F pooled features.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.config import TrainConfig
from common.data.sampler import batch_sizes
from common.models.checkpoint import (
    DamagedError,
    load_checkpoint,
    load_pair_content,
    pack_checkpoint,
    pair_content,
    save_checkpoint,
    write_checkpoint,
)
from common.models.ovo import (
    Branch,
    batch_norms,
    build_branch,
    dropout_mask,
    enable_grad_checkpointing,
    use_batch_statistics,
)
from common.pairs import Head
from common.system.device import to_device
from common.system.errors import InputError
from common.system.log import log
from common.training.context import TrainContext
from common.training.loss import balanced_class_weights, focal_loss
from common.training.schedule import lr_factor, plateau_factor

_CHECK_EVERY = 32  # optimiser steps between two looks at the loss, each of which waits for the GPU


_DIVERGED = (
    "try --precision fp32, a lower --learning_rate or --max_grad_norm 1.0 in a new --output_dir"
)


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


class PairTrainer:
    """One pair's classifier, optimiser and record."""

    def __init__(self, setup: TrainContext, head: Head) -> None:
        config = setup.config
        self.setup, self.head = setup, head
        self.top = build_branch(setup.backbone, head, config.seed).to(setup.device)
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
        counts = [int((labels == c).sum()) for c in head.classes]
        self.class_weights = torch.tensor(pair_weights(config, head, counts), device=setup.device)
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
            (count, width),
            config.ovo_dropout,
            config.seed,
            self.epoch,
            self.step % self.steps_per_epoch,
            *self.head.classes,
        )
        return to_device(mask, self.setup.device)

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
                f"the loss is not finite at {self.head.title}, epoch {self.epoch + 1}, "
                f"step {step} of {self.steps_per_epoch}; {_DIVERGED}"
            )

    def learning_rate(self) -> float:
        """Return the learning rate of the coming step."""
        config = self.setup.config
        factor = lr_factor(
            self.step,
            config.epochs * self.steps_per_epoch,
            config.warmup_epochs * self.steps_per_epoch,
            config.scheduler,
            config.min_lr / config.learning_rate,
        )
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
                f"the validation loss is not finite at {self.head.title}, epoch "
                f"{self.epoch + 1}: the last steps have blown up; {_DIVERGED}"
            )
        row = {
            "pair": self.head.name,
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
        self._unsaved = pack_checkpoint(self.state())
        if self.epoch % config.checkpoint_frequency == 0:
            self.keep()

    def keep(self) -> None:
        """Put the state after the last epoch on the disk, beside the one before it."""
        if self._unsaved is not None:
            directory, model = self.setup.directory, self.setup.config.model
            last, previous = directory.last(model, self.head), directory.previous(model, self.head)
            write_checkpoint(last, self._unsaved, previous)
            self._unsaved = None

    def _score(self, row: dict[str, Any]) -> float:
        value = row[self.setup.config.monitor]
        return -value if self.setup.config.monitor == "val_loss" else value

    def save_best(self, complete: bool) -> None:
        """Write the pair's file: the weights of now, or, at the end, the full record beside them.

        A finished pair's file keeps the weights of its best epoch.
        """
        setup = self.setup
        path = setup.directory.best(setup.config.model, self.head)
        if complete:
            content = load_pair_content(path)
        else:
            content = pair_content(
                setup.backbone, self.top, self.head, setup.preprocessing, setup.details
            )
            content["best_epoch"] = self.epoch
            content["metrics"] = dict(self.history[-1])
        content["history"] = [dict(row) for row in self.history]
        content["complete"] = complete
        save_checkpoint(path, content)

    def state(self) -> dict[str, Any]:
        """Return all that resuming needs, as tensors and plain types."""
        return {
            "format": "ovo-resume-1",
            "pair": list(self.head.classes),
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
        best, trouble = directory.best(model, self.head), []
        content = _if_good(best, load_pair_content, trouble)
        if content is not None and (content["model"], list(content["pair"])) != (
            model,
            list(self.head.classes),
        ):
            trouble.append(f"{best} is the classifier of {content['model']} {content['pair']}")
            content = None
        if content is not None and content.get("complete"):
            self._take(best, lambda: self._take_finished(content))
            return
        for path in (directory.last(model, self.head), directory.previous(model, self.head)):
            state = _if_good(path, load_checkpoint, trouble)
            if state is None:
                path.unlink(missing_ok=True)  # a damaged one must not become the previous one
            elif self._take(path, lambda s=state: self._fits_best(s, content)):
                self._take(path, lambda s=state: self._take_state(s))
                break
            else:
                trouble += [] if trouble else [f"{best} is missing or of another epoch"]
        if trouble:
            how = f"goes on after epoch {self.epoch}" if self.epoch else "is trained from the start"
            log(f"{self.head.title}: {'; '.join(trouble)}; it {how}")

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


def make_optimizer(top: Branch, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW that decays matrices and kernels but not norms, biases and other vectors."""
    parameters = [p for p in top.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def pair_weights(config: TrainConfig, head: Head, counts: list[int]) -> list[float]:
    """Return the loss weights of the classifier's classes: given ones, or n / (K n_c)."""
    if not config.enable_class_weights:
        return [1.0] * len(head.classes)
    weights = balanced_class_weights(counts)
    given = [getattr(config, f"class_weight_{c}", 0.0) for c in head.classes]
    return [g or w for g, w in zip(given, weights)]
