"""What a pair becomes depends on the data, the settings and the seed, and on nothing else."""

import pytest
import torch
from helpers import history_of, same_weights, weights_of

from common.models.backbones import build, native_state, resolve
from common.pairs import pair_head


@pytest.mark.parametrize("freeze", ["true", "false"])
@pytest.mark.parametrize("model", ["demo_convnext", "demo_coatnet"])
def test_a_pair_alone_is_bit_identical_to_a_pair_among_all(quick_train, tmp_path, model, freeze):
    options = {"base_models": model, "freeze_weights": freeze}
    assert quick_train(tmp_path / "all", **options) == 0
    assert quick_train(tmp_path / "one", pairs="2-3", **options) == 0
    assert same_weights(tmp_path / "all", tmp_path / "one", pair_head((2, 3)), model)


def test_pairs_trained_in_two_runs_make_the_same_directory(quick_train, tmp_path, trained):
    assert quick_train(tmp_path / "r", pairs=["0-1", "2-3"]) == 0
    assert quick_train(tmp_path / "r", resume=None) == 0
    for pair in [(0, 1), (2, 3), (3, 4)]:
        assert same_weights(tmp_path / "r", trained, pair_head(pair))
    assert history_of(tmp_path / "r") == history_of(trained)
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_pretrained_batch_norms_keep_their_statistics(quick_train, tmp_path):
    backbone = build(resolve("demo_coatnet"), 64, False, "", False, 7)
    torch.save(native_state(backbone.stages), tmp_path / "w.pth")
    options = {"base_models": "demo_coatnet", "pairs": "0-1", "freeze_weights": "false"}
    pretrained = {"no_pretrained": False, "weights": tmp_path / "w.pth"}
    assert quick_train(tmp_path / "p", **pretrained, **options) == 0
    assert quick_train(tmp_path / "s", **options) == 0
    kept = {
        k: v
        for k, v in weights_of(tmp_path / "p", model="demo_coatnet").items()
        if "running" in k[1]
    }
    assert kept and all(
        torch.equal(v, native_state(backbone.stages)[k[1]]) for k, v in kept.items()
    )
    moved = weights_of(tmp_path / "s", model="demo_coatnet")
    assert any(not torch.equal(moved[k], v) for k, v in kept.items())
