"""The table of patients: the worst of their pictures, where names or a table tell whose."""

import csv

import pytest
from new_pictures.test_journal import row

from common.data.patients import AUTO
from common.new_pictures.listing import list_pictures
from common.new_pictures.patients import read_metadatas, tabulate_patients
from common.new_pictures.rows import UNGRADABLE

NAMES = ("1_left", "1_right", "2_left", "2_right")


@pytest.fixture
def tabulate(tmp_path, monkeypatch):
    """Tabulate rows of these grades, one for each name; None: not gradable."""
    monkeypatch.chdir(tmp_path)

    def make(found, regex=AUTO, places=("photos",)):
        for name in found:
            path = tmp_path / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        rows = []
        for name, grade in found.items():
            changes = {"grade": grade, "class_name": str(grade), "p_referable": grade and grade / 4}
            if grade is None:
                changes |= {"outcome": UNGRADABLE, "class_name": None, "referable": None}
                changes |= {"review": True, "reason": "ungradable: black"}
            else:
                changes["referable"] = grade > 1
            rows.append(row(f"{name}.jpg", **changes))
        listing = list_pictures(places)
        table = tabulate_patients(
            [row.image for row in rows], rows, listing, "01234", regex, read_metadatas(listing)
        )
        table.write(tmp_path / "p.csv")
        with open(tmp_path / "p.csv", newline="") as file:
            return {line["patient"]: line for line in csv.DictReader(file)}, table

    return make


def photos(*grades, folder="photos"):
    return {f"{folder}/{name}": grade for name, grade in zip(NAMES, grades)}


def test_the_worst_eye_decides_and_each_eye_has_its_grade(tabulate):
    found, _ = tabulate(photos(0, 3, 1, 0))
    assert list(found) == ["1", "2"]
    first = found["1"]
    assert (first["grade"], first["class_name"], first["worst_eye"]) == ("3", "3", "right")
    assert first["worst_image"] == "photos/1_right.jpg" and first["p_referable"] == "0.75"
    assert (first["left_grade"], first["right_grade"], first["referable"]) == ("0", "3", "yes")
    assert (found["2"]["referable"], found["2"]["review"]) == ("no", "no")


def test_a_picture_that_is_not_graded_is_never_passed_over(tabulate):
    found, _ = tabulate(photos(None, 1, None, None))
    first, second = found["1"], found["2"]
    assert (first["images"], first["graded"], first["grade"]) == ("2", "1", "1")
    assert first["review"] == "yes" and first["reason"] == "1 of 2 images: ungradable: black"
    assert (second["grade"], second["referable"], second["review"]) == ("", "", "yes")


@pytest.mark.parametrize(
    "folders", ["0 3 1 0", "No_DR Severe Mild No_DR", "test/1 test/0 test/2 test/3"]
)
def test_two_eyes_of_a_patient_may_lie_in_folders_of_different_grades(tabulate, folders):
    others = {f"photos/{name}/x{n}": 0 for n, name in enumerate(("0", "1", "2", "3", "4"))}
    if "test" in folders:
        others = {f"photos/test/{name}/x{n}": 0 for n, name in enumerate("01234")}
    if "DR" in folders:
        others = {}
    placed = {f"photos/{f}/{n}": g for f, n, g in zip(folders.split(), NAMES, (0, 3, 1, 0))}
    found, _ = tabulate(others | placed)
    assert found["1"]["grade"] == "3" and found["1"]["images"] == "2"


def test_a_folder_for_each_patient_is_recognised(tabulate):
    found, _ = tabulate({f"photos/p{n}/{side}": n for n in range(4) for side in ("left", "right")})
    assert [line["grade"] for line in found.values()] == ["0", "1", "2", "3"]


def write_table(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "metadata.csv").write_text(f"image,patient,eye\n{text}\n")


def test_metadata_tells_before_the_names_and_of_its_own_folder_alone(tabulate, tmp_path):
    write_table(tmp_path / "a", "xa.jpg,Ann,left\nxb.jpg,Ann,right")
    write_table(tmp_path / "b", "xb.jpg,Ann,right")
    found, table = tabulate({"a/xa": 1, "a/xb": 3, "b/xb": 2, "b/xc": 4}, places=("a", "b"))
    assert list(found) == ["a/Ann", "b/Ann"] and table.others == 1
    first = found["a/Ann"]
    assert (first["left_grade"], first["right_grade"]) == ("1", "3")
    assert found["b/Ann"]["worst_image"] == "b/xb.jpg"
    write_table(tmp_path / "left", "xa.jpg,Ann,left")
    write_table(tmp_path / "right", "xb.jpg,Ann,right")
    found, _ = tabulate({"left/xa": 1, "right/xb": 2}, places=("left", "right"))
    assert list(found) == ["Ann"], "the eyes of one person"


def test_a_table_tells_also_where_it_names_a_link_or_a_place_in_it_was_given_first(
    tabulate, tmp_path
):
    write_table(tmp_path / "photos", "z.jpg,Ann,left\ndeep/b.jpg,Bob,right")
    (tmp_path / "photos" / "z.jpg").symlink_to("a.jpg")
    photos = {"photos/a": 1, "photos/deep/b": 2}
    found, _ = tabulate(photos, places=("photos/deep", "photos"))
    assert {name: line["worst_eye"] for name, line in found.items()} == {
        "Ann": "left",
        "Bob": "right",
    }


@pytest.mark.parametrize(
    "places",
    [
        ("sites",),
        ("sites/A", "sites/B"),
        ("sites/A/1_left.jpg", "sites/A", "sites/B"),
        ("sites/*/*.jpg",),
        ("sites/A/*.jpg", "sites/B"),
        ("sites/B", "sites"),
    ],
)
def test_people_of_two_sites_are_not_taken_for_each_other_however_they_are_given(tabulate, places):
    pictures = photos(0, 1, 2, 3, folder="sites/A") | photos(3, 2, 1, 0, folder="sites/B")
    found, _ = tabulate(pictures, places=places)
    assert {name: line["grade"] for name, line in found.items()} == {
        "A/1": "1",
        "A/2": "3",
        "B/1": "3",
        "B/2": "1",
    }


@pytest.mark.parametrize("pair", ["left right", "OD OS", "train test", "Mild Severe"])
def test_folders_of_eyes_splits_and_grades_hold_the_same_people(tabulate, pair):
    first, second = pair.split()
    placed = {f"in/{first}/{n}": n for n in range(4)} | {f"in/{second}/{n}": 4 for n in range(4)}
    if first in ("train", "Mild"):
        placed = {f"in/{first}/{n}_left": n for n in range(4)}
        placed |= {f"in/{second}/{n}_right": 4 for n in range(4)}
    for places in [("in",), (f"in/{first}", f"in/{second}"), ("in/*/*.jpg",)]:
        found, _ = tabulate(placed, places=places)
        assert [line["images"] for line in found.values()] == ["2"] * 4, places
        assert {line["worst_eye"] for line in found.values()} <= {"right", "left"}


def test_a_picture_that_is_gone_stays_with_its_patient(tabulate, tmp_path):
    tabulate(photos(0, 3, 1, 0))
    (tmp_path / "photos" / "1_right.jpg").unlink()
    rows = [row(f"photos/{name}.jpg", class_name="1") for name in NAMES]
    listing = list_pictures(["photos"])
    table = tabulate_patients([row.image for row in rows], rows, listing, "01234", AUTO, {})
    assert [line[:2] for line in table.rows] == [["1", 2], ["2", 2]]


def test_a_pattern_of_the_user_names_the_patient(tabulate):
    found, _ = tabulate({"photos/x7y-a": 1, "photos/x7y-b": 2, "photos/x8y-a": 0}, r"x(\d)y")
    assert [line["images"] for line in found.values()] == ["2", "1"]


def test_where_nothing_tells_who_they_are_there_is_no_row(tabulate):
    found, table = tabulate({"photos/a": 1, "photos/b": 2})
    assert not found and table.others == 2
