"""As many threads as were asked for, else as the environment says, else as find idle cores."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from helpers import ROOT

from common.system import threads
from common.system.errors import InputError
from common.system.threads import (
    busy_others,
    choose_threads,
    cpu_quota,
    side_by_side,
    use_threads,
    workers_for,
)


@pytest.fixture
def machine(monkeypatch):
    """Pretend to have some cores, of which others keep some busy; returns what sets that."""

    def pretend(cores, others=0, quota=None):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
        monkeypatch.setattr(threads, "busy_others", lambda: others)
        monkeypatch.setattr(threads, "cpu_quota", lambda: quota)

    return pretend


def refuse(counts):
    raise AssertionError("nothing is to be measured")


def test_the_flag_counts_before_the_environment_and_that_before_the_machine(machine, monkeypatch):
    machine(4, others=4)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert choose_threads("2", refuse).count == 2
    choice = choose_threads("auto", refuse)
    assert choice.count == 3 and "OMP_NUM_THREADS" in choice.reason


def test_what_the_environment_says_is_held_to_the_cores_and_nonsense_is_named(machine, monkeypatch):
    machine(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "99")
    choice = choose_threads("auto", refuse)
    assert choice.count == 2 and "OMP_NUM_THREADS=99" in choice.reason
    for text in ("abc", "0", "9" * 5000, "٣"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        choice = choose_threads("auto", refuse)
        assert choice.count == 2 and "is no number of threads" in choice.reason


def test_what_is_said_is_what_a_new_process_computes_with():
    code = "import sys, torch; from common.system.threads import use_threads; "
    code += "use_threads(sys.argv[1]); print(torch.get_num_threads())"
    for asked, given, expected in (("5", "", 5), ("auto", "abc", None), ("auto", "1", 1)):
        environment = {**os.environ, "OMP_NUM_THREADS": given}
        command = [sys.executable, "-c", code, asked]
        said = subprocess.run(command, capture_output=True, text=True, env=environment).stdout
        line, count = said.strip().splitlines()
        assert f"threads: {count} (" in line and (expected is None or int(count) == expected)


def test_a_quiet_machine_gives_a_thread_to_each_core(machine):
    machine(4)
    assert choose_threads("auto", refuse).count == 4


@pytest.mark.parametrize("quota, count", [(2.5, 2), (0.5, 1), (16.0, 4)])
def test_no_more_threads_than_a_quota_grants(machine, quota, count):
    machine(4, quota=quota)
    assert choose_threads("auto", refuse).count == count


def test_on_busy_cores_it_is_measured_how_many_threads_pay(machine):
    machine(4, others=1)
    seconds = {4: 0.004, 2: 0.001, 1: 0.002}
    choice = choose_threads("auto", lambda counts: {count: seconds[count] for count in counts})
    assert choice.count == 2 and "4.0 ms with 4" in choice.reason
    assert "where 1 other thread computes:" in choice.reason
    hardly = {4: 0.00195, 2: 0.00195, 1: 0.002}
    assert choose_threads("auto", lambda counts: hardly).count == 1
    assert choose_threads("auto", None).count == 3, "the idle cores, where nothing can be measured"


def test_a_probe_times_every_number_of_threads(monkeypatch):
    monkeypatch.setattr(threads, "_PROBE_SECONDS", 0.0)
    before = torch.get_num_threads()
    try:
        found = threads._measure([2, 1])
    finally:
        torch.set_num_threads(before)
    assert set(found) == {2, 1} and all(took > 0 for took in found.values())


@pytest.mark.parametrize("asked", ["0", "-1", "two", "", "1.5", "1025", "٣", "9" * 5000])
def test_other_numbers_are_refused(asked):
    with pytest.raises(InputError, match="--threads: expected auto or a number"):
        choose_threads(asked, refuse)


def test_threads_are_set_and_said(capsys):
    before = torch.get_num_threads()
    try:
        use_threads("3")
        assert torch.get_num_threads() == 3
        assert "threads: 3 (as --threads says" in capsys.readouterr().out
        use_threads("2", speak=False)
        assert torch.get_num_threads() == 2 and not capsys.readouterr().out
    finally:
        torch.set_num_threads(before)


def test_quotas_of_both_versions_of_control_groups_are_read(tmp_path):
    assert cpu_quota(tmp_path) is None
    groups = tmp_path / "proc/self/cgroup"
    groups.parent.mkdir(parents=True)
    groups.write_text("0::/jobs/mine\n")
    mine = tmp_path / "sys/fs/cgroup/jobs/mine"
    mine.mkdir(parents=True)
    (mine / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path) is None
    (mine.parent / "cpu.max").write_text("150000 100000\n")
    assert cpu_quota(tmp_path) == 1.5, "of the group above"
    groups.write_text("4:cpu,cpuacct:/docker/abc\n1:memory:/docker/abc\n")
    own = tmp_path / "sys/fs/cgroup/cpu"
    own.mkdir()
    (own / "cpu.cfs_quota_us").write_text("50000\n")
    (own / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == 0.5, "a container sees its own group at the top"


def test_a_program_that_computes_on_these_cores_is_noticed():
    before = busy_others()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        found = max(busy_others() for _ in range(10))
    finally:
        busy.kill()
        busy.wait()
    assert found >= max(1, before - 2)


@pytest.mark.parametrize(
    "pieces, threads_there, workers",
    [
        (10, 1, 1),
        (10, 2, 2),
        (10, 4, 2),
        (10, 16, 5),
        (10, 64, 10),
        (3, 2, 1),
        (1, 8, 1),
        (0, 2, 1),
    ],
)
def test_pieces_of_work_share_the_threads(pieces, threads_there, workers):
    assert workers_for(pieces, threads_there) == workers


@pytest.mark.parametrize("threads_there, workers", [(1, 1), (2, 2), (4, 2), (6, 3), (16, 3)])
def test_a_stream_of_work_leaves_no_worker_idle_at_its_end(threads_there, workers):
    assert workers_for(1000, threads_there, most=3) == workers


def test_work_side_by_side_has_its_part_of_the_threads_and_keeps_the_order(set_threads):
    set_threads(4)
    both = threading.Barrier(2)

    def work(item):
        both.wait(timeout=30)  # two of them are at work at once
        torch.zeros(4) + 1
        return item, torch.get_num_threads(), threading.get_ident()

    for _ in range(2):
        found = side_by_side(work, list(range(10)))
        assert [item for item, _, _ in found] == list(range(10))
        assert {count for _, count, _ in found} == {2}
        assert len({ident for _, _, ident in found}) == 2
    assert torch.get_num_threads() == 4
    fresh = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert fresh == [4], "other new threads have all"


def test_a_forked_process_starts_workers_of_its_own(set_threads):
    set_threads(2)
    side_by_side(abs, [1, 2])
    child = os.fork()
    if not child:
        done = side_by_side(abs, [-3, -4])
        os._exit(0 if done == [3, 4] else 1)
    for _ in range(300):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("it waits for threads that it does not have")
    assert status == 0


def test_one_thread_or_one_piece_is_done_here(set_threads):
    for count, items in ((1, [0, 1]), (4, [0]), (4, [])):
        set_threads(count)
        found = side_by_side(lambda item: (threading.get_ident(), torch.get_num_threads()), items)
        assert found == [(threading.get_ident(), count)] * len(items)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_has_its_part_of_the_threads_however_many_there_are(set_threads, count):
    set_threads(4)
    found = side_by_side(lambda _: torch.get_num_threads(), list(range(count)), workers=2)
    assert found == [2] * count and torch.get_num_threads() == 4


def test_a_worker_does_all_itself(set_threads):
    set_threads(8)

    def inner(_):
        return threading.get_ident(), torch.get_num_threads()

    found = side_by_side(lambda _: (inner(0), side_by_side(inner, range(4))), range(4), workers=2)
    for own, parts in found:
        assert parts == [own] * 4 and own[1] == 4


HEAPS = """
import ctypes, sys, threading
from common.system.threads import allocate_in_one_heap
if sys.argv[1] == "one":
    allocate_in_one_heap()
gate = threading.Barrier(4)
def take():
    libc.free(libc.malloc(5000))
    gate.wait()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("how", ["one", "several"])
def test_threads_allocate_in_one_heap_where_they_are_told_to(tmp_path, how):
    file = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", HEAPS, how, str(file)], check=True, cwd=ROOT)
    assert (file.read_text().count("<heap nr=") == 1) == (how == "one")


def test_what_has_not_begun_is_left_where_this_thread_is_interrupted(set_threads, monkeypatch):
    set_threads(2)
    done, begun = [], threading.Event()

    def work(item):
        begun.set()
        time.sleep(0.2)
        done.append(item)

    def interrupted(pieces):
        begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, list(range(20)))
    time.sleep(1)
    assert 1 <= len(done) <= 4


def test_workers_that_cannot_be_started_end_in_one_line(set_threads, monkeypatch):
    set_threads(2)
    start, started = threading.Thread.start, []

    def fails(thread):
        started.append(thread)
        if len(started) > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    threads._workers.cache_clear()
    with monkeypatch.context() as patches:
        patches.setattr(threading.Thread, "start", fails)
        with pytest.raises(InputError, match=r"2 threads cannot be started .* take --threads 1"):
            side_by_side(abs, [1, 2])
    started[0].join(10)
    assert not started[0].is_alive(), "it waits for the other one"
    assert side_by_side(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("mode", ["inference_mode", "no_grad", "enable_grad"])
def test_gradients_are_tracked_side_by_side_as_here(set_threads, mode):
    set_threads(2)
    weight = torch.ones(2, requires_grad=True)
    with getattr(torch, mode)():
        here = (weight * 2).requires_grad, (weight * 2).is_inference()
        found = side_by_side(lambda _: weight * 2, [0, 1])
    assert [(one.requires_grad, one.is_inference()) for one in found] == [here, here]


def test_all_work_is_done_before_an_error_is_raised(set_threads):
    set_threads(2)
    done = []

    def work(item):
        if item == 0:
            raise InputError("the first")
        time.sleep(0.05)
        done.append(item)

    with pytest.raises(InputError, match="the first"):
        side_by_side(work, [0, 1, 2, 3])
    assert sorted(done) == [1, 2, 3]
