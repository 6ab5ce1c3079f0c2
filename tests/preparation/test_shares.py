"""Whether the parts of a split are what was asked for."""

import numpy as np

from common.preparation.shares import uneven_parts

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
PARTS = np.array(["train"] * 14 + ["val"] * 3 + ["test"] * 3)
TITLES = [f"grade {k}" for k in range(40)]


def split(parts_by_grade):
    """Lay grades beside each other: places, grades, and every image a group of its own."""
    places = np.concatenate(parts_by_grade)
    labels = np.repeat(np.arange(len(parts_by_grade)), [len(parts) for parts in parts_by_grade])
    return places.tolist(), labels, np.arange(len(places))


def test_a_split_as_asked_for_is_not_remarked_on():
    assert uneven_parts(*split([PARTS] * 5), SHARES, TITLES) == []
    no_test = {"train": 0.85, "val": 0.15}
    assert uneven_parts(*split([["train"] * 17 + ["val"] * 3] * 2), no_test, TITLES) == []
    few = split([PARTS, ["train", "val", "test"]])
    assert uneven_parts(*few, SHARES, TITLES) == [], "three pictures cannot be divided otherwise"


def test_a_part_without_a_grade_is_named_with_the_group_that_causes_it():
    places, labels, groups = split([PARTS, ["train"] * 61 + ["test"] * 19])
    groups[20:81] = 20
    lines = uneven_parts(places, labels, groups, SHARES, TITLES)
    assert "val has no picture of grade 1 (one group holds 61 of 80 pictures of grade 1)" in lines
    assert any(
        line.startswith("val has 3 % of the images where 15 % were asked for") for line in lines
    )


def test_a_grade_of_few_groups_is_named_as_such():
    places, labels, groups = split([PARTS] * 4 + [["train", "train", "val"]])
    groups[-3:-1] = groups[-3]
    lines = uneven_parts(places, labels, groups, SHARES, TITLES)
    assert lines == [
        "test has no picture of grade 4 (3 pictures of grade 4 are 2 independent groups)"
    ]


def test_a_grade_that_is_divided_otherwise_is_named():
    crowded = ["train"] * 6 + ["val"] * 3 + ["test"] * 21
    lines = uneven_parts(*split([PARTS] * 30 + [crowded]), SHARES, TITLES)
    assert lines == [
        "train has 20 % of the pictures of grade 30 where 70 % were asked for",
        "test has 70 % of the pictures of grade 30 where 15 % were asked for",
    ]
