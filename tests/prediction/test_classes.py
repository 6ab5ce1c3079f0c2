"""The classes of a model against those of a set, and from which one on an eye is referred."""

from pathlib import Path

import numpy as np
import pytest

from common.data.class_names import SetClasses
from common.pairs import class_pairs
from common.prediction.classes import (
    SetMatcher,
    classes_of,
    require_same_classes,
    same_classes,
    scored_classes,
    sum_up,
)
from common.prediction.voting import ClassPredictions
from common.system.errors import InputError
from common.trained_networks.outputs import in_grade_order

NUMBERS, NAMES = tuple("01234"), ("No_DR", "Mild", "Moderate", "Severe", "PDR")
PLACE = Path("images/test")


def match(model, found, **given):
    return SetMatcher(tuple(model), **given)(found, PLACE)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (NUMBERS, 2),
        (NAMES, 2),
        ("abcde", None),
        ("12345", 2),  # the five grades, counted from 1
        (["grade 1", "grade 2", "grade 3", "grade 4", "grade 5"], 2),
        ("1234", None),
        ("23456", None),
        (["1", "2", "3", "5", "4"], None),
        ([*NAMES[:4], "Ungradable"], None),
        (NAMES[:4], 2),
        (NAMES[1:], 1),
        (["No_DR", "DR"], 1),
        (["a", "b"], 1),
        ("01", 1),
        ("12", 1),
        ("34", None),  # both would be referred
        (["Mild", "Severe"], 1),
        (["non_referable", "referable"], 1),
        (["No_DR", "NPDR"], 1),
        (["No_DR", "other"], 1),
        (["No_DR", "Mild"], None),
        (["Moderate", "Severe"], None),
        (["NPDR", "PDR"], None),
        (["other", "Mild"], None),
        (["Severe", "other"], None),
        (["No_DR", "Mild", "referable"], 2),
        (["No_DR", "NPDR", "PDR"], None),
        ("012", None),
        (["R0", "R1", "R2", "R3"], None),
        (["No_DR", "Mild", "Ungradable"], None),
        (["Moderate", "Severe", "PDR"], None),
    ],
)
def test_what_is_referable_follows_from_the_names(names, expected):
    found = classes_of(names)
    assert found.referable_from == expected
    assert (expected is None) == ("--referable_from" in found.unknown)


def test_it_is_said_where_1_to_5_are_taken_for_the_grades():
    said = "class 3 or worse (the classes 1 to 5 are taken for the grades 0 to 4)"
    assert classes_of("12345").referable == said
    assert classes_of("12345", "4").referable == "class 4 or worse"
    assert classes_of(NUMBERS).referable == "grade 2 or worse"
    assert classes_of(("No_DR", "referable")).referable == "the class 'referable'"


def test_what_is_referable_may_be_given_by_name_or_index():
    assert classes_of(["No_DR", "NPDR", "PDR"], "npdr").referable_from == 1
    assert classes_of(["No_DR", "NPDR", "PDR"], "2").referable_from == 2
    assert classes_of("12345", "3").referable_from == 2, "the name comes first"
    assert classes_of(NUMBERS, "mild_npdr").referable_from == 1, "by what the name means"
    for wrong in ("No_DR", "0", "3", "x", "-1"):
        with pytest.raises(InputError, match="one of NPDR PDR or its index"):
            classes_of(["No_DR", "NPDR", "PDR"], wrong)


def test_classes_are_called_by_their_names_and_numbers_by_what_they_are():
    assert classes_of(NUMBERS).titles[2] == "grade 2" and classes_of(NUMBERS).word == "grade"
    assert classes_of("12345").titles[2] == "class 3"
    assert classes_of(NAMES).titles == NAMES
    assert classes_of(NUMBERS).pair_title("0-1") == "0-1"
    assert classes_of(NAMES).pair_title("0-1") == "0-1 (No_DR vs Mild)"


def test_metrics_of_a_class_are_called_by_its_name():
    named = classes_of(NAMES).metric_title
    assert named("precision_1") == "precision of Mild" and named("auc_0") == "AUC of No_DR"
    assert classes_of("12345").metric_title("f1_1") == "F1 of class 2"
    assert named("macro_f1") == "macro_f1" and named("referrals_per_1000") == "referrals_per_1000"
    assert classes_of(NUMBERS).metric_title("recall_1") == "recall_1"
    assert classes_of("012").recall_1_title == "class-1 recall"
    assert classes_of("12345").recall_1_title == "recall of class 2"


@pytest.mark.parametrize(
    ("model", "found", "labels"),
    [
        (NUMBERS, NAMES, [0, 1, 2, 3, 4]),
        (NAMES, NUMBERS, [0, 1, 2, 3, 4]),
        (NUMBERS, sorted(NAMES), [1, 2, 0, 4, 3]),
        (NAMES, ["grade0", "GRADE 1", "Class 2", "3", "level-4"], [0, 1, 2, 3, 4]),
        ("abcde", "edcba", [4, 3, 2, 1, 0]),
        (["No_DR", "NPDR", "PDR"], NUMBERS, [0, 1, 1, 1, 2]),
        (["No_DR", "DR"], sorted(NAMES), [1, 1, 0, 1, 1]),
        ("012", ["grade 2", "grade 0", "grade 1"], [2, 0, 1]),
        (NUMBERS, ["Mild", "Moderate"], [1, 2]),
    ],
)
def test_each_folder_has_the_model_s_class_that_its_name_means(model, found, labels):
    matched = match(model, list(found))
    assert matched.labels == dict(zip(found, labels)) and not matched.classes.coarser
    assert matched.classes.names == tuple(model)


@pytest.mark.parametrize(
    ("model", "found", "given", "of_model", "cut"),
    [
        (NUMBERS, ["referable", "non_referable"], {}, (0, 0, 1, 1, 1), 1),
        (NAMES, ["DR", "No_DR"], {}, (0, 1, 1, 1, 1), 1),
        (NAMES, ["No_DR", "NPDR", "PDR"], {}, (0, 1, 1, 1, 2), None),
        (NAMES, ["No_DR", "Mild", "RDR"], {}, (0, 1, 2, 2, 2), 2),
        (NUMBERS, ["0", "1"], {"class_map": ("0=0..1", "1=2..4")}, (0, 0, 1, 1, 1), 1),
        (NUMBERS, ["0", "1"], {"class_map": ("0=0", "1=Mild..PDR")}, (0, 1, 1, 1, 1), 1),
        (
            NAMES,
            ["ok", "see=doctor"],
            {"class_map": ("ok=No_DR..Mild", "see=doctor=2..4")},
            (0, 0, 1, 1, 1),
            1,
        ),
    ],
)
def test_a_set_may_know_less_than_the_model(model, found, given, of_model, cut):
    classes = match(model, found, **given).classes
    assert classes.of_model == of_model and classes.coarser
    assert scored_classes(model, "", classes).referable_from == cut


def test_the_cut_of_a_coarser_set_is_the_model_s_where_it_can_be():
    classes = SetClasses(("No_DR", "NPDR", "PDR"), (0, 1, 1, 1, 2))
    assert scored_classes(NAMES, "PDR", classes).referable_from == 2
    assert "Mild and Moderate" in scored_classes(NAMES, "", classes).unknown
    assert scored_classes(NAMES, "PDR", classes, "NPDR").referable_from == 1
    assert scored_classes(NAMES, "Mild", None).referable_from == 1


@pytest.mark.parametrize(
    ("model", "found", "given", "said"),
    [
        (NAMES, list("abcde"), {}, "none can be matched"),
        ("abcde", list(NUMBERS), {}, "none can be matched"),
        (NAMES, list("abcde"), {"class_names": tuple("abcde")}, "a b c d e cannot be matched"),
        (NUMBERS, list(NAMES), {"class_names": tuple(sorted(NAMES))}, "is not the order"),
        (NUMBERS, ["0", "1"], {}, "may be two of the grades or two groups"),
        (NUMBERS, list("12345"), {}, "5 cannot be matched"),
        ("12345", list(NUMBERS), {}, "0 cannot be matched"),
        (NUMBERS, ["No_DR", "Normal"], {}, "mean the same"),
        (NUMBERS, ["DR", "NPDR", "No_DR"], {}, "share a class in part"),
        (NUMBERS, ["0_Mild", "1_No_DR"], {}, "0_Mild 1_No_DR: the numbers contradict the names"),
        (NUMBERS, ["x"], {"class_map": ("x=0..4",)}, "all would be one class"),
        (NUMBERS, ["x"], {"class_map": ("x",)}, "--class_map: expected FOLDER=CLASS"),
        (NUMBERS, ["x"], {"class_map": ("x=7",)}, "--class_map: expected FOLDER=CLASS"),
        (NUMBERS, ["x"], {"class_map": ("x=3..2",)}, "--class_map: expected FOLDER=CLASS"),
        (NUMBERS, ["x"], {"class_map": ("x=1", "X=2")}, "names a folder twice"),
        (NUMBERS, list(NUMBERS), {"class_map": ("x=1",)}, "there is no x"),
        (NUMBERS, list(NAMES), {"class_map": ("Mild=3", "Severe=1")}, "Mild means grade 1, not"),
        (NAMES, ["No_DR", "PDR"], {"class_map": ("PDR=1..2",)}, "PDR means PDR, not Mild; rename"),
    ],
)
def test_what_cannot_be_matched_is_refused_with_both_lists(model, found, given, said):
    with pytest.raises(InputError, match=said) as error:
        match(model, found, **given)
    if "expected folders" in str(error.value):
        assert " ".join(model) in str(error.value) and " ".join(found) in str(error.value)


def test_a_class_without_folder_is_one_without_images():
    found = match(NUMBERS, ["0", "1", "2", "3"])
    assert found.missing == ("4",) and found.classes.names == NUMBERS


def test_a_map_may_say_more_closely_what_a_name_means_and_what_numbers_mean():
    given = ("0_Mild=1", "1_No_DR=0")
    assert match(NUMBERS, ["0_Mild", "1_No_DR"], class_map=given).labels["1_No_DR"] == 0
    assert match(["1_No_DR", "0_Mild"], ["0_Mild", "1_No_DR"]).labels["1_No_DR"] == 0
    one_more = tuple(f"{k + 1}={k}" for k in range(5))
    assert match(NAMES, list("12345"), class_map=one_more).labels["1"] == 0
    given = ("No_DR=0..1", "DR=2..4")
    assert match(NUMBERS, ["No_DR", "DR"], class_map=given).classes.of_model == (0, 0, 1, 1, 1)


def test_nothing_is_to_be_mapped_where_there_is_no_folder():
    with pytest.raises(InputError, match=r"in images/test, found none$"):
        match(NUMBERS, [])


def test_names_that_are_given_choose_among_the_folders():
    found = match(NUMBERS, [*NUMBERS, "No_DR", "ungradable"], class_names=NUMBERS)
    assert list(found.labels) == list(NUMBERS) and found.left_out == "not named by --class_names"
    assert match(NUMBERS, list(NUMBERS)).left_out == ""
    found = match(NUMBERS, ["No_DR", "1"], class_names=("No_DR", "Mild"))
    assert found.labels == {"No_DR": 0, "1": 1}, "Mild by its meaning"
    found = match(NUMBERS, [*NAMES, "extra"], class_names=("no_dr", "MILD"))
    assert found.labels == {"No_DR": 0, "Mild": 1}
    found = match(NUMBERS, list(NUMBERS), class_names=NAMES)
    assert found.labels == {str(k): k for k in range(5)}, "names for the numbered folders"


def test_probabilities_of_a_coarser_set_are_sums():
    fine = np.array([[0.3, 0.25, 0.2, 0.15, 0.1], [0.1, 0.2, 0.3, 0.3, 0.1]])
    found = sum_up(
        ClassPredictions(fine, fine.argmax(1)), SetClasses(("no", "yes"), (0, 0, 1, 1, 1))
    )
    assert np.allclose(found.probabilities, [[0.55, 0.45], [0.3, 0.7]])
    assert found.predicted.tolist() == [0, 1]
    split = np.array([[0.4, 0.0, 0.2, 0.2, 0.2]])
    found = sum_up(
        ClassPredictions(split, split.argmax(1)), SetClasses(("a", "b"), (0, 0, 1, 1, 1))
    )
    assert found.predicted.tolist() == [0], "the class of the predicted grade, as with five grades"
    same = ClassPredictions(fine, fine.argmax(1))
    assert sum_up(same, None) is same


def test_models_whose_names_differ_in_spelling_know_the_same_classes():
    assert same_classes(NUMBERS, NAMES) and same_classes(NAMES, NUMBERS)
    assert same_classes(NAMES, ["no dr", "mild npdr", "MODERATE", "severe", "proliferative"])
    assert same_classes("abcde", "ABCDE") and not same_classes("abcde", NUMBERS)
    assert not same_classes(NAMES[:4], NAMES)
    with pytest.raises(InputError, match="m knows the classes 0 1 2 3 4, n a b c d e"):
        require_same_classes([("m", NUMBERS), ("n", "abcde")])


def test_pairs_of_classes_in_another_order_are_turned():
    order = (2, 0, 1)  # places of the training's classes in grade order
    values = np.array([[0.1, 0.2, 0.3]])  # of 0-1, 0-2, 1-2: of the second
    assert np.allclose(in_grade_order(values, order), [[0.8, 0.7, 0.1]])
    assert in_grade_order(values[0], order, are_shares=False).tolist() == [0.2, 0.3, 0.1]
    generator = np.random.default_rng(0)
    values = generator.random((4, len(class_pairs(5))))
    assert np.array_equal(in_grade_order(values, tuple(range(5))), values)
