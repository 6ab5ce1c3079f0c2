"""What was measured beside other ways is laid out with what it was measured on."""

import math

from benchmarks.speed import report, results
from benchmarks.speed.results import SideBySideSection, Way


def test_each_way_has_a_row_and_what_is_not_known_is_not_zero(tmp_path):
    assert "Not measured: `python -m benchmarks.side_by_side" in report.render(
        results.load(tmp_path)
    )
    ways = {
        "softmax head": Way(4.71, 19.75, 0.575, 0.253, 0.809),
        "other": Way(1.0, 2.0, math.nan, math.nan, math.nan),
    }
    section = SideBySideSection("a processor", "a command", "photographs, 19 of val", ways)
    results.store(tmp_path, results.side_by_side_key("resnet50"), section)
    other = SideBySideSection("a processor", "another command", "other photographs", ways)
    kept = results.store(tmp_path, results.side_by_side_key("swinv2"), other)
    text = report.write(tmp_path, kept)
    assert "0.57 (0.25 to 0.81)" in text or "0.58 (0.25 to 0.81)" in text
    assert "n/a (n/a to n/a)" in text and "photographs, 19 of val" in text
    assert "`another command`" in text, "each network has a table"
    assert math.isnan(results.load(tmp_path).side_by_side["swinv2"].ways["other"].kappa)
