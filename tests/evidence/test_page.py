"""The page of evidence in a browser: it fits, it loads, maps can be switched off."""

import re

import numpy as np
import pytest
from browser import CHROMIUM, WIDTHS, measure_at
from PIL import Image

from common.evidence.explanation import (
    DecisionEvidence,
    DecisionMap,
    Explained,
    ScoredClasses,
    decisions_on,
)
from common.evidence.overlay import WORDS
from common.evidence.page import PageWords, ShownPicture, write_page
from common.prediction.classes import classes_of

LONG = "a_picture_with_a_name_that_never_seems_to_end_and_has_no_blank_to_wrap_at_384px<&>'\".jpg"
CLASSES = classes_of(["No_DR", "Mild", "Moderate", "Severe", "PDR"])
SWITCH = """<script>addEventListener("load", () => {
  const seen = () => getComputedStyle(document.querySelector(".map")).visibility;
  const on = seen();
  document.getElementById("maps").click();
  parent.postMessage({on: on, off: seen()}, "*");
})</script>"""


def explained(name, uncertainty, seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(5))

    def drawn():
        return DecisionMap(generator.normal(size=(7, 7)), 0.5, -1.25)

    scored = ScoredClasses(CLASSES, tuple(range(5)))
    found = [
        DecisionEvidence(decision, drawn(), (drawn(), drawn()), generator.normal(size=(8, 8)), 0.5)
        for decision in decisions_on(scored, probabilities, int(probabilities.argmax()))
    ]
    predicted = int(probabilities.argmax())
    return Explained(name, predicted, probabilities, uncertainty, tuple(found))


@pytest.fixture
def page(tmp_path):
    Image.new("RGB", (600, 600), "red").save(tmp_path / "square.jpg")
    shown = [
        ShownPicture(explained(name, 0.1 * place, place), tmp_path / "square.jpg")
        for place, name in enumerate(("sure.jpg", LONG, "unsure\x07.jpg"))
    ]
    words = PageWords("Evidence", CLASSES, (LONG, "b"), [("Graded by", LONG)], [f"mind {LONG}"])
    write_page(tmp_path / "evidence.html", shown, 3.0, words, [f"{LONG}: no picture"])
    return (tmp_path / "evidence.html").read_text()


def test_the_least_certain_picture_comes_first_and_what_maps_are_is_said(page):
    names = re.findall(r'<h2 id="picture-\d">(.*?)</h2>', page)
    assert [name[:6] for name in names] == ["unsure", "a_pict", "sure.j"]
    assert names[0] == "unsure\\x07.jpg"
    assert WORDS in page and "score -1.25 = map -1.75, constant +0.50" in page
    assert "Each model alone" in page and "correlation with the map +0.50" in page
    assert "no picture" in page and "3 pictures" in page
    assert "http" not in page.replace("http://www.w3.org", "") and "<&>" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_at_three_widths_nothing_overflows_and_maps_can_be_switched_off(page, tmp_path):
    text = page.replace("<details>", "<details open>")
    opened, console = measure_at(WIDTHS, text, tmp_path)
    assert {found["inner"] for found in opened} == set(WIDTHS) and not console
    for found in opened:
        assert found["scroll"] <= found["inner"], found["wide"]
        assert len(found["pictures"]) == text.count("<img") > 20 and all(found["pictures"])
    (switched,), _ = measure_at(WIDTHS[:1], text, tmp_path, SWITCH)
    assert switched == {"on": "visible", "off": "hidden"}
