"""Which files are graded: folders, files and patterns, each picture once, whatever it is called."""

import os
from pathlib import Path

import pytest

from common.new_pictures.listing import list_pictures
from common.system.errors import InputError

DICOM = bytes(128) + b"DICM"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of pictures and other files, seen from the folder above it."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "deep/er/c.tif", "deep/d.jpg", ".hidden.jpg", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "photos" / "scan0001").write_bytes(DICOM)
    return tmp_path / "photos"


def names(*places):
    return [picture.name for picture in list_pictures(places).pictures]


@pytest.mark.usefixtures("photos")
def test_a_folder_is_listed_however_deep_by_endings_and_first_bytes():
    found = list_pictures(["photos"])
    assert [picture.id for picture in found.pictures] == [
        "a.PNG",
        "b.jpg",
        "deep/d.jpg",
        "deep/er/c.tif",
        "scan0001",
    ]
    assert found.roots == ("photos",)
    assert len(found.remarks) == 1 and "1 .txt" in found.remarks[0]


@pytest.mark.usefixtures("photos")
def test_a_picture_is_named_alike_however_its_folder_was_written():
    assert names("photos") == names("./photos/") == names("photos//")
    assert names(".")[0] == "photos/a.PNG"


@pytest.mark.usefixtures("photos")
def test_places_that_hold_each_other_list_no_picture_twice():
    found = list_pictures(["photos/b.jpg", "photos", "photos/deep", "photos/*.jpg"])
    assert len(found) == 5 and found.pictures[0].name == "photos/b.jpg"
    assert not any("more name" in remark for remark in found.remarks)


def test_a_picture_is_listed_once_though_links_lead_to_it(photos):
    (photos / "z.jpg").symlink_to("b.jpg")
    (photos / "round").symlink_to(photos)
    found = list_pictures(["photos", str(photos)])
    assert len(found) == 5
    assert any("more name" in remark and "links" in remark for remark in found.remarks)


def test_a_picture_has_the_name_that_is_no_link_whichever_comes_first(photos):
    (photos / "0_cover.jpg").symlink_to("b.jpg")
    (photos / "a_folder").symlink_to("deep")
    found = list_pictures(["photos/0_cover.jpg", "photos"])
    assert [each.name for each in found.pictures] == names("photos")
    assert names("photos")[1:4] == ["photos/b.jpg", "photos/deep/d.jpg", "photos/deep/er/c.tif"]
    [said] = [remark for remark in found.remarks if "links" in remark]
    assert "3 more names" in said and "photos/0_cover.jpg is photos/b.jpg" in said
    [kept] = [each for each in found.pictures if each.id == "b.jpg"]
    assert [each.id for each in found.names_of(kept)] == ["b.jpg", "0_cover.jpg"]


def test_of_two_names_that_are_equal_on_the_disk_the_one_in_the_table_is_taken(photos):
    os.link(photos / "b.jpg", photos / "c.jpg")
    assert "photos/c.jpg" not in names("photos") and "photos/b.jpg" in names("photos")
    (photos / "metadata.csv").write_text("image,patient\nc.jpg,7\n")
    assert "photos/c.jpg" in names("photos") and "photos/b.jpg" not in names("photos")
    (photos / "x.jpg").symlink_to("nowhere")
    (photos / "y.jpg").symlink_to("nowhere")
    (photos / "metadata.csv").write_text("image,patient\ny.jpg,7\n")
    assert "photos/y.jpg" in names("photos") and "photos/x.jpg" not in names("photos")


def test_a_link_to_nowhere_is_listed_so_that_it_gets_a_row(photos):
    (photos / "lost.jpg").symlink_to("nowhere")
    assert "photos/lost.jpg" in names("photos")


@pytest.mark.usefixtures("photos")
def test_patterns_match_files_and_folders():
    assert names("photos/*.jpg") == ["photos/b.jpg"]
    assert names("photos/d*") == ["photos/deep/d.jpg", "photos/deep/er/c.tif"]
    assert names("photos/**/*.tif") == ["photos/deep/er/c.tif"]
    assert sorted(names("photos/**")) == sorted(names("photos"))
    assert list_pictures(["photos/d*/*.jpg"]).pictures[0].id == "deep/d.jpg"


@pytest.mark.usefixtures("photos")
def test_a_file_that_is_named_is_taken_whatever_it_holds():
    assert names("photos/notes.txt", "photos/.hidden.jpg") == [
        "photos/notes.txt",
        "photos/.hidden.jpg",
    ]


@pytest.mark.parametrize("name", ["[1]*?.jpg", "a\nb.jpg", "-x.jpg", "=1+1.jpg", "caf\udce9.jpg"])
def test_odd_names_are_listed_as_they_are(photos, name):
    (photos / name).write_bytes(b"x")
    assert f"photos/{name}" in names("photos")
    assert names(f"photos/{name}") == [f"photos/{name}"]


@pytest.mark.parametrize("place", ["", "nothing", "photos/*.gif", "photos/deep/[x].jpg"])
@pytest.mark.usefixtures("photos")
def test_a_place_that_is_not_there_is_refused_in_one_line(place):
    with pytest.raises(InputError, match="--images") as refused:
        list_pictures(["photos", place])
    assert "\n" not in str(refused.value)


def test_folders_without_a_picture_are_refused_with_what_they_hold(tmp_path):
    (tmp_path / "table.csv").write_text("x")
    with pytest.raises(InputError, match=r"found 1 other file \(1 .csv\)"):
        list_pictures([str(tmp_path)])
    os.remove(tmp_path / "table.csv")
    with pytest.raises(InputError, match="found none"):
        list_pictures([str(tmp_path)])


def test_results_of_this_software_are_passed_over(photos):
    results = photos / "convnext_5class_results" / "results"
    results.mkdir(parents=True)
    (results / "predictions_test.npz").touch()
    (results / "roc_test.png").touch()
    assert not any("roc" in name for name in names("photos"))
    assert Path("photos/b.jpg").is_file()
