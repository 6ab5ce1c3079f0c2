import pytest

from common.pairs import class_pairs, parse_pairs


def test_five_grades_make_ten_pairs_in_order():
    pairs = class_pairs(5)
    assert pairs[:5] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2)]
    assert len(pairs) == 10 and pairs[-1] == (3, 4)


def test_names_are_read_in_canonical_order_and_once():
    assert parse_pairs(["2-3", "0-1", "2-3"], 5) == [(0, 1), (2, 3)]


@pytest.mark.parametrize("name", ["3-2", "0-5", "1", "a-b", "1-1", "../x"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="expected pairs"):
        parse_pairs([name], 5)
