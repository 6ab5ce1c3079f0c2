import math

from common.reporting.tables import decimal, format_table, percent, with_interval


def test_tables_align_text_left_and_numbers_right():
    assert format_table(["name", "n"], [["a", 5], ["long", "12.5 %"]]).splitlines() == [
        "name       n",
        "----  ------",
        "a          5",
        "long  12.5 %",
    ]


def test_undefined_values_read_n_a():
    assert percent(math.nan) == decimal(math.nan) == "n/a" == decimal(None)
    assert with_interval({"value": math.nan, "low": 0, "high": 1}) == "n/a"
    assert with_interval({"value": 0.5, "low": 0.25, "high": 0.75}) == "0.500 [0.250, 0.750]"
    assert with_interval({"value": 1.0, "low": math.nan, "high": math.nan}) == "1.000"
