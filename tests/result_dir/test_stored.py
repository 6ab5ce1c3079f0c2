"""The formats of what is read back."""

import zipfile

import numpy as np
import pytest
from helpers import Bomb

from common.history import EpochRow, Validation
from common.pairs import pair_head
from common.result_dir.stored import (
    read_history,
    read_predictions,
    write_history,
    write_predictions,
)
from common.system.errors import InputError


def row(head, epoch, train_loss):
    validation = Validation(0.5, 0.6, 0.7, 0.8, 0.9, 1.0) if epoch > 1 else None
    return EpochRow(head, epoch, train_loss, 0.4, validation, 1e-3, 10.0, 2.0)


def test_history_replaces_the_rows_of_its_pairs_only(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, [row("0-1", 1, 1)], [pair_head((0, 1))])
    write_history(path, [row("0-2", 1, 2)], [pair_head((0, 2))])
    write_history(path, [row("0-1", e, 3) for e in (1, 2)], [pair_head((0, 1))])
    assert read_history(path) == [row("0-1", 1, 3), row("0-1", 2, 3), row("0-2", 1, 2)]


def test_predictions_come_back_and_hold_no_pickle(tmp_path):
    path = tmp_path / "p.npz"
    write_predictions(path, {"ids": np.array(["a", "b"])}, {"model": "x"})
    arrays, details = read_predictions(path)
    assert arrays["ids"].tolist() == ["a", "b"] and details == {"model": "x"}
    np.savez(path, details=np.array([Bomb()], dtype=object))
    with pytest.raises(InputError, match="expected predictions"):
        read_predictions(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="expected predictions"):
        read_predictions(path)
    write_predictions(path, {}, {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("class_probabilities", b"no array")
    with pytest.raises(InputError, match="'class_probabilities' is no array"):
        read_predictions(path)
