"""Columns become few values: ages in bands, numbers in quarters, one spelling of a word."""

from common.listing.column_values import group_by_columns


def values_of(name: str, cells: list[str]) -> list[tuple[str, int]]:
    found = group_by_columns({name: cells})
    return [(value, (found.columns[name] == value).sum()) for value in found.orders[name]]


def test_ages_are_put_into_bands_of_ten_and_other_numbers_into_quarters():
    assert values_of("age", ["9", "61", "069Y", "70.5", "", *["65"] * 55]) == [
        ("0-9", 1),
        ("60-69", 57),
        ("70-79", 1),
        ("", 1),
    ]
    assert values_of("pressure", [str(100 + k) for k in range(60)]) == [
        ("100 to 114.75", 15),
        ("114.75 to 129.5", 15),
        ("129.5 to 144.25", 15),
        ("144.25 to 159", 15),
    ]
    assert values_of("sex", ["1", "2"] * 30) == [("1", 30), ("2", 30)]


def test_a_few_odd_ages_leave_the_bands_to_the_others():
    cells = ["65+", "61 years old", "61,5", ">89", "N.A.", "sixty", *map(str, range(20, 80))]
    found = dict(values_of("age", cells))
    assert (found["60-69"], found["80-89"], found[""], found["not a number"]) == (13, 1, 1, 1)
    assert group_by_columns({"age": cells}).notes == ["age: 'sixty': not a number"]
    words = [f"{number} or so" for number in range(20, 80)]
    (note,) = group_by_columns({"age": [*words, "61"]}).notes
    assert "it has 61 values, since '20 or so'" in note and note.endswith("are no numbers")


def test_columns_that_make_no_subgroups_are_named():
    columns = {"note": [f"n{k}" for k in range(60)], "site": ["A"] * 60, "iop": ["?"] * 60}
    found = group_by_columns(columns)
    assert found.columns == {} and found.notes == [
        "no subgroups by note: it has 60 values",
        "no subgroups by site: all images have A",
        "no subgroups by iop: it is not known of any image",
    ]


def test_one_word_in_several_spellings_is_one_value():
    cells = ["Female", "female ", "FEMALE", "Female", "Male", "unknown", "N/A", "-"]
    assert values_of("sex", cells) == [("Female", 4), ("Male", 1), ("", 3)]


def test_what_is_not_known_of_some_images_is_a_group_of_its_own():
    assert values_of("camera", ["Canon", "", "Canon"]) == [("Canon", 2), ("", 1)]
