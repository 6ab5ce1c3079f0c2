"""Importing a label table: right pictures in right folders, everything else named, nothing half."""

import csv
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest

import prepare_dataset
from common.data.folders import scan_split
from common.data.metadata import read_metadata
from common.preparation import new_dataset
from common.preparation.import_table import (
    ImportConfig,
    LabelSource,
    plan_import,
    write_import,
)
from common.system.errors import InputError

# a table in each documented form for the same pictures, and what its grades are
ROWS = (("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4))
TABLES = {
    "APTOS": "id_code,diagnosis\n" + "".join(f"{n},{g}\n" for n, g in ROWS),
    "EyePACS": "image,level\n" + "".join(f"{n},{g}\n" for n, g in ROWS),
    "IDRiD": "Image name,Retinopathy grade,Risk of macular edema ,,,\n"
    + "".join(f"{n},{g},1 ,,,\n" for n, g in ROWS),
    "DDR": "".join(f"{n}.jpg {g}\n" for n, g in ROWS) + "f.jpg 5\n",
    "Messidor-2": "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
    + "".join(f"{n}.jpg,{g}.0,0,1\n" for n, g in ROWS)
    + "f.jpg,,,0\n",
    "BRSET": "image_id,patient_id,camera,patient_age,patient_sex,exam_eye,DR_SDRG,DR_ICDR\n"
    + "".join(f"{n},{g // 2},Canon CR,6{g},1,2,0,{g}\n" for n, g in ROWS),
    "mBRSET": "patient,age,sex,educational_level,file,laterality,final_quality,final_icdr\n"
    + "".join(f"{g // 2},6{g},0,3,{n}.jpg,left,yes,{g}.0\n" for n, g in ROWS)
    + "3,66,0,2,f.jpg,left,no,\n",
}
KNOWN = {
    "BRSET": ("patient", "eye", "camera", "age", "sex"),
    "mBRSET": ("patient", "eye", "age", "sex"),
}


@pytest.fixture
def images(tmp_path):
    """Six pictures in one flat folder; their bytes are their names."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abcdef":
        (folder / f"{name}.jpg").write_text(name)
    return folder


@pytest.fixture
def run(tmp_path, images, capsys):
    """Import a table's text into tmp_path/new: run(text, *flags) -> (status, what was said)."""

    def call(text, *words, folders=(images,)):
        (tmp_path / "labels.csv").write_text(text)
        command = ["import", tmp_path / "labels.csv", *folders, tmp_path / "new", *words]
        status = prepare_dataset.main(list(map(str, command)))
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


def tree(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def manifest(folder):
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", TABLES)
def test_documented_tables_become_graded_folders(run, tmp_path, name):
    status, said = run(TABLES[name])
    assert status == 0 and "5 images, per grade [1, 1, 1, 1, 1]" in said
    expected = [f"{grade}/{letter}.jpg" for letter, grade in ROWS] + ["manifest.csv"]
    expected += ["metadata.csv"] if name in KNOWN else []
    assert tree(tmp_path / "new") == expected
    sixth = {"DDR": "ungradable", "Messidor-2": "ungradable", "mBRSET": "no grade"}
    assert f"1 row, {sixth[name]}" in said if name in sixth else "1 picture, no row" in said
    if name in KNOWN:
        known = read_metadata(tmp_path / "new")
        assert known.columns == KNOWN[name]
        assert known.column("patient", ["2/c.jpg", "4/e.jpg"]) == ["1", "2"]
        assert known.column("age", ["3/d.jpg"]) == ["63"]


@pytest.mark.parametrize("way", ["hardlink", "symlink", "copy"])
def test_pictures_are_linked_or_copied_as_asked(run, images, tmp_path, way):
    assert run(TABLES["APTOS"], *([] if way == "hardlink" else ["--files", way]))[0] == 0
    file = tmp_path / "new" / "0" / "a.jpg"
    assert file.read_text() == "a" and file.is_symlink() == (way == "symlink")
    assert os.path.samefile(file, images / "a.jpg") == (way != "copy")


def test_a_split_column_makes_split_folders(run, tmp_path):
    text = "image,split,grade\na,Training,0\nb,valid,1\nc,TEST,2\nd,,1\n"
    status, said = run(text)
    assert status == 0 and "train: 1 images, per grade [1, 0, 0, 0, 0]" in said
    assert tree(tmp_path / "new") == [
        "manifest.csv",
        "test/2/c.jpg",
        "train/0/a.jpg",
        "val/1/b.jpg",
    ]
    assert "1 row, no split: d (line 5)" in said
    shutil.rmtree(tmp_path / "new")
    assert run(text, "--split_column", "none")[0] == 0
    assert "1/d.jpg" in tree(tmp_path / "new")
    shutil.rmtree(tmp_path / "new")
    status, said = run("image,set,grade\na,A,0\n")
    assert (
        status == 2
        and "line 2: expected train, val, cal or test in column 'set', found 'A'" in said
    )


def test_several_tables_give_a_split_each(tmp_path, images, capsys):
    for name, text in (("train.txt", "a.jpg 0\n"), ("valid.txt", "c.jpg 2\nd.jpg 5\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "calib.txt").write_text("b.jpg 1\n")
    train, valid, cal, new = (
        str(tmp_path / name) for name in ("train.txt", "valid.txt", "calib.txt", "new")
    )
    more = [f"valid={valid}", f"calibration={cal}"]
    command = ["import", f"train={train}", str(images), new, "--more", *more]
    assert prepare_dataset.main(command) == 0
    assert tree(tmp_path / "new") == [
        "cal/1/b.jpg",
        "manifest.csv",
        "train/0/a.jpg",
        "val/2/c.jpg",
    ]
    assert "1 row, ungradable: d.jpg (valid.txt line 2)" in capsys.readouterr().out


def test_what_is_left_out_is_counted_shown_and_listed(run, tmp_path):
    text = "image,grade\na,0\nb.jpg,\nc,ungradable\nx,1\n,2\nd,3\nd.jpg,3.0\n"
    status, said = run(text)
    assert status == 0 and "2 images, per grade [1, 0, 0, 1, 0]" in said
    assert "note: the table has no picture of class 1, 2, 4" in said
    for line in (
        "1 row, no grade: b.jpg (line 3)",
        "1 row, ungradable: c (line 4)",
        "1 row, no picture: x (line 5)",
        "1 row, no name of a picture: no name (line 6)",
        "1 row, named twice: d.jpg (line 8)",
        "2 pictures, no row in the table: ",
    ):
        assert f"left out: {line}" in said
    rows = manifest(tmp_path / "new")
    assert len(rows) == 9 and len([row for row in rows if row["file"]]) == 2
    reasons = {row["name"] or Path(row["source"]).name: row["left_out_because"] for row in rows}
    assert reasons["x"] == "no picture" and reasons["e.jpg"] == "no row in the table"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,grade\na,0\na.jpg,1\n", "'a.jpg': grade 0 in line 2, grade 1 in line 3"),
        ("image,grade\na,0\na,ungradable\n", "grade 0 in line 2, ungradable in line 3"),
        ("image,grade,split\na,0,train\na,0,test\n", "grade 0 in train in line 2, grade 0 in test"),
        ("image,grade\na,0\nb,7\n", "found '7' in line 3"),
        ("image,grade\nx,0\ny,7\n", "found '7' in line 3"),
        ("image,grade\nx,0\n", "no row of .*labels.csv can be used .1 no picture.: .* names x; "),
        ("image,grade\n../secret,0\n", "1 no picture"),
        ("image,grade,label\na,0,1\n", "'grade' and 'label' could each be meant"),
    ],
)
def test_what_contradicts_itself_is_refused_and_nothing_is_written(run, tmp_path, text, said):
    (tmp_path / "secret.jpg").write_text("secret")
    status, found = run(text)
    assert status == 2 and found.count("\n") == 1
    assert re.search(said, found), found
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "labels.csv", "secret.jpg"]


def test_names_lead_nowhere_outside(run, tmp_path, images):
    (tmp_path / "secret.jpg").write_text("secret")
    (images / "up").mkdir()
    status, said = run(
        f"image,grade\n../secret.jpg,0\n{tmp_path}/secret.jpg,1\n../../../b.jpg,2\n/a.jpg,0\n"
    )
    assert status == 0 and tree(tmp_path / "new") == ["0/a.jpg", "2/b.jpg", "manifest.csv"]
    assert "2 rows, no picture" in said
    status, said = run(
        "image,grade\na,0\nb,1\n", "--num_classes", "2", "--class_names", "../x", "y"
    )
    assert status == 2


def test_pictures_in_subfolders_and_several_folders_are_found(run, images, tmp_path):
    for place in ("one", "two"):
        (images / place).mkdir()
        (images / place / "same.jpg").write_text(place)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "G.PNG").write_text("g")
    folders = (images, tmp_path / "more")
    status, said = run("image,grade\none/same.jpg,1\ntwo\\same,2\ng,3\n", folders=folders)
    assert status == 0
    new = tmp_path / "new"
    assert (new / "1" / "same.jpg").read_text() == "one" and (new / "3" / "G.PNG").is_file()
    assert (new / "2" / "same.jpg").read_text() == "two"
    status, said = run("image,grade\nsame,1\n", folders=folders)
    assert status == 2 and "not empty" in said
    shutil.rmtree(new)
    status, said = run("image,grade\nsame,1\n", folders=folders)
    assert status == 2 and "'same' means" in said and "two/same.jpg" in said


def test_pictures_of_one_name_and_grade_do_not_collide(run, images, tmp_path):
    for place in ("one", "two"):
        (images / place).mkdir()
        (images / place / "left.jpg").write_text(place)
    status, _ = run("image,grade,patient\none/left,1,7\ntwo/left,1,8\n")
    assert status == 0
    assert tree(tmp_path / "new")[:2] == ["1/left.jpg", "1/left~2.jpg"]
    known = read_metadata(tmp_path / "new")
    assert known.column("patient", ["1/left.jpg", "1/left~2.jpg"]) == ["7", "8"]


def test_the_split_of_a_row_chooses_among_folders_of_equal_names(run, images, tmp_path):
    for place in ("train", "valid"):
        (images / place).mkdir()
        (images / place / "1.jpg").write_text(place)
    assert run("image,grade,split\n1,0,train\n1,2,val\n")[0] == 0
    assert (tmp_path / "new" / "train" / "0" / "1.jpg").read_text() == "train"
    assert (tmp_path / "new" / "val" / "2" / "1.jpg").read_text() == "valid"


def test_class_names_become_folders(run, tmp_path):
    names = ["No_DR", "Mild", "Moderate", "Severe", "PDR"]
    status, said = run(TABLES["APTOS"], "--class_names", *names)
    assert status == 0 and f"new_split --num_classes 5 --class_names {' '.join(names)}" in said
    assert tree(tmp_path / "new")[:2] == ["Mild/b.jpg", "Moderate/c.jpg"]


def test_more_columns_are_kept(run, tmp_path):
    text = "image,grade,quality,who\na,0,good,7\nb,1,bad,7\n"
    assert run(text, "--keep", "quality", "patient=who")[0] == 0
    known = read_metadata(tmp_path / "new")
    assert known.columns == ("patient", "quality")
    assert known.column("quality", ["1/b.jpg"]) == ["bad"]


def test_a_destination_in_use_or_around_the_pictures_is_refused(run, images, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "thesis.txt").write_text("x")
    status, said = run(TABLES["APTOS"])
    assert status == 2 and "not empty" in said
    assert tree(tmp_path / "new") == ["thesis.txt"]
    table = str(tmp_path / "labels.csv")
    assert prepare_dataset.main(["import", table, str(images), str(images / "x")]) == 2
    assert prepare_dataset.main(["import", table, str(tmp_path / "none"), str(tmp_path / "y")]) == 2


def test_another_disk_is_named_with_what_to_do(run, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setitem(new_dataset._WAYS, "hardlink", refuse)
    status, said = run(TABLES["APTOS"])
    assert status == 2 and "another disk" in said and "--files symlink" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "labels.csv"]


def import_slowly(words):
    def copy(source, target):
        time.sleep(0.2)
        return shutil.copyfile(source, target)

    new_dataset._WAYS["copy"] = copy
    os._exit(prepare_dataset.main(words))


def test_a_killed_import_leaves_nothing_that_the_next_one_does_not_remove(images, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text(TABLES["APTOS"])
    words = ["import", str(tmp_path / "labels.csv"), str(images), str(tmp_path / "new")]
    words += ["--files", "copy"]
    child = multiprocessing.get_context("fork").Process(target=import_slowly, args=(words,))
    child.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".new.*.part/*/*.jpg")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert not (tmp_path / "new").exists() and list(tmp_path.glob(".new.*.part"))
    assert prepare_dataset.main(words) == 0
    assert "left by a command that was killed" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*")) and len(tree(tmp_path / "new")) == 6


def test_odd_names_are_imported_as_they_are(run, images, tmp_path):
    names = ["Zoë (1).jpg", " lead.jpg", "a,b.JPEG", 'q"q.png', "=1+1.jpg"]
    for name in names:
        (images / name).write_text(name)
    quoted = [name.replace('"', '""') for name in names]
    assert run("image,grade\n" + "".join(f'"{name}",4\n' for name in quoted))[0] == 0
    assert {path.name for path in (tmp_path / "new" / "4").iterdir()} == set(names)


def test_fifty_thousand_rows_take_seconds(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for k in range(2_000):
        (images / f"{k}_left.jpg").touch()
    rows = "".join(f"{k}_left,{k % 5},{k // 2}\n" for k in range(50_000))
    (tmp_path / "labels.csv").write_text("image,level,patient\n" + rows)
    start = time.monotonic()
    plan = plan_import([LabelSource(tmp_path / "labels.csv")], [images], ImportConfig())
    assert len(plan.used) == 2_000 and len(plan.left_out) == 48_000
    write_import(plan, tmp_path / "new", "hardlink")
    assert time.monotonic() - start < 20
    with pytest.raises(InputError, match="not empty"):
        write_import(plan, tmp_path / "new", "hardlink")


@pytest.mark.parametrize("place", [".", "train_images", "train"])
def test_a_table_without_class_folders_names_the_command_that_makes_them(tmp_path, place):
    root = tmp_path / "my data"
    (root / place).mkdir(parents=True)
    (root / place / "a.jpg").write_bytes(b"x")
    (root / "labels.csv").write_text("image,grade\na,1\n")
    command = f"import '{root}/labels.csv' '{root}' '{root}_graded'"
    with pytest.raises(InputError, match=re.escape(command)):
        scan_split(root, "train" if place == "train" else "test")
    assert prepare_dataset.main(shlex.split(command)) == 0
    assert scan_split(root.with_name("my data_graded"), "test").counts(5) == [0, 1, 0, 0, 0]


def test_idrid_as_it_is_published_is_imported_with_its_split(tmp_path):
    images, tables = tmp_path / "test" / "1. Original Images", tmp_path / "2. Groundtruths"
    header = "Image name,Retinopathy grade,Risk of macular edema ,,,,,,,,,\n"
    tables.mkdir()
    for place, name, grade in (
        ("a. Training Set", "a. IDRiD_Disease Grading_Training Labels.csv", 3),
        ("b. Testing Set", "b. IDRiD_Disease Grading_Testing Labels.csv", 1),
    ):
        (images / place).mkdir(parents=True)
        (images / place / "IDRiD_001.jpg").write_text(place)  # both sets count from 1
        (tables / name).write_text(f"{header}IDRiD_001,{grade},0,,,,,,,,,\n")
    train, test = sorted(tables.iterdir())
    command = ["import", f"train={train}", images, tmp_path / "new", "--more", f"test={test}"]
    assert prepare_dataset.main(list(map(str, command))) == 0
    new = tmp_path / "new"
    assert (new / "train" / "3" / "IDRiD_001.jpg").read_text() == "a. Training Set"
    assert (new / "test" / "1" / "IDRiD_001.jpg").read_text() == "b. Testing Set"


def test_class_names_that_are_numbers_are_the_cells_that_mean_them(run, tmp_path):
    names = ["--class_names", "1", "2", "3", "4", "5"]
    status, _ = run("image,grade\na,1\nb,2.0\nc,4\n", *names)
    assert status == 0
    assert [row for row in tree(tmp_path / "new") if row.endswith("jpg")] == [
        "1/a.jpg",
        "2/b.jpg",
        "4/c.jpg",
    ]
    shutil.rmtree(tmp_path / "new")
    status, said = run("image,grade\na,0\nb,2\n", *names)
    assert status == 2 and "'0' in line 2" in said
    status, said = run("image,grade\na,1\nb,5\n")
    assert status == 2 and "--class_names 1 2 3 4 5" in said


def test_a_split_on_the_command_line_must_not_contradict_the_table(run, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("image,grade,split\na,0,train\nb,1,test\n")
    command = ["import", f"train={table}", str(tmp_path / "images"), str(tmp_path / "new")]
    assert prepare_dataset.main(command) == 2 and not (tmp_path / "new").exists()
    assert prepare_dataset.main([*command, "--split_column", "none"]) == 0
    assert "train/1/b.jpg" in tree(tmp_path / "new")


def test_a_picture_of_two_patients_is_refused(run, tmp_path):
    status, said = run("image,grade,patient\na,0,7\na,0,99\n")
    assert status == 2 and "patient 7 in line 2" in said and "patient 99 in line 3" in said
    status, said = run("image,grade,patient\na,0,7\na,0,\n")
    assert status == 0 and "named twice" in said


def test_an_empty_column_is_said_to_be_empty(run):
    assert "site in 'site' (empty)" in run("image,grade,site\na,0,\nb,1,\n")[1]


def test_words_for_classes_of_another_number_name_the_flags(run):
    status, said = run("image,grade\na,No_DR\nb,DR\n", "--num_classes", "2")
    assert status == 2 and "--class_names" in said
    names = ["--num_classes", "2", "--class_names", "No_DR", "DR"]
    assert run("image,grade\na,No_DR\nb,DR\n", *names)[0] == 0


def test_a_table_of_two_labels_for_five_grades_is_asked_about(run):
    status, said = run("image,grade\na,0\nb,1\nc,1\n")
    assert status == 0 and "only no DR and DR" in said and "--num_classes 2" in said


def test_numbers_for_named_classes_are_said_to_be_places(run):
    names = ["--num_classes", "3", "--class_names", "No_DR", "NPDR", "PDR"]
    said = run("image,grade\na,0\nb,1\nc,2\n", *names)[1]
    assert "numbers are read as places among the classes: 0 as No_DR, 1 as NPDR, 2 as PDR" in said


def test_two_columns_of_patients_and_a_second_image_column_are_refused(run):
    status, said = run("image,grade,patient,Patient ID\na,0,1,7\nb,1,2,7\n")
    assert status == 2 and "'patient' and 'Patient ID' could each be the patient" in said
    status, said = run("id_code,grade,image\na,0,x\nb,1,y\n", "--image_column", "id_code")
    assert status == 0
    flags = ["--image_column", "id_code", "--keep", "image"]
    status, said = run("id_code,grade,image\na,0,x\nb,1,y\n", *flags)
    assert status == 2
