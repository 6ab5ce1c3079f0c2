"""From a folder of photographs and a table of grades to an evaluated model."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import compare_models
import evaluate_ensemble
import prepare_dataset
from common.audit.leakage import training_warnings
from common.config import TrainConfig
from common.data.folders import scan_dataset, scan_split

SPLITS = ("train", "val", "test")
IDRID = Path(__file__).parents[3] / "shared" / "data" / "idrid"


@pytest.mark.slow
@pytest.mark.skipif(not IDRID.is_dir(), reason="the photographs are not part of the repository")
def test_photographs_and_a_table_become_an_evaluated_model(tmp_path, quick_train, capsys):
    flat, dataset, results = (tmp_path / name for name in ("flat", "dataset", "results"))
    flat.mkdir()
    with open(IDRID / "labels.csv", newline="") as file:
        every = enumerate(csv.DictReader(file))
        labels = [row for number, row in every if number % 4 == 0 or row["grade"] == "1"]
    counts = Counter((row["split"], int(row["grade"])) for row in labels)
    of_split = {name: [counts[name, grade] for grade in range(5)] for name in SPLITS}
    for row in labels:
        name = f"{row['image']}.jpg"
        (flat / name).symlink_to(IDRID / row["split"] / row["grade"] / name)
    lines = ["image;split;grade;camera;patient"]  # as Excel writes it in much of Europe
    for number, row in enumerate(labels):
        camera = "Kowa" if number % 2 else "Canon"
        lines.append(f"{row['image']};{row['split']};{row['grade']},0;{camera};{number // 2}")
    (tmp_path / "labels.csv").write_text("\r\n".join(lines), encoding="utf-16")
    words = ["import", str(tmp_path / "labels.csv"), str(flat), str(dataset), "--files", "symlink"]
    assert prepare_dataset.main(words) == 0
    for split, expected in of_split.items():
        assert scan_split(dataset, split).counts(5) == expected and min(expected) > 1
    assert quick_train(results, dataset_path=dataset, epochs=1, batch_size=8) == 0
    command = ["--results_dirs", results, "--dataset_path", dataset, "--resamples", 50]
    command += ["--prevalence", tmp_path / "labels.csv", "--verbose"]
    assert evaluate_ensemble.main([str(word) for word in command]) == 0
    said = capsys.readouterr().out
    assert "Kowa" in said and f"{len(labels)} rows, column 'grade' of" in said
    content = json.loads((results / "results" / "metrics_test.json").read_text())
    assert content["images_per_grade"] == of_split["test"]
    assert "by metadata.csv" in content["bootstrap"]["patients"]
    groups = content["screening"]["subgroups"]["groups"]
    assert {group["value"] for group in groups} == {"Canon", "Kowa"}


def test_an_evaluation_groups_by_the_patients_of_metadata_and_shows_subgroups(
    demo, trained_copy, tmp_path, shared_cache, capsys
):
    root = shutil.copytree(demo, tmp_path / "d")
    ids = scan_split(root, "test").ids
    rows = [f"{id_};P{i // 2};{'Canon' if i % 3 else ''};{40 + i}" for i, id_ in enumerate(ids)]
    (root / "metadata.csv").write_text("image;patient;camera;age\n" + "\n".join(rows) + "\n")
    command = ["--results_dirs", trained_copy, "--dataset_path", root, "--resamples", 20]
    command.append("--verbose")
    command = [str(word) for word in [*command, "--cache_dir", shared_cache]]
    assert evaluate_ensemble.main(command) == 0
    said = capsys.readouterr().out
    assert "metadata.csv: patient camera age for 20 of 87 pictures" in said
    assert "10 patients in 20 names by metadata.csv" in said
    assert "(not known)" in said and "40-49" in said and "[7]" in said
    results = trained_copy / "results"
    content = json.loads((results / "metrics_test.json").read_text())
    assert content["bootstrap"]["units"] == "10 patients"
    with open(results / "tables" / "subgroups_test.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["value"], row["images"]) for row in table if row["column"] == "camera"] == [
        ("Canon", "13"),
        ("(not known)", "7"),
    ]
    groups = content["screening"]["subgroups"]["groups"]
    assert [row["value"] or "(not known)" for row in groups] == [row["value"] for row in table[1:]]
    compare_models.main(["--results_dirs", str(trained_copy), "--output_dir", str(tmp_path / "c")])
    assert "10 patients in 20 names by metadata.csv" in capsys.readouterr().out
    (root / "metadata.csv").unlink()
    assert evaluate_ensemble.main(command) == 0
    assert not (results / "tables" / "subgroups_test.csv").exists()


def test_the_data_check_of_a_training_knows_the_patients_of_metadata(demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "d")
    ids = [scan_split(root, name).ids[0] for name in ("train", "test")]
    (root / "metadata.csv").write_text("image,patient\n" + "".join(f"{i},P1\n" for i in ids))
    config = TrainConfig(model="convnext_tiny", dataset_path=str(root), num_workers=1)
    said = "\n".join(training_warnings(config, scan_dataset(root)))
    assert "1 patient has images in two splits" in said
