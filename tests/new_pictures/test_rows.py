"""One row in both forms: nothing is lost in JSONL, and CSV is for people and spreadsheets."""

import csv
import io
import json
from dataclasses import replace

import pytest
from new_pictures.test_journal import FORM, ROWS, row

from common.new_pictures.rows import UNGRADABLE, RowFormat


@pytest.mark.parametrize("each", ROWS, ids=ascii)
def test_a_row_survives_jsonl_with_every_bit_and_every_name(each):
    line = FORM.to_json(each)
    assert line.isascii() and "\n" not in line
    assert FORM.from_json(line) == each


def test_a_row_that_says_nothing_of_a_class_leaves_it_open():
    empty = row("a.jpg", outcome=UNGRADABLE, grade=None, class_name=None, probabilities=())
    empty = replace(empty, p_referable=None, referable=None, classes_in_set=())
    assert FORM.from_json(FORM.to_json(empty)) == empty
    content = json.loads(FORM.to_json(empty))
    assert content["p_0"] is content["grade"] is content["referable"] is content["set"] is None


def cells(form, each):
    return next(csv.DictReader(io.StringIO(form.header() + form.to_csv(each))))


def test_a_table_for_people_says_yes_and_no_and_holds_no_formula():
    found = cells(FORM, row("=1+1.jpg"))
    assert found["image"] == "'=1+1.jpg" and found["referable"] == "yes" and found["review"] == "no"
    assert found["set"] == "1|2" and float(found["p_3"]) == 0.15 and found["disagreement"] == ""
    assert cells(FORM, ROWS[2])["image"] == "caf\\udce9.jpg"
    assert list(found) == FORM.columns


def test_a_class_called_referable_does_not_take_the_place_of_the_sum():
    form = RowFormat(["not referable", "referable"])
    assert form.probabilities == ["p_0", "p_1"] and len(set(form.columns)) == len(form.columns)
    assert RowFormat(["No_DR", "Mild"]).probabilities == ["p_No_DR", "p_Mild"]


@pytest.mark.parametrize("line", ["", "{}", "[]", "null", '{"image": "a.jpg"}'])
def test_anything_else_is_no_row(line):
    with pytest.raises((ValueError, TypeError, KeyError)):
        FORM.from_json(line)
