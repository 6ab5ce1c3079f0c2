"""The sheet of likely label errors: nothing that a person wrote in it is lost."""

import csv

import pytest

from common.result_dir.paths import ResultDir
from common.result_dir.review_sheet import update_review_sheet

HEADER = ["rank", "file", "label", "suggested_grade", "score", "reviewed_grade", "comment"]


@pytest.fixture
def directory(tmp_path):
    return ResultDir(tmp_path)


def update(directory, *files):
    rows = [[rank, file, "2", "0", 0.5, "", ""] for rank, file in enumerate(files, 1)]
    return update_review_sheet(directory, "test", HEADER, rows)


def read(directory):
    text = directory.review_sheet("test").read_text()
    return {row["file"]: row for row in csv.DictReader(text.splitlines(keepends=True))}


def write_down(directory, file, **cells):
    """Fill in the row of a file, in new columns, too, as a grader does."""
    rows = read(directory)
    rows[file] |= cells
    with directory.review_sheet("test").open("w", newline="") as sheet:
        table = csv.DictWriter(sheet, list(rows[file]), restval="")
        table.writeheader()
        table.writerows(rows.values())


def test_a_later_evaluation_carries_over_what_a_grader_wrote(directory):
    assert update(directory, "a.jpg", "=b.jpg", "caf\udce9.jpg") == []
    write_down(directory, "'=b.jpg", reviewed_grade="3", comment='one, "two"\nthree', who="ÄB")
    write_down(directory, "caf\\udce9.jpg", comment="- blurred", who="")
    for _ in range(2):  # what was carried over once is so again
        (said,) = update(directory, "caf\udce9.jpg", "=b.jpg", "c.jpg")
        assert said.endswith("kept what was written in 2 rows")
    rows = read(directory)
    assert list(rows) == ["caf\\udce9.jpg", "'=b.jpg", "c.jpg"], "a.jpg had no review"
    found = rows["'=b.jpg"]
    assert [found[name] for name in ("rank", "listed", "reviewed_grade")] == ["2", "yes", "3"]
    assert found["comment"] == 'one, "two"\nthree' and found["who"] == "ÄB"
    assert rows["caf\\udce9.jpg"]["comment"] == "'- blurred", "a spreadsheet sees no formula"
    assert rows["c.jpg"]["comment"] == rows["c.jpg"]["who"] == ""


def test_a_review_of_an_image_that_is_not_listed_any_more_is_kept_and_marked(directory):
    update(directory, "a.jpg", "b.jpg")
    write_down(directory, "b.jpg", comment="label is right")
    (said,) = update(directory)
    assert "in 1 rows, of which 1 are not listed any more" in said
    row = read(directory)["b.jpg"]
    assert (row["rank"], row["listed"], row["comment"]) == ("", "no", "label is right")
    update(directory, "b.jpg")
    row = read(directory)["b.jpg"]
    assert (row["rank"], row["listed"], row["comment"]) == ("1", "yes", "label is right")


def test_what_a_spreadsheet_saved_otherwise_is_read_and_kept_beside(directory):
    update(directory, "a.jpg")
    write_down(directory, "a.jpg", comment="größer")
    path = directory.review_sheet("test")
    plain = path.read_text()
    path.write_text("\ufeff" + plain)
    assert len(update(directory, "a.jpg")) == 1, "a byte-order mark takes nothing away"
    assert read(directory)["a.jpg"]["comment"] == "größer"
    for number, changed in enumerate((plain.replace(",", ";"), plain.replace(",", "\t")), 1):
        path.write_text(changed, encoding="cp1252")
        said, _ = update(directory, "a.jpg")
        beside = path.with_name(f"label_errors_test_earlier{'' if number == 1 else '_2'}.csv")
        assert said.endswith(f"it is kept as {beside}")
        assert beside.read_text(encoding="cp1252") == changed
        assert read(directory)["a.jpg"]["comment"] == "größer"


@pytest.mark.parametrize(
    "content",
    [
        b"PK\3\4 a workbook",
        b'rank,file,reviewed_grade,comment\n1,a.jpg,3,"not closed\n',
        b"rank,file,reviewed_grade,comment\n1,a.jpg,3,right, I think\n",
        b"rank,picture,reviewed_grade,comment\n1,a.jpg,3,right\n",
        b"rank,file,reviewed_grade,comment,who,who\n1,a.jpg,3,right,A,B\n",
    ],
)
def test_a_sheet_that_cannot_be_read_any_more_is_kept_beside(directory, content):
    path = directory.review_sheet("test")
    path.parent.mkdir()
    path.write_bytes(content + b"\n" * 2)
    (said,) = update(directory, "a.jpg")
    assert "cannot be read any more" in said and "label_errors_test_earlier.csv" in said
    assert path.with_name("label_errors_test_earlier.csv").read_bytes() == content + b"\n" * 2
    assert list(read(directory)) == ["a.jpg"]


def test_a_sheet_among_the_tables_moves_out_of_what_is_written_anew(directory):
    update(directory, "a.jpg")
    write_down(directory, "a.jpg", reviewed_grade="0")
    directory.tables.mkdir()
    directory.review_sheet("test").rename(directory.split_table("label_errors", "test"))
    update(directory, "a.jpg")
    assert read(directory)["a.jpg"]["reviewed_grade"] == "0"
    assert not any(directory.tables.iterdir())
