"""Tables for people."""

import csv

from common.result_dir.csv_files import without_apostrophe, write_csv


def test_text_in_tables_is_no_formula_for_a_spreadsheet_and_numbers_stay_numbers(tmp_path):
    path = tmp_path / "table.csv"
    texts = ["=1+1", "+a", "-a", "@a", "\ta", "\na", "'=a", "a=b", "'a", "", "-1.5e-3", "+4"]
    given = [text.replace("\n", "\r") for text in texts]  # which would end a row
    write_csv(path, ["=name", "number"], [[text, -0.5] for text in given])
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=name", "number"] and {row[1] for row in rows} == {"-0.5"}
    written = [row[0] for row in rows]
    assert written == [f"'{text}" for text in texts[:7]] + texts[7:]
    assert [without_apostrophe(cell) for cell in written] == texts
