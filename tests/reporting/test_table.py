"""One table, shown three ways: as text, as cells of a page, as CSV."""

import csv
import math
from dataclasses import replace

import pytest

from common.metrics.intervals import UNKNOWN, Interval
from common.reporting.table import Column, format_table, make_table, save_table


@pytest.fixture
def table():
    """A table with every kind of cell."""
    columns = [
        "model",
        "images",
        Column("kappa"),
        Column("found", name="share_found", kind="percent"),
        Column("p", kind="p"),
        Column("reason", csv_only=True),
    ]
    rows = [
        ["a\x1b", 1200, Interval(0.5, 0.25, 0.75), Interval(1, 0.9, 1), 1e-9, ""],
        ["b", None, UNKNOWN, Interval(0.5, math.nan, math.nan), 0.25, "too few"],
    ]
    return make_table("models", "Models", columns, rows, ["a note"])


def test_tables_align_text_left_and_numbers_right():
    assert format_table(["name", "n"], [["a", 5], ["long", "12.5 %"]]).splitlines() == [
        "name       n",
        "----  ------",
        "a          5",
        "long  12.5 %",
    ]


def test_long_reasons_and_notes_are_broken_for_a_terminal_and_say_the_same():
    reason = " ".join(f"word{k}" for k in range(60))
    model = "m" * 40
    table = make_table("t", "T", ["model", "n", "why", "more"], [[model, 5, reason, reason]])
    text = replace(table, notes=(reason,)).to_text()
    assert max(map(len, text.splitlines())) <= 110
    assert model in text and all(text.split().count(word) == 3 for word in reason.split())
    broken = text.splitlines()[4]
    assert broken.startswith(" " * 45) and broken.split(), "under its own column"


def test_as_text_a_table_has_title_rounded_numbers_and_notes(table):
    assert table.to_text().splitlines() == [
        "Models",
        "model  images                 kappa                  found        p",
        "-----  ------  --------------------  ---------------------  -------",
        "a\\x1b    1200  0.500 [0.250, 0.750]  100.0 % [90.0, 100.0]  < 0.001",
        "b           -                   n/a                 50.0 %    0.250",
        "a note",
    ]


def test_as_csv_a_table_has_every_digit_and_leaves_out_what_is_undefined(table, tmp_path):
    save_table(tmp_path / "t.csv", table)
    with (tmp_path / "t.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["kappa"] == "0.5" and first["kappa_low"] == "0.25"
    assert first["share_found_high"] == "1" and first["p"] == "1e-09" and first["reason"] == ""
    assert second["images"] == second["kappa"] == second["share_found_low"] == ""
    assert second["share_found"] == "0.5" and second["reason"] == "too few"


def test_on_a_page_value_and_interval_are_apart_and_csv_columns_absent(table):
    assert [column.title for column in table.shown_columns][-1] == "p"
    assert table.numeric == [False, True, True, True, True]
    cell = table.shown_rows()[0][2]
    assert (cell.value, cell.interval, cell.marked) == ("0.500", "[0.250, 0.750]", False)


def test_a_table_without_rows_still_has_its_notes_and_its_csv_header():
    empty = make_table("none", "None", ["a", "b"], [], ["nothing was asked"])
    assert empty.to_text() == "None\nnothing was asked"
    assert empty.to_csv() == (["a", "b"], [])


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert str(Column("").show(Interval(-1e-9, -0.5, -1e-9))) == "0.000 [-0.500, 0.000]"


def test_rows_have_as_many_cells_as_there_are_columns():
    with pytest.raises(ValueError, match="2 columns, but a row of 1"):
        make_table("odd", "", ["a", "b"], [["x"]])
