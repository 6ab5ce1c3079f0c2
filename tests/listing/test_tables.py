"""Tables of text are read in every form that people have them in, or refused in one line."""

import codecs

import pytest

from common.listing.tables import read_table
from common.system.errors import InputError

ROWS = (("1_left", "0"), ("Zoë 2", "3"))


def table_of(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found(tmp_path, separator, end):
    lines = ["image,grade", "1_left,0", "", "Zoë 2,3", " , "]
    table = table_of(tmp_path, end.join(lines).replace(",", separator))
    assert table.columns == ("image", "grade") and table.rows == ROWS
    assert table.lines == (2, 4) and table.header


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings_are_found_and_said(tmp_path, encoding):
    table = table_of(tmp_path, "image,grade\r\n1_left,0\r\nZoë 2,3\r\n".encode(encoding))
    assert table.rows == ROWS and table.columns[0] == "image"
    assert ("Latin-1 (it is not UTF-8)" in table.form) == (encoding == "latin-1")


def test_big_endian_text_with_a_mark_is_read(tmp_path):
    content = codecs.BOM_UTF16_BE + "image,grade\nZoë 2,3\n".encode("utf-16-be")
    assert table_of(tmp_path, content).rows == ROWS[1:]


def test_quotes_trailing_commas_and_spaces_are_no_matter(tmp_path):
    text = '" Image name ","Grade, final" ,,,\n"a, ""b""\n c.jpg" , 2 ,,,,,\n'.replace('" ,', '",')
    table = table_of(tmp_path, text)
    assert table.columns == ("Image name", "Grade, final")
    assert table.rows == (('a, "b"\n c.jpg', "2"),)


def test_the_line_that_excel_writes_for_the_separator_is_no_row(tmp_path):
    table = table_of(tmp_path, "sep=;\r\nimage;grade\r\n1_left;0\r\n")
    assert table.columns == ("image", "grade") and table.rows == ROWS[:1]


def test_commas_inside_of_a_table_with_semicolons_do_not_split_it(tmp_path):
    table = table_of(tmp_path, "image;age, years;grade\na.jpg;61,5;2\nb.jpg;40,0;1\n")
    assert table.columns == ("image", "age, years", "grade")
    assert table.rows[0] == ("a.jpg", "61,5", "2")


@pytest.mark.parametrize("text", ["a 1.jpg 0\nb.jpg 5\n", "a 1.jpg\t0\nb.jpg\t5\n"])
def test_a_table_without_header_is_told_by_its_first_row(tmp_path, text):
    table = table_of(tmp_path, text)
    assert not table.header and table.columns == ("column 1", "column 2")
    assert table.rows == (("a 1.jpg", "0"), ("b.jpg", "5"))


def test_a_table_of_one_column_is_read(tmp_path):
    table = table_of(tmp_path, "Retinopathy grade\n0\n1\n")
    assert table.columns == ("Retinopathy grade",) and table.rows == (("0",), ("1",))


def test_unnamed_columns_keep_their_place_and_short_rows_are_filled(tmp_path):
    table = table_of(tmp_path, ",image,grade\n0,a,1\n1,b\n")
    assert table.columns == ("column 1", "image", "grade")
    assert table.rows == (("0", "a", "1"), ("1", "b", ""))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \r\n \n", "empty"),
        (b"image,grade\n", "only image, grade"),
        (b"PK\x03\x04 workbook", "save its sheet as CSV"),
        (b"\xd0\xcf\x11\xe0 old workbook", "save its sheet as CSV"),
        (b"\x89PNG\0\0\0\r" * 9, "found other bytes"),
        (b'image,grade\n"a,1\nb,2\n', "line 2: a quote is not closed"),
        (b"image,grade\na,b,1\nc,2\n", "line 2 has 3 cells"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        table_of(tmp_path, content)
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no regular file"):
        read_table(tmp_path)
