"""The softmax head that One-vs-One is compared with."""

import pytest
from helpers import history_of, same_weights, weights_of

from common.data.synthetic import write_dataset
from common.models import checkpoint_file
from common.pairs import softmax_head
from common.result_dir import ResultDir
from common.training import loop


def test_a_softmax_head_trains_resumes_and_is_evaluated(quick_train, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert quick_train(whole, head="softmax", epochs=3) == 0
    finish, calls = loop.finish_epoch, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        finish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish_epoch", dies)
        assert quick_train(killed, head="softmax", epochs=3) == 130
    assert quick_train(killed, head="softmax", epochs=3, resume=None) == 0
    head = softmax_head(5)
    assert same_weights(whole, killed, head) and history_of(whole) == history_of(killed)
    assert (
        ResultDir(whole).best("demo_convnext", softmax_head(5)).name
        == "best_demo_convnext_softmax.pth"
    )
    assert weights_of(whole, head)["classifier", "weight"].shape[0] == 5


@pytest.mark.slow
def test_a_softmax_head_learns(quick_train, tmp_path):
    write_dataset(tmp_path / "images", {"train": 60, "val": 20}, seed=3, size=128)
    values = {
        "head": "softmax",
        "freeze_weights": "false",
        "epochs": 6,
        "batch_size": 8,
        "base_models": "demo_coatnet",
        "gradient_accumulation_steps": 1,
        "dataset_path": tmp_path / "images",
    }
    assert quick_train(tmp_path / "r", **values) == 0
    content = checkpoint_file.load_checkpoint(
        ResultDir(tmp_path / "r").best("demo_coatnet", softmax_head(5))
    )
    assert content["metrics"]["val_accuracy"] >= 0.6, "chance is 0.2"


def test_a_softmax_head_has_no_pairs(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", head="softmax", pairs="0-1") == 2
    assert "--pairs" in capsys.readouterr().err
