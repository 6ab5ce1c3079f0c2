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
        table = tabulate_patients(rows, listing, "01234", regex, read_metadatas(listing))
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


def test_metadata_of_each_folder_tells_before_the_names(tabulate, tmp_path):
    for folder, who in (("a", "Ann"), ("b", "Ann")):
        (tmp_path / folder).mkdir()
        text = f"image,patient,eye\\nx{folder}.jpg,{who},{'left' if folder == 'a' else 'right'}\\n"
        (tmp_path / folder / "metadata.csv").write_text(text.replace("\\n", "\n"))
    found, table = tabulate({"a/xa": 1, "b/xb": 2, "b/xc": 4}, places=("a", "b"))
    assert list(found) == ["Ann"] and table.others == 1
    assert (found["Ann"]["left_grade"], found["Ann"]["right_grade"]) == ("1", "2")
    assert found["Ann"]["worst_image"] == "b/xb.jpg"


def test_a_pattern_of_the_user_names_the_patient(tabulate):
    found, _ = tabulate({"photos/x7y-a": 1, "photos/x7y-b": 2, "photos/x8y-a": 0}, r"x(\d)y")
    assert [line["images"] for line in found.values()] == ["2", "1"]


def test_where_nothing_tells_who_they_are_there_is_no_row(tabulate):
    found, table = tabulate({"photos/a": 1, "photos/b": 2})
    assert not found and table.others == 2
