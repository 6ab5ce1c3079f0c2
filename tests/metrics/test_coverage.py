"""The script that simulates graders, on few of them."""

import numpy as np

from benchmarks import coverage


def test_exact_bounds_hold_a_share_at_least_as_often_as_they_say():
    assert all(row.held >= 0.95 and row.too_high <= 0.025 for row in coverage.of_shares())


def test_a_few_simulated_sets_make_a_table_of_what_was_held(tmp_path, capsys):
    path = tmp_path / "coverage.md"
    coverage.main(["--trials", "20", "--tables", "auc", "calibration", "--output", str(path)])
    text = path.read_text()
    assert text.strip() in capsys.readouterr().out.replace("\n| figure", "\n\n| figure")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| AUC")]
    assert len(rows) == 6 and np.mean([float(row[3]) for row in rows]) > 0.93


def test_simulated_patients_and_grade_mixes_are_held():
    for table in (coverage.of_shares_by_patient(2), coverage.of_prevalence(3)):
        assert np.mean([row.held for row in table]) > 0.93
