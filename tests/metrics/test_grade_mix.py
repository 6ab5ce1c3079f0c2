"""A population's grade mix: the column that was taken is named, none is guessed."""

import pytest

from common.metrics.grade_mix import parse_prevalence
from common.system.errors import InputError

BRSET = "image_id,patient_id,patient_sex,exam_eye,DR_SDRG,DR_ICDR,diabetic_retinopathy\n"
MESSIDOR = "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"


def mix_of(tmp_path, text, column="", classes=5, names=()):
    (tmp_path / "t.csv").write_text(text)
    return parse_prevalence(str(tmp_path / "t.csv"), classes, column, names)


def test_shares_are_read_and_nonsense_is_refused():
    assert parse_prevalence("0.735,0.07,0.15,0.025,0.02", 5).shares.sum() == pytest.approx(1)
    for text in ("0.5,0.5", "1,1,1,1,1", "a,b", "", "-0.1,0.5,0.2,0.2,0.2", "nan,1,0,0,0"):
        with pytest.raises(InputError, match="--prevalence"):
            parse_prevalence(text, 5)
    with pytest.raises(InputError, match="is no file"):
        parse_prevalence("0.5,0.5", 2, "grade")
    with pytest.raises(InputError, match="--prevalence"):
        parse_prevalence("x" * 5000, 5)


@pytest.mark.parametrize(
    ("text", "column", "shares"),
    [
        ("image,level\na,0\nb,0\nc,2\nd,4\n", "level", [0.5, 0, 0.25, 0, 0.25]),
        (
            "name,Retinopathy grade,Risk of macular edema \na,1,0\nb,3,0\n",
            "Retinopathy grade",
            None,
        ),
        (BRSET + "a,1,1,1,0,2,1\nb,1,1,2,0,2,1\n", "DR_ICDR", [0, 0, 1, 0, 0]),
        (MESSIDOR + "a,0,1,1\nb,3,1,1\nc,,,0\n", "adjudicated_dr_grade", [0.5, 0, 0, 0.5, 0]),
        ("grade\n0\n1\n", "grade", [0.5, 0.5, 0, 0, 0]),
    ],
)
def test_the_grades_of_a_table_are_counted_and_their_column_is_named(
    tmp_path, text, column, shares
):
    mix = mix_of(tmp_path, text)
    assert f"rows, column '{column}' of " in mix.source
    assert shares is None or mix.shares.tolist() == shares


def test_rows_without_grade_are_left_out_and_counted(tmp_path):
    mix = mix_of(tmp_path, MESSIDOR + "a,0,1,1\nb,,,0\nc,,1,1\n")
    assert mix.source.startswith("1 row, column") and mix.source.endswith(
        "1 ungradable left out, 1 no grade left out"
    )


def test_another_column_is_taken_when_it_is_named(tmp_path):
    text = "image,grader one,grader two\na,0,1\nb,0,2\n"
    assert mix_of(tmp_path, text, "grader two").shares.tolist() == [0, 0.5, 0.5, 0, 0]
    with pytest.raises(InputError, match="--prevalence_column NAME"):
        mix_of(tmp_path, text)
    with pytest.raises(InputError, match=r"'grade' and 'label' .*--prevalence_column NAME"):
        mix_of(tmp_path, "image,grade,label\na,0,0\n")


def test_classes_by_name_are_counted(tmp_path):
    text = "image,diagnosis\na,No DR\nb,Moderate\nc,PDR\nd,no_dr\n"
    assert mix_of(tmp_path, text, "", 2, ("No_DR", "DR")).shares.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("text", ["image,level\na,7\n", "", "image\nx\ny\n", "image,level\na,\n"])
def test_a_table_without_grades_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"--prevalence .*t.csv"):
        mix_of(tmp_path, text)


def test_a_table_of_counts_is_read_as_counts(tmp_path):
    found = mix_of(tmp_path, "grade,count\n0,100\n1,20\n2,30\n3,5\n4,45\n")
    assert found.shares.tolist() == [0.5, 0.1, 0.15, 0.025, 0.225]
    assert "column 'count' for each grade of column 'grade'" in found.source
    with pytest.raises(InputError, match="line 3: expected a number"):
        mix_of(tmp_path, "grade,count\n0,100\n1,many\n")
    with pytest.raises(InputError, match="every grade of column 'grade' occurs once"):
        mix_of(tmp_path, "grade,weight\n0,100\n1,20\n2,30\n3,5\n4,45\n")


def test_classes_that_are_called_by_numbers_are_counted_by_their_names(tmp_path):
    names = ("1", "2", "3", "4", "5")
    found = mix_of(tmp_path, "image,grade\na,1\nb,1\nc,4\nd,2\n", names=names)
    assert found.shares.tolist() == [0.5, 0.25, 0, 0.25, 0]
