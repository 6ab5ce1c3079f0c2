"""What the names of classes mean, which orders are refused, and which folder holds which class."""

from pathlib import Path

import pytest

from common.data.class_names import (
    contradiction,
    grade_of,
    grade_order,
    grades_of,
    match_folders,
    meaning_of,
    require_grade_order,
)
from common.system.errors import InputError

PLACE = Path("images/train")


@pytest.mark.parametrize(
    ("grade", "names"),
    [
        (0, "No_DR|no dr|NO-DR|NoDR|0_No_DR|0 - No DR|Normal|no|no apparent DR|ＮＯ_ＤＲ"),
        (
            1,
            "Mild|mild_npdr|1.Mild|MildDR|NPDR mild|Mild nonproliferative DR|Grade 1 Mild",
        ),
        (2, "Moderate|MODERATE_DR|2_Moderate|Moderate Non-Proliferative DR"),
        (3, "Severe|severe npdr|Severe-DR (3)|level 3 - Severe"),
        (
            4,
            "PDR|Proliferate_DR|proliferative|4_Proliferative_DR|Proliferative-Retinopathy",
        ),
        (None, "NPDR|DR|referable|3|grade 3|R3|Ungradable|Glaucoma|0.0||No_glaucoma|Keine"),
    ],
)
def test_the_usual_names_of_a_grade_are_known(grade, names):
    assert {name: grade_of(name) for name in names.split("|")} == dict.fromkeys(
        names.split("|"), grade
    )


@pytest.mark.parametrize(
    ("name", "grades"),
    [
        ("NPDR", (1, 3)),
        ("DR", (1, 4)),
        ("1_DR", (1, 4)),
        ("Non-Referable", (0, 1)),
        ("referable DR", (2, 4)),
        ("rdr", (2, 4)),
        ("unknown", None),
    ],
)
def test_a_class_may_hold_several_grades(name, grades):
    assert meaning_of(name).grades == grades


@pytest.mark.parametrize(
    "name", ["2", "grade2", "Class 2", "DR_2", "Grade 2 DR", "DR grade 2", "٢"]
)
def test_a_number_in_words_is_that_number(name):
    assert meaning_of(name).counts and meaning_of(name).number == 2 and grade_of(name) is None


def test_numbers_are_grades_only_among_others():
    assert grades_of("01234") == [(k, k) for k in range(5)]
    assert grades_of(["healthy", "1", "2"]) == [(0, 0), (1, 1), (2, 2)]
    for names in ("012", "12345", ["R0", "R1", "R2", "R3"]):
        assert set(grades_of(names)) == {None}


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (
            "Mild Moderate No_DR Proliferate_DR Severe",
            "No_DR Mild Moderate Severe Proliferate_DR",
        ),
        ("1 0 2 3 4", "0 1 2 3 4"),
        ("4 3 2 1 0", "0 1 2 3 4"),
        ("DR No_DR", "No_DR DR"),
        ("referable non_referable", "non_referable referable"),
        ("NPDR No_DR PDR", "No_DR NPDR PDR"),
        ("grade10 grade9", "grade9 grade10"),
        ("R1 R0 R2", "R0 R1 R2"),
        ("glare PDR haze Mild", "glare Mild haze PDR"),
    ],
)
def test_an_order_against_the_names_meaning_is_refused_with_the_right_one(names, right):
    with pytest.raises(InputError, match=f"pass --class_names {right}$"):
        require_grade_order(names.split())
    require_grade_order(right.split())
    assert [names.split()[place] for place in grade_order(names.split())] == right.split()


def test_the_right_order_can_be_pasted():
    with pytest.raises(InputError, match=r"pass --class_names 'No DR' '\$\(x\)' 'Mild DR'$"):
        require_grade_order(["Mild DR", "$(x)", "No DR"])


@pytest.mark.parametrize("names", ["a c b", "e d c b a", "No_DR DR", "1 2 3 4 5", "Keine Leicht"])
def test_other_names_are_taken_as_given(names):
    require_grade_order(names.split())


@pytest.mark.parametrize("names", [["Mild", "mild_npdr"], ["grade 0", "0"], ["No_DR", "0", "1"]])
def test_two_names_of_one_class_are_refused(names):
    with pytest.raises(InputError, match="mean the same"):
        require_grade_order(names)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["0", "1", "2", "3", "4"], ["0", "1", "2", "3", "4"]),
        (["grade3", "grade0", "grade1", "grade2", "grade4"], [f"grade{k}" for k in range(5)]),
        (
            ["Mild", "Moderate", "No_DR", "Proliferate_DR", "Severe"],
            ["No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"],
        ),
        (["0_Normal", "1_Mild", "2_Moderate", "3_Severe", "4_PDR", "notes"], None),
        (["Mild", "Moderate", "NoDR", "Severe"], ["NoDR", "Mild", "Moderate", "Severe"]),
        (["NPDR", "No DR", "PDR"], ["No DR", "NPDR", "PDR"]),
        (["DR", "No_DR"], ["No_DR", "DR"]),
        (["RDR", "non-RDR"], ["non-RDR", "RDR"]),
        (["1", "0"], ["0", "1"]),
        (["0", "Mild", "2", "Severe", "4"], ["0", "Mild", "2", "Severe", "4"]),
        (["4", "Mild", "No_DR", "Severe", "2"], ["No_DR", "Mild", "2", "Severe", "4"]),
        (["1_No_DR", "2_Mild", "3_Moderate", "4_Severe", "5_PDR"], None),
    ],
)
def test_folders_of_two_to_five_classes_are_recognised(found, expected):
    count = 5 if expected is None else len(expected)
    labels = match_folders(found, PLACE, count).labels
    assert sorted(labels, key=labels.get) == (expected or found[:5])


@pytest.mark.parametrize(
    ("found", "count"),
    [
        (["DR", "No_DR", "PDR"], 3),  # DR holds PDR
        (["No_DR", "Mild", "Moderate", "Severe"], 5),
        (["No_DR", "Normal", "Mild", "Moderate", "Severe", "PDR"], 5),
        (["0", "1", "2", "3"], 5),
        (["1", "2", "3", "4", "5"], 5),
        ([], 5),
    ],
)
def test_folders_that_are_not_clear_are_refused(found, count):
    with pytest.raises(InputError, match="expected the class folders 0"):
        match_folders(found, PLACE, count)


def test_numbers_that_contradict_their_names_are_refused():
    found = ["0_Mild", "1_Moderate", "2_No_DR", "3_PDR", "4_Severe"]  # numbered by the alphabet
    with pytest.raises(InputError, match=r"1_Moderate 2_No_DR: the numbers contradict the names"):
        match_folders(found, PLACE, 5)
    given = [found[k] for k in (2, 0, 1, 4, 3)]
    assert match_folders(found, PLACE, 5, given).labels["2_No_DR"] == 0
    assert contradiction(["1_DR", "0_No_DR", "x_7"]) == contradiction(["Level 1 - none"]) == ""
    assert "'0 - Mild' '1 - No'" in contradiction(["1 - No", "0 - Mild"])


def test_a_given_name_may_differ_in_case_from_its_folder():
    names = ["No_DR", "MILD", "Moderate", "severe", "PDR"]
    found = ["no_dr", "Mild", "moderate", "Severe", "pdr"]
    assert match_folders(found, PLACE, 5, names).labels == {n: k for k, n in enumerate(found)}
    assert match_folders([*found, "No_DR"], PLACE, 5, names).labels["No_DR"] == 0, "the same wins"
    with pytest.raises(InputError, match="expected the class folders No_DR"):
        match_folders([*found, "NO_DR"], PLACE, 5, names)
    assert match_folders(["Cafe\u0301", "x"], PLACE, 2, ["Café", "x"]).labels["Cafe\u0301"] == 0


def test_numbered_folders_may_be_given_names():
    found = match_folders(list("01234"), PLACE, 5, ["none", "mild", "moderate", "severe", "pdr"])
    assert found.labels == {str(k): k for k in range(5)}
    assert found.classes.names == ("none", "mild", "moderate", "severe", "pdr")
