"""The report in a browser: nothing overflows on narrow and wide screens, all pictures load."""

import re
from itertools import product
from pathlib import Path

import pytest
from browser import CHROMIUM, WIDTHS, measure_at

from common.data.folders import scan_split
from common.metrics.intervals import Interval
from common.prediction.classes import classes_of
from common.reporting import report as report_module
from common.reporting.report import write_report
from common.reporting.summary import Part
from common.reporting.table import Column, make_table

CHIPS = ("pass", "fail", "open")
STYLE = Path(report_module.__file__).parent / "templates" / "style.css"
LONG = "a_model_with_a_name_that_never_seems_to_end_and_has_no_blank_to_wrap_at_384px"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_at_three_widths_nothing_overflows_and_all_pictures_load(
    demo, directory, report_on, tmp_path
):
    interval = Interval(0.123, 0.012, 0.456)
    columns = ["model", *(Column(f"figure number {k}", kind="percent") for k in range(7)), "remark"]
    rows = [[f"{LONG}{k}", *[interval] * 7, "PASS"] for k in range(7)]
    tables = [
        make_table("a", LONG, columns, rows, [LONG]),
        make_table("b", "many classes", [LONG, *map(str, range(30))], [[LONG, *range(30)]] * 30),
    ]
    report = report_on(
        scan_split(demo, "test"),
        1,
        models=[f"{LONG}{k}" for k in range(7)],
        dataset_path=f"/data/{LONG}/{LONG}",
        classes=classes_of(["No_DR", "Mild", "Moderate", f"Severe{LONG}", "PDR"]),
        questions=Part("Questions", tables),
        members=[Part(f"{LONG} on test", tables[:1], [LONG])],
        columns={"camera": [LONG] * 10 + ["b"] * 10},
    )
    write_report(directory, report)
    text = directory.report("test").read_text()
    opened, console = measure_at(WIDTHS, text, tmp_path)
    assert {found["inner"] for found in opened} == set(WIDTHS) and not console
    for found in opened:
        assert found["scroll"] <= found["inner"], found["wide"]
        assert len(found["pictures"]) == text.count("<img") > 12 and all(found["pictures"])


def luminance(color: str) -> float:
    """Return the relative luminance of "#rgb" or "#rrggbb" (WCAG 2.2)."""
    digits = color.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_text_stands_out_in_light_in_dark_and_on_paper():
    palettes = re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)
    assert len(palettes) == 3, "light, dark, printed"
    for palette in palettes:
        colors = dict(re.findall(r"--([\w-]+): (#\w+)", palette))
        texts, grounds = ("ink", "soft", "accent"), ("page", "tint", "mark")
        pairs = [*product(texts, grounds), *((name, f"{name}-tint") for name in CHIPS)]
        for text, ground in pairs:
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
