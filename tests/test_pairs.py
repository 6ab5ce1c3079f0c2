"""Pairs and heads: their order, their names, their targets."""

import numpy as np
import pytest

from common.pairs import (
    class_pairs,
    head_from_classes,
    heads_of_model,
    pair_flag,
    pair_head,
    pair_targets,
    parse_pairs,
    shared_head,
    softmax_head,
)


def test_five_grades_make_ten_pairs_in_order():
    pairs = class_pairs(5)
    assert pairs[:5] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2)]
    assert len(pairs) == 10 and pairs[-1] == (3, 4)


def test_names_are_read_in_canonical_order_and_once():
    assert parse_pairs(["2-3", "0-1", "2-3"], 5) == [(0, 1), (2, 3)]


def test_pairs_may_be_named_by_their_classes():
    names = ["No-DR", "Mild", "Moderate", "Severe", "PDR"]
    assert parse_pairs(["no-dr-MILD", "3-4"], 5, names) == [(0, 1), (3, 4)]
    assert parse_pairs(["4-5", "1-2"], 5, "12345") == [(0, 1), (3, 4)], "numbers are names"
    assert pair_flag((3, 4), "12345") == "4-5" and pair_flag((3, 4), names) == "3-4"
    for wrong, given, hint in (
        ("0-1", "12345", "such as 1-2, found 0-1"),
        ("Mild-No-DR", names, "such as 0-1 or No-DR-Mild, found Mild-No-DR"),
        ("a-b-c", ["a", "b-c", "a-b", "c"], "found a-b-c"),  # one pair or another
    ):
        with pytest.raises(ValueError, match=hint):
            parse_pairs([wrong], len(given), given)


@pytest.mark.parametrize("name", ["3-2", "0-5", "1", "a-b", "1-1", "../x"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="--pairs: expected a-b with a < b < 5"):
        parse_pairs([name], 5)


def test_the_head_of_a_pair_has_one_logit_and_targets_of_0_and_1():
    head = pair_head((1, 3))
    assert (head.name, head.title, head.file_suffix) == ("1-3", "pair 1-3", "1_3")
    assert head.is_binary and head.outputs == 1
    labels = np.array([1, 3, 3, 1])
    assert head.targets(labels).tolist() == [0, 1, 1, 0] == pair_targets(labels, (1, 3)).tolist()
    assert head.describe(["none", "mild", "moderate", "severe"]) == "1-3 (mild vs severe)"
    assert head.title_with("12345") == "pair 1-3 (2 vs 4)" and head.title_with("0123") == head.title


def test_the_softmax_head_has_a_logit_for_each_class():
    head = softmax_head(5)
    assert (head.name, head.title, head.file_suffix) == ("softmax", "softmax head", "softmax")
    assert not head.is_binary and head.outputs == 5
    assert head.targets(np.array([4, 0, 2])).tolist() == [4, 0, 2]
    assert head.describe(["a"] * 5) == "softmax"
    assert head.title_with("abcde") == "softmax head"


def test_a_model_has_a_head_for_each_pair_or_one_for_all_classes():
    assert [head.classes for head in heads_of_model(5, "ovo")] == class_pairs(5)
    assert heads_of_model(5, "softmax") == [softmax_head(5)]
    assert heads_of_model(5, "shared") == [shared_head(5)]
    with pytest.raises(ValueError, match="found 'other'"):
        heads_of_model(5, "other")


def test_the_shared_head_has_a_logit_for_each_pair():
    head = shared_head(5)
    assert (head.name, head.title, head.file_suffix) == ("shared", "shared head", "shared")
    assert not head.is_binary and head.outputs == 10 and list(head.pairs) == class_pairs(5)
    assert pair_head((1, 3)).pairs == ((1, 3),) and not softmax_head(5).pairs


def test_a_head_is_known_again_by_its_classes_and_kind():
    for head in [*heads_of_model(5, "ovo"), softmax_head(3), shared_head(3)]:
        assert head_from_classes(list(head.classes), head.kind) == head
    for head in [pair_head((1, 3)), softmax_head(3)]:
        assert head_from_classes(list(head.classes)) == head, "earlier files have no kind"
    for classes, kind in (([0, 1], "shared"), ([0, 1, 2], "ovo"), ([1, 2, 3], "shared")):
        with pytest.raises(ValueError, match="two classes of a pair"):
            head_from_classes(classes, kind)
    for classes in ([], [1], [2, 1], [1, 1], [-1, 0], [1, 2, 3]):
        with pytest.raises(ValueError, match="two classes of a pair"):
            head_from_classes(classes)
