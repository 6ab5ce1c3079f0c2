"""The photographs of the quick start: which they are, and that they are drawn again alike."""

from collections import Counter

import pytest
from helpers import ROOT, manifest_of

from dev.make_demo_photographs import REPEATED, draw, number_of, read_grades

PHOTOGRAPHS = ROOT / "demo_photographs"
TABLE = ROOT.parent / "shared" / "data" / "idrid" / "labels.csv"


def test_the_manifest_lists_what_is_there_and_no_eye_twice():
    rows = manifest_of(PHOTOGRAPHS)
    files = {str(path.relative_to(PHOTOGRAPHS)): path for path in PHOTOGRAPHS.rglob("*.jpg")}
    assert files.keys() == {row["file"] for row in rows}
    assert all(row["file"] == f"{row['split']}/{row['grade']}/{row['source']}" for row in rows)
    assert sum(path.stat().st_size for path in files.values()) <= 4e6
    numbers = Counter(int(row["source"].split("_")[1].split(".")[0]) for row in rows)
    assert max(numbers.values()) == 1 and not numbers.keys() & REPEATED
    split = {number_of(row["source"].removesuffix(".jpg")): row["split"] for row in rows}
    assert all(split.get(number + 1, own) == own for number, own in split.items())
    counts = Counter((row["split"], row["grade"]) for row in rows)
    table = (PHOTOGRAPHS / "README.md").read_text()
    for split in ("train", "val", "test"):
        own = [counts[split, grade] for grade in "01234"]
        assert f"| {split} | {' | '.join(map(str, [*own, sum(own)]))} |" in table


@pytest.mark.skipif(not TABLE.is_file(), reason="the photographs are not here")
def test_the_draw_depends_on_names_and_grades_alone():
    drawn = {(split, str(grade), f"{name}.jpg") for split, grade, name in draw(read_grades(TABLE))}
    rows = manifest_of(PHOTOGRAPHS)
    assert drawn == {(row["split"], row["grade"], row["source"]) for row in rows}
