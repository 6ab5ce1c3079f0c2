"""metadata.csv of a dataset: whose row it is, what the columns are called, what is refused."""

import pytest

from common.data.metadata import metadata_columns, read_metadata
from common.listing.tables import read_table
from common.system.errors import InputError


@pytest.fixture
def root(tmp_path):
    for name in ("train/0/a.jpg", "train/1/b.jpg", "test/1/a.jpg", "test/1/c d.PNG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(root, text):
    (root / "metadata.csv").write_text(text)
    return read_metadata(root)


def test_a_dataset_without_the_file_has_no_metadata(root):
    assert read_metadata(root) is None


def test_rows_name_images_by_path_or_by_a_name_that_only_one_has(root):
    known = write(
        root, "image;Patient ID;Device;ward\n./Train/0/A.JPG;7;Canon;\nB;8;;x\nC D;7;Nikon;y\n"
    )
    assert known.columns == ("patient", "camera", "ward")
    ids = ["train/0/a.jpg", "train/1/b.jpg", "test/1/a.jpg", "test/1/c d.PNG"]
    assert known.column("patient", ids) == ["7", "8", "", "7"]
    assert known.column("camera", ids) == ["Canon", "", "", "Nikon"]
    assert known.column("unheard", ids) == [""] * 4
    assert known.remarks == ("metadata.csv: patient camera ward for 3 of 4 pictures",)


def test_rows_of_no_image_are_counted_and_named(root):
    known = write(root, "image,patient\nb.jpg,1\nval/0/a.jpg,2\nz.jpg,3\n")
    assert known.column("patient", ["train/0/a.jpg"]) == [""]
    assert "2 rows of no image that is here, such as val/0/a.jpg, z.jpg" in known.remarks[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,patient\na.jpg,1\n", "line 2: 'a.jpg' is the name of 2 images, test/1/a.jpg and"),
        ("image,patient\nb,1\nb.jpg,2\n", "two for train/1/b.jpg in lines 2 and 3"),
        ("image,patient\nz,1\n", "expected images of .* found z"),
        ("photo of,patient\nb,1\n", "pictures' names"),
        ("image,file,patient\nb,b,1\n", "'image' and 'file'"),
        (
            "image,patient_id,subject\nb,1,2\n",
            "'patient_id' and 'subject' could each be the patient",
        ),
        ("", "empty file"),
    ],
)
def test_what_is_not_clear_is_refused(root, text, said):
    with pytest.raises(InputError, match=said):
        write(root, text)


def test_grades_and_splits_are_no_metadata(root):
    assert write(root, "image,grade,split,age\nb,1,train,50\n").columns == ("age",)


def columns_of(tmp_path, header, keep=()):
    cells = ",".join("x" for _ in header.split(","))
    (tmp_path / "t.csv").write_text(f"{header}\n{cells}\n")
    table = read_table(tmp_path / "t.csv")
    chosen = metadata_columns(table, keep, {0}, known_only=True)
    return {name: table.columns[i] for name, i in chosen.items()}


def test_columns_are_called_by_what_they_hold(tmp_path):
    brset = "image_id,patient_id,camera,patient_age,patient_sex,exam_eye,DR_ICDR,quality"
    assert columns_of(tmp_path, brset) == {
        "patient": "patient_id",
        "eye": "exam_eye",
        "camera": "camera",
        "age": "patient_age",
        "sex": "patient_sex",
    }
    mbrset = columns_of(tmp_path, "file,patient,age,sex,laterality,final_quality,educational_level")
    assert list(mbrset) == ["patient", "eye", "age", "sex"]


def test_more_columns_are_kept_under_their_name_or_a_new_one(tmp_path):
    header = "image,subject no,quality,Centre,patient name"
    kept = columns_of(tmp_path, header, ("quality", "patient=Patient_Name"))
    assert kept == {"quality": "quality", "patient": "patient name", "site": "Centre"}
    with pytest.raises(InputError, match="--keep 'ward': expected one of the columns image, "):
        columns_of(tmp_path, header, ("ward",))
