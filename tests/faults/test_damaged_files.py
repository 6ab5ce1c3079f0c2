"""Damaged, lost and exchanged checkpoints are named, and the outcome is the same bits."""

import shutil

import pytest
import torch
from helpers import FOUR_EPOCHS, HEAD, MODEL, flip_bit, history_of, same_weights

from common.models import checkpoint_file
from common.models.checkpoint import load_pair
from common.pairs import pair_head
from common.result_dir.paths import ResultDir


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("damage", [flip_bit, cut, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    quick_train, undisturbed, stopped, capsys, damage
):
    last = ResultDir(stopped).last(MODEL, HEAD)
    damage(last)
    assert quick_train(stopped, resume=None, **FOUR_EPOCHS) == 0
    said = capsys.readouterr().out
    assert f"pair 0-1: {last}: " in said and "it goes on after epoch 2" in said
    assert same_weights(stopped, undisturbed) and history_of(stopped) == history_of(undisturbed)
    assert not ResultDir(stopped).is_unfinished()


def test_where_no_checkpoint_is_good_the_pair_is_trained_from_the_start(
    quick_train, undisturbed, stopped, capsys
):
    flip_bit(ResultDir(stopped).last(MODEL, HEAD))
    flip_bit(ResultDir(stopped).previous(MODEL, HEAD))
    assert quick_train(stopped, resume=None, **FOUR_EPOCHS) == 0
    assert capsys.readouterr().out.count("it is trained from the start") == 1
    assert same_weights(stopped, undisturbed) and history_of(stopped) == history_of(undisturbed)


@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_classifier_is_named_and_trained_again(
    quick_train, undisturbed, stopped, tmp_path, capsys, finished
):
    output = shutil.copytree(undisturbed, tmp_path / "done") if finished else stopped
    best = ResultDir(output).best(MODEL, HEAD)
    flip_bit(best)
    with pytest.raises(checkpoint_file.DamagedError, match="damaged checkpoint"):
        load_pair(best)
    assert quick_train(output, resume=None, **FOUR_EPOCHS) == 0
    assert f"pair 0-1: {best}: damaged" in capsys.readouterr().out
    assert same_weights(output, undisturbed) and history_of(output) == history_of(undisturbed)


def test_files_without_a_checksum_still_load(undisturbed, tmp_path):
    path = ResultDir(undisturbed).best(MODEL, HEAD)
    content = torch.load(path, weights_only=True)
    assert len(content.pop("checksum")) == 64
    torch.save(content, tmp_path / "old.pth")
    assert load_pair(tmp_path / "old.pth").to_dict().keys() == content.keys()


def test_another_pair_s_classifier_is_named_and_trained_again(
    undisturbed, quick_train, tmp_path, capsys
):
    output = tmp_path / "r"
    assert quick_train(output, **{**FOUR_EPOCHS, "pairs": ["0-1", "2-3"]}) == 0
    files = ResultDir(output)
    shutil.copy(files.best(MODEL, pair_head((2, 3))), files.best(MODEL, HEAD))
    assert quick_train(output, **{**FOUR_EPOCHS, "pairs": ["0-1", "2-3"]}, resume=None) == 0
    assert "holds pair 2-3 of demo_convnext" in capsys.readouterr().out
    assert same_weights(output, undisturbed)


def test_a_state_newer_than_its_classifier_is_not_trusted(
    quick_train, undisturbed, stopped, capsys
):
    best = ResultDir(stopped).best(MODEL, HEAD)
    content = checkpoint_file.load_checkpoint(best)
    checkpoint_file.save_checkpoint(best, {**content, "best_epoch": 0})
    assert quick_train(stopped, resume=None, **FOUR_EPOCHS) == 0
    assert "of another epoch; it is trained from the start" in capsys.readouterr().out
    assert same_weights(stopped, undisturbed)
