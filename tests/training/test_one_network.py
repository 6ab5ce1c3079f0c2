"""Models of one network for all classes: with an output per pair, or a softmax."""

import numpy as np
import pytest
import torch
from helpers import history_of, same_weights, weights_of

from common.data.folders import scan_dataset
from common.models import checkpoint_file
from common.models.checkpoint import load_pair
from common.pairs import class_pairs, heads_of_model, shared_head
from common.prediction.predict import PredictionConfig, predict_run
from common.prediction.voting import combine_pairs
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.training import loop

PAIRS = class_pairs(5)


@pytest.mark.parametrize(("kind", "outputs"), [("softmax", 5), ("shared", 10)])
def test_it_trains_and_resumes_to_the_same_bits(
    quick_train, demo, shared_cache, tmp_path, monkeypatch, kind, outputs
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert quick_train(whole, head=kind, epochs=3) == 0
    finish, calls = loop.finish_epoch, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        finish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish_epoch", dies)
        assert quick_train(killed, head=kind, epochs=3) == 130
    assert quick_train(killed, head=kind, epochs=3, resume=None) == 0
    (head,) = heads_of_model(5, kind)
    assert same_weights(whole, killed, head) and history_of(whole) == history_of(killed)
    path = ResultDir(whole).best("demo_convnext", head)
    assert path.name == f"best_demo_convnext_{kind}.pth"
    assert weights_of(whole, head)["classifier", "weight"].shape[0] == outputs
    assert load_pair(path).head == head

    val, run = scan_dataset(demo, 5).split("val"), find_run(ResultDir(whole))
    config = PredictionConfig(shared_cache, 1, torch.device("cpu"), "fp32")
    found, best = predict_run(run, val, config), load_pair(path).best.validation
    of_classes = combine_pairs(found.pair_probabilities, 5)
    assert of_classes.accuracy(val.labels) == best.accuracy, "validation is a prediction"
    if kind == "shared":
        right = (found.pair_probabilities > 0.5) == (val.labels[:, None] == [b for _, b in PAIRS])
        own = [np.isin(val.labels, pair) for pair in PAIRS]
        accuracies = [right[rows, column].mean() for column, rows in enumerate(own)]
        assert accuracies == list(best.pair_accuracies) == found.pair_accuracies.tolist()
        assert history_of(whole)[load_pair(path).best_epoch - 1].validation == best


@pytest.mark.slow
def test_a_shared_head_learns(quick_train, large_demo, tmp_path):
    values = {
        "head": "shared",
        "freeze_weights": "false",
        "epochs": 4,
        "batch_size": 8,
        "base_models": "demo_coatnet",
        "gradient_accumulation_steps": 1,
        "dataset_path": large_demo,
    }
    assert quick_train(tmp_path / "r", **values) == 0
    path = ResultDir(tmp_path / "r").best("demo_coatnet", shared_head(5))
    content = checkpoint_file.load_checkpoint(path)
    assert content["metrics"]["val_accuracy"] >= 0.6, "chance is 0.2"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"head": "softmax", "pairs": "0-1"}, "--pairs"),
        ({"head": "shared", "pairs": "0-1"}, "--head shared trains one network"),
        ({"head": "shared", "num_classes": 2}, "--head: expected ovo for two classes"),
    ],
)
def test_flags_that_it_cannot_honour_are_refused(quick_train, tmp_path, capsys, flags, said):
    assert quick_train(tmp_path / "r", **flags) == 2
    assert said in capsys.readouterr().err
