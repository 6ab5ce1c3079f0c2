"""Files are written whole or not at all, and broken ones are named."""

import json
import math
import os

import numpy as np
import pytest

from common.system.errors import InputError
from common.system.files import atomic_write, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"good")
    with pytest.raises(OSError, match="No space"), atomic_write(path) as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"good"
    assert os.listdir(tmp_path) == ["model.pth"]


def test_a_write_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b.bin"
    for content in (b"one", b"two"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content


def test_the_file_that_is_replaced_keeps_another_name(tmp_path):
    path, previous = tmp_path / "last.pth", tmp_path / "previous.pth"
    for content in (b"one", b"two"):
        with atomic_write(path, previous) as file:
            file.write(content)
    assert (path.read_bytes(), previous.read_bytes()) == (b"two", b"one")


def test_json_has_null_for_what_is_undefined(tmp_path):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [np.float32(1.5), np.array([1, 2])]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.5, [1, 2]]}


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_broken_json_is_named(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"x\.json: expected a readable JSON"):
        read_json(tmp_path / "x.json")
