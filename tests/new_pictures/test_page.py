"""The page of a run in a browser: it fits, it loads, and pictures can be sorted and filtered."""

import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from browser import CHROMIUM, MEASURE, WIDTHS, measure_at
from new_pictures.test_journal import row
from PIL import Image

from common.new_pictures import page as page_module
from common.new_pictures.journal import RunFiles
from common.new_pictures.page import RunWords, count_rows, headlines, write_page
from common.new_pictures.rows import OUTCOMES, UNGRADABLE, UNLIKE, UNREADABLE
from common.prediction.classes import classes_of

LONG = "a_picture_with_a_name_that_never_seems_to_end_and_has_no_blank_to_wrap_at_384px<&>'\".jpg"
CLASSES = classes_of(["No_DR", "Mild", "Moderate", f"Severe{LONG}", "PDR"])
WORDS = RunWords(
    "New pictures", CLASSES.names, CLASSES.titles, [("Graded by", LONG)], [f"mind {LONG}"]
)
# sorts and filters as a user does, and says which pictures are then shown, in their order
USE = """<script>addEventListener("load", () => {
  const form = document.getElementById("controls");
  const shown = () => [...document.querySelectorAll("#cards > li")].filter((each) => !each.hidden)
    .map((each) => Number(each.dataset.place));
  const found = {};
  const choose = (name, values) => {
    form.reset();
    for (const [key, value] of Object.entries(values)) form.elements[key].value = value;
    form.dispatchEvent(new Event("input"));
    found[name] = shown();
  };
  choose("first", {});
  choose("entropy", {sort: "entropy"});
  choose("listed", {sort: "place up"});
  choose("class", {sort: "class"});
  choose("ungradable", {outcome: "ungradable"});
  choose("mild", {class: "1"});
  choose("review", {show: "review"});
  choose("referred", {show: "referred"});
  choose("neither", {show: "neither"});
  choose("name", {text: "NEVER_SEEMS"});
  parent.postMessage({inner: innerWidth, found: found}, "*");
  const rows = {};  // how many headlines stand at a height
  for (const each of document.querySelectorAll(".headlines > li"))
    rows[each.offsetTop] = (rows[each.offsetTop] ?? 0) + 1;
  parent.postMessage({inner: innerWidth, rows: rows}, "*");
})</script>"""


def rows_in(folder):
    """Five pictures: graded ones, one that nobody could grade, and one that is no picture."""
    names = [LONG.replace("/", ""), "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    found = []
    for place, name in enumerate(names):
        path = folder / name
        if place != 4:
            Image.new("RGB", (640, 480), (40 * place, 30, 10)).save(path)
        entropy = (0.3, 1.2, 0.7, 1.5, None)[place]
        classes = {"grade": place, "class_name": CLASSES.names[place]}
        doubt = {"grade": None, "class_name": None, "referable": None, "review": True}
        doubt["operating_point"] = None
        changes = {
            3: {**doubt, "outcome": UNGRADABLE, "reason": "ungradable: black"},
            4: {**doubt, "outcome": UNREADABLE, "probabilities": (), "p_referable": None},
        }.get(place, {**classes, "referable": place > 1, "review": place == 1})
        found.append(row(str(path), uncertainty=(entropy, None, None), **changes))
    return found


@pytest.fixture
def page(tmp_path):
    found = rows_in(tmp_path)
    write_page(tmp_path / "o" / "p.html", RunFiles(tmp_path / "p.csv"), found, WORDS, 2)
    return (tmp_path / "o" / "p.html").read_text()


def test_every_picture_is_there_with_what_was_said_and_a_link_to_its_file(page, tmp_path):
    assert page.count("<li data-place") == 5 and page.count("data:image/jpeg") == 4
    assert 'href="../b.jpg"' in page and "<&>" not in page
    assert "None" not in page and "P(referable) 0.700</p>" in page
    assert "ungradable: black" in page and page.count("not referable</span>") == 2
    assert "http" not in page.replace("http-equiv", "")
    disagreement = [line for line in page.splitlines() if "<option" in line and "disagree" in line]
    assert not disagreement, "nothing can be sorted by what is not known"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_it_fits_at_three_widths_and_sorts_and_filters(page, tmp_path):
    opened, console = measure_at(WIDTHS, page, tmp_path, MEASURE + USE)
    assert not console and {found["inner"] for found in opened} == set(WIDTHS)
    for found in opened:
        if "scroll" in found:
            assert found["scroll"] <= found["inner"], found["wide"]
            assert len(found["pictures"]) == 4
        elif "rows" in found:
            rows = list(found["rows"].values())
            assert rows == {375: [2, 2, 2], 900: [3, 3], 1400: [3, 3]}[found["inner"]]
        else:
            shown = found["found"]
            assert shown["first"] == [4, 3, 1, 2, 0], "what is not known most needs a look"
            assert shown["entropy"][:4] == [3, 1, 2, 0] and shown["listed"] == [0, 1, 2, 3, 4]
            assert shown["class"][:3] == [2, 1, 0] and shown["ungradable"] == [3]
            assert shown["mild"] == [1] and sorted(shown["review"]) == [1, 3, 4]
            assert shown["referred"] == [2] and shown["neither"] == [0] and shown["name"] == [0]


def test_of_very_many_pictures_those_that_most_need_a_look_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "_MOST_CARDS", 3)
    monkeypatch.setattr(page_module, "_MOST_SMALL", 1)
    path = tmp_path / "p.html"
    write_page(path, RunFiles(tmp_path / "p.csv"), iter(rows_in(tmp_path)), WORDS, 1)
    page = path.read_text()
    assert (
        page.count("<li data-place") == 3 and "The 3 pictures that most need a look, of 5" in page
    )
    assert 'data-place="0"' not in page and "data:image" not in page, "the first has no picture"


def test_small_pictures_are_upright_and_of_any_format(tmp_path):
    square = np.zeros((300, 600, 3), np.uint8)
    square[:, :100] = 255
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.fromarray(square).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(square[..., 0]).save(tmp_path / "grey.tif")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("RGB", (3000, 1)).save(tmp_path / "strip.png")
    odd = b"II*\0\x08\0\0\0\2\0\x12\1\3\0\1\0\0\0\6\0\0\0\x1a\1\2\0\4\0\0\0odd\0"
    exif_data = b"Exif\0\0" + odd + bytes(4)
    Image.fromarray(square).save(tmp_path / "odd.jpg", exif=exif_data)
    small = [page_module._small(row(str(tmp_path / n))) for n in os.listdir(tmp_path)]
    sizes = {name: (s.width, s.height) for name, s in zip(os.listdir(tmp_path), small)}
    assert sizes == {
        "turned.jpg": (100, 200),
        "odd.jpg": (100, 200),
        "grey.tif": (200, 100),
        "strip.png": (200, 1),
        "cut.jpg": (0, 0),
    }


def test_numbers_come_first_and_add_up():
    found = [row("a"), row("b", review=True, outcome=OUTCOMES[1], referable=None)]
    found.append(replace(row("c"), outcome=UNREADABLE, referable=None, review=True))
    numbers = {each.name: each.count for each in headlines(count_rows(found))}
    assert numbers == {
        "graded": 1,
        "referable": 1,
        "to be reviewed": 2,
        "ungradable": 1,
        "unlike the training pictures": 0,
        "unreadable": 1,
    }


def test_what_nobody_can_tell_is_no_count_of_zero():
    counts = Counter({"all": 2, "graded": 2})
    found = {each.name: each.count for each in headlines(counts, ["referable", UNLIKE])}
    assert found["graded"] == 2 and found[UNGRADABLE] == 0
    assert found["referable"] == found[UNLIKE] == "not known"
