"""Two trainings never share a result directory, and one that cannot be written is refused."""

import errno
import os
import signal

import pytest
from helpers import FOUR_EPOCHS, HEAD, MODEL, in_another_training

from common.locks import file_lock, run_lock
from common.result_dir.paths import ResultDir
from common.system.errors import InputError


def test_a_second_training_is_refused_and_names_the_first(quick_train, tmp_path, capsys):
    with in_another_training(ResultDir(tmp_path / "r"), HEAD):
        assert quick_train(tmp_path / "r", dry_run=None, **FOUR_EPOCHS) == 2
        planned = capsys.readouterr().err.rsplit(" [", 1)[0]
        assert quick_train(tmp_path / "r", **FOUR_EPOCHS) == 2
    error = capsys.readouterr().err
    assert error.startswith(planned)
    assert f"is being trained by process {os.getpid()} on" in error and error.count("\n") == 1
    assert not (tmp_path / "r" / "models").exists()
    assert quick_train(tmp_path / "r", **FOUR_EPOCHS) == 0


def test_the_lock_of_a_dead_process_is_taken_over(quick_train, tmp_path, capsys):
    directory = ResultDir(tmp_path / "r")
    directory.models.mkdir(parents=True)
    child = os.fork()
    if not child:
        file_lock.take(directory.head_lock(MODEL, HEAD))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (directory.root / ".config.json.abc.part").write_bytes(b"half")
    (directory.models / f".best_{MODEL}_0_1.pth.abc.part").write_bytes(b"half")
    assert directory.head_lock(MODEL, HEAD).is_file()
    assert quick_train(directory.root, **FOUR_EPOCHS) == 0
    assert f"left by process {child} on" in capsys.readouterr().out
    assert not list(directory.root.glob(".lock*")) and not list(directory.root.rglob("*.part"))


def test_a_lock_file_of_nonsense_locks_all_the_same(tmp_path):
    directory = ResultDir(tmp_path)
    directory.lock.write_text('{"pid": "<script>"}')
    with (
        run_lock.lock_directory(directory.root, directory.lock, "it is written"),
        pytest.raises(InputError, match="it is written by process"),
    ):
        run_lock.lock_directory(directory.root, directory.lock, "it is written").__enter__()


def test_a_directory_that_cannot_be_written_is_refused_before_decoding(
    quick_train, tmp_path, monkeypatch, capsys
):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(run_lock.os, "open", refuse)
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", **FOUR_EPOCHS) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: --output_dir: {tmp_path / 'r'} cannot be written ({tmp_path}: "
    )
    assert "Permission denied" in error and ".lock" not in error and error.count("\n") == 1
    assert not (tmp_path / "c").exists()
