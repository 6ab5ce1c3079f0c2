"""Checkpoints of strangers."""

import pickle

import pytest
import torch
from helpers import Bomb

from common.models.checkpoint import load_pair
from common.models.checkpoint_file import CheckpointError


def test_a_pickle_bomb_does_nothing_and_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, save in (
        ("zip.pth", torch.save),
        ("raw.pth", lambda c, p: p.write_bytes(pickle.dumps(c))),
    ):
        path = tmp_path / name
        save({"format": "ovo-pair-1", "model": Bomb()}, path)
        with pytest.raises(CheckpointError, match=name):
            load_pair(path)
    assert not (tmp_path / "exploded").exists()


def test_foreign_empty_and_cut_files_are_reported(tmp_path, trained):
    good = (trained / "models" / "best_demo_convnext_0_1.pth").read_bytes()
    cases = {"empty.pth": b"", "text.pth": b"hello", "cut.pth": good[: len(good) // 2]}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=rf"{name}: unreadable"):
            load_pair(tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match=r"not a pair classifier .*state_dict"):
        load_pair(tmp_path / "foreign.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="found a list"):
        load_pair(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="expected a file, found a folder"):
        load_pair(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_pair(tmp_path / "gone.pth")


def test_files_hold_tensors_and_plain_types_only(trained):
    for path in (trained / "models").glob("*.pth"):
        content = torch.load(path, weights_only=True)
        assert content["format"] == "ovo-pair-1" and content["complete"] is True
