"""metadata.csv in the audit and the split: patients, a camera that gives the grade away."""

import shutil

import numpy as np
import pytest

import prepare_dataset
from common.audit import shortcuts
from common.audit.cross_tables import CrossTable, column_statistics, cross_tables
from common.audit.dataset import AuditConfig, audit
from common.audit.report import audit_content, audit_text
from common.data.folders import scan_dataset
from common.data.metadata import Metadata, read_metadata

IDS = ("a", "b", "c", "d")
KNOWN = Metadata(
    ("patient", "camera", "age", "note"),
    {
        "a": ("1", "Canon", "61", "x"),
        "b": ("1", "Nikon", "", "y"),
        "c": ("2", "Canon", "59,5", "z"),
    },
)


def test_columns_of_few_values_are_counted_against_the_grades():
    tables = cross_tables(KNOWN, IDS, np.array([0, 2, 0, 1]), 3)
    assert tables[0] == CrossTable(
        "camera", ["Canon", "Nikon", ""], [[2, 0, 0], [0, 0, 1], [0, 1, 0]]
    )
    assert [table.column for table in tables] == ["camera", "age", "note"]


def test_columns_become_numbers_where_that_says_something():
    columns = column_statistics(KNOWN, IDS)
    assert list(columns) == ["camera", "age"]  # every note is another, no number
    assert columns["camera"].tolist() == [0, 1, 0, -1]
    assert columns["age"].tolist() == [61, -1, 59.5, -1]


@pytest.fixture
def described(demo, tmp_path):
    """The demo dataset with a camera for each grade, and a patient of two images in two splits."""
    root = shutil.copytree(demo, tmp_path / "d")
    ids = [image.id for image in scan_dataset(root).all_images()]
    first = next(id_ for id_ in ids if id_.startswith("train/1"))
    second = next(id_ for id_ in ids if id_.startswith("test/1"))
    rows = [
        f"{id_},{'P1' if id_ in (first, second) else ''},camera {id_.split('/')[1]},{i % 3}"
        for i, id_ in enumerate(ids)
    ]
    (root / "metadata.csv").write_text("image,patient,camera,site\n" + "\n".join(rows) + "\n")
    return root


def test_an_audit_takes_patients_and_shortcuts_from_metadata(described, monkeypatch):
    monkeypatch.setattr(shortcuts, "PERMUTATIONS", 60)
    found = audit(described, AuditConfig(num_workers=2))
    assert [finding.kind for finding in found.leaks if finding.kind == "patient"] == ["patient"]
    assert "1 patient in 2 of 87 names by metadata.csv" in found.related.patients.evidence
    probe = next(probe for probe in found.probes if probe.kind == "metadata")
    assert probe.verdict == "alarming" and probe.top_features["camera"] == 1
    said = audit_text(found)
    assert "metadata.csv: patient camera site for 87 of 87 pictures" in said
    assert "camera 3" in said and "metadata (camera, site, age" in said
    table = audit_content(found, {})["metadata"][0]
    assert table.column == "camera" and len(table.values) == 5


def test_a_split_keeps_patients_together_and_metadata_with_its_images(described, tmp_path, capsys):
    words = ["split", str(described), str(tmp_path / "new"), "--val", "0.2", "--test", "0.2"]
    assert prepare_dataset.main(words) == 0
    assert "metadata.csv: patient camera site for 87 of 87 pictures" in capsys.readouterr().out
    known = read_metadata(tmp_path / "new")
    ids = [image.id for image in scan_dataset(tmp_path / "new").all_images()]
    assert len(known.rows) == len(ids) == 87
    assert all(
        cell == f"camera {id_.split('/')[1]}" for id_, cell in zip(ids, known.column("camera", ids))
    )
    patients = known.column("patient", ids)
    assert len({id_.split("/")[0] for id_, patient in zip(ids, patients) if patient}) == 1
