"""Columns are found by their documented names, never guessed; grades are read or refused."""

import pytest

from common.data.label_tables import (
    ColumnFlags,
    choose_columns,
    class_reader,
    read_labels,
)
from common.listing.tables import read_table
from common.system.errors import InputError

# headers as published, each with one row of grade 2
FORMATS = {
    "APTOS": ("id_code,diagnosis", "a,2", "id_code", "diagnosis"),
    "EyePACS": ("image,level", "a,2", "image", "level"),
    "IDRiD": (
        "Image name,Retinopathy grade,Risk of macular edema ,,,,,,,,,",
        "a,2,1,,,,,,,,,",
        "Image name",
        "Retinopathy grade",
    ),
    "DDR with a header": ("name label", "a.jpg 2", "name", "label"),
    "DDR": ("b.jpg 2", "a.jpg 2", "column 1", "column 2"),
    "Messidor-2": (
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable",
        "a.png,2.0,1.0,1",
        "image_id",
        "adjudicated_dr_grade",
    ),
    "Messidor-2 as preprocessed on Kaggle": (
        "id_code,diagnosis,adjudicated_dme,adjudicated_gradable",
        "a.png,2,1,1",
        "id_code",
        "diagnosis",
    ),
    "BRSET": (
        "image_id,patient_id,camera,patient_age,comorbidities,diabetes_time_y,insuline,"
        "patient_sex,exam_eye,diabetes,nationality,optic_disc,vessels,macula,DR_SDRG,DR_ICDR,"
        "focus,iluminaton,image_field,artifacts,diabetic_retinopathy,macular_edema,quality",
        'img1,7,Canon CR,61,"a, b",3,no,1,2,yes,Brazil,1,1,1,1,2,1,1,1,1,1,0,Adequate',
        "image_id",
        "DR_ICDR",
    ),
    "mBRSET": (
        "patient,age,sex,dm_time,insulin,insulin_time,oraltreatment_dm,systemic_hypertension,"
        "insurance,educational_level,alcohol_consumption,smoking,obesity,file,laterality,"
        "final_artifacts,final_quality,final_icdr,final_edema",
        "7,61,1,3,0,,1,1,0,4,0,0,0,1.1.jpg,right,no,yes,2.0,no",
        "file",
        "final_icdr",
    ),
    "our own": ("image,split,grade", "a,test,2", "image", "grade"),
    "capitals and spaces": (" IMAGE_Name ; DR  Grade ", "a; 2,0 ", "IMAGE_Name", "DR Grade"),
}


def table_of(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return read_table(tmp_path / "t.csv")


NOTHING_SAID = ColumnFlags()


def labels_of(table, flags=NOTHING_SAID, num_classes=5, class_names=()):
    columns = choose_columns(table, flags)
    reader = class_reader(num_classes, class_names)
    labels = read_labels(table, columns, num_classes, reader, flags)
    return [label.left_out_because or label.grade for label in labels]


@pytest.mark.parametrize("name", FORMATS)
def test_documented_headers_are_understood(tmp_path, name):
    header, row, image, grade = FORMATS[name]
    table = table_of(tmp_path, f"{header}\n{row}\n{row}\n")
    columns = choose_columns(table, ColumnFlags())
    assert (table.columns[columns.image], table.columns[columns.grade]) == (image, grade)
    assert set(labels_of(table)) == {2}


def test_any_columns_can_be_named(tmp_path):
    table = table_of(tmp_path, "shot;opinion;second opinion\na;3;1\n")
    with pytest.raises(InputError, match=r"--image_column NAME .*shot, opinion, second"):
        choose_columns(table, ColumnFlags())
    with pytest.raises(InputError, match="--grade_column NAME"):
        choose_columns(table, ColumnFlags(image="shot"))
    assert labels_of(table, ColumnFlags("SHOT", "opinion")) == [3]
    with pytest.raises(InputError, match="no column 'verdict'; the columns are"):
        choose_columns(table, ColumnFlags("shot", "verdict"))
    with pytest.raises(InputError, match="cannot be both"):
        choose_columns(table, ColumnFlags("shot", "shot"))


@pytest.mark.parametrize(
    ("header", "both"),
    [
        ("image,grade,label", "'grade' and 'label' .*--grade_column"),
        ("image,file,grade", "'image' and 'file' .*--image_column"),
        ("image,DR grade,dr_grade", "'DR grade' and 'dr_grade' .*--grade_column"),
        ("image,grade,split,set", "'split' and 'set' .*--split_column"),
    ],
)
def test_two_candidates_are_named_and_none_is_taken(tmp_path, header, both):
    with pytest.raises(InputError, match=both):
        choose_columns(
            table_of(tmp_path, header + "\na,1,1,1"[: 2 * header.count(",") + 2]), ColumnFlags()
        )


def test_grades_are_read_as_numbers_and_as_names(tmp_path):
    numbers = "image,grade\na,0\nb,1.0\nc,2.\nd,3\n"
    assert labels_of(table_of(tmp_path, numbers)) == [0, 1, 2, 3]
    names = (
        "image,grade\na,No_DR\nb,mild\nc,Moderate NPDR\nd,severe\ne,Proliferative DR\nf,Grade 2\n"
    )
    assert labels_of(table_of(tmp_path, names)) == [0, 1, 2, 3, 4, 2]
    given = "image,grade\na,healthy eye\nb,Sick\nc,1\n"
    classes = ("healthy eye", "sick")
    assert labels_of(table_of(tmp_path, given), num_classes=2, class_names=classes) == [0, 1, 1]
    some = "image,grade\na,No DR\nb,severe\nc,PDR\n"
    classes = ("No_DR", "NPDR", "PDR")
    assert labels_of(table_of(tmp_path, some), num_classes=3, class_names=classes) == [0, 1, 2]


def test_none_is_a_grade_among_names_and_a_blank_among_numbers(tmp_path):
    assert labels_of(table_of(tmp_path, "image,grade\na,None\nb,Mild\n")) == [0, 1]
    assert labels_of(table_of(tmp_path, "image,grade\na,None\nb,1\n")) == ["no grade", 1]


def test_blank_and_ungradable_rows_have_a_reason(tmp_path):
    table = table_of(tmp_path, "image,grade\na,\nb,NaN\nc,ungradable\nd,Not gradable\ne,1\nf,n/a\n")
    blank, marked = "no grade", "ungradable"
    assert labels_of(table) == [blank, blank, marked, marked, 1, blank]
    table = table_of(tmp_path, "image,level\na,5\nb,-1\nc,X\nd,4\n")
    assert labels_of(table, ColumnFlags(ungradable=("5", "-1", "x"))) == [marked] * 3 + [4]


def test_what_a_column_calls_not_gradable_is_left_out(tmp_path):
    header = "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
    table = table_of(tmp_path, header + "a,0,0,1\nb,,,0\nc,2,0,0.0\nd,4,1,1.0\ne,,,1\n")
    assert labels_of(table) == [0, "ungradable", "ungradable", 4, "no grade"]
    with pytest.raises(
        InputError, match=r"line 2: expected 1 or 0 in column 'adjudicated_gradable'"
    ):
        labels_of(table_of(tmp_path, header + "a,0,0,7\n"))


def test_five_means_ungradable_in_the_form_of_ddr_alone(tmp_path):
    assert labels_of(table_of(tmp_path, "a.jpg 0\nb.jpg 5\n")) == [0, "ungradable"]
    assert labels_of(table_of(tmp_path, "name label\na.jpg 0\nb.jpg 5\n")) == [0, "ungradable"]
    with pytest.raises(InputError, match=r"found '5' in line 3; .*--ungradable"):
        labels_of(table_of(tmp_path, "image,level\na,0\nb,5\n"))


@pytest.mark.parametrize("cell", ["-1", "7", "1.5", "left", "1e400", "0x1", "٣٤"])
def test_other_grades_are_refused_with_their_line(tmp_path, cell):
    with pytest.raises(
        InputError, match=r"t.csv: expected grades 0..4 in column 'grade', found .* in line 3"
    ):
        labels_of(table_of(tmp_path, f"image,grade\na,0\nb,{cell}\n"))


def test_many_odd_grades_are_counted(tmp_path):
    with pytest.raises(InputError, match="in line 4 and 7 more;"):
        labels_of(table_of(tmp_path, "image,grade\n" + "a,9\n" * 10))


def test_grades_that_count_from_one_are_suspected(tmp_path):
    with pytest.raises(InputError, match="do they count from 1"):
        labels_of(table_of(tmp_path, "image,grade\na,1\nb,5\n"))


@pytest.mark.parametrize(
    "image", ["Fundus Image", "img_path", "Image No.", "file_name", "ID", "Photo"]
)
@pytest.mark.parametrize("grade", ["DR_Severity_Level", "Grade (DR)", "ICDR score", "Final label"])
def test_usual_spellings_are_known(tmp_path, image, grade):
    columns = choose_columns(table_of(tmp_path, f"{image},{grade},other\na,1,x\n"), NOTHING_SAID)
    assert (columns.image, columns.grade) == (0, 1)


@pytest.mark.parametrize(
    "column",
    ["educational_level", "image_quality_grade", "DME grade", "diabetic_retinopathy", "DR_SDRG"],
)
def test_other_columns_are_not_taken_for_the_grades(tmp_path, column):
    with pytest.raises(InputError, match="--grade_column NAME"):
        choose_columns(table_of(tmp_path, f"image,{column}\na,x\n"), NOTHING_SAID)
