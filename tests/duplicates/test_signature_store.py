"""The store of what was computed of each picture: whole, shared, and mended where it is damaged."""

import os

import numpy as np
import pytest
from helpers import fill_disk, flip_bit

from common.data.folders import scan_split
from common.duplicates.signature_store import SignatureStore, StoredRecord, file_key

RECORD = StoredRecord(
    {"faults": ["tiny"], "statistics": {"file": {"width": 96.5}}},
    {"points": np.arange(6, dtype=np.float32).reshape(3, 2), "none": np.empty((0, 128), np.uint8)},
)


def same(one, other):
    return one.values == other.values and all(
        (one.arrays[name] == array).all()
        and one.arrays[name].dtype == array.dtype
        and one.arrays[name].shape == array.shape
        for name, array in other.arrays.items()
    )


def files_of(folder):
    return sorted(folder.rglob("*.records"))


def test_what_was_added_is_read_as_it_was(tmp_path):
    store = SignatureStore(tmp_path, "1")
    assert store.read(["a"]) == {}
    odd = "/p/Zoé\udcff|1|2"  # a name that is not UTF-8
    store.add({"a": RECORD, odd: StoredRecord({"x": None})})
    store.add({})
    found = SignatureStore(tmp_path, "1").read(["a", odd, "b"])
    assert set(found) == {"a", odd} and same(found["a"], RECORD)
    assert found[odd] == StoredRecord({"x": None}) and len(files_of(tmp_path)) == 1
    assert SignatureStore(tmp_path, "2").read(["a"]) == {}, "of another version"


def test_two_processes_may_add_the_same(tmp_path):
    first, second = SignatureStore(tmp_path, "1"), SignatureStore(tmp_path, "1")
    first.add({"a": RECORD, "b": RECORD})
    second.add({"b": RECORD, "c": RECORD})
    assert set(first.read("abc")) == set("abc")


@pytest.mark.parametrize(
    "damage",
    [
        flip_bit,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b"[1, 2]\n"),
        lambda path: path.write_bytes(b'[["a", 0, 3, "x"]]\nabc'),
        lambda path: path.write_bytes(b"\xff" * 300),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.unlink() or path.mkdir(),
        os.unlink,
    ],
)
def test_a_damaged_file_is_as_good_as_absent(tmp_path, damage):
    store = SignatureStore(tmp_path, "1")
    store.add({"a": RECORD})
    damage(files_of(tmp_path)[0])
    assert store.read(["a"]) == {}
    store.add({"a": RECORD})
    assert same(store.read(["a"])["a"], RECORD)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    fill_disk(monkeypatch, lambda path: ".records" in path)
    with pytest.raises(OSError, match="No space"):
        SignatureStore(tmp_path, "1").add({"a": RECORD})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_s_key_is_that_of_the_pixel_cache_and_changes_with_it(demo, tmp_path):
    image = scan_split(demo, "val").images[0]
    assert file_key(image.path) == image.cache_key()
    copy = tmp_path / "x.jpg"
    copy.write_bytes(b"x")
    before = file_key(copy)
    os.utime(copy, ns=(1, 1))
    assert file_key(copy) != before and file_key(tmp_path / "gone") == ""
