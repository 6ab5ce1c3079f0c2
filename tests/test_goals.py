"""What is asked of speed is held against what was measured, row by row."""

import re
from dataclasses import replace

import pytest

from benchmarks.speed import report, results
from benchmarks.speed.goals import CNNS, LIBRARY_DEPTHWISE, LITE, SEVEN, THREE, goals_table
from benchmarks.speed.results import (
    AblationSection,
    EnsembleSpeed,
    ModelSpeed,
    Results,
    Speed,
    SpeedSection,
)
from common.system.files import write_json


def speed(ratio: float) -> Speed:
    return Speed(10.0, 10.0 * ratio, ratio, ratio, ratio)


def model(training: float, evaluation: float) -> ModelSpeed:
    parts = speed(training), speed(evaluation), speed(2.0), speed(5.0)
    return ModelSpeed("fp32", 224, 0.001, *parts, 1e9, 0.4, 8.0, 0.8)


def measured(**models: ModelSpeed) -> Results:
    section = SpeedSection({}, "a processor", "a command", models)
    return Results({"cpu": section}, {}, {}, None, None)


def row(found: Results, *starts: str) -> list[str]:
    """Return the cells of the only row that begins with some cells."""
    rows = [line.strip("| ").split(" | ") for line in goals_table(found).splitlines()]
    [own] = [cells for cells in rows if all(map(str.startswith, cells, starts))]
    return own


def test_without_any_measurement_each_row_names_the_command_that_makes_it():
    table = goals_table(Results({}, {}, {}, None, None)).splitlines()[2:]
    assert all(" | not measured | `python -m " in line for line in table)
    assert len([line for line in table if "| GPU |" in line]) == 8


def test_each_backbone_is_held_against_its_own_bound():
    found = measured(coatnet=model(3.6, 4.9), convnext=model(3.9, 5.0), swinv2=model(4.0, 2.9))
    assert row(found, "training, pair", "CPU", "coatnet")[3:] == [">= 3.50x", "3.60x", "met"]
    assert row(found, "training, pair", "CPU", "convnext")[-1] == "missed by convnext"
    assert row(found, "evaluation", "CPU", "coatnet")[-1] == "missed"
    assert row(found, "evaluation", "CPU", "convnext")[-1] == "missed by swinv2"


def test_a_mean_needs_all_of_its_models_and_what_is_missing_is_named():
    three = measured(**{name: model(6.0, 4.0) for name in CNNS[:3]})
    assert row(three, "training, pair", "CPU", "mean")[4] == "not measured"
    partly = row(three, "evaluation", "CPU", ", ".join(CNNS))
    assert partly[-1].startswith("met; not measured: seresnext50: `python -m benchmarks.run")
    four = measured(**dict(zip(CNNS, map(model, (4.0, 4.0, 6.0, 6.0), (4.0,) * 4))))
    assert row(four, "training, pair", "CPU", "mean")[-2:] == ["5.00x", "met"]


def test_the_product_s_own_kernels_are_held_against_the_library_s():
    section = AblationSection("a processor", "a command", {LITE: {LIBRARY_DEPTHWISE: 1.4}})
    found = Results({}, {"cpu": section}, {}, None, None)
    own = row(found, "training, against that with the library's")
    assert own[4] == f"{LITE} 1.40x"
    assert own[5].startswith(f"missed by {LITE}; not measured: efficientnetb2: `python -m dev.abl")


@pytest.mark.parametrize("names, shown", [(SEVEN, "met"), (THREE, "`python -m benchmarks.run")])
def test_all_seven_are_all_seven(names, shown):
    found = measured(coatnet=model(3.0, 3.0))
    found.speed["cpu"].seven = EnsembleSpeed(1.0, 4.0, 4.0, 4.0, 4.0, list(names))
    assert row(found, "evaluation", "CPU", "all seven")[-1].startswith(shown)


def test_networks_that_were_not_measured_stand_in_the_table_of_speeds(tmp_path):
    found = measured(**{name: model(3.0, 3.0) for name in THREE})
    text = report.write(tmp_path, results.store(tmp_path, "cpu", found.speed["cpu"]))
    for name in (*CNNS, LITE):
        assert f"\n{name} " in text
    assert re.search(r"coatnet .* 40 % +7\.50 +80 % +3\.75 +8\.0", text), "3x each"
    command = "python -m benchmarks.run --device cpu --base_models densenet121 efficientnetb2"
    assert f"Not measured: `{command} resnet50 seresnext50 {LITE} --ensemble`" in text


def test_each_speed_says_when_it_was_measured():
    one = replace(model(3.0, 4.0), date="2026-01-02")
    section = SpeedSection({}, "a processor", "a command", {"coatnet": one}, date="2026-02-03")
    rows = [
        line for line in report._speed(section, "cpu").splitlines() if line.startswith("coatnet ")
    ]
    assert len([line for line in rows if line.endswith(" 2026-01-02")]) == 4


def test_ratios_of_other_hours_stand_side_by_side_and_outlive_what_is_measured_next(tmp_path):
    hours = [
        {"told": "a slow hour", "training": {"coatnet": 2.5}, "evaluation": {"7 models": 5.0}},
        {"told": "no bf16", "training": {"convnext": 1.5}, "evaluation": {"convnext": 2.25}},
    ]
    write_json(tmp_path / "results.json", {"other_hours": hours})
    text = report.write(tmp_path, results.store(tmp_path, "cpu", measured().speed["cpu"]))
    rows = [line.split("  ") for line in text.splitlines() if " / " in line]
    found = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["coatnet", "2.50x / -", "-"] in found and ["convnext", "-", "1.50x / 2.25x"] in found
    assert ["7 models", "- / 5.00x", "-"] in found and "[2] no bf16" in text
