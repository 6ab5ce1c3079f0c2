"""Inspecting many files: each is opened once, whatever happens to the process or the store."""

import os
import shutil

import numpy as np
import pytest
from helpers import fill_disk

from common.duplicates.signatures import Signature
from common.inspection import many_files
from common.inspection.many_files import inspect_files


@pytest.fixture
def pictures(demo, tmp_path):
    folder = shutil.copytree(demo / "val" / "1", tmp_path / "pictures")
    return sorted(folder.iterdir())


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were inspected, in one process."""
    names, inspect = [], many_files.inspect_file
    monkeypatch.setattr(
        many_files, "inspect_file", lambda path: names.append(path.name) or inspect(path)
    )
    return names


def _plain(value):
    return vars(value) if isinstance(value, Signature) else value


def same(one, other):
    for name, value in vars(one).items():
        np.testing.assert_equal(_plain(value), _plain(getattr(other, name)), name)


def test_a_picture_is_inspected_once_and_what_is_stored_is_the_same(pictures, tmp_path, opened):
    first = inspect_files(pictures, 1, tmp_path / "c")
    assert len(opened) == len(pictures) == 4
    again = inspect_files(pictures, 1, tmp_path / "c")
    assert len(opened) == 4
    for one, other, fresh in zip(first, again, inspect_files(pictures, 1)):
        same(one, other)
        same(one, fresh)


def test_what_is_new_changed_or_no_picture_is_inspected_again(pictures, tmp_path, opened):
    broken, changed, link = pictures[0], pictures[1], tmp_path / "notes.txt"
    broken.write_bytes(broken.read_bytes()[:500])
    link.symlink_to(pictures[2])
    gone = tmp_path / "gone.jpg"
    paths = [*pictures, link, gone, gone]
    found = inspect_files(paths, 1, tmp_path / "c")
    assert [record.usable for record in found] == [False, True, True, True, False, False, False]
    opened.clear()
    os.utime(changed, ns=(1, 1))
    inspect_files(paths, 1, tmp_path / "c")
    assert opened == [broken.name, changed.name, "notes.txt", "gone.jpg"]


def test_what_was_inspected_before_an_interruption_is_kept(pictures, tmp_path, monkeypatch, opened):
    inspect = many_files.inspect_file

    def interrupted(path):
        if path == pictures[2]:
            raise KeyboardInterrupt
        return inspect(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(many_files, "inspect_file", interrupted)
        inspect_files(pictures, 1, tmp_path / "c")
    opened.clear()
    inspect_files(pictures, 1, tmp_path / "c")
    assert opened == [path.name for path in pictures[2:]]


def test_a_full_disk_costs_the_store_only(pictures, tmp_path, monkeypatch, capsys):
    fill_disk(monkeypatch, lambda path: ".records" in path)
    found = inspect_files(pictures, 1, tmp_path / "c")
    assert all(record.usable for record in found)
    assert "4 pictures could not be kept" in capsys.readouterr().out


def test_a_picture_that_is_changed_meanwhile_is_not_stored(pictures, tmp_path, monkeypatch):
    def changes(path):
        os.utime(path, ns=(1, 1))
        return inspect(path)

    inspect = many_files.inspect_file
    monkeypatch.setattr(many_files, "inspect_file", changes)
    inspect_files(pictures, 1, tmp_path / "c")
    assert not list(tmp_path.rglob("*.records"))


def test_several_processes_find_what_one_finds(pictures, tmp_path):
    for one, other in zip(inspect_files(pictures, 2, tmp_path / "c"), inspect_files(pictures, 1)):
        same(one, other)
