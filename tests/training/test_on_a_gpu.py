"""What a GPU computes is what the CPU does, up to rounding, and no step waits for it."""

import numpy as np
import pytest
import torch

from common.data.folders import scan_split
from common.prediction.predict import PredictionConfig, predict_run
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.result_dir.stored import read_history
from common.training import loop

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def in_full_fp32(monkeypatch):
    """Let convolutions compute in fp32, where a GPU would round to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_losses_of_a_training_are_those_of_the_cpu(quick_train, trained, tmp_path):
    assert quick_train(tmp_path / "r", pairs="0-1", device="cuda") == 0
    found, every = (read_history(ResultDir(root).history) for root in (tmp_path / "r", trained))
    expected = [row.train_loss for row in every if row.head == found[0].head]
    assert [row.train_loss for row in found] == pytest.approx(expected, rel=1e-2)


def test_predictions_are_those_of_the_cpu(trained, demo, shared_cache):
    run, split = find_run(ResultDir(trained)), scan_split(demo, "test")
    own, expected = (
        predict_run(run, split, PredictionConfig(shared_cache, 1, torch.device(name), "fp32"))
        for name in ("cuda", "cpu")
    )
    assert np.abs(own.pair_probabilities - expected.pair_probabilities).max() < 1e-3


@pytest.mark.parametrize("together", ["off", "on"])
def test_no_step_waits_for_the_gpu(quick_train, tmp_path, monkeypatch, together):
    steps, plain = [], {name: getattr(loop, name) for name in ("make_batch", "train_step")}

    def watched(name):
        def run(*inputs):
            steps.append(name)
            # the first steps set up what later ones use
            torch.cuda.set_sync_debug_mode("error" if steps.count(name) > 4 else "default")
            try:
                return plain[name](*inputs)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return run

    for name in plain:
        monkeypatch.setattr(loop, name, watched(name))
    options = {"pairs": ["0-1", "2-3"], "pair_parallelism": together, "precision": "auto"}
    assert quick_train(tmp_path / "r", device="cuda", **options) == 0
    assert steps.count("train_step") >= 8
