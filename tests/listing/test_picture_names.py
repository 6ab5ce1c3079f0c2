"""A name in a table means a file, or none, or several; never one that another row means."""

import time

import pytest

from common.listing.picture_names import match_names

FILES = ["/d/train/1.jpg", "/d/test/1.jpg", "/d/test/1.1.jpg", "/d/test/IMG 7.JPEG"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1.1", [2]),
        ("1.1.jpg", [2]),
        ("img 7", [3]),
        ("IMG 7.jpg", [3]),
        ("Test\\img 7.png", [3]),
        ("/elsewhere/of/others/test/1.jpg", [1]),
        ("./train/1", [0]),
        ("../../train/1.jpg", [0]),
        ("1.jpg", [0, 1]),
        ("val/1.jpg", [0, 1]),
        ("2", []),
        ("", []),
        ("..", []),
        ("/etc/passwd", []),
    ],
)
def test_names_are_matched(name, expected):
    assert match_names([name], FILES).found == [expected]


def test_a_file_is_not_given_to_a_row_of_another_folder():
    names = ["train/1.jpg", "test/1.jpg"]
    assert match_names(names, FILES[1:]).found == [[], [0]]
    assert match_names(["a/train/1.jpg", "b/train/1.jpg"], FILES).found == [[], []]
    assert match_names(["1.jpg", "test/1.jpg"], FILES[1:]).found == [[], [0]]


def test_matches_by_name_alone_are_counted():
    matches = match_names(["old/1.1.jpg", "test/img 7.jpg"], FILES)
    assert matches.found == [[2], [3]] and matches.by_name_alone == 1


def test_the_very_ending_and_case_decide_among_equal_names():
    files = ["/d/a.jpg", "/d/a.png", "/d/A.jpg"]
    assert match_names(["a.png", "A.jpg", "a.jpg", "a"], files).found == [[1], [2], [0], [0, 1, 2]]


def test_composed_and_decomposed_letters_are_one():
    assert match_names(["Zoe\u0308"], ["/d/Zo\u00eb.png"]).found == [[0]]


def test_many_files_of_one_name_are_matched_in_seconds():
    files = [f"/data/{k}/left.jpg" for k in range(5_000)]
    start = time.monotonic()
    matches = match_names([f"old/{k}/left" for k in range(5_000)], files)
    assert matches.found == [[k] for k in range(5_000)]
    assert time.monotonic() - start < 10
