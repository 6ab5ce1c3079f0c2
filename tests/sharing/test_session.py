"""Processes of one launch find each other, and rank 0 does what another one does not bring."""

import os
import signal
import time

import numpy as np
import pytest
from helpers import run_ranks, wait_for

from common.sharing import session as session_module
from common.sharing.launcher import Place
from common.sharing.parts import contribute, gather
from common.sharing.session import Session, clear_away, follow, lead
from common.system.errors import InputError

COUNT = 23


def rows(which):
    return np.arange(which.start, which.stop)[:, None] * np.ones(3)


def together(folder, compute=rows, name="x", fail_as=None):
    """Return what a rank does to put an array together, in rank 0 checked."""

    def work(rank):
        place = Place(rank, 3, rank)
        if rank == fail_as:
            return 2
        if rank:
            with follow(folder, place) as session:
                contribute(session, name, COUNT, 4, compute)
            return 0
        with lead(folder, place) as session:
            found = gather(session, name, COUNT, 4, rows)
        return 0 if np.array_equal(found, rows(range(COUNT))) else 1

    return work


def test_each_process_computes_its_rows_and_nothing_stays_behind(tmp_path):
    assert run_ranks(3, together(tmp_path / "p"), tmp_path / "log") == [0, 0, 0]
    assert not (tmp_path / "p").exists()


def test_what_a_launch_left_that_was_killed_is_not_taken_for_this_one_s(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    for rank in (1, 2):
        with open(folder / f"x.{rank}", "wb") as file:
            np.save(file, np.full((8, 3), -1.0))
        (folder / f"hello.{rank}").write_text('{"word": "old"}')
        (folder / f"done.{rank}").write_text("{}")
    (folder / "answer.json").write_text('{"words": ["old"]}')
    assert run_ranks(3, together(folder), tmp_path / "log") == [0, 0, 0]


def test_who_writes_while_the_first_empties_the_folder_is_not_ended_by_that(tmp_path, monkeypatch):
    real, lost = session_module.write_json, set()

    def write(path, content):
        kind = path.name.partition(".")[0]
        if kind in ("hello", "done") and kind not in lost:
            lost.add(kind)
            raise FileNotFoundError(path)
        real(path, content)

    monkeypatch.setattr(session_module, "write_json", write)
    assert run_ranks(3, together(tmp_path / "p"), tmp_path / "log") == [0, 0, 0]
    assert not (tmp_path / "p").exists()


def test_what_a_killed_process_does_not_bring_is_computed_by_the_first(tmp_path):
    def slow(which):
        (tmp_path / f"begun_{which.start}").touch()
        time.sleep(60)

    def kill(children):
        wait_for(lambda: len(list(tmp_path.glob("begun_*"))) == 2, 20)
        for child in children[1:]:
            os.kill(child, signal.SIGKILL)

    found = run_ranks(3, together(tmp_path / "p", slow), tmp_path / "log", kill)
    assert found == [0, -signal.SIGKILL, -signal.SIGKILL]
    assert "rank 1 has ended without rows 8 to 15" in (tmp_path / "log").read_text()
    assert not (tmp_path / "p").exists(), "not even the locks of the dead"


def test_damaged_rows_are_computed_again(tmp_path):
    found = run_ranks(3, together(tmp_path / "p", lambda which: rows(which)[1:]), tmp_path / "log")
    assert found == [0, 0, 0]


def test_processes_that_never_start_are_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "_PATIENCE", 2.0)  # for those that do
    monkeypatch.setattr(session_module, "_SAY_FIRST", 1.5)
    assert run_ranks(3, together(tmp_path / "p", fail_as=2), tmp_path / "log") == [0, 0, 2]
    said = (tmp_path / "log").read_text()
    assert said.count("waiting for a first") == 1 and "going on without rank 2" in said
    assert (
        "waiting for a first sign of rank 2 (if one has ended, stop all, start anew): 2 s" in said
    )
    assert "anew): 2 s so far, 2 s at most" in said


def test_who_waits_in_vain_for_the_first_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "_PATIENCE", 0.2)
    folder = tmp_path / "p"
    with pytest.raises(InputError, match="rank 0 has not begun"), follow(folder, Place(1, 2)):
        pass
    assert not folder.exists()


def test_a_second_launch_into_one_place_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "_PATIENCE", 0.2)
    with (
        lead(tmp_path / "p", Place(0, 2)),
        pytest.raises(InputError, match="is written, as rank 0, by process"),
        lead(tmp_path / "p", Place(0, 2)),
    ):
        pass


@pytest.mark.parametrize(("launch", "size"), [("earlier", 2), ("this", 3)])
def test_rows_of_another_launch_or_of_another_range_are_not_taken(tmp_path, launch, size):
    first = Session(tmp_path, Place(0, 2), "this", frozenset([1]))
    other = Session(tmp_path, Place(1, size), launch)
    contribute(other, "x", 2, 1, lambda which: rows(which) - 9)
    assert len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(gather(first, "x", 2, 1, rows), rows(range(2)))


def test_a_process_whose_first_is_gone_removes_what_it_has_written(tmp_path):
    folder, begun = tmp_path / "p", tmp_path / "begun"

    def work(rank):
        if rank:
            with follow(folder, Place(1, 2)) as session:
                begun.touch()
                wait_for(lambda: not (folder / "answer.json").exists(), 20)
                session.path("x", 1).touch()
            return 0
        with lead(folder, Place(0, 2)):
            wait_for(begun.exists, 20)
            raise ValueError

    assert run_ranks(2, work, tmp_path / "log") == [70, 0]
    assert not folder.exists()


def test_one_process_clears_away_what_killed_ones_have_left(tmp_path):
    folder = tmp_path / "p"
    locks = [folder / f"rank_{rank}.lock" for rank in (0, 1)]

    def kill(children):
        wait_for(lambda: all(lock.is_file() and lock.stat().st_size for lock in locks), 20)
        for child in children[:2]:
            os.kill(child, signal.SIGKILL)

    run_ranks(3, together(folder, fail_as=2), tmp_path / "log", kill)
    assert all(lock.exists() for lock in locks)
    clear_away(folder)
    assert not folder.exists()
