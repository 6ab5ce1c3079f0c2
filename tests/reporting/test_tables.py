"""Text tables for the terminal."""

import math

from common.metrics.intervals import Interval
from common.reporting.tables import decimal, percent, with_interval


def test_undefined_values_read_n_a():
    assert percent(math.nan) == decimal(math.nan) == "n/a" == decimal(None)
    assert with_interval(Interval(math.nan, 0, 1)) == "n/a"
    assert with_interval(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert with_interval(Interval(1.0, math.nan, math.nan)) == "1.000"
