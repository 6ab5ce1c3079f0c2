"""Pairs that share launches learn what they learn alone, or the reason why not is given."""

import pytest
from helpers import close_weights, same_weights

from common.pairs import pair_head
from common.training import loop


def test_one_classifier_has_none_to_share_launches_with(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", pairs="0-1", pair_parallelism="on") == 0
    assert "single classifier" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["demo_convnext", "demo_swinv2"])
def test_pairs_that_share_launches_learn_the_same_to_rounding(
    quick_train, tmp_path, model, monkeypatch, capsys
):
    groups, train_step = [], loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda context, b: (groups.append(len(b)), train_step(context, b))
    )
    options = {"base_models": model, "pairs": ["0-1", "0-2", "2-3"]}
    for mode in ("on", "off", "auto"):
        groups.clear()
        assert quick_train(tmp_path / mode, pair_parallelism=mode, **options) == 0
        assert max(groups) == (3 if mode == "on" else 1)
        assert ("pairs share launches" in capsys.readouterr().out) == (mode == "on")
    for pair in [(0, 1), (0, 2), (2, 3)]:
        head, (apart, together) = pair_head(pair), (tmp_path / "off", tmp_path / "on")
        assert close_weights(apart, together, 2e-4, head, model)
        assert not same_weights(apart, together, head, model)
        assert same_weights(apart, tmp_path / "auto", head, model), "a CPU takes the loop"


def test_launches_are_not_shared_where_that_cannot_be(quick_train, tmp_path, capsys):
    options = {"pair_parallelism": "on", "pairs": ["0-1", "0-2"]}
    assert quick_train(tmp_path / "a", grad_checkpointing="on", **options) == 2
    assert "--pair_parallelism on cannot be" in capsys.readouterr().err
    options |= {"base_models": "demo_coatnet", "freeze_weights": "false"}
    assert quick_train(tmp_path / "b", **options) == 2
    assert "batch statistics" in capsys.readouterr().err
