"""The report: self-contained, everything from outside escaped, the worst mistakes first."""

import base64
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
from PIL import Image

from common.data.folders import scan_split
from common.evaluation.questions import Answers
from common.figures import evaluation
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.reporting.report import FIGURES, thumbnail, worst_mistakes, write_report
from common.reporting.summary import Part
from common.reporting.table import make_table
from common.screening.label_errors import LabelError, LabelErrors

EVIL = '<script>alert("x")</script>'


def test_everything_from_outside_is_escaped(demo, directory, report_on):
    split = scan_split(demo, "test")
    table = make_table(EVIL, EVIL, [EVIL, EVIL], [[EVIL, f"{EVIL}\n\udcff"]], [EVIL])
    evil = {
        "models": [EVIL],
        "dataset_path": EVIL,
        "classes": classes_of([f'{grade}" onload="{EVIL}' for grade in range(5)]),
        "vote": EVIL,
        "results": Part(EVIL, [table], [EVIL]),
        "questions": Part(EVIL, [table], [EVIL]),
        "members": [Part(EVIL, [table], [EVIL])],
        "columns": {EVIL: [EVIL] * len(split)},
    }
    write_report(directory, report_on(split, 1, **evil))
    text = directory.report("test").read_text()
    assert "<script" not in text and 'onload="' not in text
    assert text.count("&lt;script") > 40


def test_a_report_says_what_was_tested_and_needs_no_other_file(
    demo, directory, report_on, tmp_path
):
    write_report(directory, report_on(scan_split(demo, "test"), 1))
    text = directory.report("test").read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert "20 images (4 of grade 0, 4 of grade 1" in words and "grading: coatnet on test" in words
    assert "Sensitivity, referable DR (highest probability) 66.7 % 95 % interval [" in words
    assert "8 of 12 images that are referable" in words
    assert "0 of 1 gates passed" in words and "there is no val" in words
    assert "12 of 20 wrong gradings" in words and "Each model" not in words
    assert text.count("<img") == len(FIGURES) + 12
    assert "http" not in text and str(tmp_path) not in text and str(demo) not in text


def test_tables_are_real_tables_with_captions_and_headers(demo, directory, report_on):
    write_report(directory, report_on(scan_split(demo, "test"), 1))
    text = directory.report("test").read_text()
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    assert len(tables) >= 4 and "<pre" not in text
    for table in tables:
        assert table.count("<caption>") == 1 and 'scope="col"' in table
        heads = 2 if 'class="matrix ' in table else 1
        assert table.count('scope="row"') == table.count('<tr role="row">') - heads
    (matrix,) = (table for table in tables if 'class="matrix ' in table)
    assert ">true grade</th>" in matrix and ">predicted grade</th>" in matrix
    assert '<span aria-hidden="true">✗</span> FAIL' in text, "colour, symbol and word"


def test_where_the_grader_is_weakest_stands_first(demo, directory, report_on):
    error = LabelError("a", 0, 2, 0.1, 0.8)
    doubtful = LabelErrors((error,) * 3, 20, tuple("01234"), (0.5,) * 5, ())
    write_report(directory, report_on(scan_split(demo, "test"), 1))
    assert "Likely label errors:" not in directory.report("test").read_text()
    answers = Answers(label_errors=doubtful)
    write_report(directory, report_on(scan_split(demo, "test"), 1, answers=answers))
    text = directory.report("test").read_text()
    assert 0 < text.index("Likely label errors: 3 of 20 images") < text.index("<nav aria-")


def test_headings_are_in_order_and_the_contents_lead_to_sections(demo, directory, report_on):
    part = Part("member on test", [make_table("t", "T", ["a"], [["b"]])])
    write_report(directory, report_on(scan_split(demo, "test"), 1, members=[part]))
    text = directory.report("test").read_text()
    levels = [int(level) for level in re.findall(r"<h(\d)", text)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids, links = re.findall(r'\bid="([^"]+)"', text), re.findall(r'href="#([^"]+)"', text)
    assert len(ids) == len(set(ids)) and set(links) <= set(ids) and "models" in links
    assert '<html lang="en">' in text


def test_without_mistakes_a_report_says_so(demo, directory, report_on):
    write_report(directory, report_on(scan_split(demo, "test"), 0))
    assert "There are none." in directory.report("test").read_text()


def test_figures_that_were_not_drawn_are_left_out(demo, directory, report_on):
    for words in FIGURES[1:]:
        directory.figure(f"{words.name}_test").unlink()
    write_report(directory, report_on(scan_split(demo, "test"), 0))
    text = directory.report("test").read_text()
    assert text.count("<img") == 1 and FIGURES[1].caption not in text


def test_every_figure_that_may_be_drawn_has_words():
    assert {words.name for words in FIGURES} >= set(evaluation.FIGURES)


def test_a_photograph_is_inside_the_page_as_a_small_jpeg(tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((1200, 900), 80).convert("RGB").save(path)
    picture = thumbnail(path, "eye", "")
    data = base64.b64decode(re.search(r"base64,(.+)", picture.source)[1])
    assert data[:2] == b"\xff\xd8" and len(data) < 120_000
    assert (picture.width, picture.height) == (480, 360)
    Image.new("RGB", (1200, 1)).save(path)
    assert thumbnail(path, "a strip", "").height == 1


def test_a_photograph_that_is_gone_leaves_its_caption(tmp_path, demo, directory, report_on):
    (tmp_path / "text.png").write_text("x")
    for name in ("gone.png", "text.png"):
        assert thumbnail(tmp_path / name, "eye 7", "").source == ""
    split = scan_split(demo, "test")
    gone = [replace(image, place=str(tmp_path / "gone.png")) for image in split.images]
    write_report(directory, report_on(replace(split, images=tuple(gone)), 1))
    assert directory.report("test").read_text().count("(cannot be read)") == 12


def test_the_farthest_and_most_confident_mistakes_come_first():
    targets = np.array([0, 0, 4, 2, 1])
    predictions = np.array([4, 0, 0, 3, 2])
    probabilities = np.full((5, 5), 0.1)
    probabilities[[0, 2], [4, 0]] = 0.5, 0.9
    probabilities[[3, 4], [3, 2]] = 0.3, 0.8
    found = worst_mistakes(targets, ClassPredictions(probabilities, predictions))
    assert found == [2, 0, 4, 3]
    assert worst_mistakes(targets, ClassPredictions(probabilities, targets)) == []
    many = np.zeros(50, dtype=int)
    wrong = ClassPredictions(np.full((50, 5), 0.2), many + 1)
    assert len(worst_mistakes(many, wrong)) == 12
