"""Lines of the log carry the time and stay free of progress bars."""

import re

from common.system.log import duration, log, progress_bar


def test_log_lines_carry_utc_time(capsys):
    log("hello")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  hello\n", capsys.readouterr().out)


def test_no_progress_bar_shows_without_a_terminal(capsys):
    list(progress_bar(range(3), "x"))
    assert capsys.readouterr().err == ""


def test_durations_are_written_in_the_unit_that_reads_best():
    assert [duration(s) for s in (45, 720, 11_100)] == ["45 s", "12 min", "3 h 05 min"]
