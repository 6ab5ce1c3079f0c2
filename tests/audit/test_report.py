"""An audit as text, JSON, CSV and contact sheets."""

import csv
import json
import shutil
from pathlib import Path

from common.audit.dataset import AuditConfig, audit
from common.audit.report import audit_text, shortcut_text, write_audit
from common.audit.shortcuts import Probe


def test_text_and_files_say_the_same(demo, tmp_path):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    source = next((root / "train" / "1").iterdir())
    shutil.copy(source, root / "test" / "2" / "new\nline\udcff.jpg")
    found = audit(root, AuditConfig(num_workers=1, shortcuts=False))
    text = audit_text(found)
    assert "LEAKAGE: 1 group in two splits" in text and "new\\nline\\udcff.jpg" in text
    assert "new\nline" not in text and "grades 1 and 2" not in text
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "faults_sheet_9.png").write_bytes(b"of an earlier audit")
    (tmp_path / "out" / "patient_sheet_2024.png").write_bytes(b"of the user")
    written = write_audit(found, tmp_path / "out", {"seed": 0})
    (tmp_path / "out" / "patient_sheet_2024.png").unlink()
    assert {path.name for path in written} == {path.name for path in (tmp_path / "out").iterdir()}
    assert {"identical_files_sheet_1.png", "faults_sheet_1.png"} <= {p.name for p in written}
    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert content["leakage"] and content["summary"]["identical_files"]["across_splits"] == 1
    with open(tmp_path / "out" / "findings.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "identical_files"]
    assert {row["split"] for row in rows} == {"train", "test"} and len(rows) == 2


def test_an_alarm_is_put_into_words():
    nan = float("nan")
    probes = [
        Probe(
            "file", 90, 0.9, 0.9, 0.2, 0.01, {1: 1.0}, {}, {"luma table": 0.9}, "alarming", "far"
        ),
        Probe("image", 90, nan, nan, nan, nan, {}, {}, {}, "not measured", "too few"),
    ]
    text = shortcut_text(probes)
    assert "ALARMING" in text and "luma table 0.90" in text and "n/a" in text
    assert "ALARMING" not in shortcut_text(probes[1:])
