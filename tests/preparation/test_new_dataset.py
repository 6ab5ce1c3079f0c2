"""A dataset is written whole or not at all; what a killed command left is removed."""

import fcntl
import os

from common.preparation import new_dataset as module
from common.preparation.new_dataset import remove_leftovers


def test_an_empty_folder_of_a_killed_command_is_removed(tmp_path, capsys):
    names = [".new.abcd_123.part", ".new.12345678.part", ".new.b.12345678.part", ".new.part"]
    empty, full, of_another, odd = [tmp_path / name for name in names]
    for folder in (empty, full, of_another, odd):
        folder.mkdir()
    (full / "thesis.txt").write_text("x")
    handle = os.open(empty, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    remove_leftovers(tmp_path / "new")
    assert empty.is_dir() and "another process is writing" in capsys.readouterr().out
    os.close(handle)
    remove_leftovers(tmp_path / "new")
    assert f"removed {empty}, left by a command that was killed" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == sorted([full, of_another, odd])
    assert (full / "thesis.txt").is_file()


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, seen = fcntl.flock, []

    def remove_first(handle, operation):
        if not seen:
            module.os.rmdir(next(tmp_path.glob(".new.*.part")))
        seen.append(handle)
        lock(handle, operation)

    monkeypatch.setattr(module.fcntl, "flock", remove_first)
    with module._unfinished_folder(tmp_path / "new") as folder:
        assert folder.is_dir() and len(seen) == 2
        os.replace(folder, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
