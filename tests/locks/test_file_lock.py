"""A lock file is one process's, on file systems with kernel locks and without."""

import dataclasses
import errno
import fcntl
import os
import random
import shlex
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT

from common.locks import kernel_locks, marker
from common.locks.file_lock import Taken, advice_on, holder_of, take
from common.locks.holder import this_process
from common.locks.run_lock import lock_directory, lock_for_a_moment
from common.system.errors import InputError

# takes a lock, says so, and keeps it until its input ends or it is killed
_HOLDER = """
import sys
from pathlib import Path
from common.locks.file_lock import take
take(Path(sys.argv[1]))
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["kernel locks", "none"])
def kernel(request, monkeypatch):
    """With kernel locks, and as on a file system without them."""
    if request.param == "none":
        monkeypatch.setenv(kernel_locks.WITHOUT, "1")


@pytest.fixture
def elsewhere(monkeypatch):
    """Let kernel locks be such as may hold within a machine only."""
    monkeypatch.setattr(kernel_locks, "_file_system", lambda folder: "nfs4")
    kernel_locks._doubts.cache_clear()
    yield
    kernel_locks._doubts.cache_clear()


def start_holder(path, *before):
    """Let a process take a lock; it is killed by what the caller does with it."""
    command = [*before, sys.executable, "-c", _HOLDER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "\n"
    return process


def test_a_lock_has_one_holder_who_is_named_and_leaves_nothing(kernel, tmp_path):
    path = tmp_path / "lock"
    assert holder_of(path) is None
    lock = take(path)
    with pytest.raises(Taken, match=f"process {os.getpid()} on "):
        take(path)
    assert f"process {os.getpid()} on " in holder_of(path).holder
    lock.release()
    assert holder_of(path) is None and not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over_and_that_of_a_living_one_is_not(
    kernel, tmp_path, capsys
):
    path = tmp_path / "lock"
    with start_holder(path) as process:
        with pytest.raises(Taken, match=f"process {process.pid} on "):
            take(path)
        process.kill()
    assert holder_of(path) is None
    take(path).release()
    assert f"left by process {process.pid} on" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_number_that_another_process_has_got_is_not_its_holder(tmp_path, monkeypatch):
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    me = this_process()
    assert not me.is_gone() and dataclasses.replace(me, started="1").is_gone()
    for part in ("host", "boot", "numbering", "started"):  # nobody here can tell
        unknown = dataclasses.replace(me, started="1", **{part: ""} if part != "started" else {})
        assert not dataclasses.replace(unknown, **{part: ""}).is_gone()
    assert not dataclasses.replace(me, started="1", boot="of another machine").is_gone()


@pytest.mark.parametrize("kind", ["none", "within a machine"])
def test_what_another_host_left_is_never_taken_over_in_silence(
    kind, tmp_path, monkeypatch, request
):
    if kind == "none":
        monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    else:
        request.getfixturevalue("elsewhere")
    path = tmp_path / "lock"
    with start_holder(path) as process:
        process.kill()
    told = dataclasses.replace(this_process(), host="node7", pid=process.pid)
    path.write_bytes(told.to_bytes())
    with pytest.raises(
        InputError, match=rf"process \d+ on 'node7' .* no more: rm -f {path} {path}.soft"
    ):
        lock_directory(tmp_path, path, "it is written").__enter__()
    assert holder_of(path).elsewhere
    for left in tmp_path.glob("lock*"):  # as the message says
        left.unlink()
    take(path).release()


def test_all_files_that_dead_processes_left_are_named_a_command_for_each(tmp_path):
    held, folder = [], tmp_path / "it's here"
    for second, (name, pid) in enumerate([("a", 7), ("b", 8), ("c", 7)]):
        told = dataclasses.replace(this_process(), host="node7", pid=pid)
        told = dataclasses.replace(told, since=f"2026-11-26T12:00:0{second}+00:00")
        held.append(Taken(folder / name, told))
    one = advice_on([held[0], held[2]])
    assert one.startswith("; if that process runs no more: rm -f ")
    files = shlex.split(one.partition("rm -f ")[2])
    assert files == [str(folder / name) for name in ("a", "a.soft", "c", "c.soft")]
    both = advice_on(held)
    assert both.count("; if process ") == both.count("rm -f ") == 2 and "if process 8 on" in both
    assert advice_on([Taken(folder / "a", this_process())]) == "" == advice_on([])


def test_a_process_of_another_host_is_left_alone_alive_or_dead(tmp_path, monkeypatch):
    hosted = ("unshare", "--uts", "sh", "-c", 'hostname node7 && exec "$@"', "-")
    if subprocess.run([*hosted, "true"], capture_output=True).returncode:
        pytest.skip("a host's name cannot be changed here")
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    path = tmp_path / "lock"
    with start_holder(path, *hosted) as process:
        for _ in range(2):
            with pytest.raises(Taken, match="on 'node7'"):
                take(path)
            process.kill()
            process.wait()


def test_a_server_that_shares_its_disk_sees_the_locks_of_those_who_use_it(tmp_path, request):
    path, abroad = tmp_path / "lock", dataclasses.replace(this_process(), host="node7")
    request.getfixturevalue("elsewhere")
    lock = take(path)  # as another machine does, for which this is a network disk
    path.write_bytes(abroad.to_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_locks, "_file_system", lambda folder: "ext4")
        patch.setattr("common.locks.file_lock.lock_now", lambda handle, kind: None)
        kernel_locks._doubts.cache_clear()
        with pytest.raises(Taken, match="on 'node7'"):
            take(path)
        lock.release()
        lock = take(path)
        path.write_bytes(abroad.to_bytes())
    kernel_locks._doubts.cache_clear()
    with pytest.raises(Taken, match="on 'node7'"):
        take(path)
    lock.release()


def test_on_a_local_disk_a_free_lock_proves_that_its_holder_has_ended(tmp_path, capsys):
    path = tmp_path / "lock"  # such as a container with a new name finds
    path.write_bytes(dataclasses.replace(this_process(), host="node7", pid=1).to_bytes())
    assert holder_of(path) is None
    take(path).release()
    assert "on 'node7'" in capsys.readouterr().out


def test_locks_that_do_not_exclude_are_noticed(tmp_path, monkeypatch):
    assert not kernel_locks.doubts_about(tmp_path)
    answers = {
        "there are none (No locks available)": errno.ENOLCK,
        "there are none (Operation not supported)": errno.ENOTSUP,
        "they let two in at once": 0,
    }
    for expected, number in answers.items():

        def answer(handle, kind, number=number):
            if number:
                raise OSError(number, os.strerror(number))

        kernel_locks._doubts.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", answer)
            assert kernel_locks.doubts_about(tmp_path) == expected
            assert "lock files are used, too" in kernel_locks.lock_note(tmp_path)
            lock = take(tmp_path / "lock")
            with pytest.raises(Taken):
                take(tmp_path / "lock")
            lock.release()
    kernel_locks._doubts.cache_clear()


def test_on_a_full_disk_a_lock_holds_and_another_line_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    lock = take(tmp_path / "lock")  # what is written next names its file
    with pytest.raises(Taken):
        take(tmp_path / "lock")
    lock.release()
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    with pytest.raises(OSError, match=r"No space left on device.*lock"):
        take(tmp_path / "lock")


def test_who_waits_for_a_moment_gets_the_lock_when_it_is_let_go_of(kernel, tmp_path):
    path = tmp_path / "lock"
    with start_holder(path) as process:
        with pytest.raises(InputError, match=f"held by process {process.pid} on"):
            lock_for_a_moment(path, 0.2).__enter__()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with lock_for_a_moment(path, 5):
            assert holder_of(path)


@pytest.mark.parametrize("text", ["", "1", "12\nnode7", "nonsense\n"])
def test_a_marker_that_names_nobody_is_taken_over_when_it_has_stayed_so(
    kernel, text, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(marker, "_WRITING", 0.1)
    path, soft = tmp_path / "lock", tmp_path / "lock.soft"
    soft.write_text(text)
    assert holder_of(path) is None, "as take does"
    with lock_for_a_moment(path, 5):
        assert f"process {os.getpid()} on " in holder_of(path).holder
    said = capsys.readouterr().out
    assert f"{soft}: left by a process that was killed when it took the lock; taken over" in said
    assert not list(tmp_path.iterdir())


def test_a_marker_that_is_written_meanwhile_is_its_writer_s(tmp_path, monkeypatch):
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    path, soft = tmp_path / "lock", tmp_path / "lock.soft"
    soft.touch()

    def write(seconds):
        soft.write_text("12\nnode7\n")

    monkeypatch.setattr(marker.time, "sleep", write)
    with pytest.raises(Taken, match="is held by process 12 on 'node7'") as found:
        take(path)
    assert found.value.left_files == [path, soft] and holder_of(path).holder == found.value.holder


def test_a_process_that_is_killed_at_any_moment_keeps_nobody_waiting(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(kernel_locks.WITHOUT, "1")
    path, chance = tmp_path / "lock", random.Random(0)
    for _ in range(12):
        child = os.fork()
        while not child:
            take(path).release()
        time.sleep(chance.uniform(0.001, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        take(path).release()
    assert "names no process" not in capsys.readouterr().out, "so nobody waits"
    assert not list(tmp_path.iterdir())
