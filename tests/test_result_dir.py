"""The names and formats of a result directory."""

import csv
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from common import result_dir
from common.history import EpochRow, Validation
from common.models.checkpoint import load_pair
from common.models.checkpoint_file import CheckpointError
from common.pairs import pair_head
from common.result_dir import ResultDir
from common.system.errors import InputError


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


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
    with pytest.raises(CheckpointError, match="no such file"):
        load_pair(tmp_path / "gone.pth")


def test_files_hold_tensors_and_plain_types_only(trained):
    for path in (trained / "models").glob("*.pth"):
        content = torch.load(path, weights_only=True)
        assert content["format"] == "ovo-pair-1" and content["complete"] is True


def test_missing_pairs_are_named_with_the_command_that_makes_them(tmp_path):
    directory = ResultDir(tmp_path)
    directory.models.mkdir()
    for a, b in [(0, 1), (0, 2)]:
        directory.best("resnet50", pair_head((a, b))).touch()
    with pytest.raises(InputError, match=r"found 2 \(missing 1-2\); run .*--pairs 1-2"):
        result_dir.find_run(directory)
    directory.config.write_text('{"config": {"num_classes": 3, "class_names": ["1", "2", "3"]}}')
    with pytest.raises(InputError, match=r"missing 1-2\); run .*--pairs 2-3"):
        result_dir.find_run(directory)
    directory.config.unlink()
    directory.best("resnet50", pair_head((1, 2))).touch()
    assert [path.name for path in result_dir.find_run(directory).files] == [
        "best_resnet50_0_1.pth",
        "best_resnet50_0_2.pth",
        "best_resnet50_1_2.pth",
    ]
    directory.config.write_text('{"config": {"num_classes": 3, "tta": "mirror"}}')
    with pytest.raises(InputError, match=r"not a usable configuration \(tta mirror\)"):
        result_dir.find_run(directory)
    directory.best("densenet121", pair_head((0, 1))).touch()
    with pytest.raises(InputError, match="of one model"):
        result_dir.find_run(directory)


def row(head, epoch, train_loss):
    validation = Validation(0.5, 0.6, 0.7, 0.8, 0.9, 1.0) if epoch > 1 else None
    return EpochRow(head, epoch, train_loss, 0.4, validation, 1e-3, 10.0, 2.0)


def test_history_replaces_the_rows_of_its_pairs_only(tmp_path):
    path = tmp_path / "history.csv"
    result_dir.write_history(path, [row("0-1", 1, 1)], [pair_head((0, 1))])
    result_dir.write_history(path, [row("0-2", 1, 2)], [pair_head((0, 2))])
    result_dir.write_history(path, [row("0-1", e, 3) for e in (1, 2)], [pair_head((0, 1))])
    assert result_dir.read_history(path) == [row("0-1", 1, 3), row("0-1", 2, 3), row("0-2", 1, 2)]


def test_predictions_come_back_and_hold_no_pickle(tmp_path):
    path = tmp_path / "p.npz"
    result_dir.write_predictions(path, {"ids": np.array(["a", "b"])}, {"model": "x"})
    arrays, details = result_dir.read_predictions(path)
    assert arrays["ids"].tolist() == ["a", "b"] and details == {"model": "x"}
    np.savez(path, details=np.array([Bomb()], dtype=object))
    with pytest.raises(InputError, match="expected predictions"):
        result_dir.read_predictions(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="expected predictions"):
        result_dir.read_predictions(path)
    result_dir.write_predictions(path, {}, {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("class_probabilities", b"no array")
    with pytest.raises(InputError, match="'class_probabilities' is no array"):
        result_dir.read_predictions(path)


def test_text_in_tables_is_no_formula_for_a_spreadsheet_and_numbers_stay_numbers(tmp_path):
    path = tmp_path / "table.csv"
    texts = ["=1+1", "+a", "-a", "@a", "\ta", "\na", "'=a", "a=b", "'a", "", "-1.5e-3", "+4"]
    given = [text.replace("\n", "\r") for text in texts]  # which would end a row
    result_dir.write_csv(path, ["=name", "number"], [[text, -0.5] for text in given])
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=name", "number"] and {row[1] for row in rows} == {"-0.5"}
    written = [row[0] for row in rows]
    assert written == [f"'{text}" for text in texts[:7]] + texts[7:]
    assert [result_dir.without_apostrophe(cell) for cell in written] == texts
