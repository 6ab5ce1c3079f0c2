"""What checkpoints hold: a pair's classifier, its history, and what resuming needs.

Each type reads and writes its own dictionary; nothing else knows the keys.
"""

import copy
import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.history import EpochRow
from common.models.backbones import (
    Backbone,
    build,
    load_native_state,
    native_state,
    pool_by_average,
    resolve,
)
from common.models.checkpoint_file import CheckpointError, load_checkpoint, without_wrappers
from common.models.legacy import LEGACY_FORMAT, convert_legacy, is_legacy, legacy_head
from common.models.ovo import Branch
from common.pairs import Head, head_from_classes
from common.pixels.preprocessing import Preprocessing
from common.system.errors import MISFIT, InputError

_PAIR_FORMAT, _RESUME_FORMAT = "ovo-pair-1", "ovo-resume-1"


@dataclass(frozen=True)
class PairCheckpoint:
    """The content of a classifier's file, of this tool or of the guide's earlier trainer."""

    model: str
    head: Head
    preprocessing: Preprocessing
    trunk: dict[str, Tensor]  # frozen; empty where everything is trained
    stages: dict[str, Tensor]  # trained
    classifier: dict[str, Tensor]
    frozen_parameters: int
    trainable_parameters: int
    class_names: tuple[str, ...]
    best_epoch: int  # of these weights, from 1
    best: EpochRow  # the row of that epoch
    history: tuple[EpochRow, ...]
    complete: bool  # the training has ended
    synthetic: bool = False  # trained on drawn images
    config: dict[str, Any] = field(default_factory=dict)  # TrainConfig.to_dict()
    data: dict[str, Any] = field(default_factory=dict)  # fingerprints of the images
    initial_weights: str = ""  # fingerprint of what training started from; "" in earlier files
    of_earlier_trainer: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain types, as they are stored."""
        pixels = asdict(self.preprocessing)
        return {
            "format": LEGACY_FORMAT if self.of_earlier_trainer else _PAIR_FORMAT,
            "model": self.model,
            **_head_keys(self.head),
            "preprocessing": pixels | {key: list(pixels[key]) for key in ("mean", "std")},
            "trunk": self.trunk,
            "top": self.stages,
            "classifier": self.classifier,
            "parameters": {
                "frozen": self.frozen_parameters,
                "trainable": self.trainable_parameters,
            },
            "class_names": list(self.class_names),
            "synthetic": self.synthetic,
            "config": self.config,
            "data": self.data,
            **({"initial_weights": self.initial_weights} if self.initial_weights else {}),
            "best_epoch": self.best_epoch,
            "metrics": self.best.to_dict(),
            "history": [row.to_dict() for row in self.history],
            "complete": self.complete,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "PairCheckpoint":
        """Read what `to_dict` wrote; raises one of MISFIT for anything else."""
        head = _read_head(content)
        names = tuple(str(name) for name in content["class_names"])
        best = EpochRow.from_dict(content["metrics"])
        if len(names) <= max(head.classes):
            raise ValueError(f"{len(names)} class names for {head.title}")
        if len(set(names)) < len(names):
            raise ValueError(f"class names {' '.join(names)}: one is there twice")
        if best.validation is None:
            raise ValueError("metrics without a validation")
        if head.kind == "shared" and len(best.validation.pair_accuracies or ()) != head.outputs:
            raise ValueError(f"metrics without the accuracies of {head.outputs} pairs")
        return cls(
            model=str(content["model"]),
            head=head,
            preprocessing=Preprocessing.from_dict(content["preprocessing"]),
            trunk=without_wrappers(content["trunk"]),
            stages=without_wrappers(content["top"]),
            classifier=without_wrappers(content["classifier"]),
            frozen_parameters=int(content["parameters"]["frozen"]),
            trainable_parameters=int(content["parameters"]["trainable"]),
            class_names=names,
            best_epoch=int(content["best_epoch"]),
            best=best,
            history=tuple(EpochRow.from_dict(row) for row in content["history"]),
            complete=bool(content["complete"]),
            synthetic=bool(content.get("synthetic")),
            config=dict(content.get("config") or {}),
            data=dict(content.get("data") or {}),
            initial_weights=str(content.get("initial_weights") or ""),
            of_earlier_trainer=content["format"] == LEGACY_FORMAT,
        )

    @property
    def val_accuracy(self) -> float:
        """Validation accuracy of the best epoch; NaN if unknown."""
        return self.best.validation.accuracy if self.best.validation else math.nan

    @property
    def pair_accuracies(self) -> tuple[float, ...]:
        """Validation accuracies (P,) of the head's pairs, NaN if unknown; none of a softmax."""
        if self.head.is_binary:
            return (self.val_accuracy,)
        return (self.best.validation and self.best.validation.pair_accuracies) or ()


def _head_keys(head: Head) -> dict[str, Any]:
    """Return what a file says of its head: the classes, and the kind where they do not tell it."""
    return {"pair": list(head.classes)} | ({"head": head.kind} if head.kind == "shared" else {})


def _read_head(content: Mapping[str, Any]) -> Head:
    return head_from_classes([int(c) for c in content["pair"]], content.get("head", ""))


def load_pair(path: Path, data: bytes | None = None) -> PairCheckpoint:
    """Read a classifier's file; raises CheckpointError for an unreadable or foreign one.

    data: its bytes, where they have been read already.
    """
    content = load_checkpoint(path, data)
    kind = "incomplete checkpoint"
    try:
        if is_legacy(content):
            kind = "incomplete earlier checkpoint"
            content = convert_legacy(content)
        elif content.get("format") != _PAIR_FORMAT:
            keys = " ".join(str(key) for key in list(content)[:6])
            raise CheckpointError(
                f"{path}: not a pair classifier of this tool (holds: {keys or '-'})"
            )
        return PairCheckpoint.from_dict(content)
    except MISFIT as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(f"{path}: {kind} ({reason})") from error


def cpu_copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy a state so that training no longer changes it."""
    return {key: value.detach().cpu().clone() for key, value in state.items()}


def branch_states(branch: Branch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copy the weights of a branch as a checkpoint holds them: stages, classifier."""
    return cpu_copy(native_state(branch.stages)), cpu_copy(branch.classifier.state_dict())


@dataclass
class PairClassifier:
    """A trained network, rebuilt from its file, in evaluation mode."""

    checkpoint: PairCheckpoint
    trunk: nn.Sequential
    branch: Branch


def restore_pair(checkpoint: PairCheckpoint, source: str) -> PairClassifier:
    """Rebuild a classifier from its checkpoint; InputError names `source` if it does not fit."""
    legacy = checkpoint.of_earlier_trainer
    size, frozen = checkpoint.preprocessing.img_size, bool(checkpoint.trunk)
    try:
        cut = int(checkpoint.config.get("frozen_stages", -1))  # earlier files have the model's own
        pooled = str(checkpoint.config.get("pooled_stages", "last"))
        template = _template(checkpoint.model, size, frozen, cut, pooled, legacy)
        backbone = copy.deepcopy(template)
        build_classifier = legacy_head if legacy else nn.Linear
        classifier = build_classifier(backbone.num_features, checkpoint.head.outputs)
        load_native_state(backbone.trunk, checkpoint.trunk)
        branch = Branch(backbone.stages, classifier)
        load_native_state(branch.stages, checkpoint.stages)
        branch.classifier.load_state_dict(checkpoint.classifier)
    except MISFIT as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: not a usable pair checkpoint ({reason})") from error
    return PairClassifier(checkpoint, backbone.trunk.eval(), branch.eval())


@functools.lru_cache(maxsize=1)
def _template(
    model: str, img_size: int, frozen: bool, cut: int, pooled: str, legacy: bool
) -> Backbone:
    """Build a network once for the ten files that hold its weights."""
    backbone = build(resolve(model), img_size, False, "", frozen, 0, cut, pooled)
    if legacy:
        pool_by_average(backbone)
    return backbone


@dataclass(frozen=True)
class ResumeState:
    """All that a training needs to go on after an epoch as if it had never been interrupted."""

    head: Head
    branch: dict[str, Tensor]
    average: dict[str, Tensor]  # of the branch's weights; empty without
    optimizer: dict[str, Any]
    scaler: dict[str, Any]  # of fp16's gradients; empty without
    epoch: int  # epochs done
    step: int  # optimiser steps done
    history: tuple[EpochRow, ...]
    best_epoch: int  # -1: none yet
    best_score: float
    waited: int  # validations since the best one

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain types, as they are stored."""
        return {
            "format": _RESUME_FORMAT,
            **_head_keys(self.head),
            "top": self.branch,
            "average": self.average,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "epoch": self.epoch,
            "step": self.step,
            "history": [row.to_dict() for row in self.history],
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "waited": self.waited,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "ResumeState":
        """Read what `to_dict` wrote; raises one of MISFIT for anything else."""
        return cls(
            head=_read_head(content),
            branch=dict(content["top"]),
            average=dict(content.get("average") or {}),
            optimizer=dict(content["optimizer"]),
            scaler=dict(content["scaler"]),
            epoch=int(content["epoch"]),
            step=int(content["step"]),
            history=tuple(EpochRow.from_dict(row) for row in content["history"]),
            best_epoch=int(content["best_epoch"]),
            best_score=float(content["best_score"]),
            waited=int(content["waited"]),
        )
