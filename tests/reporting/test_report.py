"""The report: self-contained, everything from outside escaped, the worst mistakes first."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import GRADES
from PIL import Image

from common.data.folders import scan_split
from common.evaluation.gates import FAIL, Gate
from common.metrics.intervals import Interval
from common.prediction.classes import classes_of
from common.prediction.voting import ClassPredictions
from common.reporting.report import Report, thumbnail, worst_mistakes, write_report
from common.result_dir import ResultDir

EVIL = '<script>alert("x")</script>'
GATE = Gate("accuracy", "single", "accuracy", "> 98 %", Interval(0.5, 0.4, 0.6), FAIL, FAIL)


GATE = Gate("single", "single", "accuracy", "> 98 %", Interval(0.5, 0.4, 0.6), FAIL, FAIL)


@pytest.fixture
def directory(tmp_path):
    """A result directory with the figures that a report embeds."""
    found = ResultDir(tmp_path)
    for kind in ("confusion", "roc", "reliability"):
        found.figure(f"{kind}_test").parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 5), "gray").save(found.figure(f"{kind}_test"))
    return found


def report_on(split, shift, **changes):
    """A report on a model that grades each image `shift` too high."""
    predicted = (split.labels + shift) % 5
    values = {
        "models": ["coatnet"],
        "dataset_path": "images",
        "split": split,
        "classes": GRADES,
        "vote": "coupling",
        "bootstrap_units": "images",
        "predictions": ClassPredictions(np.eye(5)[predicted], predicted),
        "gates": [GATE],
        "tables": ["first  second\n-----  ------\n    1       2", "one line"],
        "member_tables": [],
    }
    return Report(**{**values, **changes})


def test_everything_from_outside_is_escaped(demo, directory):
    split = scan_split(demo, "test")
    evil = {
        "models": [EVIL],
        "dataset_path": EVIL,
        "classes": classes_of([f'{grade}" onload="{EVIL}' for grade in range(5)]),
        "vote": EVIL,
        "bootstrap_units": EVIL,
        "tables": [EVIL, f"{EVIL}\n\udcff"],
        "member_tables": [EVIL],
    }
    write_report(directory, report_on(split, 1, **evil))
    text = directory.report.read_text()
    assert "<script" not in text and 'onload="' not in text
    assert text.count("&lt;script") > 20


def test_a_report_says_what_was_tested_and_needs_no_other_file(demo, directory, tmp_path):
    write_report(directory, report_on(scan_split(demo, "test"), 1))
    text = directory.report.read_text()
    assert "20 images of images, split test" in " ".join(text.split())
    assert "4 of grade 0, 4 of grade 1" in text and "(SYNTHETIC images)" in text
    assert "<pre>first  second\n" in text and "<p>one line</p>" in text
    assert "1 of 1 gates were failed" in text and "Each model" not in text
    assert text.count("<img") == 3 + 12 and text.count("graded as") == 2 * 12
    assert "http" not in text and str(tmp_path) not in text and str(demo) not in text


def test_without_mistakes_a_report_says_so(demo, directory):
    write_report(directory, report_on(scan_split(demo, "test"), 0, member_tables=["m"]))
    text = directory.report.read_text()
    assert "There are none." in text and "<h2>Each model</h2>" in text


def test_a_photograph_is_inside_the_page_as_a_small_jpeg(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 20, 3), 80, dtype=np.uint8)).save(path)
    data = base64.b64decode(re.search(r"base64,(.+)", thumbnail(path, "eye").source)[1])
    assert data[:2] == b"\xff\xd8" and len(data) < 20_000


def test_a_photograph_that_is_gone_leaves_its_caption(tmp_path, demo, directory):
    (tmp_path / "text.png").write_text("x")
    for name in ("gone.png", "text.png"):
        assert thumbnail(tmp_path / name, "eye 7").source == ""
    split = scan_split(demo, "test")
    gone = [replace(image, path=tmp_path / "gone.png") for image in split.images]
    write_report(directory, report_on(replace(split, images=tuple(gone)), 1))
    assert directory.report.read_text().count("(cannot be read)") == 12


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
