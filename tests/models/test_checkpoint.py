"""What checkpoints hold, and that what was written before is read rightly."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from common.config import PixelOptions
from common.history import EpochRow, Validation
from common.models.backbones import build, native_state, preprocessing_for, resolve
from common.models.checkpoint import (
    PairCheckpoint,
    ResumeState,
    branch_states,
    load_pair,
    restore_pair,
)
from common.models.checkpoint_file import CheckpointError, load_checkpoint, save_checkpoint
from common.models.ovo import build_branch, trunk_features
from common.pairs import pair_head, shared_head, softmax_head
from common.system.errors import InputError

CPU = torch.device("cpu")
SCORES = Validation(0.5, 0.6, 0.7, math.nan, sensitivity=0.8, specificity=0.9)
ROW = EpochRow("1-3", 2, 0.4, 0.5, SCORES, 1e-3, 10.0, 2.0)


def written(freeze=True, head=pair_head((1, 3)), frozen_stages=-1):  # noqa: B008 - a frozen value
    """A checkpoint of random weights, and the network that it holds."""
    spec = resolve("demo_swinv2")
    backbone = build(spec, 64, False, "", freeze, 0, frozen_stages)
    branch = build_branch(backbone, head, 5)
    stages, classifier = branch_states(branch)
    checkpoint = PairCheckpoint(
        model=spec.name,
        head=head,
        preprocessing=preprocessing_for(spec, PixelOptions(64)),
        trunk=native_state(backbone.trunk),
        stages=stages,
        classifier=classifier,
        frozen_parameters=1,
        trainable_parameters=2,
        class_names=tuple("01234"),
        best_epoch=2,
        best=ROW,
        history=(dataclasses.replace(ROW, epoch=1, validation=None), ROW),
        complete=True,
        config={} if frozen_stages < 0 else {"frozen_stages": frozen_stages},
    )
    return checkpoint, backbone, branch


@pytest.mark.parametrize(
    ("freeze", "frozen_stages"), [(True, -1), (False, -1), (True, 1), (True, 4)]
)
def test_a_pair_s_file_is_self_contained(freeze, frozen_stages, tmp_path):
    checkpoint, backbone, branch = written(freeze, frozen_stages=frozen_stages)
    save_checkpoint(tmp_path / "x.pth", checkpoint.to_dict())
    restored = restore_pair(load_pair(tmp_path / "x.pth"), "x.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    outputs = []
    for trunk, end in ((backbone.trunk, branch), (restored.trunk, restored.branch)):
        with torch.no_grad():
            features = trunk_features(trunk, pixels, checkpoint.preprocessing, CPU, "fp32")
            outputs.append(end(features))
    assert torch.equal(*outputs)
    assert restored.checkpoint.head == pair_head((1, 3))
    assert restored.checkpoint.preprocessing == checkpoint.preprocessing
    assert restored.checkpoint.history[0] == checkpoint.history[0]


def test_the_keys_of_a_pair_s_file_stay_what_they_were():
    content = written()[0].to_dict()
    keys = "format model pair preprocessing trunk top classifier parameters class_names synthetic"
    assert set(content) == {
        *keys.split(),
        *["config", "data", "best_epoch", "metrics", "history", "complete"],
    }
    assert content["format"] == "ovo-pair-1" and content["pair"] == [1, 3]
    assert "val_loss" not in content["history"][0] and content["metrics"]["val_loss"] == 0.5


@pytest.mark.parametrize("change", [{"model": "demo_swin"}, {"stages": {}}, {"trunk": {}}])
def test_weights_that_do_not_fit_are_named(change):
    checkpoint = dataclasses.replace(written()[0], **change)
    with pytest.raises(InputError, match=r"best\.pth: not a usable"):
        restore_pair(checkpoint, "best.pth")


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": {"x": 1}},
        {"pair": [0]},
        {"pair": [1, 7]},
        {"trunk": 5},
        {"metrics": {}},
        {"metrics": ROW.to_dict() | {"val_loss": None}},
        {"metrics": ROW.to_dict() | {"val_accuracy": 7.0}},
        {"metrics": ROW.to_dict() | {"val_auc": -0.5}},
        {"metrics": ROW.to_dict() | {"val_sensitivity": math.inf}},
        {"metrics": ROW.to_dict() | {"train_accuracy": 95.0}},
        {"history": [ROW.to_dict() | {"val_specificity": 1.5}]},
        {"class_names": ["0", "0", "2", "3", "4"]},
        {"history": [{"epoch": 1}]},
        {"best_epoch": math.inf},
    ],
)
def test_content_that_cannot_be_is_named(change, tmp_path):
    save_checkpoint(tmp_path / "best.pth", written()[0].to_dict() | change)
    with pytest.raises(CheckpointError, match=r"best\.pth: incomplete checkpoint"):
        load_pair(tmp_path / "best.pth")


@pytest.mark.parametrize("validation", [None, dataclasses.replace(SCORES, auc=0.5)])
def test_a_row_of_the_history_comes_back_from_numbers_and_from_text(validation):
    row = dataclasses.replace(ROW, validation=validation)
    assert EpochRow.from_dict(row.to_dict()) == row
    assert EpochRow.from_dict({key: str(value) for key, value in row.to_dict().items()}) == row


def test_referable_dr_of_a_softmax_head_has_its_own_columns():
    scores = Validation(0.5, 0.6, 0.7, 0.8, referable_sensitivity=0.1, referable_specificity=0.2)
    row = dataclasses.replace(ROW, head="softmax", validation=scores)
    content = row.to_dict()
    assert content["val_referable_sensitivity"] == 0.1 and "val_sensitivity" not in content
    assert EpochRow.from_dict(content) == row
    earlier = content | {"val_sensitivity": 0.1, "val_specificity": 0.2}
    del earlier["val_referable_sensitivity"], earlier["val_referable_specificity"]
    assert EpochRow.from_dict(earlier) == row, "earlier files have them in the columns of a pair"


def test_pair_accuracies_of_a_shared_head_come_back_from_numbers_and_from_text():
    scores = Validation(0.5, 0.6, 0.7, 0.8, pair_accuracies=(0.1, 1 / 3, 1.0))
    row = dataclasses.replace(ROW, head="shared", validation=scores)
    content = row.to_dict()
    assert EpochRow.from_dict(content) == row
    assert EpochRow.from_dict({key: str(value) for key, value in content.items()}) == row
    for odd in ([0.1, -1.0, 1.0], "[0.1, 7.0, 1.0]"):
        with pytest.raises(ValueError, match=r"val_pair_accuracies .*expected a share from 0 to 1"):
            EpochRow.from_dict(content | {"val_pair_accuracies": odd})
    unknown = EpochRow.from_dict(content | {"val_pair_accuracies": [math.nan] * 3}).validation
    assert unknown is not None and math.isnan(unknown.pair_accuracies[0])


@pytest.mark.parametrize("head", [pair_head((0, 4)), softmax_head(5), shared_head(5)])
def test_a_resume_state_comes_back_from_its_file(head, tmp_path):
    weights = {"classifier.weight": torch.arange(4.0)}
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    rows = tuple(dataclasses.replace(ROW, epoch=epoch, validation=None) for epoch in (1, 2))
    average = {"classifier.weight": torch.zeros(4)}
    state = ResumeState(head, weights, average, optimizer, {}, 2, 10, rows, -1, -math.inf, 0)
    save_checkpoint(tmp_path / "last.pth", state.to_dict())
    found = ResumeState.from_dict(load_checkpoint(tmp_path / "last.pth"))
    for held, given in ((found.branch, weights), (found.average, average)):
        assert torch.equal(held["classifier.weight"], given["classifier.weight"])
    assert dataclasses.replace(found, branch={}, average={}, optimizer={}) == dataclasses.replace(
        state, branch={}, average={}, optimizer={}
    )
