"""A device with too little memory: smaller micro-batches, recomputed activations, one line."""

import re

import pytest
import torch
from helpers import close_weights, same_weights

from common.models.ovo import Branch
from common.models.parallel_branches import ParallelBranches
from common.pairs import pair_head
from common.training import step

# what PyTorch has no class of its own for: of the driver, cuBLAS and cuDNN
OTHER_WORDS = (
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "GET was unable to find an engine to execute this computation",
)


@pytest.fixture
def run_out(device):
    """Run out of memory: a GPU really does, where a CPU would end the process."""

    def allocate():
        if device.type == "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        held = []
        while True:
            held.append(torch.empty(2**28, dtype=torch.uint8, device=device))

    if device.type == "cpu":
        yield allocate
        return
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 4e9 / whole))
    yield allocate
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_smaller_micro_batch_changes_the_outcome_to_rounding_only(
    quick_train, tmp_path, monkeypatch, capsys, device, run_out
):
    options = {"pairs": "1-3", "batch_size": 8, "ovo_dropout": 0.28, "device": device.type}
    assert quick_train(tmp_path / "whole", **options) == 0
    forward = Branch.forward

    def small_device(self, features, mask=None):
        if torch.is_grad_enabled() and len(features) > 2:
            run_out()
        return forward(self, features, mask)

    monkeypatch.setattr(Branch, "forward", small_device)
    capsys.readouterr()
    assert quick_train(tmp_path / "parts", **options) == 0
    said = capsys.readouterr().out
    assert "micro-batch 16 -> 8" in said and "micro-batch 4 -> 2" in said
    assert "the effective batch stays 16" in said
    tolerance = 2e-4 if device.type == "cpu" else 5e-3  # its convolutions round to TF32
    assert close_weights(tmp_path / "whole", tmp_path / "parts", tolerance, pair_head((1, 3)))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory (simulated)"), *map(RuntimeError, OTHER_WORDS)],
    ids=["class", "driver", "cuBLAS", "cuDNN"],
)
def test_memory_that_is_never_enough_ends_in_one_line(
    quick_train, tmp_path, monkeypatch, capsys, error
):
    def no_device(self, features, mask=None):
        raise error

    monkeypatch.setattr(Branch, "forward", no_device)
    assert quick_train(tmp_path / "r", pairs="0-1") == 1
    said = capsys.readouterr()
    assert "gradient checkpointing is on" in said.out
    assert re.search(r"out of memory at pair 0-1 .* try --grad_checkpointing on", said.err)


def test_a_mistake_in_a_step_is_not_taken_for_a_lack_of_memory(quick_train, tmp_path, monkeypatch):
    def wrong(self, features, mask=None):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Branch, "forward", wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        quick_train(tmp_path / "r", pairs="0-1")


def test_memory_that_runs_out_outside_of_a_step_is_one_line(
    quick_train, tmp_path, monkeypatch, capsys
):
    def no_room(*inputs):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(step, "update", no_room)  # where the moments are allocated
    assert quick_train(tmp_path / "r", pairs="0-1") == 1
    assert re.search(r"error: out of memory .*simulated.* try a smaller", capsys.readouterr().err)


@pytest.mark.parametrize("model", ["demo_coatnet", "demo_swinv2"])
def test_grad_checkpointing_does_not_change_what_is_learned(quick_train, tmp_path, model):
    options = {"base_models": model, "pairs": "0-1", "freeze_weights": "false"}
    for mode in ("on", "off"):
        assert quick_train(tmp_path / mode, grad_checkpointing=mode, **options) == 0
    assert close_weights(tmp_path / "on", tmp_path / "off", 1e-6, model=model)


def test_memory_too_small_for_shared_launches_goes_on_pair_by_pair(
    quick_train, tmp_path, monkeypatch, capsys
):
    calls, run = [], ParallelBranches.__call__

    def fails_later(self, *inputs):
        calls.append(1)
        if len(calls) > 3:  # the three of the measurement pass
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        return run(self, *inputs)

    monkeypatch.setattr(ParallelBranches, "__call__", fails_later)
    options = {"pairs": ["0-2", "2-3"]}
    assert quick_train(tmp_path / "on", pair_parallelism="on", **options) == 0
    assert "one after the other from here" in capsys.readouterr().out
    assert quick_train(tmp_path / "off", **options) == 0
    assert same_weights(tmp_path / "on", tmp_path / "off", pair_head((2, 3)))
