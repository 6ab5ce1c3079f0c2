"""Pictures are graded by several processes as by one, however often they are killed."""

import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
from helpers import run_ranks, wait_for
from new_pictures.quick_networks import Begun, Deciding, QuickNetworks

import predict
from common.new_pictures.journal import RunFiles, RunSettings, open_journal, read_rows
from common.new_pictures.listing import list_pictures
from common.new_pictures.rows import RowFormat
from common.new_pictures.run import Kept, Work
from common.sharing.launcher import find_place


@pytest.fixture
def grade(photos, answers, tmp_path):
    """Return work for a rank: grade the pictures into files of a name, slowly if asked to."""

    def work(name, seconds=0.0, workers=1, model="m", images=photos):
        listing, form = list_pictures([str(images)]), RowFormat(answers.grader.scored.names)
        files = RunFiles(tmp_path / f"{name}.csv")
        settings = RunSettings(Deciding(model=model), Begun())

        def run(rank):
            networks = QuickNetworks(2, before=lambda: time.sleep(seconds))
            do = Work(networks, answers.judge, answers.refuse, answers.doubts.look, workers)
            launch = predict.Launch(find_place(), listing, settings)
            if not launch.place.leads:
                predict.grade_for_the_first(launch, files, form, do)
                return 0
            with open_journal(files, form, settings, False, Kept(listing, files)) as journal:
                predict.grade_all(launch, journal, do)
                journal.finish([picture.name for picture in listing.pictures])
            return 0

        return run

    return work


def contents(tmp_path, answers, name):
    """Read the rows of a run, and its CSV file, without times."""
    form = RowFormat(answers.grader.scored.names)
    rows = [replace(r, time="") for r in read_rows(tmp_path / f"{name}.jsonl", form)]
    assert not list(tmp_path.glob(f".{name}.jsonl*")), "nothing is left over"
    return rows, (tmp_path / f"{name}.csv").read_text().count("\n")


@pytest.mark.parametrize("size", [2, 5])
def test_pictures_graded_by_several_processes_have_the_rows_of_one(grade, answers, tmp_path, size):
    assert run_ranks(1, grade("one"), tmp_path / "log") == [0]
    assert run_ranks(size, grade("more"), tmp_path / "log") == [0] * size
    whole = contents(tmp_path, answers, "one")
    assert contents(tmp_path, answers, "more") == whole and len(whole[0]) == 12


def test_a_run_that_is_killed_goes_on_with_any_number_of_processes(grade, answers, tmp_path):
    assert run_ranks(1, grade("one"), tmp_path / "log") == [0]
    moments, kills = random.Random(2), 0

    def kill(children):
        time.sleep(moments.uniform(0.1, 0.7))
        for child in children if moments.random() < 0.5 else children[-1:]:
            os.kill(child, signal.SIGKILL)

    for size in (2, 4, 1, 3, 2):
        kills += -signal.SIGKILL in run_ranks(size, grade("x", 0.1), tmp_path / "log", kill)
    assert kills  # how many depends on how fast this machine is
    assert run_ranks(4, grade("x"), tmp_path / "log") == [0] * 4
    assert contents(tmp_path, answers, "x") == contents(tmp_path, answers, "one")


def test_rows_of_a_killed_run_are_no_part_of_one_that_begins_with_other_flags(
    grade, answers, tmp_path
):
    def kill(children):
        wait_for(lambda: any(p.stat().st_size for p in parts.glob("rows*")), 20)
        for child in children:
            os.kill(child, signal.SIGKILL)

    parts = tmp_path / ".x.jsonl.parts"
    run_ranks(2, grade("x", 0.3), tmp_path / "log", kill)
    for path in tmp_path.glob("x*"):
        path.unlink()
    (tmp_path / "log").unlink()
    assert run_ranks(1, grade("x", model="another"), tmp_path / "log") == [0]
    said = (tmp_path / "log").read_text()
    assert "removed 1 file of rows that another run" in said and "are there" not in said
    assert run_ranks(1, grade("one"), tmp_path / "log") == [0]
    assert contents(tmp_path, answers, "x") == contents(tmp_path, answers, "one")


def test_a_process_that_was_started_otherwise_than_the_first_brings_nothing(
    grade, answers, tmp_path
):
    works = grade("x"), grade("x", model="another")
    assert run_ranks(2, lambda rank: works[rank](rank), tmp_path / "log") == [0, 70]
    assert "rank 0 was started with other flags" in (tmp_path / "log").read_text()
    assert run_ranks(1, grade("one"), tmp_path / "log") == [0]
    assert contents(tmp_path, answers, "x") == contents(tmp_path, answers, "one")


def test_rows_of_pictures_that_the_first_was_not_given_are_left_out(
    grade, answers, photos, tmp_path
):
    works = grade("x"), grade("x", images=shutil.copytree(photos, tmp_path / "others"))
    assert run_ranks(2, lambda rank: works[rank](rank), tmp_path / "log") == [0, 0]
    assert "of pictures that only another process was given" in (tmp_path / "log").read_text()
    assert len(contents(tmp_path, answers, "x")[0]) == 12
